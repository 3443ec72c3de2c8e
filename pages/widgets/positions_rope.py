"""Rotations under sliders: pairs as hands on circles, scores by offset, and four ways to lengthen the context.

It computes by `engine.positions` alone; no model is run.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from engine import positions
from pages.figures import positions as figures
from pages.widgets import controls
from pages.widgets.drawn import Drawn
from pages.widgets.language import Translate
from pages.widgets.texts import joined

BASES = (100, 1_000, 10_000, 100_000, 500_000, 1_000_000)
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
#: Circles drawn, spread over all pairs, and random queries and keys averaged.
CIRCLES, DRAWS = 7, 400
#: Offsets at which scores are computed.
OFFSETS = 129


def scalings(trained: int, factor: int) -> dict[str, dict]:
    """The rope_parameters of each way to lengthen `trained` positions `factor` times, by name.

    Llama 3's two thresholds are those of its released models.
    """
    common = {"factor": float(factor), "original_max_position_embeddings": trained}
    return {
        "default": {"rope_type": "default"},
        "linear": {"rope_type": "linear", **common},
        "dynamic": {"rope_type": "dynamic", **common},
        "yarn": {"rope_type": "yarn", **common},
        "llama3": {"rope_type": "llama3", **common, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    }


def draw(_: Translate) -> tuple[str, str, list[Drawn]]:
    """The controls; returns headline, formula and pictures."""
    names = {"default": _("none"), "linear": _("linear"), "dynamic": _("NTK, dynamic"), "yarn": "YaRN",
             "llama3": "llama3"}
    columns = st.columns(3)
    with columns[0]:
        d = controls.slider(_("Head width d"), 8, 256, key="d", default=64, step=8)
        base = controls.steps(_("Base"), BASES, key="base", default=10_000)
    with columns[1]:
        n = controls.slider(_("Positions n"), 8, 512, key="n", default=64, step=8)
        at = controls.slider(_("Position i"), 0, n - 1, key="at", default=min(20, n - 1))
    with columns[2]:
        trained = controls.steps(_("Trained length"), LENGTHS, key="trained", default=512)
        factor = controls.slider(_("Asked length, as a multiple"), 1, 32, key="factor", default=8)
    scaling = controls.choice(_("Scaling"), names, key="scaling")
    asked = trained * factor
    every = scalings(trained, factor)
    by_name = {name: positions.rope_frequencies(d, base, parameters, n_positions=asked)
               for name, parameters in every.items()}
    plain, chosen = by_name["default"], by_name[scaling]
    temperature = positions.rope_attention_factor(every[scaling])
    reached = _("At {asked:,} positions, **{plain}** of {pairs} pairs reach angles that {trained:,} trained positions "
                "never showed; with scaling \"{name}\" it is **{scaled}**.")
    if scaling == "default":
        reached = _("At {asked:,} positions, **{plain}** of {pairs} pairs reach angles that {trained:,} trained "
                    "positions never showed.")
    turns = _("The fastest pair turns once in {fast:.2f} positions, the slowest in **{slow:,.0f}**; within n = {n} "
              "positions {within} pairs make a full turn.")
    headline = joined(
        reached.format(asked=asked, plain=unseen(plain, plain, trained, asked), pairs=len(plain), trained=trained,
                       name=names[scaling], scaled=unseen(plain, chosen, trained, asked)),
        turns.format(n=n, within=int((chosen * n >= 2 * np.pi).sum()), fast=2 * np.pi / chosen[0],
                     slow=2 * np.pi / chosen[-1]))
    if temperature != 1.0:
        headline = joined(headline, _("Queries and keys also grow by {temperature:.3f}: scores by its square.").format(
            temperature=temperature))
    formula = (rf"\theta_i = {base}^{{-2i/{d}}}, \quad \langle R_m q, R_n k\rangle = f(q, k, m - n), \quad "
               rf"{at}\cdot\theta_0 = {at * chosen[0]:.2f}\ \text{{rad}}, \quad "
               rf"{at}\cdot\theta_{{{len(chosen) - 1}}} = {at * chosen[-1]:.4f}\ \text{{rad}}")
    return headline, formula, [
        _circles(chosen, at, _), _scores(chosen, asked, trained, _), _wavelengths(by_name, names, trained, asked, _),
        _extrapolation(plain, chosen, names[scaling], trained, asked, _),
        _similarity(chosen, n, at, _),
    ]


def unseen(plain: np.ndarray, scaled: np.ndarray, trained: int, asked: int) -> int:
    """Pairs that, asked at `asked` positions, turn to angles which training at `trained` did not contain.

    A pair that made a full turn in training has met every angle.
    """
    met = np.where(plain * trained >= 2 * np.pi, np.inf, plain * trained)
    return int((scaled * asked > met * (1 + 1e-9)).sum())


def _theme() -> str:
    return st.context.theme.type or "light"


def _circles(frequencies: np.ndarray, at: int, _: Translate) -> Drawn:
    pairs = np.unique(np.linspace(0, len(frequencies) - 1, CIRCLES).astype(int))
    trail = np.arange(max(0, at - 40), at + 1)
    names = [_("pair {pair}").format(pair=pair) for pair in pairs]
    angles = frequencies[pairs, None] * trail
    return Drawn("pairs", _("Rotating pairs at position i: fast ones first, with their way so far"),
                 figures.turning_pairs(angles, names=names, theme=_theme()),
                 {_("position"): trail} | dict(zip(names, angles, strict=True)))


def _scores(frequencies: np.ndarray, asked: int, trained: int, _: Translate) -> Drawn:
    offsets = np.unique(np.linspace(0, min(asked, 4 * trained), OFFSETS).astype(int))
    d = 2 * len(frequencies)
    ones = np.ones(d)
    q, k = np.random.default_rng(0).normal(size=(2, DRAWS, d))
    # The mean over draws, by linearity without rotating each: Σ over pairs of (q·k) cos + (q×k) sin.
    h = len(frequencies)
    dot = (q[:, :h] * k[:, :h] + q[:, h:] * k[:, h:]).mean(axis=0) / d
    cross = (q[:, :h] * k[:, h:] - q[:, h:] * k[:, :h]).mean(axis=0) / d
    angles = np.multiply.outer(offsets, frequencies)
    series = {
        _("q = k, all ones"): positions.rope_scores(ones, ones, offsets, frequencies) / d,
        _("random q and k, mean of {draws}").format(draws=DRAWS): np.cos(angles) @ dot + np.sin(angles) @ cross,
        _("upper bound of the first (RoFormer, §3.4.3)"): positions.rope_bound(ones, ones, offsets, frequencies) / d,
    }
    return Drawn("scores", _("Score by offset: the decay is a bound, not a law"), figures.lines(
        offsets, series, x_name=_("distance"), y_name=_("score, as a share"),
        place=(trained, _("trained")), theme=_theme()), {_("distance"): offsets} | series)


def _wavelengths(by_name: dict[str, np.ndarray], names: dict[str, str], trained: int, asked: int,
                 _: Translate) -> Drawn:
    series = {names[name] if name != "default" else _("unscaled"): positions.wavelengths(frequencies)
              for name, frequencies in by_name.items()}
    pairs = np.arange(len(by_name["default"]))
    return Drawn("scaled", _("Wavelengths: each scaling against the unscaled frequencies"), figures.lines(
        pairs, series, x_name=_("pair of dimensions"), y_name=_("positions a turn"), log_y=True,
        level=(trained, _("trained length {length:,}").format(length=trained)), theme=_theme()),
        {_("pair of dimensions"): pairs} | series)


def _extrapolation(plain: np.ndarray, chosen: np.ndarray, name: str, trained: int, asked: int,
                   _: Translate) -> Drawn:
    pairs = np.arange(len(plain))
    series = {
        _("trained, {length:,} positions").format(length=trained): plain * trained / (2 * np.pi),
        _("asked, {length:,}, unscaled").format(length=asked): plain * asked / (2 * np.pi),
        _("asked, scaling: {name}").format(name=name): chosen * asked / (2 * np.pi),
    }
    return Drawn("turns", _("Past the trained length: largest angle of each pair"), figures.lines(
        pairs, series, x_name=_("pair of dimensions"), y_name=_("turns"), log_y=True,
        level=(1.0, _("one full turn: every angle met")), theme=_theme()),
        {_("pair of dimensions"): pairs} | series)


def _similarity(frequencies: np.ndarray, n: int, at: int, _: Translate) -> Drawn:
    places = np.arange(n)
    alike = np.cos(np.multiply.outer(places - at, frequencies)).mean(axis=1)
    name = _("the same vector, seen from position {at}").format(at=at)
    return Drawn("similarity", _("How alike position i is to all others"), figures.lines(
        places, {name: alike}, x_name=_("position"), y_name=_("cosine"), marker=(at, 1.0), theme=_theme()),
        {_("position"): places, name: alike})
