"""Five ways to write a position down, each in closed form under sliders: its headline, formula and pictures.

Sinusoids, learned tables, ALiBi and T5's buckets are here; rotations have
`positions_rope`. It computes by `engine.positions` alone; no model is run.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from engine import positions
from engine.position_types import ModelPositions, PositionTable
from pages.figures import positions as figures
from pages.figures.frame import written
from pages.widgets import controls, drawn, positions_rope
from pages.widgets.drawn import Drawn
from pages.widgets.language import Language, Translate
from pages.widgets.texts import joined

BASES = (10, 100, 1_000, 10_000, 100_000, 500_000, 1_000_000)
#: Spread of a learned table before training, as transformers draws it.
INITIAL_SPREAD = 0.02

Shown = tuple[str, str, list[Drawn]]
Found = Callable[[int], ModelPositions | None]


def show(found: Found, spoken: Language, _: Translate) -> dict[str, str | int]:
    """Draws the chosen encoding with its controls; returns what the address should say.

    Args:
        found: what the loaded model uses at a length, for its learned table; None without a model.
    """
    names = {"sinusoidal": _("Sinusoids"), "learned": _("Learned table"), "rope": _("Rotation (RoPE)"),
             "alibi": "ALiBi", "t5": _("T5 buckets")}
    kind = controls.choice(_("Encoding"), names, key="encoding")
    with st.container(key="controls"):
        if kind == "learned":
            headline, formula, pictures = _learned(found, _)
        else:
            draw = {"sinusoidal": _sinusoidal, "rope": positions_rope.draw, "alibi": _alibi, "t5": _t5}[kind]
            headline, formula, pictures = draw(_)
    with st.container(key="said"):
        st.markdown(headline)
        st.latex(formula)
    drawn.show(pictures)
    drawn.offer(f"positions-{kind}", pictures, facts=[(_("Encoding"), names[kind])], language=spoken, _=_)
    controlled = ("n", "d", "base", "at", "dimension", "trained", "factor", "scaling", "heads", "alibi_head",
                  "direction", "buckets", "max_distance")
    return {"encoding": kind} | {name: st.session_state.get(name) for name in controlled}


def texts(_: Translate) -> dict[str, str]:
    """The names of the axes of every table and grid."""
    return {"position": _("position"), "dimension": _("dimension"), "value": _("value"), "query": _("query"),
            "key": _("key")}


def theme() -> str:
    """The browser's theme, "light" or "dark"."""
    return st.context.theme.type or "light"


