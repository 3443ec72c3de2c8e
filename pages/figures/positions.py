"""Pictures of positions: tables, waves, similarities, wavelengths, turning pairs and biases.

It knows arrays and display strings, and returns Plotly figures; equal arrays
give equal JSON. It does not know models, formulas, or the page. Tables are
coloured by the diverging scale with 0 in the middle, buckets and other counts
by the sequential one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from pages.figures import palette, png
from pages.figures.frame import (
    BAR,
    axis_name,
    bar_anchor,
    bare_layout,
    colour_bar,
    escape,
    outline,
    written,
)
from pages.figures.whole import figure_of

#: Cells up to which every cell can be pointed at; above it the table is one picture.
POINTED_CELLS = 6_000
HEIGHT = 330
#: Kept apart by hue for those who see it, by lightness and dashes for those who don't (Okabe and Ito 2008).
LINES = {
    "light": ("#2f5bb7", "#c2410c", "#00795a", "#a2457f", "#7a6a00"),
    "dark": ("#7fa6f8", "#fb923c", "#3fc79a", "#e08bc0", "#e2cf5b"),
}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
GREY = {"light": "#8a919e", "dark": "#8b93a1"}
#: Below a picture whose lines are named in one row; Plotly draws it anew where that is too little.
_LEGEND_ROOM = 104
#: Fixed also because a colour bar is placed before Plotly has measured margins of its own.
_TABLE_MARGIN = {"l": 60, "r": 12, "t": 48, "b": BAR, "pad": 0}


def table(values: np.ndarray, *, texts: Mapping[str, str], row: int | None = None, column: int | None = None,
          limit: float | None = None, theme: palette.Theme = "light") -> go.Figure:
    """A table of positions (downwards) by dimensions (across), 0 in the page's colour.

    Args:
        values: (n_positions, d) float, finite.
        texts: `position`, `dimension`, `value`.
        row, column: to outline.
        limit: the value of the strongest colour; None takes the largest |value|.
    """
    n, d = values.shape
    limit = limit or float(np.abs(values).max()) or 1.0
    scale = palette.plotly_difference_scale(theme)
    bar = colour_bar(texts["value"])
    position, dimension = escape(texts["position"]), escape(texts["dimension"])
    if values.size <= POINTED_CELLS:
        traces = [{
            "type": "heatmap", "z": np.asarray(values, dtype=np.float32), "zmin": -limit, "zmax": limit,
            "colorscale": scale, "colorbar": bar,
            "hovertemplate": f"{position} %{{y}}, {dimension} %{{x}}<br>{escape(texts['value'])} %{{z:.4f}}"
                             "<extra></extra>",
        }]
    else:
        picture = palette.differences_to_bytes(values, limit=limit)
        traces = [{
            "type": "image", "source": png.data_uri(png.indexed_png(picture, palette.difference_colours(theme))),
            "hovertemplate": f"{position} %{{y}}, {dimension} %{{x}}<extra></extra>",
        }, bar_anchor(-limit, limit, scale=scale, bar=bar)]
    shapes = []
    if row is not None:
        shapes += outline(-0.5, d - 0.5, row - 0.5, row + 0.5, width=1, theme=theme)
    if column is not None:
        shapes += outline(column - 0.5, column + 0.5, -0.5, n - 0.5, width=1, theme=theme)
    return figure_of(traces, bare_layout(title="", theme=theme) | {
        "margin": _TABLE_MARGIN, "height": HEIGHT + 40, "shapes": shapes,
        "xaxis": {"zeroline": False, "range": [-0.5, d - 0.5], "showgrid": False, "side": "top", "constrain": "range",
                  "title": axis_name(texts["dimension"])},
        # An image asks for square pixels; a table is as wide as the page.
        "yaxis": {"zeroline": False, "range": [n - 0.5, -0.5], "showgrid": False, "title": axis_name(texts["position"]),
                  "scaleanchor": False},
    })


def lines(x: np.ndarray, series: Mapping[str, np.ndarray], *, x_name: str, y_name: str, log_y: bool = False,
          marker: tuple[float, float] | None = None, level: tuple[float, str] | None = None,
          place: tuple[float, str] | None = None, points: bool = False, shape: str = "linear",
          axes: Mapping[str, dict] | None = None, theme: palette.Theme = "light") -> go.Figure:
    """Lines over one axis, apart by colour and dash, named below.

    Args:
        x: (m,) float or int.
        series: name → (m,) float.
        x_name, y_name: names of the axes.
        log_y: y on a logarithmic axis.
        marker: a point to mark.
        level, place: a horizontal and a vertical line to compare with, with its name.
        points: draw every point too.
        shape: Plotly's line shape; "hvh" for counts that jump.
        axes: what else `xaxis` and `yaxis` have.
    """
    traces = [{
        "type": "scatter", "x": np.asarray(x, dtype=np.float64), "y": np.asarray(y, dtype=np.float64),
        "name": escape(name), "mode": "lines+markers" if points else "lines", "marker": {"size": 4},
        "line": {"color": LINES[theme][number % 5], "dash": DASHES[number % 5], "width": 2, "shape": shape},
        "hovertemplate": f"{escape(x_name)} %{{x}}<br>{escape(y_name)} %{{y:.4g}}<extra>{escape(name)}</extra>",
    } for number, (name, y) in enumerate(series.items())]
    if marker is not None:
        traces.append({
            "type": "scatter", "x": np.array([marker[0]]), "y": np.array([marker[1]]), "mode": "markers",
            "hoverinfo": "skip", "showlegend": False,
            "marker": {"size": 11, "color": palette.ACCENT[theme], "symbol": "diamond"}})
    layout = _plain_layout(x_name, y_name, theme) | _compared(level, place, log_y, theme)
    if log_y:
        layout["yaxis"] |= {"type": "log", "exponentformat": "power", "dtick": 1}
    for name, more in (axes or {}).items():
        layout[name] |= more
    if len(series) > 1:
        layout["showlegend"] = True
        layout["margin"] |= {"b": _LEGEND_ROOM}
    return figure_of(traces, layout)


def graded_lines(x: np.ndarray, series: np.ndarray, *, names: Sequence[str], x_name: str, y_name: str,
                 chosen: int | None = None, place: tuple[float, str] | None = None,
                 theme: palette.Theme = "light") -> go.Figure:
    """Many lines of an ordered kind (heads), the first ones strongest; the chosen one in the accent colour.

    Args:
        x: (m,).
        series: (n_lines, m) float.
        names: of the lines.
        place: a vertical line to compare with, with its name.
    """
    steps = np.linspace(230, 90, max(len(series), 1)).astype(int)
    colours = palette.to_hex(palette.sequential(theme)[steps])
    order = [i for i in range(len(series)) if i != chosen] + ([chosen] if chosen is not None else [])
    traces = [{
        "type": "scatter", "x": np.asarray(x, dtype=np.float64), "y": np.asarray(series[i], dtype=np.float64),
        "mode": "lines", "name": escape(names[i]),
        "line": {"color": palette.ACCENT[theme] if i == chosen else colours[i], "width": 3 if i == chosen else 1.4},
        "hovertemplate": f"{escape(x_name)} %{{x}}<br>{escape(y_name)} %{{y:.4g}}<extra>{escape(names[i])}</extra>",
    } for i in order]
    return figure_of(traces, _plain_layout(x_name, y_name, theme) | _compared(None, place, False, theme))


def turning_pairs(angles: np.ndarray, *, names: Sequence[str], theme: palette.Theme = "light") -> go.Figure:
    """Pairs of dimensions as hands on circles: one circle a pair, its way so far as a trail.

    Args:
        angles: (pairs, m) radians of positions 0 … m − 1; the hand stands at the last.
        names: of the pairs, drawn below their circles.
    """
    traces, notes = [], []
    around = np.linspace(0, 2 * np.pi, 61)
    gap = 2.7
    for pair, turned in enumerate(angles):
        centre, end = gap * pair, turned[-1]
        traces += [{
            "type": "scatter", "x": centre + np.cos(around), "y": np.sin(around), "mode": "lines",
            "hoverinfo": "skip", "line": {"color": GREY[theme], "width": 1},
        }, {
            "type": "scatter", "x": centre + np.cos(turned), "y": np.sin(turned), "mode": "markers",
            "hoverinfo": "skip",
            "marker": {"size": 5, "color": LINES[theme][0], "opacity": np.linspace(0.15, 0.8, len(turned))},
        }, {
            "type": "scatter", "x": np.array([centre, centre + np.cos(end)]), "y": np.array([0.0, np.sin(end)]),
            "mode": "lines+markers", "line": {"color": palette.ACCENT[theme], "width": 3},
            "marker": {"size": [1, 9], "line": {"width": 0}},
            "hovertemplate": f"{escape(names[pair])}<br>{end:.3f} rad<extra></extra>",
        }]
        notes.append({"x": centre, "y": -1.25, "text": escape(names[pair]), "showarrow": False, "yanchor": "top",
                      "font": {"size": 12}})
    return figure_of(traces, bare_layout(title="", theme=theme) | {
        "margin": {"l": 4, "r": 4, "t": 4, "b": 4}, "height": 200, "annotations": notes,
        "xaxis": {"visible": False, "range": [-1.3, gap * (len(angles) - 1) + 1.3]},
        "yaxis": {"visible": False, "range": [-1.9, 1.2], "scaleanchor": "x"},
    })


def grid(values: np.ndarray, *, texts: Mapping[str, str], theme: palette.Theme = "light") -> go.Figure:
    """Queries downwards, keys across, from the smallest value (the page's colour) to the largest; NaN grey.

    Args:
        values: (n, n) float.
        texts: `query`, `key`, `value`.
    """
    low, high = float(np.nanmin(values)) + 0.0, float(np.nanmax(values)) + 0.0
    # One in the middle: Plotly moves the bar's name below the ticks only where it would lie on one.
    ticks = [low, round((low + high) / 2, 0 if high - low > 8 else 3), high]
    steps = np.linspace(0.0, 1.0, 17)
    colours = palette.to_hex(palette.sequential(theme)[np.round(255 * steps).astype(int)])
    layout = bare_layout(title="", theme=theme) | {
        "margin": _TABLE_MARGIN, "height": HEIGHT + 40,
        "xaxis": {"zeroline": False, "side": "top", "showgrid": False, "title": axis_name(texts["key"]),
                  "constrain": "domain", "constraintoward": "left"},
        "yaxis": {"zeroline": False, "autorange": "reversed", "showgrid": False, "title": axis_name(texts["query"]),
                  "scaleanchor": "x", "constrain": "domain", "constraintoward": "bottom"},
    }
    if np.isnan(values).any():
        layout["plot_bgcolor"] = palette.MASKED[theme]
    return figure_of({
        "type": "heatmap", "z": np.asarray(values, dtype=np.float32), "hoverongaps": False, "zmin": low, "zmax": high,
        "colorbar": colour_bar(texts["value"]) | {"tickmode": "array", "tickvals": ticks, "ticktext": [
            written(tick, ".4g") for tick in ticks]},
        "colorscale": [[float(step), colour] for step, colour in zip(steps, colours, strict=True)],
        "hovertemplate": f"{escape(texts['query'])} %{{y}} → {escape(texts['key'])} %{{x}}<br>"
                         f"{escape(texts['value'])} %{{z:.4g}}<extra></extra>",
    }, layout)


def _plain_layout(x_name: str, y_name: str, theme: palette.Theme) -> dict:
    axis = {"zeroline": False, "gridcolor": "rgba(128,128,128,0.22)", "ticklabelstandoff": 4}
    return bare_layout(title="", theme=theme) | {
        "margin": {"l": 72, "r": 12, "t": 26, "b": 48}, "height": HEIGHT,
        "legend": {"orientation": "h", "y": -0.34, "yanchor": "top", "x": 0, "xanchor": "left"},
        "xaxis": {**axis, "title": axis_name(x_name)}, "yaxis": {**axis, "title": axis_name(y_name, standoff=14)},
    }


def _compared(level: tuple[float, str] | None, place: tuple[float, str] | None, log_y: bool,
              theme: palette.Theme) -> dict:
    line = {"type": "line", "line": {"color": palette.ACCENT[theme], "width": 1.5, "dash": "dash"}}
    note = {"yanchor": "bottom", "showarrow": False, "font": {"color": palette.ACCENT[theme], "size": 12}}
    shapes, notes = [], []
    if level is not None:
        height, name = level
        shapes.append({**line, "xref": "paper", "x0": 0, "x1": 1, "y0": height, "y1": height})
        notes.append({**note, "xref": "paper", "x": 0.01, "xanchor": "left",
                      "y": np.log10(height) if log_y else height, "text": escape(name)})
    if place is not None:
        at, name = place
        shapes.append({**line, "yref": "paper", "y0": 0, "y1": 1, "x0": at, "x1": at})
        notes.append({**note, "yref": "paper", "y": 1, "x": at, "text": escape(name)})
    return {"shapes": shapes, "annotations": notes}
