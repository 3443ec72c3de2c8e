"""Pictures of the steps inside one head: vectors as rows, products by dimension, masked scores, heads on a plane.

It knows arrays and display strings, and returns Plotly figures; equal arrays
give equal JSON. It does not know models, the page, or how an array came to be.
Signed numbers take the diverging scale, 0 in the middle; weights the sequential one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from pages.figures import palette
from pages.figures.frame import (
    BAR,
    axis_name,
    bare_layout,
    colour_bar,
    compact,
    escape,
    in_powers,
    isolate,
    names_room,
    picture_height,
    shorten,
    tick_anchor,
    token_axes,
    token_margins,
    written,
)
from pages.figures.whole import figure_of

#: Height of one row of `vector_rows`, in pixels.
ROW = 26
#: Longest row label drawn, in half-width columns.
LABEL_COLUMNS = 30
#: Hidden cells get a cross each up to this many tokens; beyond it the grey alone says it.
CROSSES_UP_TO = 32
#: Cells that may be clicked one by one.
CLICKS_UP_TO = 64


def vector_rows(rows: Sequence[np.ndarray], *, labels: Sequence[str], texts: Mapping[str, str],
                gaps: Sequence[int] = (), theme: palette.Theme = "light") -> go.Figure:
    """Vectors of one length, one below another: dimensions across, colour the number.

    Args:
        rows: each (d,) float32.
        labels: one display string a row.
        texts: `dimension`, `value`.
        gaps: rows before which a line is left free.

    Raises:
        ValueError: rows and labels differ in number, or rows in length.
    """
    if len(rows) != len(labels) or len({len(row) for row in rows}) > 1:
        raise ValueError(f"Expected {len(labels)} rows of one length; got lengths {[len(row) for row in rows]}.")
    places = np.arange(len(rows)) + np.searchsorted(np.asarray(gaps), np.arange(len(rows)), side="right")
    cells = np.full((places[-1] + 1, len(rows[0])), np.nan, np.float32)
    cells[places] = np.stack(rows)
    limit = _limit(cells)
    names = [""] * len(cells)
    for place, label in zip(places, labels, strict=True):
        names[place] = shorten(label, LABEL_COLUMNS)
    return figure_of([{
        "type": "heatmap", "z": cells, "zmin": -limit, "zmax": limit,
        "colorscale": palette.plotly_difference_scale(theme), "hoverongaps": False, "ygap": 2,
        "colorbar": colour_bar(texts["value"]) | {"len": 160},
        "hovertemplate": f"%{{y}}<br>{escape(texts['dimension'])} %{{x}}: %{{z:+.4f}}<extra></extra>",
    }], bare_layout(title="", theme=theme) | {
        "margin": {"l": names_room(names), "r": 12, "t": 48, "b": BAR, "pad": 0},
        "height": ROW * len(cells) + 48 + BAR,
        "xaxis": {"showgrid": False, "zeroline": False, "title": axis_name(texts["dimension"], standoff=4),
                  "side": "top"},
        "yaxis": {"tickmode": "array", "tickvals": np.arange(len(cells)),
                  "ticktext": [isolate(escape(name)) for name in names],
                  "range": [len(cells) - 0.5, -0.5], "showgrid": False, "zeroline": False, "fixedrange": True},
    })


def products(q: np.ndarray, k: np.ndarray, *, order: str, texts: Mapping[str, str],
             theme: palette.Theme = "light") -> go.Figure:
    """The neuron view: q_i·k_i of every dimension as bars, and below them their running sum, which ends at q·k.

    Args:
        q, k: (d_head,) float32.
        order: "dimension", or "size" for the largest product first.
        texts: `dimension`, `product`, `sum`.
    """
    values = np.asarray(q, np.float64) * np.asarray(k, np.float64)
    ranked = np.argsort(-values, kind="stable") if order == "size" else np.arange(len(values))
    values, place = values[ranked], np.arange(len(values))
    running = np.cumsum(values)
    low, high = palette.to_hex(palette.diverging(theme)[[48, 208]])
    plain = {"showgrid": False, "zeroline": True, "zerolinecolor": "rgba(128,128,128,0.6)"}
    return figure_of([
        {"type": "bar", "x": place, "y": values, "customdata": ranked,
         "marker": {"color": [high if v >= 0 else low for v in values]},
         "hovertemplate": f"{escape(texts['dimension'])} %{{customdata}}: %{{y:+.4f}}<extra></extra>"},
        {"type": "scatter", "x": place, "y": running, "customdata": ranked, "yaxis": "y2", "mode": "lines",
         "line": {"color": palette.TEXT[theme], "width": 2, "shape": "hv"},
         "hovertemplate": f"{escape(texts['sum'])}: %{{y:+.4f}}<extra></extra>"},
        {"type": "scatter", "x": place[-1:], "y": running[-1:], "yaxis": "y2", "mode": "markers", "hoverinfo": "skip",
         "cliponaxis": False, "marker": {"color": palette.ACCENT[theme], "size": 9}},
    ], bare_layout(title="", theme=theme) | {
        "margin": {"l": 72, "r": 64, "t": 16, "b": 40, "pad": 0}, "height": 360,
        # In the margin, where no line runs.
        "annotations": [{"x": 1, "xref": "paper", "y": running[-1], "yref": "y2", "xanchor": "left", "xshift": 4,
                         "text": written(running[-1], "+.3f"), "showarrow": False,
                         "font": {"color": palette.ACCENT[theme]}}],
        "xaxis": {"showgrid": False, "zeroline": False, "anchor": "y2", "title": axis_name(texts["dimension"]),
                  "showticklabels": order != "size", "range": [-1, len(place)]},
        "yaxis": {**plain, "domain": [0.55, 1], "title": axis_name(texts["product"])},
        "yaxis2": {**plain, "domain": [0, 0.45], "title": axis_name(texts["sum"])},
    })


def masked_scores(scores: np.ndarray, visible: np.ndarray, *, query_labels: Sequence[str], key_labels: Sequence[str],
                  texts: Mapping[str, str], theme: palette.Theme = "light") -> go.Figure:
    """Scores, cell by cell, with the mask drawn over them: what it hides stays legible under grey and a cross.

    Args:
        scores: (q_len, k_len) float32 before the mask.
        visible: (q_len, k_len) bool.
        texts: `query`, `key`, `score`, `masked`.
    """
    limit = _limit(scores)
    grid = {"x": np.arange(scores.shape[1]), "y": np.arange(scores.shape[0])}
    traces = [{
        "type": "heatmap", "z": np.asarray(scores, np.float32), **grid, "zmin": -limit, "zmax": limit,
        "colorscale": palette.plotly_difference_scale(theme), "colorbar": colour_bar(texts["score"]),
        "hovertemplate": f"%{{y}} → %{{x}}<br>{escape(texts['score'])} %{{z:+.4f}}<extra></extra>",
    }]
    if not visible.all():
        grey = palette.MASKED[theme]
        traces.append({"type": "heatmap", "z": np.where(visible, np.nan, 1.0).astype(np.float32), **grid, "zmin": 0,
                       "zmax": 1, "colorscale": [[0, grey], [1, grey]], "opacity": 0.72, "showscale": False,
                       "hoverinfo": "skip", "hoverongaps": False})
        if max(scores.shape) <= CROSSES_UP_TO:
            rows, columns = np.nonzero(~visible)
            traces.append({"type": "scatter", "x": columns, "y": rows, "mode": "markers", "hoverinfo": "skip",
                           "marker": {"symbol": "x-thin", "size": 10,
                                      "line": {"width": 1.5, "color": palette.TEXT[theme]}}})
    traces.append(tick_anchor())
    return figure_of(traces, bare_layout(title="", theme=theme) | {
        "margin": token_margins(query_labels, key_labels, top=8),
        "height": picture_height(*scores.shape, key_labels),
        **token_axes(query_labels, key_labels, query=texts["query"], key=texts["key"]),
    })


def mark_cell(figure: go.Figure, query: int, key: int, *, theme: palette.Theme) -> go.Figure:
    """Outlines one cell of a token × token picture; returns the figure."""
    figure.add_shape(type="rect", x0=key - 0.5, x1=key + 0.5, y0=query - 0.5, y1=query + 0.5, layer="above",
                     line={"color": palette.ACCENT[theme], "width": 3})
    return figure


def clickable(figure: go.Figure) -> go.Figure:
    """Lays an unseen point over every cell of a heatmap, for a click to hit: Streamlit hears of none on the heatmap.

    The points speak for the cells below them, since they take the pointer too. Only while each can be hit: at most
    CLICKS_UP_TO tokens.
    """
    heatmap = figure.data[0]
    rows, columns = heatmap.z.shape
    if max(rows, columns) <= CLICKS_UP_TO:
        y, x = (axis.ravel() for axis in np.mgrid[0:rows, 0:columns])
        unseen = {"marker": {"opacity": 0}}
        figure.add_trace({
            "type": "scatter", "x": x, "y": y, "mode": "markers", "customdata": np.asarray(heatmap.z).ravel(),
            "selected": unseen, "unselected": unseen,
            "hovertemplate": heatmap.hovertemplate.replace("%{z", "%{customdata"),
            "marker": {"size": 18, "symbol": "square", "opacity": 0}})
    return figure


def bars(values: np.ndarray, *, labels: Sequence[str], name: str, selected: int | None = None,
         number: str | None = ".3f", theme: palette.Theme = "light") -> go.Figure:
    """Signed numbers as horizontal bars in the order given; NaN is drawn as nothing, with a dash.

    Args:
        values: (n,) float.
        name: of the values' axis.
        selected: the bar to point out.
        number: format of the bars' numbers; None for three digits, small numbers with a power of ten.
    """
    values, power = in_powers(np.asarray(values, np.float64))
    name += power
    low, high = palette.to_hex(palette.diverging(theme)[[48, 208]])
    edges = [palette.ACCENT[theme] if at == selected else "rgba(128,128,128,0.5)" for at in range(len(values))]
    texts = ["–" if np.isnan(value) else written(value, number) if number else compact(value) for value in values]
    known = np.nan_to_num(values)
    lowest, highest = min(known.min(initial=0), 0), max(known.max(initial=0), 0)
    room = _room(texts) * (float(highest - lowest) or 1.0)
    return figure_of([{
        "type": "bar", "x": known, "y": np.arange(len(values)), "orientation": "h", "text": texts,
        "textposition": "outside", "cliponaxis": False,
        "marker": {"color": [high if v >= 0 else low for v in known],
                   "line": {"color": edges, "width": [3 if at == selected else 1 for at in range(len(values))]}},
        "hovertemplate": f"%{{y}}<br>{escape(name)} %{{x:.4g}}<extra></extra>",
    }], bare_layout(title="", theme=theme) | {
        "margin": {"l": names_room(_names(labels)), "r": 8, "t": 8, "b": 36, "pad": 4},
        "height": 60 + 25 * len(values),
        "xaxis": {"title": axis_name(name, standoff=4), "showgrid": False, "showticklabels": False,
                  "range": [lowest - room * (lowest < 0), highest + room], "fixedrange": True,
                  "zerolinecolor": "rgba(128,128,128,0.6)"},
        "yaxis": _names_axis(labels),
    })


def bar_pairs(first: np.ndarray, second: np.ndarray, *, labels: Sequence[str], names: tuple[str, str], name: str,
              number: str = ".3f", theme: palette.Theme = "light") -> go.Figure:
    """Two numbers for each label as horizontal bars, one below the other, in the order given.

    Args:
        first, second: (n,) float, ≥ 0.
        names: of the two series.
        name, number: as in `bars`.
    """
    place = np.arange(len(labels))
    shades = palette.to_hex(palette.sequential(theme)[[220, 110]])
    texts = [[written(value, number) for value in values] for values in (first, second)]
    most = max(float(np.max(values, initial=0.0)) for values in (first, second)) or 1.0
    return figure_of([{
        "type": "bar", "x": np.asarray(values, np.float64), "y": place, "orientation": "h", "name": escape(series),
        "text": texts[at], "textposition": "outside", "cliponaxis": False, "marker": {"color": shades[at]},
        "hovertemplate": f"%{{y}}<br>{escape(series)} %{{x:.4g}}<extra></extra>",
    } for at, (series, values) in enumerate(zip(names, (first, second), strict=True))],
        bare_layout(title="", theme=theme) | {
            "margin": {"l": names_room(_names(labels)), "r": 8, "t": 36, "b": 36, "pad": 4},
            "height": 90 + 44 * len(labels),
            "barmode": "group", "showlegend": True, "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
            "xaxis": {"title": axis_name(name, standoff=4), "showgrid": False, "showticklabels": False,
                      "range": [0, most * (1 + _room(texts[0] + texts[1]))], "fixedrange": True,
                      "zerolinecolor": "rgba(128,128,128,0.6)"},
            "yaxis": _names_axis(labels),
    })


def _names(labels: Sequence[str]) -> list[str]:
    return [shorten(label, 24) for label in labels]


def _names_axis(labels: Sequence[str]) -> dict:
    """The axis of horizontal bars: a name each, the first on top."""
    return {"tickmode": "array", "tickvals": np.arange(len(labels)), "fixedrange": True,
            "ticktext": [isolate(escape(name)) for name in _names(labels)], "showgrid": False,
            "range": [len(labels) - 0.4, -0.6], "zeroline": False}


def _room(texts: Sequence[str]) -> float:
    """Room for the numbers outside of bars, as a share of the longest bar, that does on a narrow picture too."""
    return 0.055 * max((len(text) for text in texts), default=0)


def sharing(n_heads: int, n_kv_heads: int, *, head: int, texts: Mapping[str, str],
            theme: palette.Theme = "light") -> go.Figure:
    """Which query heads read which key/value head, as lines between two rows of dots.

    Args:
        head: the query head to point out.
        texts: `queries`, `keys`.
    """
    group = n_heads // n_kv_heads
    at = np.arange(n_heads, dtype=float)
    below = (np.arange(n_kv_heads) + 0.5) * group - 0.5
    traces = []
    for index in range(n_heads):
        own = index // group == head // group
        traces.append({
            "type": "scatter", "x": [at[index], below[index // group]], "y": [1, 0], "mode": "lines",
            "hoverinfo": "skip",
            "line": {"color": palette.ACCENT[theme] if own else "rgba(128,128,128,0.5)", "width": 3 if own else 1}})
    colour = palette.to_hex(palette.sequential(theme)[160:161])[0]
    for x, y, own in ((at, 1, head), (below, 0, head // group)):
        traces.append({
            "type": "scatter", "x": x, "y": np.full(len(x), y), "mode": "markers+text", "hoverinfo": "skip",
            "text": [str(i) for i in range(len(x))], "textposition": "top center" if y else "bottom center",
            "cliponaxis": False,
            "marker": {"size": 13, "color": [palette.ACCENT[theme] if i == own else colour for i in range(len(x))]}})
    return figure_of(traces, bare_layout(title="", theme=theme) | {
        "margin": {"l": names_room([texts["keys"], texts["queries"]]), "r": 8, "t": 8, "b": 8, "pad": 0},
        "height": 170,
        "xaxis": {"visible": False, "range": [-0.7, n_heads - 0.3], "fixedrange": True},
        "yaxis": {"tickmode": "array", "tickvals": [0, 1], "range": [-0.5, 1.5], "showgrid": False, "zeroline": False,
                  "ticktext": [escape(texts["keys"]), escape(texts["queries"])], "fixedrange": True},
    })


def _limit(values: np.ndarray) -> float:
    """The largest |value| there is, or 1 where there is none but 0: a scale needs two ends."""
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).max(initial=0.0)) or 1.0