def _sinusoidal(_: Translate) -> Shown:
    columns = st.columns(3)
    with columns[0]:
        n = controls.slider(_("Positions n"), 8, 512, key="n", default=64, step=8)
        at = controls.slider(_("Position i"), 0, n - 1, key="at", default=min(20, n - 1))
    with columns[1]:
        d = controls.slider(_("Width d"), 8, 512, key="d", default=64, step=8)
        dimension = controls.slider(_("Dimension"), 0, d - 1, key="dimension", default=8)
    with columns[2]:
        base = controls.steps(_("Base"), BASES, key="base", default=10_000)
        trained = controls.steps(_("Trained length"), positions_rope.LENGTHS, key="trained", default=512,
                                 help=_("Waves slower than this have not made a full turn in training."))
    values = positions.sinusoidal(n, d, base=base)
    frequencies = positions.rope_frequencies(d, base)
    waves = positions.wavelengths(frequencies)
    alike = positions.similarity(values, at)
    pair = dimension // 2
    new = int((waves > trained).sum())
    step = positions.similarity(positions.sinusoidal(2, d, base=base), 0)[1]
    headline = _("The fastest of {pairs} waves turns once in **{fast:.2f}** positions, the slowest in **{slow:,.0f}**. "
                 "Neighbours are alike by **{step:.3f}** (cosine), the same on both sides: distance without direction. "
                 "Within n = {n} positions **{within}** waves make a full turn; past {trained:,} trained positions, "
                 "**{new}** reach angles never met before.").format(
        n=n, within=int((waves <= n).sum()), pairs=len(waves), fast=waves[0], slow=waves[-1], step=step,
        trained=trained, new=new)
    function = r"\sin" if dimension % 2 == 0 else r"\cos"
    formula = (rf"PE(p, {dimension}) = {function}\left(p \cdot {base}^{{-{2 * pair}/{d}}}\right) = "
               rf"{function}({frequencies[pair]:.3g}\,p), \quad PE({at}, {dimension}) = {values[at, dimension]:.3f}")
    places = np.arange(n)
    theirs = texts(_)
    partner = dimension + 1 if dimension % 2 == 0 else dimension - 1
    wave_names = [_("dimension {number}").format(number=number) for number in (dimension, partner)]
    return headline, formula, [
        Drawn("table", _("The table: a row is a position"), figures.table(
            values, texts=theirs, row=at, column=dimension, limit=1.0, theme=theme()), table_columns(values, _)),
        Drawn("wave", _("One dimension's wave, and its partner's"), figures.lines(
            places, dict(zip(wave_names, (values[:, dimension], values[:, partner]), strict=True)),
            x_name=theirs["position"], y_name=theirs["value"], marker=(at, values[at, dimension]), theme=theme()),
            {theirs["position"]: places} | dict(zip(wave_names, (values[:, dimension], values[:, partner])))),
        _similarity(alike, at, _),
        Drawn("wavelengths", _("Wavelengths: low dimensions turn fast, high ones slow"), figures.lines(
            np.arange(len(waves)), {_("wavelength"): waves}, x_name=_("pair of dimensions"),
            y_name=_("positions a turn"), log_y=True, marker=(pair, waves[pair]),
            level=(trained, _("trained length {length:,}").format(length=trained)), theme=theme()),
            {_("pair of dimensions"): np.arange(len(waves)), _("positions a turn"): waves}),
    ]


def _learned(found: Found, _: Translate) -> Shown:
    columns = st.columns(3)
    with columns[0]:
        n = controls.slider(_("Positions n"), 8, 512, key="n", default=64, step=8)
    own = found(n)
    tables = [source for source in (own.sources if own else ())
              if isinstance(source, PositionTable) and source.layout == "learned"]
    if tables:
        values = tables[0].values[:n].astype(np.float64)
        n, d = values.shape
    else:
        with columns[1]:
            d = controls.slider(_("Width d"), 8, 512, key="d", default=64, step=8)
        values = np.random.default_rng(0).normal(0.0, INITIAL_SPREAD, (n, d))
    with columns[0]:
        at = controls.slider(_("Position i"), 0, n - 1, key="at", default=min(20, n - 1))
    with columns[1]:
        dimension = controls.slider(_("Dimension"), 0, d - 1, key="dimension", default=8)
    alike = positions.similarity(values, at)
    others = np.delete(alike, at)
    neighbours = [alike[j] for j in (at - 1, at + 1) if 0 <= j < n]
    numbers = {"at": at, "near": written(np.mean(neighbours), ".3f"), "far": written(others.mean(), ".3f"),
               "n": tables[0].rows if tables else n}
    if tables:
        headline = _("The loaded model learned this table: position {at} and its neighbours are alike by "
                     "**{near}** (cosine), all others by {far} on average. It ends after {n:,} rows: a "
                     "position beyond has no vector at all.").format(**numbers)
    else:
        headline = _("Before training a learned table is noise (the loaded model has none, so this one is drawn): "
                     "position {at} and its neighbours are alike by **{near}** (cosine), all others by {far} "
                     "on average. It ends after {n:,} rows: a position beyond has no vector at all.").format(**numbers)
    places = np.arange(n)
    theirs = texts(_)
    name = _("dimension {number}").format(number=dimension)
    formula = (rf"PE(p) = W_{{p}}, \quad W \in \mathbb{{R}}^{{{n} \times {d}}}, \quad "
               rf"W_{{{at},{dimension}}} = {values[at, dimension]:.4f}")
    return headline, formula, [
        Drawn("table", _("The table: a row is a position"), figures.table(
            values, texts=theirs, row=at, column=dimension, theme=theme()), table_columns(values, _)),
        Drawn("wave", _("One dimension's values"), figures.lines(
            places, {name: values[:, dimension]}, x_name=theirs["position"], y_name=theirs["value"],
            marker=(at, values[at, dimension]), theme=theme()),
            {theirs["position"]: places, name: values[:, dimension]}),
        _similarity(alike, at, _),
    ]


