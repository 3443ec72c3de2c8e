"""Which head is walked through, and which two tokens are looked at: chosen once, kept through every step.

The choices live in the session state under the names that the address uses,
so the attention page's head and row stay chosen here. It computes nothing.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from engine import Head, LocalEngine, Prompt, Trace
from engine import walk as walks
from engine.walk_types import Walk
from pages.figures import palette, qkv
from pages.figures.frame import plotly_config
from pages.widgets import controls, texts
from pages.widgets.banners import escape
from pages.widgets.drawn import Drawn
from pages.widgets.keeping import keep
from pages.widgets.language import Translate
from pages.widgets.stream_view import StreamView

ROW, COLUMN = "row", "column"
#: More tokens than this are chosen from a list.
PILLS_UP_TO = 40


def choose_head(trace: Trace, _: Translate) -> Head:
    """Draws the choice of stream, layer and head."""
    names = texts.streams(_)
    streams, left, right = st.columns([3, 1, 1], vertical_alignment="bottom", gap="medium")
    with streams:
        stream = controls.choice(_("Stream"), {name: names[name] for name in trace.streams}, key="stream")
    n_layers, n_heads = trace.layers_heads(stream)
    with left:
        layer = controls.slider(_("Layer"), 0, n_layers - 1, key="layer", default=0)
    with right:
        head = controls.slider(_("Head"), 0, n_heads - 1, key="head", default=0)
    return Head(stream, layer, head)


@st.cache_resource(max_entries=16, show_spinner=False)
def walk(_engine: LocalEngine, prompt: Prompt, head: Head) -> Walk:
    """The walk through `head`, kept for the heads opened last."""
    return walks.walk(_engine, prompt, head)


def pair(found: Walk, view: StreamView) -> tuple[int, int]:
    """The positions of the token that looks and the token looked at, as chosen before or as one would first."""
    row = _valid(ROW, view.queries, _last_word(view))
    return row, _valid(COLUMN, view.keys, _strongest(found, row, view))


def choose_pair(view: StreamView, _: Translate) -> tuple[int, int]:
    """Draws the choice of `pair`; returns their positions."""
    with st.container(key="pair"):
        row = _one(_("Who looks (query)"), view.queries, ROW)
        column = _one(_("Who is looked at (key)"), view.keys, COLUMN)
    return row, column


def choose_by_click(drawn: Drawn) -> None:
    """Draws a token × token picture in which a click on a cell chooses its row and column."""
    key = f"click-{drawn.name}"

    def take() -> None:
        points = st.session_state[key].selection.points
        if points:
            st.session_state[ROW], st.session_state[COLUMN] = int(points[0]["y"]), int(points[0]["x"])

    with st.container(key=f"picture-{drawn.name}"):
        st.markdown(f"**{drawn.title}**")
        st.plotly_chart(drawn.figure, theme=None, config=plotly_config(drawn.name), key=key, on_select=take,
                        selection_mode="points", alt=drawn.title)


def marked(figure: go.Figure, pair: tuple[int, int], theme: palette.Theme) -> go.Figure:
    """The picture with the chosen cell outlined, and every cell ready for a click."""
    return qkv.clickable(qkv.mark_cell(figure, *pair, theme=theme))


def _one(label: str, tokens: tuple[str, ...], key: str) -> int:
    options = list(range(len(tokens)))
    if len(tokens) > PILLS_UP_TO:
        return st.selectbox(label, options, key=key, format_func=lambda at: f"{at} {tokens[at]}",
                            persist_state="session")
    # Pills read Markdown; a token is shown as it is.
    return st.pills(label, options, key=key, required=True, format_func=lambda at: escape(tokens[at]),
                    persist_state="session")


def _valid(key: str, tokens: tuple[str, ...], default: int) -> int:
    try:
        value = int(st.session_state.get(key, default))
    except (TypeError, ValueError, OverflowError):
        value = default
    value = value if 0 <= value < len(tokens) else default
    keep(key, value, among=tuple(tokens))
    return value


def _last_word(view: StreamView) -> int:
    spoken = [at for at, (text, flag) in enumerate(zip(view.queries, view.query_flags, strict=True))
              if flag != "special" and text[:1].isalnum()]
    return spoken[-1] if spoken else len(view.queries) - 1


def _strongest(found: Walk, row: int, view: StreamView) -> int:
    """The key with the largest weight, itself and special tokens aside if there is another."""
    weights = np.array(found.weights[row])
    aside = [at for at, flag in enumerate(view.key_flags) if flag == "special" or (found.self_attention and at == row)]
    others = weights.copy()
    others[aside] = -1.0
    return int(others.argmax() if others.max() > 0 else weights.argmax())
