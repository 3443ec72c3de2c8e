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
from pages.figures.frame import BAR, PLAIN_AXIS, bare_layout, colour_bar, escape

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
        figure = go.Figure(go.Heatmap(
            z=np.asarray(values, dtype=np.float32), zmin=-limit, zmax=limit, colorscale=scale, colorbar=bar,
            hovertemplate=f"{position} %{{y}}, {dimension} %{{x}}<br>{escape(texts['value'])} %{{z:.4f}}"
                          "<extra></extra>",
        ))
    else:
        picture = palette.differences_to_bytes(values, limit=limit)
        figure = go.Figure(go.Image(
            source=png.data_uri(png.indexed_png(picture, palette.difference_colours(theme))),
            hovertemplate=f"{position} %{{y}}, {dimension} %{{x}}<extra></extra>",
        ))
        # An image has no colour bar; an empty trace lends it one.
        figure.add_trace(go.Scatter(
            x=np.zeros(1), y=np.zeros(1), mode="markers", opacity=0, hoverinfo="skip",
            marker={"color": np.zeros(1), "cmin": -limit, "cmax": limit, "showscale": True, "colorscale": scale,
                    "colorbar": bar},
        ))
    figure.update_layout(**bare_layout(title="", theme=theme) | {"margin": _TABLE_MARGIN}, height=HEIGHT + 40)
    figure.update_xaxes(**PLAIN_AXIS, range=[-0.5, d - 0.5], showgrid=False, side="top", constrain="range",
                        title=_named(texts["dimension"]))
    # An image asks for square pixels; a table is as wide as the page.
    figure.update_yaxes(**PLAIN_AXIS, range=[n - 0.5, -0.5], showgrid=False, title=_named(texts["position"]),
                        scaleanchor=False)
    line = {"color": palette.ACCENT[theme], "width": 1.5}
    if row is not None:
        figure.add_shape(type="rect", x0=-0.5, x1=d - 0.5, y0=row - 0.5, y1=row + 0.5, line=line)
    if column is not None:
        figure.add_shape(type="rect", x0=column - 0.5, x1=column + 0.5, y0=-0.5, y1=n - 0.5, line=line)
    return figure