def _alibi(_: Translate) -> Shown:
    columns = st.columns(3)
    with columns[0]:
        n = controls.slider(_("Positions n"), 8, 512, key="n", default=64, step=8)
        at = controls.slider(_("Position i"), 0, n - 1, key="at", default=min(20, n - 1))
    with columns[1]:
        n_heads = controls.slider(_("Heads"), 1, 64, key="heads", default=8)
        head = controls.slider(_("Head"), 0, n_heads - 1, key="alibi_head", default=0)
    with columns[2]:
        trained = controls.steps(_("Trained length"), positions_rope.LENGTHS, key="trained", default=512)
        factor = controls.slider(_("Asked length, as a multiple"), 1, 32, key="factor", default=8)
    slopes = positions.alibi_slopes(n_heads)
    slope = slopes[head]
    distances = np.unique(np.linspace(0, trained * factor, 129).astype(int))
    bias = -slopes[:, None] * distances
    headline = _("Head {head} takes **{slope:.4f}** off a score for each position of distance: the weight falls to "
                 "37 % in **{reach:,.0f}** positions. At the trained length ({trained:,}) that is −{at_trained:,.1f}, "
                 "at {asked:,} positions −{at_asked:,.1f}: the line simply goes on. Across n = {n} positions the "
                 "farthest key loses {far:,.1f}.").format(
        n=n, far=slope * (n - 1), head=head, slope=slope, reach=1 / slope, trained=trained,
        at_trained=slope * trained, asked=trained * factor, at_asked=slope * trained * factor)
    if n_heads & (n_heads - 1):
        headline = joined(headline, _("{n_heads} is no power of two: the heads follow BLOOM's rule, not "
                                      "2^(−8h/n).").format(n_heads=n_heads))
    formula = rf"b_{{qk}} = -m_{{{head}}}\,(q - k) = -{slope:.4g}\,(q - k), \quad b_{{{at},0}} = {-slope * at:.3f}"
    offsets = np.arange(n)
    matrix = np.where(offsets[None, :] <= offsets[:, None], -slope * (offsets[:, None] - offsets[None, :]), np.nan)
    theirs = texts(_)
    heads = np.arange(n_heads)
    series = {_("slopes by BLOOM's rule"): slopes}
    if n_heads & (n_heads - 1):
        series["2^(−8h/n)"] = 2.0 ** (-8 * (heads + 1) / n_heads)
    return headline, formula, [
        Drawn("bias", _("Bias of the chosen head, by query and key"), figures.grid(
            matrix, texts={**theirs, "value": _("bias")}, theme=theme()), table_columns(matrix, _)),
        Drawn("row", _("What position i sees of the others"), figures.lines(
            offsets[:at + 1], {_("bias"): matrix[at, :at + 1]}, x_name=theirs["key"], y_name=_("bias"),
            marker=(at, 0.0), theme=theme()),
            {theirs["key"]: offsets[:at + 1], _("bias"): matrix[at, :at + 1]}),
        Drawn("distance", _("Bias by distance, past the trained length"), figures.graded_lines(
            distances, bias, names=[_("head {head}").format(head=h) for h in heads], x_name=_("distance"),
            y_name=_("bias"), chosen=head, place=(trained, _("trained")), theme=theme()),
            {_("distance"): distances} | {_("head {head}").format(head=h): bias[h] for h in heads}),
        Drawn("slopes", _("Slopes of all heads"), figures.lines(
            heads, series, x_name=_("head"), y_name=_("slope"), log_y=True, points=True, marker=(head, slope),
            theme=theme()), {_("head"): heads} | series),
    ]


