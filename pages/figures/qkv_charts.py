"""Charts about a head's limits: singular values, growth with the text's length, heads laid out on a plane.

It knows arrays and display strings, and returns Plotly figures; equal arrays
give equal JSON. It does not know models or the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from pages.figures import palette
from pages.figures.frame import axis_name, bare_layout, compact, escape, in_powers, upright
from pages.figures.whole import figure_of

#: Where a head's name may stand, and its centre's distance from the dot, in pixels (right, up).
_SIDES = {"top center": (0, 17), "bottom center": (0, -17), "middle right": (23, 0), "middle left": (-23, 0)}
#: Of the map: a side that it has on a narrow page too, and a name's width and height, in pixels.
_MAP_SIDE, _NAME = 300, (26, 16)
#: Colours of the first and the last layer, such that all stand off the page.
_SHADES = {"light": (120, 240), "dark": (120, 250)}
_GREY = "rgba(128,128,128,0.35)"


def spectrum(values: np.ndarray, *, width: int, texts: Mapping[str, str], theme: palette.Theme = "light") -> go.Figure:
    """Singular values of a (width, width) matrix that has only `values` besides zeros.

    Args:
        values: (d_head,) falling.
        texts: `index`, `value`, `zeros` (with `{count}`).
    """
    n = len(values)
    every = np.concatenate([values, np.zeros(max(width - n, 0))]).astype(np.float32)
    colour = palette.to_hex(palette.sequential(theme)[170:171])[0]
    layout = _plain(theme) | {"height": 280, "bargap": 0.1, "xaxis": _axis(texts["index"]),
                              "yaxis": _axis(texts["value"]) | {"rangemode": "tozero"}}
    if width > n:
        layout["shapes"] = [{"type": "line", "x0": n + 0.5, "x1": n + 0.5, "y0": 0, "y1": 1, "yref": "paper",
                             "line": {"color": palette.ACCENT[theme], "width": 2, "dash": "dash"}}]
        layout["annotations"] = [{"x": n + 0.5, "y": 0.9, "yref": "paper", "xanchor": "left", "showarrow": False,
                                  "xshift": 6, "text": escape(texts["zeros"].format(count=width - n)),
                                  "font": {"color": palette.ACCENT[theme]}}]
    return figure_of([{
        "type": "bar", "x": np.arange(1, len(every) + 1), "y": every, "marker": {"color": colour, "line": {"width": 0}},
        "hovertemplate": f"{escape(texts['index'])} %{{x}}: %{{y:.4f}}<extra></extra>",
    }], layout)


def growth(lengths: np.ndarray, series: Mapping[str, np.ndarray], *, now: int, texts: Mapping[str, str],
           theme: palette.Theme = "light") -> go.Figure:
    """Counts against the text's length, both logarithmic: a straight line's steepness is its power.

    Args:
        lengths: (n,) tokens.
        series: name → (n,) counts.
        now: the length of the text on the page.
        texts: `tokens`, `count`, `now`.
    """
    shades = palette.to_hex(palette.sequential(theme)[[230, 120]])
    return figure_of([
        {"type": "scatter", "x": lengths, "y": np.asarray(values, np.float64), "mode": "lines", "name": escape(name),
         "line": {"color": shades[at % 2], "width": 3, "dash": ("solid", "dot")[at % 2]},
         "hovertemplate": f"{escape(name)}<br>%{{x}}: %{{y:.3s}}<extra></extra>"}
        for at, (name, values) in enumerate(series.items())
    ], _plain(theme) | {
        "showlegend": True, "height": 300, "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": _axis(texts["tokens"]) | {"type": "log", "dtick": 1},
        "yaxis": _axis(texts["count"]) | {"type": "log", "dtick": 3, "exponentformat": "SI"},
        "shapes": [upright(now, palette.ACCENT[theme], dash="dash")],
        "annotations": [{"x": np.log10(now), "y": 0.98, "yref": "paper", "xanchor": "left", "xshift": 5,
                         "showarrow": False, "text": escape(texts["now"]), "font": {"color": palette.ACCENT[theme]}}],
    })


def head_map(points: np.ndarray, *, heads: Sequence[tuple[int, int]], selected: int, texts: Mapping[str, str],
             theme: palette.Theme = "light") -> go.Figure:
    """Heads as points on a plane, near where their patterns are alike; colour the layer. Names that do not fit are
    left to the hover.

    Args:
        points: (m, 2).
        heads: (layer, head) of each.
        selected: the head that is open.
        texts: `layer`, `head`.
    """
    layers = np.array([layer for layer, _ in heads])
    last = max(int(layers.max()), 1)
    steps = np.linspace(*_SHADES[theme], last + 1).astype(int)
    shades = palette.to_hex(palette.sequential(theme)[steps[layers]])
    sides = name_sides(points, first=selected)
    own = [at == selected for at in range(len(heads))]
    layer, head = escape(texts["layer"]), escape(texts["head"])
    plain = {"showgrid": True, "gridcolor": "rgba(128,128,128,0.15)", "zeroline": False, "showticklabels": False}
    return figure_of([{
        "type": "scatter", "x": points[:, 0].astype(np.float32), "y": points[:, 1].astype(np.float32),
        "mode": "markers+text", "cliponaxis": False, "customdata": np.array(heads),
        "text": [f"{a}·{b}" if side else "" for (a, b), side in zip(heads, sides, strict=True)],
        "textposition": [side or "top center" for side in sides],
        "marker": {"opacity": 1, "size": [18 if mine else 12 for mine in own], "color": shades, "line": {
            "color": [palette.ACCENT[theme] if mine else _GREY for mine in own],
            "width": [3 if mine else 1 for mine in own]}},
        "hovertemplate": f"{layer} %{{customdata[0]}}, {head} %{{customdata[1]}}<extra></extra>",
    }], _plain(theme) | {"height": 420, "xaxis": plain, "yaxis": plain | {"scaleanchor": "x"}})


def name_sides(points: np.ndarray, *, first: int) -> list[str | None]:
    """For each point the side on which its name meets neither a dot nor another name, or None where there is none.

    Args:
        points: (m, 2).
        first: the point that chooses first.
    """
    span = float(np.ptp(points, axis=0).max()) or 1.0
    places = np.asarray(points, np.float64) * _MAP_SIDE / span
    width, height = _NAME
    sides: list[str | None] = [None] * len(places)
    taken = np.empty((0, 2))
    for at in [first, *(other for other in range(len(places)) if other != first)]:
        dots = np.delete(places, at, axis=0)
        for side, away in _SIDES.items():
            name = places[at] + away
            clear = (np.abs(taken - name) >= (width, height)).any(axis=1).all()
            if clear and (np.abs(dots - name) >= (width / 2 + 7, height / 2 + 7)).any(axis=1).all():
                sides[at], taken = side, np.vstack([taken, name])
                break
    return sides


def pairs(first: np.ndarray, second: np.ndarray, *, labels: Sequence[str], names: tuple[str, str], value: str,
          selected: int | None = None, theme: palette.Theme = "light") -> go.Figure:
    """Two numbers for each label, as bars side by side.

    Args:
        first, second: (n,) float, ≥ 0.
        names: of the two series.
        value: of the axis.
        selected: the label to point out.
    """
    shades = palette.to_hex(palette.sequential(theme)[[220, 110]])
    place = np.arange(len(labels))
    both, power = in_powers(np.array([first, second], np.float64))
    value += power
    ticks = [f"<b>{escape(label)}</b>" if at == selected else escape(label) for at, label in enumerate(labels)]
    return figure_of([
        {"type": "bar", "x": place, "y": values, "name": escape(name),
         "marker": {"color": shades[at]}, "hovertemplate": f"{escape(name)}: %{{y:.4g}}<extra></extra>",
         "text": [compact(number) for number in values], "textposition": "outside", "textangle": 0,
         "textfont": {"size": 11}, "constraintext": "none", "cliponaxis": False}
        for at, (name, values) in enumerate(zip(names, both, strict=True))
    ], _plain(theme) | {
        "showlegend": True, "height": 300, "barmode": "group",
        "legend": {"orientation": "h", "x": 0, "y": 1.06, "yanchor": "bottom"},
        "xaxis": {"tickmode": "array", "tickvals": place, "ticktext": ticks, "fixedrange": True, "showgrid": False},
        "yaxis": _axis(value) | {"rangemode": "tozero",
                                 "title": axis_name(value, standoff=14)},
    })


def _plain(theme: palette.Theme) -> dict:
    return bare_layout(title="", theme=theme) | {"margin": {"l": 64, "r": 16, "t": 16, "b": 44, "pad": 0}}


def _axis(name: str) -> dict:
    return {"title": axis_name(name), "gridcolor": "rgba(128,128,128,0.2)", "zeroline": False}
