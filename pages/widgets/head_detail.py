"""One head opened: heatmap, lines, linked tokens, and the row inspector that says a row in words.

It shows one pattern of the engine's, whole, without its sink, or a region of
it; it computes no statistics of its own beyond a row's sum and rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from engine import Head, LocalEngine, Trace
from pages.figures import attention, palette
from pages.figures.frame import plotly_config
from pages.widgets import stream_view
from pages.widgets.banners import escape
from pages.widgets.head_browser import colour_limit
from pages.widgets.head_lines import head_lines
from pages.widgets.language import Translate
from pages.widgets.stream_view import StreamView
from pages.widgets.token_link import token_link

ROW, SINK = "row", "sink"
#: Longest axis drawn as lines; beyond it they are a grey cloud.
LINES_UP_TO = 128
#: Keys that the sentence of the row inspector names.
NAMED_KEYS = 5
#: Token ranges [start, end) of rows and columns.
Region = tuple[tuple[int, int], tuple[int, int]]
#: Side of the pooled picture of a long pattern, in blocks.
POOLED_SIZE = 512


@dataclass(frozen=True, eq=False)
class Shown:
    """What of a head is on screen, for the figures and the export.

    Attributes:
        head: which.
        view: the axes shown (a region of a long pattern).
        weights: (q_len, k_len) float32 of those axes, NaN where masked or set aside; None when only pooled.
        figure: the Plotly picture.
        removed: (q_len,) float32 mass that the sink switch took from each row, or None.
    """

    head: Head
    view: StreamView
    weights: np.ndarray | None
    figure: go.Figure
    removed: np.ndarray | None


def show(engine: LocalEngine, trace: Trace, head: Head, view: StreamView, _: Translate) -> Shown:
    """Draws the open head and returns what was drawn."""
    theme = st.context.theme.type or "light"
    if view.size > engine.limits.detail:
        rows, columns = _region(engine.limits.detail, view, _)
        if max(rows[1] - rows[0], columns[1] - columns[0]) > engine.limits.detail:
            return _pooled(engine, trace, head, view, (rows, columns), theme, _)
        view, weights, even = _part(engine, trace, head, view, (rows, columns))
    else:
        weights = stream_view.pattern(engine, trace.prompt, head, view)
        even = stream_view.even(engine, trace.prompt, head, view)
    removed = None
    if _sink_switch(_):
        weights, removed = stream_view.set_sink_aside(weights, view)
        even, _removed = stream_view.set_sink_aside(even, view)
        _tell_sink(view, removed, _)
    row = _row(view)
    texts = _texts(_)
    chosen = token_link(
        stream=view.stream, query_labels=view.queries, key_labels=view.keys, query_flags=view.query_flags,
        key_flags=view.key_flags, selected_query=row, heatmap_key="heatmap", key="tokens",
        texts={"query": _("queries (choose a row)"), "key": _("keys"), "unknown": _("not in the model's vocabulary"),
               "fallback": _("known to the model only as single characters"), "special": _("special token"),
               "hint": _("Point at a token to see its row and column in every picture; click a query to open its "
                         "row.")},
    )
    if chosen is not None:
        row = st.session_state[ROW] = chosen
    title = "" if removed is None else _("Sink set aside ({mass:.0%}), rows renormalised").format(
        mass=float(removed.mean()))
    figure = attention.pattern_heatmap(weights, query_labels=view.queries, key_labels=view.keys, texts=texts,
                                       title=title, selected_query=row, limit=colour_limit(weights), theme=theme)
    with st.container(key="pictures"):
        left, right = st.columns(2, gap="medium")
    with left, st.container(key="heatmap"):
        st.plotly_chart(figure, theme=None, config=plotly_config(_file_name(head)), key="heatmap-chart",
                        alt=_("Heatmap of one head: queries downwards, keys across"))
    with right:
        if view.size <= LINES_UP_TO:
            head_lines(weights, stream=view.stream, query_labels=view.queries, key_labels=view.keys, key="lines",
                       texts={**texts, "lines": _("Lines from queries to keys"), "masked": _("masked"),
                              "hint": _("Point at a token to see its lines alone.")})
        else:
            st.caption(_("Lines are drawn up to {limit} tokens.").format(limit=LINES_UP_TO))
    _inspect(weights, even, removed, row, view, theme, _)
    return Shown(head, view, weights, figure, removed)


def _texts(_: Translate) -> dict[str, str]:
    return {"query": _("query"), "key": _("key"), "weight": _("weight")}


def _file_name(head: Head) -> str:
    return f"{head.stream}-layer{head.layer}-head{head.head}"


def _sink_switch(_: Translate) -> bool:
    return st.toggle(
        _("Set the sink aside and renormalise"), key=SINK,
        help=_("The sink: keys that soak up mass from everywhere. Here: special tokens, punctuation and, in a "
               "decoder, the first token."),
    )


def _tell_sink(view: StreamView, removed: np.ndarray, _: Translate) -> None:
    names = [escape(name) for name in view.sinks]
    sentence = (_("Set aside: {names}. It held {mass:.0%} of this head's mass.") if len(names) == 1 else
                _("Set aside: {names}. They held {mass:.0%} of this head's mass."))
    st.caption(sentence.format(names=_(", ").join(names), mass=float(removed.mean())))


def _row(view: StreamView) -> int:
    """The session's row as a valid index (an address may say anything), else the last row of a word."""
    spoken = [i for i, (text, flag) in enumerate(zip(view.queries, view.query_flags, strict=True))
              if flag != "special" and text[:1].isalnum()]
    first = spoken[-1] if spoken else len(view.queries) - 1
    try:
        row = int(st.session_state.get(ROW, first))
    except (TypeError, ValueError):
        row = first
    row = row if 0 <= row < len(view.queries) else first
    st.session_state[ROW] = row
    return row


