"""Pictures of norms: tokens by features with the averaged band, moments, changes by token, curves on log axes.

It knows arrays and display strings, and returns Plotly figures; equal arrays
give equal JSON. LayerNorm, RMSNorm and BatchNorm each keep their colour, mark
and dash everywhere. It does not know models, formulas, or the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from pages.figures import palette
from pages.figures.frame import (
    axis_name,
    bare_layout,
    colour_bar,
    escape,
    isolate,
    outline,
    readable,
    shorten,
    token_margins,
)
from pages.figures.positions import GREY, LINES, lines
from pages.figures.whole import figure_of

#: Height in pixels of a token's row, and of a chart.
ROW, CHART = 22, 330
#: Mark, its size and place among LINES of each norm, so that colour is not all that tells them apart, and one at
#: another's place leaves both to be seen; what is none is grey.
MARKS = {"LayerNorm": ("diamond-open", 12, 0), "RMSNorm": ("cross-thin-open", 6, 2), "BatchNorm": ("square-open", 9, 1)}


def band(values: np.ndarray, *, labels: Sequence[str], first_feature: int, breaks: Sequence[int],
         row: int | None = None, column: int | None = None, limit: float, texts: Mapping[str, str],
         theme: palette.Theme = "light") -> go.Figure:
    """Tokens downwards, features across, 0 in the page's colour; the band that one mean is taken over is framed.

    Args:
        values: (n_tokens, n_features) float.
        labels: of the tokens.
        first_feature: number of the first column.
        breaks: rows before which another sentence begins.
        row, column: the token or the column whose band is framed.
        limit: the value of the strongest colour.
        texts: `token`, `feature`, `value`.
    """
    n_tokens, n_features = values.shape
    features = np.arange(first_feature, first_feature + n_features)
    token, feature, value = (escape(texts[name]) for name in ("token", "feature", "value"))
    plain = {"showgrid": False, "zeroline": False}
    left, right = features[0] - 0.5, features[-1] + 0.5
    shapes = [{"type": "line", "x0": left, "x1": right, "y0": start - 0.5, "y1": start - 0.5,
               "line": {"color": GREY[theme], "width": 2}} for start in breaks]
    if row is not None:
        shapes += outline(left, right, row - 0.5, row + 0.5, width=2, theme=theme)
    if column is not None:
        shapes += outline(column - 0.5, column + 0.5, -0.5, n_tokens - 0.5, width=2, theme=theme)
    return figure_of({
        "type": "heatmap", "z": np.asarray(values, dtype=np.float32), "x": features, "y": np.arange(n_tokens),
        "zmin": -limit, "zmax": limit,
        "colorscale": palette.plotly_difference_scale(theme), "colorbar": colour_bar(texts["value"]),
        "hovertemplate": f"{token} %{{y}}<br>{feature} %{{x}}<br>{value} %{{z:.4f}}<extra></extra>",
    }, bare_layout(title="", theme=theme) | {
        "height": ROW * n_tokens + 116, "shapes": shapes, "margin": token_margins(labels, [], top=0),
        "xaxis": {"range": [left, right], "side": "top", "constrain": "range",
                  "title": axis_name(texts["feature"]), **plain},
        "yaxis": {"range": [n_tokens - 0.5, -0.5], "tickmode": "array", "tickvals": np.arange(n_tokens),
                  "ticktext": [isolate(escape(shorten(label))) for label in labels], **plain},
    })


def moments(groups: Mapping[str, tuple[np.ndarray, np.ndarray]], *, labels: Sequence[str], texts: Mapping[str, str],
            theme: palette.Theme = "light") -> go.Figure:
    """Mean and variance of every token, or of every feature, a mark each; a norm's own axis gathers at (0, 1).

    Args:
        groups: name → (means, variances), each (n,) float; later ones lie above earlier ones. The legend
            keeps one order.
        labels: of the n tokens or features.
        texts: `mean`, `variance`.
    """
    traces = []
    hovers = [isolate(escape(label)) for label in labels]
    ranks = {name: rank for rank, name in enumerate(MARKS, start=2)}
    for name, (mean, variance) in groups.items():
        symbol, size, place = MARKS.get(name, ("circle-open", 9, None))
        colour = GREY[theme] if place is None else LINES[theme][place]
        traces.append({
            "type": "scatter", "x": np.asarray(mean, dtype=np.float64),
            "y": np.maximum(np.asarray(variance, dtype=np.float64), 1e-6),
            "mode": "markers", "name": escape(name), "customdata": hovers, "legendrank": ranks.get(name, 1),
            "marker": {"color": colour, "symbol": symbol, "size": size, "line": {"width": 1.6}},
            "hovertemplate": f"%{{customdata}}<br>{escape(texts['mean'])} %{{x:.4f}}<br>{escape(texts['variance'])} "
                             f"%{{y:.4g}}<extra>{escape(name)}</extra>"})
    decades = _few_decades({trace["name"]: trace["y"] for trace in traces})
    return figure_of(traces, _chart(texts["mean"], texts["variance"], theme, y_axis={"type": "log", **decades}))


def changes(labels: Sequence[str], groups: Mapping[str, np.ndarray], *, y_name: str,
            theme: palette.Theme = "light") -> go.Figure:
    """How much each token's normalised features moved, a bar a token and method; nothing moved, no bar.

    Args:
        labels: of the tokens.
        groups: name → (n_tokens,) float ≥ 0: LayerNorm, then BatchNorm.
    """
    traces = []
    for number, (name, heights) in enumerate(groups.items()):
        traces.append({
            "type": "bar", "x": np.arange(len(labels)), "y": np.asarray(heights, dtype=np.float64),
            "name": escape(name),
            "marker": {"color": LINES[theme][number], "pattern": {"shape": ("", "/")[number % 2], "fgopacity": 0.5}},
            "text": [readable(height) for height in heights], "textposition": "outside", "cliponaxis": False,
            "hovertemplate": f"%{{x}}<br>{escape(y_name)} %{{y:.4g}}<extra>{escape(name)}</extra>"})
    top = max((float(np.max(heights)) for heights in groups.values()), default=0.0)
    ticks = {"tickmode": "array", "tickvals": np.arange(len(labels)), "showgrid": False,
             "ticktext": [isolate(escape(shorten(label))) for label in labels]}
    layout = _chart("", y_name, theme, x_axis=ticks, y_axis={"range": [0, 1.18 * top or 1.0]})
    return figure_of(traces, layout | {"barmode": "group"})


def falls(x: np.ndarray, series: Mapping[str, np.ndarray], *, x_name: str, y_name: str,
          theme: palette.Theme = "light") -> go.Figure:
    """Lines with points over two logarithmic axes, where a power law is straight.

    Args:
        x: (m,) float, from 1 on.
        series: name → (m,) float > 0; what is not above 0 is left out.
    """
    shown = {name: np.where(np.asarray(y, dtype=np.float64) > 0, y, np.nan) for name, y in series.items()}
    return lines(x, shown, x_name=x_name, y_name=y_name, log_y=True, points=True, theme=theme, axes={
        "xaxis": {"type": "log", "tickmode": "array", "tickvals": np.asarray(x),
                  "ticktext": [f"{value:g}" for value in x]},
        "yaxis": _few_decades(shown),
    })


def by_layer(series: Mapping[str, np.ndarray], *, first: int, x_name: str, y_name: str,
             theme: palette.Theme = "light") -> go.Figure:
    """One line a design over the layers, the values on a logarithmic axis.

    Args:
        series: name → (m,) float > 0; what is not above 0 is left out.
        first: number of the first point.
    """
    shown = {name: np.where(np.asarray(y, dtype=np.float64) > 0, y, np.nan) for name, y in series.items()}
    length = max((len(y) for y in shown.values()), default=0)
    return lines(np.arange(first, first + length), shown, x_name=x_name, y_name=y_name, log_y=True, points=True,
                 axes={"yaxis": _few_decades(shown)}, theme=theme)


def losses(steps: np.ndarray, series: Mapping[str, np.ndarray], *, chance: tuple[float, str], n_steps: int,
           x_name: str, y_name: str, theme: palette.Theme = "light") -> go.Figure:
    """Loss curves side by side, the loss of guessing as a line; the axis ends where the run will.

    Args:
        steps: (m,) int.
        series: name → (m,) float, NaN where a run has broken down.
        chance: the loss of guessing, and its name.
        n_steps: of the whole run.
    """
    figure = lines(steps, series, x_name=x_name, y_name=y_name, theme=theme,
                   axes={"xaxis": {"range": [0, n_steps]}, "yaxis": {"rangemode": "tozero"}})
    level, name = chance
    # Grey and solid: the accent's dashes would pass for one of the runs.
    figure.layout.shapes = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level,
                             "line": {"color": GREY[theme], "width": 1}}]
    figure.layout.annotations = [{
        "xref": "paper", "x": 1, "xanchor": "right", "y": level, "yanchor": "bottom", "showarrow": False,
        "text": escape(name), "font": {"color": GREY[theme], "size": 12}}]
    return figure


def _few_decades(series: Mapping[str, np.ndarray]) -> dict[str, object]:
    """Within three decades ticks at 1, 2 and 5; beyond, whole powers, at most six."""
    known = np.concatenate([y[np.isfinite(y)] for y in series.values()] or [np.ones(1)])
    low, high = (np.log10(known.min()), np.log10(known.max())) if len(known) else (0.0, 0.0)
    if high - low >= 3:
        return {"dtick": int(np.ceil((high - low) / 6)), "exponentformat": "power"}
    ticks = [digit * 10.0**power for power in range(int(np.floor(low)), int(np.ceil(high)) + 1) for digit in (1, 2, 5)]
    return {"tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _chart(x_name: str, y_name: str, theme: palette.Theme, *, x_axis: Mapping[str, object] | None = None,
           y_axis: Mapping[str, object] | None = None) -> dict[str, object]:
    axis = {"zeroline": False, "gridcolor": "rgba(128,128,128,0.22)", "ticklabelstandoff": 4}
    return bare_layout(title="", theme=theme) | {
        "margin": {"l": 72, "r": 12, "t": 26, "b": 92}, "height": CHART, "showlegend": True,
        "legend": {"orientation": "h", "y": -0.3, "yanchor": "top", "x": 0, "xanchor": "left"},
        "xaxis": axis | {"title": axis_name(x_name)} | dict(x_axis or {}),
        "yaxis": axis | {"title": axis_name(y_name)} | dict(y_axis or {}),
    }
