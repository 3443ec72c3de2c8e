"""The small live figures of the home page: a few bars, a curve, a table of colours, nothing to operate.

They take plain numbers and know no question. Each is drawn once and answers to
nothing, so a card costs the browser as little as a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from pages.figures import palette
from pages.figures.evidence import GREY
from pages.figures.frame import bare_layout, escape, isolate, level, names_room, upright, written
from pages.figures.whole import figure_of

#: Height of a card's figure, in pixels.
HEIGHT = 150
#: Settings for `st.plotly_chart`: a picture.
STATIC = {"staticPlot": True, "displayModeBar": False, "responsive": True}


def bars(values: Sequence[float], *, labels: Sequence[str], baseline: float | None = None, sizes: Sequence[float] = (),
         number: str = ".2f", theme: palette.Theme) -> go.Figure:
    """Horizontal bars with their numbers.

    Args:
        baseline: a dashed line across all of them, with the numbers beyond it.
        sizes: for each value what it is compared with, which has a size and no sign: a grey band of ± it; () for none.
    """
    place, numbers = np.arange(len(values)), [written(value, number) for value in values]
    widest = max(sizes, default=0.0)
    low, high = min(-widest, *values), max(widest, *values, baseline or 0.0)
    room = 0.3 * (high - low or 1.0)
    layout = _layout(theme) | {
        "xaxis": {"range": [low - (room if low else 0), high + (room if high else 0)], "visible": False},
        "yaxis": {"tickmode": "array", "tickvals": place, "ticktext": [isolate(escape(label)) for label in labels],
                  "range": [len(values) - 0.5, -0.5], "showgrid": False, "zeroline": False},
    }
    layout["margin"] |= {"l": names_room(labels)}
    if baseline is not None:
        layout["annotations"] = [{"x": 1, "xref": "paper", "xanchor": "right", "y": at, "text": text,
                                  "showarrow": False} for at, text in enumerate(numbers)]
        layout["shapes"] = [upright(baseline, palette.ACCENT[theme], dash="dash", width=1.5)]
    if sizes:
        layout["shapes"] = [
            {"type": "rect", "x0": -size, "x1": size, "y0": at - 0.46, "y1": at + 0.46, "fillcolor": GREY[theme],
             "opacity": 0.25, "line": {"width": 0}, "layer": "below"} for at, size in enumerate(sizes)]
    return figure_of([{
        "type": "bar", "x": np.asarray(values, dtype=np.float64), "y": place, "orientation": "h",
        "text": numbers if baseline is None else None, "textposition": "outside", "cliponaxis": False,
        "marker": {"color": palette.to_hex(palette.sequential(theme)[140:141])[0]},
    }], layout)


def line(x: np.ndarray, y: np.ndarray, *, limit: float, x_unit: str, y_unit: str, theme: palette.Theme) -> go.Figure:
    """A growing quantity with a line at `limit`."""
    axis = {"showgrid": False, "zeroline": False, "nticks": 5, "ticklabelstandoff": 4}
    return figure_of([{
        "type": "scatter", "x": x, "y": y, "mode": "lines", "fill": "tozeroy",
        "line": {"width": 2, "color": palette.to_hex(palette.sequential(theme)[140:141])[0]},
    }], _layout(theme) | {
        "margin": {"l": names_room([f"{max(y):.0f}{y_unit}"]), "r": 20, "t": 4, "b": 26, "pad": 0},
        "xaxis": {**axis, "ticksuffix": x_unit},
        "yaxis": {**axis, "ticksuffix": y_unit, "rangemode": "tozero"},
        "shapes": [level(limit, palette.ACCENT[theme], dash="dash", width=1.5)],
    })


def _layout(theme: palette.Theme) -> dict:
    return bare_layout(title="", theme=theme) | {
        "height": HEIGHT, "margin": {"l": 4, "r": 8, "t": 4, "b": 4, "pad": 0}, "bargap": 0.35,
    }