def _inspect(weights: np.ndarray, even: np.ndarray, removed: np.ndarray | None, row: int, view: StreamView,
             theme: palette.Theme, _: Translate) -> None:
    """One row in words and as bars, beside what each key would get if the row looked at every token alike."""
    values, uniform = weights[row], even[row]
    visible = int((~np.isnan(values)).sum())
    query = escape(view.queries[row])
    if visible == 0 or not np.nansum(values) > 0:
        st.info(_("The row of {query} has nothing left to look at.").format(query=query))
        return
    ranked = [key for key in np.argsort(-values, kind="stable") if not np.isnan(values[key])]
    same = bool(np.ptp(uniform[ranked]) < 1e-6)
    named = _(", ").join(
        f"**{escape(view.keys[key])}** {values[key]:.2f}" + ("" if same else f" ({uniform[key]:.2f})")
        for key in ranked[:NAMED_KEYS])
    more = " …" if visible > NAMED_KEYS else ""
    subject = f"**{query}**" if view.stream == "encoder" else _(
        "The row **{query}** (what it predicts ‹ what it reads)").format(query=query)
    sentence = _("{row} looks at: {keys}, beside uniform {uniform:.2f}.") if same else _(
        "{row} looks at: {keys}; in brackets the share it would get if all tokens in sight were looked at alike.")
    st.markdown(sentence.format(row=subject, keys=named + more, uniform=float(uniform[ranked[0]])))
    if removed is not None:
        st.caption(_("The sink held {mass:.2f} of this row.").format(mass=float(removed[row])))
    st.plotly_chart(
        attention.row_bars(values, key_labels=view.keys, uniform=uniform, theme=theme, texts={
            "weight": _("weight"), "uniform": _("uniform"), "others": _("{count} others, together {mass}")}),
        theme=None, config=plotly_config("row"), key="row-bars", alt=_("Weights of the chosen row as bars"),
    )


def _region(limit: int, view: StreamView, _: Translate) -> Region:
    """The token ranges [start, end) of rows and columns chosen with the sliders."""
    n_rows, n_keys = view.query_units[-1].end, view.key_units[-1].end
    left, right = st.columns(2, gap="medium")
    rows = left.slider(_("Rows (query positions)"), 0, n_rows, (0, n_rows), key=f"rows_{view.stream}_{n_rows}")
    columns = right.slider(_("Columns (key positions)"), 0, n_keys, (0, n_keys), key=f"columns_{view.stream}_{n_keys}")
    st.caption(_("Above {limit} tokens each block shows its largest weight. Narrow both ranges to {limit} tokens or "
                 "fewer to see single cells.").format(limit=limit))
    return _not_empty(rows, n_rows), _not_empty(columns, n_keys)


def _not_empty(bounds: tuple[int, int], length: int) -> tuple[int, int]:
    start = min(bounds[0], length - 1)
    return start, max(start + 1, bounds[1])


def _part(engine: LocalEngine, trace: Trace, head: Head, view: StreamView,
          region: Region) -> tuple[StreamView, np.ndarray, np.ndarray]:
    rows, keys = region
    by_token = stream_view.view(trace, view.stream, unit="tokens")
    weights, even = (of(engine, trace.prompt, head, by_token)[slice(*rows), slice(*keys)]
                     for of in (stream_view.pattern, stream_view.even))
    return stream_view.part(by_token, rows, keys), weights, even


def _pooled(engine: LocalEngine, trace: Trace, head: Head, view: StreamView, region: Region, theme: palette.Theme,
            _: Translate) -> Shown:
    rows, columns = region
    picture = engine.pooled(trace.prompt, head, size=POOLED_SIZE, rows=rows, columns=columns)
    largest = np.where(picture.visible, picture.max, np.nan)
    figure = attention.pattern_image(largest, q_edges=picture.q_edges, k_edges=picture.k_edges, texts=_texts(_),
                                     limit=colour_limit(largest), theme=theme)
    st.plotly_chart(figure, theme=None, config=plotly_config(_file_name(head)), key="pooled-chart",
                    alt=_("One head, pooled: queries downwards, keys across"))
    return Shown(head, view, None, figure, None)
