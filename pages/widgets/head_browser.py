"""The grid of all heads with its sorting and filtering; a click opens a head.

It asks the engine for summaries and small pictures and hands them to the
canvas. Which head is open lives in the session state, so that a permalink can
set it.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import streamlit as st

from engine import HeadSummary, LocalEngine, Trace
from engine.types import LABELS, MEASURES
from pages.figures import palette
from pages.widgets import measures, stream_view
from pages.widgets.head_grid import head_grid
from pages.widgets.keeping import keep
from pages.widgets.language import Translate
from pages.widgets.stream_view import StreamView

LAYER, HEAD, STRETCH = "layer", "head", "stretch"
#: Share of the weights that may lie beyond the strongest colour when colours are stretched.
STRONGEST = 0.01


def browse(engine: LocalEngine, trace: Trace, shown: StreamView, _: Translate) -> tuple[int, int]:
    """Draws controls and grid; returns the open (layer, head)."""
    summary = engine.summaries(trace.prompt, shown.stream)
    n_layers, n_heads = summary.label.shape
    order, sort = _controls(summary, shown.stream, _)
    opened = (_stored(LAYER, n_layers), _stored(HEAD, n_heads))
    pictures, rows, columns, hovers = _pictures(engine, trace, shown)
    limit = colour_limit(pictures)
    clicked = head_grid(
        palette.weights_to_bytes(pictures / limit), limit=limit, stream=hovers, labels=measures.label_grid(summary, _),
        captions=_captions(summary, sort), order=order, row_labels=rows, column_labels=columns, selected=opened,
        texts={
            "grid": _("All heads of the stream; arrow keys move, Enter opens one"), "layer": _("layer"),
            "head": _("head"), "legend": _("Colour follows the square root of the weight."),
            "masked": _("masked"), "weight": _("weight"), "empty": _("No head passes the filter."),
        },
        key="grid",
    )
    if clicked:
        opened = clicked
        st.session_state[LAYER], st.session_state[HEAD] = clicked
    return opened


def colour_limit(weights: np.ndarray) -> float:
    """The weight of the strongest colour: 1, or where colours are to be stretched one that a hundredth exceeds.

    Not the largest: under a causal mask the first row has nothing but weight 1.
    """
    if not st.session_state.get(STRETCH) or np.isnan(weights).all():
        return 1.0
    return float(np.nanquantile(weights, 1 - STRONGEST)) or 1.0


def _controls(summary: HeadSummary, stream: str, _: Translate) -> tuple[list[tuple[int, int]], str | None]:
    names, labels = measures.measure_names(_), measures.label_names(_)
    usable = [name for name in MEASURES if not np.isnan(getattr(summary, name)).all()]
    counts = Counter(LABELS[label] for label in summary.label.flat)
    left, middle, right = st.columns([2, 3, 4], gap="medium", vertical_alignment="bottom")
    with left:
        sort = st.session_state.get("sort")
        keep("sort", sort if sort in usable else "", among=tuple(usable))
        # "" for the order as it is: to Streamlit, None is no choice at all.
        sort = st.selectbox(_("Sort by"), ["", *usable], key="sort", filter_mode=None, persist_state="session",
                            format_func=lambda name: names[name] if name else _("layer and head")) or None
    with middle:
        bounds = _bounds(getattr(summary, sort), names[sort], sort, stream) if sort else None
        if not sort:
            st.caption(_("Sort by a measure to filter by it."))
    with right:
        chosen = st.pills(
            _("Show heads labelled"), list(counts), selection_mode="multi", key=f"labels_{stream}",
            format_func=lambda label: f"{labels[label]} ({counts[label]})",
            help=_("Labels are scored after the sink is set aside. None chosen: all."),
        )
    return measures.order(summary, sort=sort, labels=chosen or list(counts), bounds=bounds), sort


def _bounds(values: np.ndarray, name: str, sort: str, stream: str) -> tuple[float, float] | None:
    # Rounded outwards, so that the full range keeps every head.
    low, high = math.floor(np.nanmin(values) * 100) / 100, math.ceil(np.nanmax(values) * 100) / 100
    if low == high:
        return None
    return st.slider(name, low, high, (low, high), step=0.01, key=f"bounds_{stream}_{sort}_{low}_{high}")


def _captions(summary: HeadSummary, sort: str | None) -> np.ndarray:
    n_layers, n_heads = summary.label.shape
    captions = np.empty((n_layers, n_heads), dtype=object)
    for layer in range(n_layers):
        for head in range(n_heads):
            value = f" · {getattr(summary, sort)[layer, head]:.2f}" if sort else ""
            captions[layer, head] = f"L{layer} H{head}{value}"
    return captions


def _pictures(engine: LocalEngine, trace: Trace,
              shown: StreamView) -> tuple[np.ndarray, list[str], list[str], str]:
    """Pictures of all heads, the labels of their rows and columns, and the name under which hovers are shared."""
    axes = trace.tokens(shown.stream)
    if max(len(axes.query), len(axes.key)) <= engine.limits.exact_grid:
        return stream_view.patterns(engine, trace.prompt, shown), list(shown.queries), list(shown.keys), shown.stream
    pooled = engine.pictures(trace.prompt, shown.stream)
    # Blocks are no positions, so hovering one must not point at a token elsewhere.
    return pooled.cells, _ranges(pooled.q_edges), _ranges(pooled.k_edges), f"{shown.stream} blocks"


def _ranges(edges: np.ndarray) -> list[str]:
    return [str(a) if b - a == 1 else f"{a}–{b - 1}" for a, b in zip(edges[:-1], edges[1:], strict=True)]


def _stored(name: str, length: int) -> int:
    """The session's layer or head as a valid index; an address may say anything."""
    try:
        value = int(st.session_state.get(name, 0))
    except (TypeError, ValueError):
        value = 0
    value = value if 0 <= value < length else 0
    st.session_state[name] = value
    return value