def lines(x: np.ndarray, series: Mapping[str, np.ndarray], *, x_name: str, y_name: str, log_y: bool = False,
          marker: tuple[float, float] | None = None, level: tuple[float, str] | None = None,
          place: tuple[float, str] | None = None, points: bool = False, shape: str = "linear",
          theme: palette.Theme = "light") -> go.Figure:
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
    """
    figure = go.Figure()
    for number, (name, y) in enumerate(series.items()):
        figure.add_trace(go.Scatter(
            x=np.asarray(x, dtype=np.float64), y=np.asarray(y, dtype=np.float64), name=escape(name),
            mode="lines+markers" if points else "lines", marker={"size": 4},
            line={"color": LINES[theme][number % 5], "dash": DASHES[number % 5], "width": 2,
                  "shape": shape},
            hovertemplate=f"{escape(x_name)} %{{x}}<br>{escape(y_name)} %{{y:.4g}}<extra>{escape(name)}</extra>",
        ))
    _plain_axes(figure, x_name, y_name, theme)
    if log_y:
        figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    if marker is not None:
        figure.add_trace(go.Scatter(
            x=np.array([marker[0]]), y=np.array([marker[1]]), mode="markers", hoverinfo="skip", showlegend=False,
            marker={"size": 11, "color": palette.ACCENT[theme], "symbol": "diamond"}))
    _compare(figure, level, place, log_y, theme)
    if len(series) > 1:
        figure.update_layout(showlegend=True, margin={"b": _LEGEND_ROOM})
    return figure


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
    figure = go.Figure()
    order = [i for i in range(len(series)) if i != chosen] + ([chosen] if chosen is not None else [])
    for i in order:
        picked = i == chosen
        figure.add_trace(go.Scatter(
            x=np.asarray(x, dtype=np.float64), y=np.asarray(series[i], dtype=np.float64), mode="lines",
            name=escape(names[i]), line={"color": palette.ACCENT[theme] if picked else colours[i],
                                         "width": 3 if picked else 1.4},
            hovertemplate=f"{escape(x_name)} %{{x}}<br>{escape(y_name)} %{{y:.4g}}<extra>{escape(names[i])}</extra>",
        ))
    _plain_axes(figure, x_name, y_name, theme)
    _compare(figure, None, place, False, theme)
    return figure


def turning_pairs(angles: np.ndarray, *, names: Sequence[str], theme: palette.Theme = "light") -> go.Figure:
    """Pairs of dimensions as hands on circles: one circle a pair, its way so far as a trail.

    Args:
        angles: (pairs, m) radians of positions 0 … m − 1; the hand stands at the last.
        names: of the pairs, drawn below their circles.
    """
    figure = go.Figure()
    around = np.linspace(0, 2 * np.pi, 61)
    gap = 2.7
    for pair, turned in enumerate(angles):
        centre = gap * pair
        figure.add_trace(go.Scatter(
            x=centre + np.cos(around), y=np.sin(around), mode="lines", hoverinfo="skip",
            line={"color": GREY[theme], "width": 1}))
        figure.add_trace(go.Scatter(
            x=centre + np.cos(turned), y=np.sin(turned), mode="markers", hoverinfo="skip",
            marker={"size": 5, "color": LINES[theme][0], "opacity": np.linspace(0.15, 0.8, len(turned))}))
        end = turned[-1]
        figure.add_trace(go.Scatter(
            x=np.array([centre, centre + np.cos(end)]), y=np.array([0.0, np.sin(end)]), mode="lines+markers",
            line={"color": palette.ACCENT[theme], "width": 3}, marker={"size": [1, 9]},
            hovertemplate=f"{escape(names[pair])}<br>{end:.3f} rad<extra></extra>"))
        figure.add_annotation(x=centre, y=-1.25, text=escape(names[pair]), showarrow=False, yanchor="top",
                              font={"size": 12})
    layout = bare_layout(title="", theme=theme) | {"margin": {"l": 4, "r": 4, "t": 4, "b": 4}}
    figure.update_layout(**layout, height=200)
    figure.update_xaxes(visible=False, range=[-1.3, gap * (len(angles) - 1) + 1.3])
    figure.update_yaxes(visible=False, range=[-1.9, 1.2], scaleanchor="x")
    return figure


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
    figure = go.Figure(go.Heatmap(
        z=np.asarray(values, dtype=np.float32), hoverongaps=False, zmin=low, zmax=high,
        colorbar=colour_bar(texts["value"]) | {"tickmode": "array", "tickvals": ticks, "ticktext": [
            f"{tick:.4g}".replace("-", "−") for tick in ticks]},
        colorscale=[[float(step), colour] for step, colour in zip(steps, colours, strict=True)],
        hovertemplate=f"{escape(texts['query'])} %{{y}} → {escape(texts['key'])} %{{x}}<br>"
                      f"{escape(texts['value'])} %{{z:.4g}}<extra></extra>"))
    figure.update_layout(**bare_layout(title="", theme=theme) | {"margin": _TABLE_MARGIN}, height=HEIGHT + 40)
    figure.update_xaxes(**PLAIN_AXIS, side="top", showgrid=False, title=_named(texts["key"]), constrain="domain",
                        constraintoward="left")
    figure.update_yaxes(**PLAIN_AXIS, autorange="reversed", showgrid=False, title=_named(texts["query"]),
                        scaleanchor="x", constrain="domain", constraintoward="bottom")
    if np.isnan(values).any():
        figure.update_layout(plot_bgcolor=palette.MASKED[theme])
    return figure


def _plain_axes(figure: go.Figure, x_name: str, y_name: str, theme: palette.Theme) -> None:
    figure.update_layout(
        **{**bare_layout(title="", theme=theme), "margin": {"l": 72, "r": 12, "t": 26, "b": 48}}, height=HEIGHT,
        legend={"orientation": "h", "y": -0.34, "yanchor": "top", "x": 0, "xanchor": "left"})
    axis = {**PLAIN_AXIS, "gridcolor": "rgba(128,128,128,0.22)", "ticklabelstandoff": 4}
    figure.update_xaxes(title=_named(x_name), **axis)
    figure.update_yaxes(title={**_named(y_name), "standoff": 14}, **axis)


def _named(name: str) -> dict:
    return {"text": escape(name), "font": {"size": 13}}


def _compare(figure: go.Figure, level: tuple[float, str] | None, place: tuple[float, str] | None, log_y: bool,
             theme: palette.Theme) -> None:
    line = {"color": palette.ACCENT[theme], "width": 1.5, "dash": "dash"}
    font = {"color": palette.ACCENT[theme], "size": 12}
    if level is not None:
        figure.add_shape(type="line", xref="paper", x0=0, x1=1, y0=level[0], y1=level[0], line=line)
        figure.add_annotation(xref="paper", x=0.01, xanchor="left", y=np.log10(level[0]) if log_y else level[0],
                              yanchor="bottom", text=escape(level[1]), showarrow=False, font=font)
    if place is not None:
        figure.add_shape(type="line", yref="paper", y0=0, y1=1, x0=place[0], x1=place[0], line=line)
        figure.add_annotation(yref="paper", y=1, yanchor="bottom", x=place[0], text=escape(place[1]), showarrow=False,
                              font=font)
