"""Pictures of one attention head: its pattern, a big pattern pooled, one row as bars, a difference of two.

It knows arrays and display strings, and returns Plotly figures; equal arrays
give equal JSON. It does not know models, text, the page, or how an array came
to be. Weights colour by `palette.TONE`, in every picture alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from pages.figures import palette, png
from pages.figures.frame import (
    BAR,
    PICTURE,
    axis_name,
    bar_anchor,
    bare_layout,
    colour_bar,
    escape,
    isolate,
    names_room,
    picture_height,
    plotly_config,
    shorten,
    tick_anchor,
    token_axes,
    token_margins,
)
from pages.figures.whole import figure_of

__all__ = ["TEXTS", "difference_heatmap", "escape", "pattern_heatmap", "pattern_image", "plotly_config", "row_bars"]

#: Interface strings the figures use, already translated. `row_bars` also takes `others`, with `{count}` and `{mass}`.
TEXTS = ("query", "key", "weight", "difference", "uniform", "others")

#: Bars drawn by `row_bars`; what is left out is counted and summed below them.
MOST_BARS = 24


def pattern_heatmap(
    pattern: np.ndarray,
    *,
    query_labels: Sequence[str],
    key_labels: Sequence[str],
    texts: Mapping[str, str],
    title: str = "",
    selected_query: int | None = None,
    limit: float = 1.0,
    theme: palette.Theme = "light",
) -> go.Figure:
    """One head, cell by cell: queries downwards, keys across, colour the weight from 0 to `limit`.

    Args:
        pattern: (q_len, k_len) float32 in [0, 1]; NaN where masked, shown as grey that the scale does not contain.
        query_labels, key_labels: q_len and k_len display strings.
        texts: `query`, `key`, `weight`.
        title: plain text above the picture, or "".
        selected_query: the row to outline.
        limit: the weight of the strongest colour, above 0.
        theme: which of the two ramps; the background is the page's in both.

    Raises:
        ValueError: the labels do not fit the pattern.
    """
    return _heatmap(
        pattern, query_labels=query_labels, key_labels=key_labels, texts=texts, title=title,
        selected_query=selected_query, theme=theme, value=f"{escape(texts['weight'])} %{{z:.4f}}",
        colour={"zmin": 0.0, "zmax": limit, "colorscale": palette.plotly_weight_scale(theme)}, bar=texts["weight"],
    )


def difference_heatmap(
    difference: np.ndarray,
    *,
    query_labels: Sequence[str],
    key_labels: Sequence[str],
    texts: Mapping[str, str],
    title: str = "",
    limit: float | None = None,
    selected_query: int | None = None,
    theme: palette.Theme = "light",
) -> go.Figure:
    """A difference of two patterns, cell by cell; zero has the page's colour, the two signs have a hue each.

    Args:
        difference: (q_len, k_len) float32; NaN where masked.
        texts: `query`, `key`, `difference`.
        limit: the value of the strongest colour; None takes the largest |difference| there is.
        query_labels, key_labels, title, selected_query, theme: as in `pattern_heatmap`.

    Raises:
        ValueError: the labels do not fit.
    """
    if limit is None:
        limit = float(np.nanmax(np.abs(difference))) if np.isfinite(difference).any() else 0.0
    # Two equal patterns differ by nothing; a scale still needs two ends.
    limit = limit or 1.0
    return _heatmap(
        difference, query_labels=query_labels, key_labels=key_labels, texts=texts, title=title,
        selected_query=selected_query, theme=theme, value=f"{escape(texts['difference'])} %{{z:+.4f}}",
        colour={"zmin": -limit, "zmax": limit, "colorscale": palette.plotly_difference_scale(theme)},
        bar=texts["difference"],
    )


def _heatmap(values, *, query_labels, key_labels, texts, title, selected_query, theme, value, colour, bar) -> go.Figure:
    if values.shape != (len(query_labels), len(key_labels)):
        raise ValueError(f"Expected values ({len(query_labels)}, {len(key_labels)}), as the labels say; "
                         f"got {values.shape}. Label the same axes.")
    heatmap = {
        "type": "heatmap", "z": np.asarray(values, dtype=np.float32), "x": np.arange(values.shape[1]),
        "y": np.arange(values.shape[0]), "hoverongaps": False,
        "hovertemplate": f"%{{y}} → %{{x}}<br>{value}<extra></extra>",
        "xgap": 1 if max(values.shape) <= 32 else 0, "ygap": 1 if max(values.shape) <= 32 else 0,
        "colorbar": colour_bar(bar), **colour,
    }
    layout = bare_layout(title=title, theme=theme) | token_axes(
        query_labels, key_labels, query=texts["query"], key=texts["key"]) | {
        "margin": token_margins(query_labels, key_labels, top=44 if title else 8),
        "height": picture_height(*values.shape, key_labels) + (36 if title else 0),
        "shapes": _row_outline(selected_query, -0.5, values.shape[1] - 0.5, theme),
    }
    if np.isnan(values).any():
        layout["plot_bgcolor"] = palette.MASKED[theme]
    return figure_of([heatmap, tick_anchor()], layout)


def _row_outline(query: int | None, left: float, right: float, theme: palette.Theme) -> list[dict]:
    return [] if query is None else [
        {"type": "rect", "x0": left, "x1": right, "y0": query - 0.5, "y1": query + 0.5,
         "line": {"color": palette.ACCENT[theme], "width": 2}, "layer": "above"}]


def pattern_image(
    image: np.ndarray,
    *,
    q_edges: np.ndarray,
    k_edges: np.ndarray,
    texts: Mapping[str, str],
    title: str = "",
    selected_query: int | None = None,
    limit: float = 1.0,
    theme: palette.Theme = "light",
) -> go.Figure:
    """A pattern too large for cells, pooled to blocks, as one PNG on axes of token positions.

    Blocks are drawn equally large; where `q_edges` or `k_edges` are uneven by
    one, a block stands at most one block from its place.

    Args:
        image: (rows, columns) float in [0, 1] with NaN where masked, or uint8 by `palette.weights_to_bytes`.
        q_edges, k_edges: (rows + 1,) and (columns + 1,) int, the positions each block covers.
        texts: `query`, `key`, `weight`.
        title, selected_query, limit, theme: as in `pattern_heatmap`; a uint8 image carries its own limit.

    Raises:
        ValueError: the edges do not fit the image, or it is empty.
    """
    rows, columns = image.shape
    if (len(q_edges), len(k_edges)) != (rows + 1, columns + 1):
        raise ValueError(f"Expected {rows + 1} and {columns + 1} edges, one more than blocks; "
                         f"got {len(q_edges)} and {len(k_edges)}.")
    picture = image if image.dtype == np.uint8 else palette.weights_to_bytes(image / limit)
    q_from, q_to = float(q_edges[0]) - 0.5, float(q_edges[-1]) - 0.5
    k_from, k_to = float(k_edges[0]) - 0.5, float(k_edges[-1]) - 0.5
    dy, dx = (q_to - q_from) / rows, (k_to - k_from) / columns
    query, key = escape(texts["query"]), escape(texts["key"])
    blocks = {
        "type": "image", "source": png.data_uri(png.indexed_png(picture, palette.weight_colours(theme))),
        "x0": k_from + dx / 2, "dx": dx, "y0": q_from + dy / 2, "dy": dy,
        "hovertemplate": f"{query} %{{y:.0f}} → {key} %{{x:.0f}}<extra></extra>",
    }
    bar = bar_anchor(0.0, limit, scale=palette.plotly_weight_scale(theme), bar=colour_bar(texts["weight"]))
    plain = {"showgrid": False, "zeroline": False, "automargin": True, "constrain": "domain"}
    return figure_of([blocks, bar], bare_layout(title=title, theme=theme) | {
        "xaxis": {**plain, "range": [k_from, k_to], "side": "top", "constraintoward": "left",
                  "title": axis_name(texts["key"])},
        "yaxis": {**plain, "range": [q_to, q_from], "scaleanchor": "x", "constraintoward": "bottom",
                  "title": axis_name(texts["query"])},
        "height": int(np.clip(PICTURE * (q_to - q_from) / (k_to - k_from), 200, PICTURE)) + BAR + 50,
        "shapes": _row_outline(selected_query, k_from, k_to, theme),
    })


def row_bars(
    weights: np.ndarray,
    *,
    key_labels: Sequence[str],
    uniform: np.ndarray,
    texts: Mapping[str, str],
    title: str = "",
    number: str = ".2f",
    theme: palette.Theme = "light",
) -> go.Figure:
    """What one query looks at: its keys by weight, the largest on top, each beside its uniform weight.

    Args:
        weights: (k_len,) float32; NaN where masked, left out.
        key_labels: k_len display strings.
        uniform: (k_len,) float, what each key would get if the query looked at all tokens in sight alike.
        number: format of the bars' numbers.
        texts: `weight`, `uniform`, `others` (with `{count}` and `{mass}`), for what MOST_BARS leaves out.

    Raises:
        ValueError: the labels do not fit the weights.
    """
    if not weights.shape == uniform.shape == (len(key_labels),):
        raise ValueError(f"Expected weights and uniform ({len(key_labels)},), as the labels say; got {weights.shape} "
                         f"and {uniform.shape}.")
    # Stable: equal weights stay in the order of the text.
    ranked = np.argsort(-weights, kind="stable")
    ranked = ranked[~np.isnan(weights[ranked])]
    shown, left = ranked[:MOST_BARS], ranked[MOST_BARS:]
    place, names = np.arange(len(shown)), [shorten(key_labels[key]) for key in shown]
    values = np.asarray(weights[shown], dtype=np.float32)
    colours = palette.weight_colours(theme)[palette.weights_to_bytes(values)]
    outline = palette.to_hex(palette.sequential(theme)[160:161])[0]
    bottom = max(len(shown), 1) - 0.5
    notes, even = [], [float(value) for value in uniform[shown]]
    if even:
        # One number where all keys share it; else the name alone, at the last bar's tick.
        same = max(even) - min(even) < 1e-6
        notes.append({"x": even[-1], "y": bottom, "yanchor": "top", "xanchor": "left", "showarrow": False,
                      "text": escape(texts["uniform"]) + (f" {even[-1]:{number}}" if same else ""),
                      "font": {"color": palette.ACCENT[theme]}})
    if left.size:
        text = texts["others"].format(count=left.size, mass=f"{float(weights[left].sum()):{number}}")
        notes.append({"xref": "paper", "x": 0, "y": len(shown) + 0.3, "xanchor": "left", "yanchor": "top",
                      "yshift": -2, "showarrow": False, "text": escape(text)})
    return figure_of({
        "type": "bar", "x": values, "y": place, "orientation": "h", "texttemplate": f"%{{x:{number}}}",
        "textposition": "outside", "cliponaxis": False,
        "marker": {"color": palette.to_hex(colours), "line": {"width": 1, "color": outline}},
        "hovertemplate": f"%{{y}}<br>{escape(texts['weight'])} %{{x:.4f}}<extra></extra>",
    }, bare_layout(title=title, theme=theme) | {
        "margin": {"l": names_room(names), "r": 8, "t": 44 if title else 8,
                   "b": 32 if left.size else 8, "pad": 4},
        "xaxis": {"range": [0, max(1.12 * float(values.max(initial=0.0)), 1.4 * max(even, default=1.0))],
                  "showgrid": False, "zeroline": False, "showticklabels": False, "fixedrange": True},
        "yaxis": {"range": [bottom + 0.8, -0.5], "tickmode": "array", "tickvals": place,
                  "ticktext": [isolate(escape(name)) for name in names], "showgrid": False,
                  "zeroline": False, "fixedrange": True},
        "height": 56 + 24 * max(len(shown), 1) + (24 if left.size else 0) + (36 if title else 0),
        "shapes": [{"type": "line", "x0": value, "x1": value, "y0": at - 0.5, "y1": at + 0.5,
                    "line": {"color": palette.ACCENT[theme], "width": 2}}
                   for at, value in enumerate(even)],
        "annotations": notes,
    })
