"""Pictures of saturation: scores as a histogram, a row as bars, curves with markers, heads as grids, groups of bars.

It knows arrays and display strings, and returns Plotly figures, or panels for `beside`; equal
arrays give equal JSON. It does not know models, formulas, or the page. Each state of
the scaling has one colour and one mark in every picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from pages.figures import palette
from pages.figures.beside import Panel
from pages.figures.frame import axis_name, bare_layout, escape, isolate, shorten
from pages.figures.whole import figure_of

State = Literal["without", "with", "chosen"]
#: Told apart by hue for those who see it, by lightness and shape for those who don't (after Okabe and Ito 2008).
COLOURS: dict[str, dict[State, str]] = {
    "light": {"with": "#2f5bb7", "without": "#c2410c", "chosen": "#00795a"},
    "dark": {"with": "#7fa6f8", "without": "#fb923c", "chosen": "#3fc79a"},
}
SYMBOLS: dict[State, str] = {"with": "circle", "without": "diamond", "chosen": "square"}
DASHES: dict[State, str] = {"with": "solid", "without": "dash", "chosen": "dot"}
PATTERNS: dict[State, str] = {"with": "", "without": "/", "chosen": "."}
BINS = 61
#: Opacity of a filled area under a curve, as the last two digits of a colour.
HALF = "8c"
#: Keys of a row drawn as bars of their own.
MOST_BARS = 64
HEIGHT, ROW_HEIGHT = 280, 34
#: Heads up to which a grid's cells carry their numbers.
MOST_NUMBERED = 8
#: Between two grids, as a share of the figure's width.
GRID_GAP = 0.03
#: End of an axis as a multiple of its largest value, such that a name stands above every curve and bar.
HEADROOM = 1.14
LEGEND = {"showlegend": True, "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02,
                                         "yanchor": "bottom"}}
_RULE = {"light": "rgba(27,31,39,0.14)", "dark": "rgba(231,234,240,0.16)"}


@dataclass(frozen=True)
class Marker:
    """A point to mark on a curve: where, of which state, and its name in the legend ("" for none)."""

    x: float
    y: float
    state: State
    name: str


def histogram(scores: np.ndarray, *, variance: float, reach: float, state: State, texts: Mapping[str, str],
              theme: palette.Theme = "light") -> Panel:
    """Scores as a density, under the normal curve of the variance that theory gives them.

    Args:
        scores: any shape, finite.
        variance: of the curve.
        reach: the axis runs over ±reach; the same in two pictures that are to be compared.
        texts: `score`, `density`, `theory`.
    """
    spread = float(np.sqrt(variance))
    density, edges = np.histogram(scores, bins=BINS, range=(-4 * spread, 4 * spread), density=True)
    centres = (edges[1:] + edges[:-1]) / 2
    curve = np.exp(-centres**2 / (2 * variance)) / (spread * np.sqrt(2 * np.pi))
    return Panel([
        {"type": "scatter", "mode": "lines", "x": centres, "y": density, "fill": "tozeroy",
         "fillcolor": COLOURS[theme][state] + HALF,
         "line": {"shape": "hvh", "color": COLOURS[theme][state], "width": 0, "simplify": False},
         "hovertemplate": f"{escape(texts['score'])} %{{x:.2f}}<br>{escape(texts['density'])} %{{y:.3g}}"
                          "<extra></extra>"},
        {"type": "scatter", "x": centres, "y": curve, "mode": "lines", "name": escape(texts["theory"]),
         "hoverinfo": "skip", "line": {"color": palette.TEXT[theme], "width": 1.5}},
    ], _layout(theme, x=texts["score"], y=texts["density"], x_axis={"range": [-reach, reach]}))


def row_softmax(weights: np.ndarray, *, state: State, texts: Mapping[str, str],
                theme: palette.Theme = "light") -> Panel:
    """One row's softmax, key by key, on an axis from 0 to 1, beside the uniform weight.

    Many keys are one stepped outline: a browser draws one path in a hundredth of the time that it takes for 512 bars.

    Args:
        weights: (k_len,) float in [0, 1].
        texts: `key`, `weight`, `uniform`.
    """
    n = len(weights)
    layout = _layout(theme, x=texts["key"], y=texts["weight"], x_axis={"range": [-0.5, n - 0.5]},
                     y_axis={"range": [0, HEADROOM]})
    layout["shapes"] = [{"type": "line", "x0": -0.5, "x1": n - 0.5, "y0": 1 / n, "y1": 1 / n,
                         "line": {"color": palette.TEXT[theme], "width": 1, "dash": "dot"}}]
    # Above the largest weight there can be: beside its line it would stand on bars.
    layout["annotations"] = [{"x": n - 0.5, "y": HEADROOM, "xanchor": "right", "yanchor": "top", "showarrow": False,
                              "text": f"┄ {escape(texts['uniform'])} {1 / n:.3g}"}]
    hover = f"{escape(texts['key'])} %{{x}}<br>{escape(texts['weight'])} %{{y:.4f}}<extra></extra>"
    keys, heights, colour = np.arange(n), np.asarray(weights), COLOURS[theme][state]
    if n <= MOST_BARS:
        row = {"type": "bar", "marker": {"color": colour, "line": {"width": 0}}}
    else:
        row = {"type": "scatter", "mode": "lines", "fill": "tozeroy", "fillcolor": colour,
               "line": {"shape": "hvh", "color": colour, "width": 1, "simplify": False}}
    return Panel([row | {"x": keys, "y": heights, "hovertemplate": hover}], layout)


def curves(x: np.ndarray, lines: Mapping[State, np.ndarray], *, names: Mapping[State, str], x_title: str,
           y_title: str, markers: Sequence[Marker] = (), upright: tuple[float, str] | None = None,
           theory: tuple[np.ndarray, str] | None = None, tick_base: int = 2,
           theme: palette.Theme = "light") -> Panel:
    """Lines over a logarithmic axis, with marked points.

    Args:
        x: (n,) float > 0.
        lines: state → (n,) float.
        names: of the lines.
        markers: points to mark.
        upright: where a vertical line stands, and its name.
        theory: (n,) float and its name, drawn thin behind the lines.
        tick_base: ticks stand at its powers.
    """
    traces = []
    if theory is not None:
        traces.append({"type": "scatter", "x": x, "y": theory[0], "mode": "lines", "name": escape(theory[1]),
                       "hoverinfo": "skip", "line": {"color": palette.TEXT[theme], "width": 1}})
    for state, values in lines.items():
        traces.append({
            "type": "scatter", "x": x, "y": np.asarray(values), "mode": "lines", "name": escape(names[state]),
            "line": {"color": COLOURS[theme][state], "width": 2, "dash": DASHES[state]},
            "hovertemplate": "%{x:.3g}<br>" + escape(names[state]) + " %{y:.4g}<extra></extra>",
        })
    for marker in markers:
        traces.append({
            "type": "scatter", "x": np.array([marker.x]), "y": np.array([marker.y]), "mode": "markers",
            "name": escape(marker.name), "showlegend": bool(marker.name), "cliponaxis": False,
            "marker": {"color": COLOURS[theme][marker.state], "size": 11, "symbol": SYMBOLS[marker.state],
                       "line": {"width": 1.5, "color": palette.BACKGROUND[theme]}},
            "hovertemplate": f"{escape(marker.name)} %{{x:.4g}}<br>%{{y:.4g}}<extra></extra>",
        })
    first, last = np.log(x.min()) / np.log(tick_base), np.log(x.max()) / np.log(tick_base)
    powers = float(tick_base) ** np.arange(np.ceil(first - 1e-9), np.floor(last + 1e-9) + 1)
    layout = _layout(theme, x=x_title, y=y_title, y_axis={"rangemode": "tozero"}, x_axis={
        "type": "log", "tickmode": "array", "tickvals": powers, "ticktext": [f"{power:g}" for power in powers],
    }) | LEGEND
    if upright is not None:
        layout["shapes"] = [{"type": "line", "x0": upright[0], "x1": upright[0], "y0": 0, "y1": 1, "yref": "paper",
                             "line": {"color": palette.ACCENT[theme], "width": 1.5, "dash": "dashdot"}}]
        layout["annotations"] = [{
            "x": float(np.log10(upright[0])), "y": 1, "yref": "paper", "xanchor": "left", "yanchor": "top",
            "showarrow": False, "text": escape(upright[1]), "font": {"color": palette.ACCENT[theme]},
        }]
        every = np.concatenate([np.asarray(trace["y"], dtype=np.float64) for trace in traces])
        most = float(every[np.isfinite(every)].max(initial=0.0))
        layout["yaxis"]["range"] = [0, HEADROOM * most or 1.0]
    return Panel(traces, layout)


def head_grids(values: Sequence[np.ndarray], *, titles: Sequence[str], texts: Mapping[str, str], most: float,
               selected: tuple[int, int] | None = None, theme: palette.Theme = "light") -> go.Figure:
    """Grids of layers (downwards) by heads (across), side by side on one scale from 0.

    Args:
        values: (n_layers, n_heads) float each, NaN where there is no value.
        titles: above each grid.
        texts: `layer`, `head`, `value`.
        most: the value of the strongest colour.
        selected: (layer, head) to outline.
    """
    n_layers, n_heads = values[0].shape
    layer, head = escape(texts["layer"]), escape(texts["head"])
    plain = {"showgrid": False, "zeroline": False, "fixedrange": True, "ticks": "", "tick0": 0}
    across = {**plain, "title": axis_name(texts["head"], standoff=4), "dtick": max(1, n_heads // 8)}
    down = {**plain, "range": [n_layers - 0.5, -0.5], "dtick": max(1, n_layers // 12)}
    width = (1 - GRID_GAP * (len(values) - 1)) / len(values)
    traces, shapes, notes, axes = [], [], [], {}
    for at, (grid, title) in enumerate(zip(values, titles, strict=True)):
        number, left = str(at + 1) if at else "", at * (width + GRID_GAP)
        on = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        traces.append({
            "type": "heatmap", "z": np.asarray(grid, dtype=np.float32), "coloraxis": "coloraxis", "xgap": 1, "ygap": 1,
            "hovertemplate": f"{layer} %{{y}}, {head} %{{x}}<br>{escape(texts['value'])} %{{z:.4g}}<extra></extra>",
            **on,
        })
        if n_heads <= MOST_NUMBERED:
            traces.append(_numbers(np.asarray(grid, dtype=np.float64), most, theme) | on)
        if selected is not None:
            row, column = selected
            shapes.append({"type": "rect", "x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5,
                           "xref": on["xaxis"], "yref": on["yaxis"],
                           "line": {"color": palette.ACCENT[theme], "width": 2}})
        notes.append({"text": escape(title), "x": left + width / 2, "xref": "paper", "xanchor": "center", "y": 1,
                      "yref": "paper", "yanchor": "bottom", "yshift": -2, "showarrow": False, "font": {"size": 13}})
        axes[f"xaxis{number}"] = {**across, "domain": [left, left + width], "anchor": on["yaxis"]}
        axes[f"yaxis{number}"] = {**down, "anchor": on["xaxis"]} | (
            {"matches": "y", "showticklabels": False} if at else {"title": axis_name(texts["layer"], standoff=8)})
    return figure_of(traces, bare_layout(title="", theme=theme) | axes | {
        "height": max(200, 110 + ROW_HEIGHT * min(n_layers, 14)), "margin": {"l": 48, "r": 8, "t": 28, "b": 44},
        "shapes": shapes, "annotations": notes,
        "coloraxis": {"cmin": 0.0, "cmax": most, "colorscale": palette.plotly_weight_scale(theme),
                      "colorbar": {"thickness": 10, "outlinewidth": 0,
                                   "title": {"text": escape(texts["value"]), "side": "top", "font": {"size": 13}}}},
    })


def _numbers(grid: np.ndarray, most: float, theme: palette.Theme) -> dict:
    """The values of a grid's cells, in a trace of its own: a heatmap's numbers are of two greys, of which half-strong
    cells swallow one."""
    cells = palette.weight_colours(theme)[palette.weights_to_bytes(grid.ravel() / most)]
    y, x = np.indices(grid.shape)
    return {"type": "scatter", "x": x.ravel(), "y": y.ravel(), "mode": "text", "hoverinfo": "skip", "showlegend": False,
            "text": ["" if np.isnan(value) else f"{value:.2f}" for value in grid.ravel()],
            "textfont": {"color": palette.ink_on(cells)}}


def grouped_bars(groups: Mapping[State, np.ndarray], *, names: Mapping[State, str], labels: Sequence[str],
                 x_title: str, y_title: str, most: float | None = None,
                 theme: palette.Theme = "light") -> go.Figure:
    """Bars side by side for each label, one of every state.

    Args:
        groups: state → (n,) float.
        names: of the states.
        labels: n display strings; equal ones stay apart.
        most: end of the axis; None leaves it to the values.
    """
    bars = [{
        "type": "bar", "x": np.arange(len(labels)), "y": np.asarray(values), "name": escape(names[state]),
        "marker": {"color": COLOURS[theme][state], "pattern": {"shape": PATTERNS[state], "size": 6}},
        "hovertemplate": "%{x}<br>" + escape(names[state]) + " %{y:.4g}<extra></extra>",
    } for state, values in groups.items()]
    x_axis = {"tickmode": "array", "tickvals": np.arange(len(labels)), "automargin": True,
              "ticktext": [isolate(escape(shorten(label))) for label in labels]}
    y_axis = {"rangemode": "tozero", "exponentformat": "power"} | ({} if most is None else {"range": [0, most]})
    return figure_of(bars, _layout(theme, x=x_title, y=y_title, x_axis=x_axis, y_axis=y_axis) | LEGEND)


def _layout(theme: palette.Theme, *, x: str, y: str, x_axis: dict | None = None, y_axis: dict | None = None) -> dict:
    """The layout in one piece: every later change of a figure costs as much as making it."""
    axis = {"zeroline": False, "gridcolor": _RULE[theme], "fixedrange": True}
    return bare_layout(title="", theme=theme) | {
        "height": HEIGHT, "bargap": 0.12,
        "margin": {"l": 72 if y else 44, "r": 16, "t": 36, "b": 48 if x or x_axis else 24, "pad": 4},
        "xaxis": {**axis, "showgrid": False, "title": axis_name(x, standoff=6), **(x_axis or {})},
        "yaxis": {**axis, "title": axis_name(y, standoff=12), **(y_axis or {})},
    }
