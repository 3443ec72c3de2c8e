"""Scores drawn at random, with the division by √d_k and without: controls, numbers, pictures.

It shows what `engine.saturation` computes; the curve over d_k is drawn from
the same samples, so its marker stands on it.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import streamlit as st

from engine import saturation
from pages.figures import scaling
from pages.figures.beside import beside
from pages.figures.frame import compact, readable
from pages.figures.scaling import Marker
from pages.widgets import controls, drawn
from pages.widgets.drawn import Drawn
from pages.widgets.language import Language, Translate

D_HEADS = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
K_LENS = (8, 16, 32, 64, 128, 256, 512)
#: Queries drawn; each is a row.
N_ROWS = 500
#: Rows that can be looked at one by one.
SHOWN_ROWS = 20
D_HEAD, K_LEN, DISTRIBUTION, ROW = "d_k", "n", "distribution", "sample"
NAMES = (D_HEAD, K_LEN, DISTRIBUTION, ROW)
STATES = ("without", "with")
#: A sweep over d_k takes up to 0.7 s: those of the slider's other n are made while a person looks at this one.
_ahead = ThreadPoolExecutor(1, thread_name_prefix="sweep")


@dataclass(frozen=True)
class Medians:
    """One number a state: variance over all scores, and medians over rows of the three measures."""

    variance: float
    entropy: float
    max_probability: float
    jacobian_norm: float


def show(spoken: Language, _: Translate) -> dict[str, str | int]:
    """Draws the part; returns what the address should say."""
    first, second = st.columns([3, 2], gap="medium")
    with first:
        d_head = controls.steps(_("dₖ: entries of a query"), D_HEADS, key=D_HEAD, default=64)
    with second:
        k_len = controls.steps(_("n: keys in sight"), K_LENS, key=K_LEN, default=128)
    distribution = controls.choice(_("Entries drawn from (mean 0, variance 1)"), _distributions(_), key=DISTRIBUTION)
    medians = _sweep(k_len, distribution)
    here = {state: medians[state][D_HEADS.index(d_head)] for state in STATES}
    st.markdown(_headline(d_head, k_len, here, _))
    st.markdown(_table(d_head, k_len, here, _))
    theme = st.context.theme.type or "light"
    over_d_head = _over_d_head(d_head, k_len, medians, theme, _)
    drawn.show([over_d_head], per_row=1)
    row = controls.slider(_("Row to look at"), 0, SHOWN_ROWS - 1, key=ROW, default=0)
    scores = _scores(d_head, k_len, distribution)
    samples = [_histograms(d_head, scores, theme, _), _row(row, scores, theme, _)]
    drawn.show(samples, per_row=1)
    facts = [("dₖ", str(d_head)), ("n", str(k_len)), (_("Entries"), _distributions(_)[distribution]),
             (_("Rows drawn"), str(N_ROWS))]
    drawn.offer("scaling-by-chance", [over_d_head, *samples], facts=facts, language=spoken, _=_)
    at = K_LENS.index(k_len)
    for other in sorted(K_LENS, key=lambda n: abs(K_LENS.index(n) - at)):
        _ahead.submit(_sweep, other, distribution)
    return {D_HEAD: d_head, K_LEN: k_len, DISTRIBUTION: distribution, ROW: row}


def _distributions(_: Translate) -> dict[str, str]:
    return {"normal": _("normal"), "uniform": _("uniform"), "sign": "±1", "laplace": _("Laplace (heavy tails)")}


def _states(_: Translate) -> dict[str, str]:
    return {"without": _("without division"), "with": _("with division")}


@st.cache_resource(max_entries=4, show_spinner=False)
def _scores(d_head: int, k_len: int, distribution: str) -> dict[str, np.ndarray]:
    unscaled, scaled = saturation.simulate(d_head, k_len, N_ROWS, distribution=distribution)
    return {"without": unscaled, "with": scaled}


@functools.cache  # without a script's context too, which Streamlit's caches want
def _sweep(k_len: int, distribution: str) -> dict[str, tuple[Medians, ...]]:
    """State → the medians at every d_k of D_HEADS."""
    found: dict[str, list[Medians]] = {state: [] for state in STATES}
    for d_head in D_HEADS:
        pair = saturation.simulate(d_head, k_len, N_ROWS, distribution=distribution)
        for state, scores in zip(STATES, pair, strict=True):
            measures = (float(np.median(values)) for values in saturation.softmax_stats(scores))
            found[state].append(Medians(float(scores.var()), *measures))
    return {state: tuple(medians) for state, medians in found.items()}


def _headline(d_head: int, k_len: int, here: dict[str, Medians], _: Translate) -> str:
    """The largest weights in words, where the freezing point lies, and which way lets more gradient back."""
    freezing = saturation.freezing_d_head(k_len)
    without, with_ = here["without"], here["with"]
    first = _("**At $d_k$ = {d} the strongest of {n} keys takes {without:.1%} of the weight without the division, "
              "{with_:.1%} with it.**")
    if d_head <= freezing:
        second = _("The softmax without division is still soft: it freezes onto a few keys from $d_k$ = 2 ln n = "
                   "{freezing:.1f} on.")
    elif without.jacobian_norm < with_.jacobian_norm:
        second = _("Without division the softmax is frozen (beyond $d_k$ = 2 ln n = {freezing:.1f}), and less gradient "
                   "comes back: the median Jacobian norm is {j_without}, with the division {j_with}.")
    else:
        second = _("That is beyond the freezing point $d_k$ = 2 ln n = {freezing:.1f}; rows torn between two or three "
                   "keys still let gradient back (median Jacobian norm {j_without}, with the division "
                   "{j_with}), but not for much longer.")
    return f"{first} {second}".format(
        d=d_head, n=k_len, without=without.max_probability, with_=with_.max_probability, freezing=freezing,
        j_without=compact(without.jacobian_norm), j_with=compact(with_.jacobian_norm))


def _table(d_head: int, k_len: int, here: dict[str, Medians], _: Translate) -> str:
    """The measures, each with its formula and, in brackets, what that gives. A formula each: they are slow to set."""
    variance = {"without": d_head, "with": 1}
    rows = [
        (_("variance of all scores together"), r"$\operatorname{Var}(q\cdot k)=\sigma^2=d_k$",
         lambda one: readable(one.variance), lambda state: f"{variance[state]}"),
        (_("entropy, nats (at most ln n = {most:.2f})").format(most=np.log(k_len)),
         r"$\max(0,\ \ln n-\sigma^2/2)\ (n\to\infty)$", lambda one: f"{one.entropy:.3f}",
         lambda state: f"{float(saturation.expected_entropy(variance[state], k_len)):.3f}"),
        (_("largest weight"), r"$1/n\ \ldots\ 1$", lambda one: f"{one.max_probability:.3f}",
         lambda state: f"{1 / k_len:.3f}–1"),
        (_("Jacobian norm"), r"$\lVert J\rVert_F^2=\sum p^2-2\sum p^3+(\sum p^2)^2$",
         lambda one: compact(one.jacobian_norm), None),
    ]
    lines = [
        f"| {_('Median over {rows} rows').format(rows=N_ROWS)} | {_('formula')} | "
        + " | ".join(_("{state} (by the formula)").format(state=name) for name in _states(_).values()) + " |",
        "|---|---|---|---|",
    ]
    for name, formula, measured, expected in rows:
        cells = [f"**{measured(here[state])}**" + (f" ({expected(state)})" if expected else "") for state in STATES]
        lines.append(f"| {name} | {formula} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _over_d_head(d_head: int, k_len: int, medians: dict[str, tuple[Medians, ...]], theme: str,
                 _: Translate) -> Drawn:
    """The three measures over d_k, with the place where one is and the freezing point."""
    x = np.array(D_HEADS, dtype=float)
    measures = {"entropy": _("entropy (nats)"), "max_probability": _("largest weight"),
                "jacobian_norm": _("Jacobian norm (median)")}
    names, at = _states(_), D_HEADS.index(d_head)
    freezing = saturation.freezing_d_head(k_len)
    panels, columns = [], {"d_k": D_HEADS}
    for measure, title in measures.items():
        lines = {state: np.array([getattr(one, measure) for one in medians[state]]) for state in STATES}
        theory = saturation.expected_entropy(x, k_len) if measure == "entropy" else None
        panels.append(scaling.curves(
            x, lines, names=names, x_title="dₖ", y_title=title, theme=theme, upright=(freezing, "2 ln n"),
            markers=[Marker(x[at], lines[state][at], state, "") for state in STATES],
            theory=None if theory is None else (theory, _("theory, n → ∞")), tick_base=4))
        columns |= {f"{measure}, {names[state]}": lines[state] for state in STATES}
    title = " · ".join(_("{measure} over dₖ").format(measure=measure) for measure in measures.values())
    return Drawn("chance-over-d-head", title, beside(*panels), columns)


def _histograms(d_head: int, scores: dict[str, np.ndarray], theme: str, _: Translate) -> Drawn:
    """The scores of each state, side by side."""
    variance = {"without": float(d_head), "with": 1.0}
    panels, titles, columns = [], [], {}
    for state, name in _states(_).items():
        panel = scaling.histogram(
            scores[state], variance=variance[state], reach=4 * d_head**0.5, state=state, theme=theme,
            texts={"score": _("{what}, {state}").format(what=_("score"), state=name), "density": _("density"),
                   "theory": _("theory")})
        panels.append(panel)
        titles.append(_("Scores {state}: variance {variance}").format(
            state=name, variance=readable(float(scores[state].var()))))
        columns |= {f"score, {name}": panel.traces[0]["x"], f"density, {name}": panel.traces[0]["y"]}
    return Drawn("chance-scores", " · ".join(titles), beside(*panels), columns)


def _row(row: int, scores: dict[str, np.ndarray], theme: str, _: Translate) -> Drawn:
    """Softmax of one row in each state, side by side."""
    panels, titles, columns = [], [], {"key": np.arange(scores["with"].shape[1])}
    for state, name in _states(_).items():
        weights = saturation.softmax(scores[state][row])
        panels.append(scaling.row_softmax(
            weights, state=state, theme=theme,
            texts={"key": _("{what}, {state}").format(what=_("key"), state=name), "weight": _("weight"),
                   "uniform": _("uniform")}))
        titles.append(_("Softmax of row {row} {state}: largest weight {largest:.3f}").format(
            row=row, state=name, largest=float(weights.max())))
        columns[f"weight, {name}"] = weights
    return Drawn("chance-row", " · ".join(titles), beside(*panels), columns)