def _t5(_: Translate) -> Shown:
    columns = st.columns(3)
    with columns[0]:
        n = controls.slider(_("Positions n"), 8, 512, key="n", default=64, step=8)
        at = controls.slider(_("Position i"), 0, n - 1, key="at", default=min(20, n - 1))
    with columns[1]:
        n_buckets = controls.slider(_("Buckets"), 8, 64, key="buckets", default=32, step=4)
        max_distance = controls.slider(_("Largest distance told apart"), 32, 512, key="max_distance", default=128,
                                       step=8)
    with columns[2]:
        direction = controls.choice(_("Direction"), {"both": _("both (encoder)"), "back": _("back only (decoder)")},
                                    key="direction")
    bidirectional = direction == "both"
    how = {"bidirectional": bidirectional, "n_buckets": n_buckets, "max_distance": max_distance}
    exact = n_buckets // (4 if bidirectional else 2)
    places = np.arange(n)
    relative = places[None, :] - places[:, None]
    matrix = positions.t5_bucket(relative, **how).astype(np.float64)
    row = matrix[at]
    if not bidirectional:
        matrix = np.where(relative <= 0, matrix, np.nan)
    reach = 2 * max_distance
    offsets = np.arange(-reach, reach + 1 if bidirectional else 1)
    buckets = positions.t5_bucket(offsets, **how)
    last = int(buckets[0])
    first_shared = int(np.abs(offsets[buckets == last]).min())
    headline = _("Distances below **{exact}** have a bucket each; further away they share more and more, and from "
                 "**{shared}** positions on everything behind is bucket **{last}**: a text of any length fits, but far "
                 "is just far. From position {at} of n = {n}, {seen} of the {n_buckets} buckets are in use.").format(
        n=n,
        exact=exact, shared=first_shared, last=last, at=at, n_buckets=n_buckets,
        seen=len(np.unique(row if bidirectional else row[:at + 1])))
    theirs = texts(_)
    one = int(positions.t5_bucket(np.array([-at]), **how)[0])
    formula = rf"b_{{qk}} = B[\text{{bucket}}(k - q)], \quad \text{{bucket}}({-at}) = {one}"
    return headline, formula, [
        Drawn("buckets", _("Bucket by query and key"), figures.grid(
            matrix, texts={**theirs, "value": _("bucket")}, theme=theme()), table_columns(matrix, _)),
        Drawn("row", _("Buckets that position i puts the others in"), figures.lines(
            places, {_("bucket"): row}, x_name=theirs["key"], y_name=_("bucket"), marker=(at, row[at]),
            shape="hvh", theme=theme()), {theirs["key"]: places, _("bucket"): row}),
        Drawn("offsets", _("Bucket by offset (key − query)"), figures.lines(
            offsets, {_("bucket"): buckets}, x_name=_("key − query"), y_name=_("bucket"),
            place=(-max_distance, _("largest distance")), shape="hvh", theme=theme()),
            {_("key − query"): offsets, _("bucket"): buckets}),
    ]


def table_columns(values: np.ndarray, _: Translate) -> dict[str, np.ndarray]:
    """A table of positions as columns for a file: the position, then one column a dimension or key."""
    return {_("position"): np.arange(len(values))} | {str(i): values[:, i] for i in range(values.shape[1])}


def _similarity(alike: np.ndarray, at: int, _: Translate) -> Drawn:
    places, name = np.arange(len(alike)), _("cosine with position {at}").format(at=at)
    return Drawn("similarity", _("How alike position i is to all others"), figures.lines(
        places, {name: alike}, x_name=_("position"), y_name=_("cosine"), marker=(at, 1.0), theme=theme()),
        {_("position"): places, name: alike})
