"""Where q, k and v fall short: rank, order, cost and sinks, each with a number of the open head.

It shows `engine.circuits`, `positions_order` and the head summaries; it runs nothing itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st

from engine import LocalEngine, Prompt, Trace, circuits, errors
from pages.figures import qkv, qkv_charts
from pages.figures.frame import compact
from pages.widgets import drawn, positions_order
from pages.widgets.banners import human_bytes
from pages.widgets.drawn import Drawn
from pages.widgets.language import Translate
from pages.widgets.qkv_steps import Place

#: Lengths of the cost's chart, tokens.
LENGTHS = 2 ** np.arange(2, 18)
#: The length that the cost's sentence names.
BOOK = 100_000


def show(engine: LocalEngine, trace: Trace, at: Place, _: Translate) -> list[Drawn]:
    """Draws the four limits; returns their pictures."""
    rank, cost = _rank(at, _), _cost(at, _)
    sinks = _sinks(engine, trace, at, _)
    with st.container(key="columns-limits"):
        left, right = st.columns(2, gap="large")
    for column, parts in ((left, (rank, sinks)), (right, (cost,))):
        with column:
            for text, picture in parts:
                st.markdown(text)
                drawn.show([picture], per_row=1)
    with right:
        st.markdown(f"**{_('No order without positions')}**")
        st.markdown(_order(engine, trace.prompt, _))
    return [rank[1], cost[1], sinks[1]]


def _rank(at: Place, _: Translate) -> tuple[str, Drawn]:
    found = circuits.spectrum(at.walk.query, at.walk.key)
    d_head = len(at.walk.query.weight)
    text = _("W_Q·W_Kᵀ is a {width}×{width} matrix, but it passes through {d_head} dimensions: its rank is **{rank}**, "
             "never more, and {effective:.0f} directions carry it in effect. A head can compare words in that many "
             "ways at once.").format(width=found.width, d_head=d_head, rank=found.rank, effective=found.effective)
    figure = qkv_charts.spectrum(found.values, width=found.width, theme=at.theme, texts={
        "index": _("number"), "value": _("singular value"), "zeros": _("{count} more, all 0")})
    return text, Drawn("spectrum", _("Rank of W_Q·W_Kᵀ"), figure, {
        _("number"): np.arange(1, len(found.values) + 1), _("singular value"): found.values})


def _cost(at: Place, _: Translate) -> tuple[str, Drawn]:
    walk = at.walk
    sizes = {"d_model": walk.d_model, "n_heads": walk.n_heads, "n_kv_heads": walk.n_kv_heads,
             "d_head": walk.query.after.shape[1]}
    n = len(walk.key.after)
    now, book = circuits.cost(n, **sizes), circuits.cost(BOOK, **sizes)
    crossing = now.n * now.projections / now.scores  # projections grow as n, scores as n²
    text = _("With {n} tokens this layer's {n_heads} heads hold **{cells:,}** scores. The count grows as n²: {book:,} "
             "tokens would make {many}, {bytes} if they were kept. From {crossing:,.0f} tokens on, comparing words "
             "costs more than all the projections.").format(
        n=n, n_heads=walk.n_heads, cells=now.cells, book=BOOK, many=compact(book.cells), bytes=human_bytes(book.bytes),
        crossing=crossing)
    every = [circuits.cost(int(length), **sizes) for length in LENGTHS]
    series = {_("Q·Kᵀ and A·V: n²"): np.array([one.scores for one in every], float),
              _("the four projections: n"): np.array([one.projections for one in every], float)}
    figure = qkv_charts.growth(LENGTHS, series, now=n, theme=at.theme, texts={
        "tokens": _("tokens"), "count": _("multiplications"), "now": _("this text")})
    return text, Drawn("cost", _("Cost of one layer"), figure, {_("tokens"): LENGTHS, **series})


def _sinks(engine: LocalEngine, trace: Trace, at: Place, _: Translate) -> tuple[str, Drawn]:
    head = at.walk.head
    mass = engine.summaries(trace.prompt, head.stream).sink_mass
    heads = list(np.ndindex(mass.shape))
    ranked = sorted(heads, key=lambda place: -mass[place])[:16]
    own = (head.layer, head.head)
    if own not in ranked:
        ranked[-1] = own
    text = _("Softmax must hand out all of its weight, also when nothing fits. This head leaves **{own:.0%}** on "
             "special tokens and punctuation, the mean of this stream's {n} heads is {mean:.0%}, the most "
             "{most:.0%}.").format(
        own=float(mass[own]), n=mass.size, mean=float(mass.mean()), most=float(mass.max()))
    labels = [_("layer {layer}, head {head}").format(layer=a, head=b) for a, b in ranked]
    values = np.array([mass[place] for place in ranked])
    figure = qkv.bars(values, labels=labels, name=_("mass on the sink"), selected=ranked.index(own), number=".2f",
                      theme=at.theme)
    return text, Drawn("sinks", _("Weight that goes to a sink"), figure, {
        _("head"): labels, _("mass on the sink"): values})


def _order(engine: LocalEngine, prompt: Prompt, _: Translate) -> str:
    try:
        found = positions_order.compared(engine, replace(prompt, target=None))
    except errors.InvalidPrompt:
        return _("This text is too short to be put in another order.")
    numbers = {"on": found.vector_residual_on, "off": found.vector_residual_off}
    if not found.removed:
        return _("No module that tells positions was found in this model.")
    if found.mask_tells_order:
        return _("q·k does not know where words stand. With the first and last word swapped and this model's positions "
                 "switched off, its vectors still differ by {off:.2f} of the largest ({on:.2f} with positions): here "
                 "the mask tells the order, since a word sees only those before it.").format(**numbers)
    return _("q·k does not know where words stand. With the first and last word swapped, a word's vector changes by "
             "up to {on:.2f} of the largest; with this model's positions switched off, by **{off}**, which is "
             "rounding.").format(on=found.vector_residual_on, off=compact(found.vector_residual_off))
