"""Pictures of bytes, seconds and FLOPs: a cache that grows, what a GPU must hold, layer by layer.

It knows arrays and display strings, and returns Plotly figures; equal arrays
give equal JSON. Bytes stand on axes of binary units. It does not know models,
formulas, or the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from pages.figures import palette
from pages.figures.frame import HALF_WIDTH, axis_name, bare_layout, escape, level, names_room, upright
from pages.figures.whole import figure_of

#: One colour for one thing, in every picture of this page; apart for readers who confuse red and green.
COLOURS = {
    "cache": {"light": "#2f5bb7", "dark": "#7fa6f8"}, "weights": {"light": "#9aa1ad", "dark": "#6b7280"},
    "logits": {"light": "#0d9488", "dark": "#99f6e4"}, "scores": {"light": "#f0a52e", "dark": "#f59e0b"},
}
#: Where something no longer fits, and what is compared.
LIMIT = palette.ACCENT
HEIGHT = 340
#: Right margin in pixels: half of the widest tick label, which may stand at the axis's end.
RIGHT = HALF_WIDTH * len("20,000,000") // 2 + 1
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_GRID = {"light": "rgba(27,31,39,0.12)", "dark": "rgba(231,234,240,0.14)"}
_TICKS = 5
#: Marks drawn on a line of many points.
_MOST_MARKS = 24
#: Line styles of the kinds in `kinds_by_layer`, in their order.
_DASHES = ("solid", "solid", "dash", "dot", "dashdot", "longdash")


def readable_bytes(count: float) -> str:
    """`count` bytes in the largest unit that leaves at least 1, with at most three digits after the point."""
    power = 0
    while abs(count) >= 1024 and power < len(_UNITS) - 1:
        count /= 1024
        power += 1
    digits = 0 if power == 0 or count >= 1000 else 1 if count >= 100 else 2 if count >= 10 else 3
    text = f"{count:,.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {_UNITS[power]}"


def byte_ticks(most: float) -> tuple[list[float], list[str]]:
    """Places and names of a handful of round numbers of bytes from 0 to `most`."""
    most = max(float(most), 1.0)
    power = min(int(np.log(most) / np.log(1024)), len(_UNITS) - 1)
    unit = 1024.0**power
    rough = most / unit / _TICKS
    scale = 10.0 ** np.floor(np.log10(rough))
    step = next(nice * scale for nice in (1, 2, 5, 10) if nice * scale >= rough * 0.999)
    if power == 0:
        step = max(step, 1.0)
    places = [number * step * unit for number in range(int(most / unit / step) + 2)]
    return places, [readable_bytes(place) for place in places]


def growth(lengths: np.ndarray, held: np.ndarray, *, storage: np.ndarray, formula: np.ndarray,
           texts: Mapping[str, str], selected: int | None = None, theme: palette.Theme = "light") -> go.Figure:
    """Bytes of a real cache over the tokens in it, beside the formula.

    Args:
        lengths: (n_steps,) int, tokens in the cache.
        held, storage, formula: (n_steps,) bytes.
        texts: `tokens`, `held`, `storage`, `formula`.
        selected: the step to mark.
    """
    blue, text = COLOURS["cache"][theme], palette.TEXT[theme]
    traces = []
    if (storage != held).any():
        traces.append(_line(lengths, storage, texts["storage"], LIMIT[theme], dash="dot"))
    traces.append(_line(lengths, held, texts["held"], blue, width=3) | {"fill": "tozeroy", "fillcolor": _faint(blue)})
    every = max(1, len(lengths) // _MOST_MARKS)
    traces.append({
        "type": "scatter", "x": lengths[::every], "y": formula[::every].astype(float), "mode": "markers",
        "name": escape(texts["formula"]), "customdata": _names(formula[::every]), "hovertemplate": "%{customdata}",
        "marker": {"symbol": "circle-open", "size": 8, "color": text, "line": {"width": 1.5}},
    })
    layout = _layout(x=texts["tokens"], most=float(max(storage.max(initial=0), formula.max(initial=0))), theme=theme)
    if selected is not None and len(lengths):
        layout["shapes"] = [upright(float(lengths[selected]), text, width=1, dash="dot")]
    return figure_of(traces, layout)


def layers(held: np.ndarray, *, formula: np.ndarray, texts: Mapping[str, str],
           theme: palette.Theme = "light") -> go.Figure:
    """Bytes of each layer as bars, with the formula's as marks.

    Args:
        held, formula: (n_layers,) bytes.
        texts: `layer`, `held`, `formula`.
    """
    place = np.arange(len(held))
    layout = _layout(x=texts["layer"], most=float(max(held.max(initial=0), formula.max(initial=0))), theme=theme)
    layout["xaxis"] |= _layer_axis(len(held))
    return figure_of([{
        "type": "bar", "x": place, "y": held.astype(float), "name": escape(texts["held"]), "customdata": _names(held),
        "marker": {"color": COLOURS["cache"][theme]}, "hovertemplate": "%{customdata}",
    }, {
        "type": "scatter", "x": place, "y": formula.astype(float), "name": escape(texts["formula"]),
        "customdata": _names(formula), "mode": "markers", "hovertemplate": "%{customdata}",
        "marker": {"symbol": "line-ew-open", "size": 14, "color": palette.TEXT[theme], "line": {"width": 2}},
    }], layout | {"bargap": 0.15})


def kinds_by_layer(values: Mapping[str, np.ndarray], *, layer: str, theme: palette.Theme = "light") -> go.Figure:
    """Bytes of each layer under several kinds of attention, as lines on a logarithmic axis; the first one is thick.

    Args:
        values: display name → (n_layers,) bytes, the model's own first; 0 leaves a gap.
        layer: the name of the horizontal axis.
    """
    traces = []
    for number, (name, held) in enumerate(values.items()):
        colour = COLOURS["cache"][theme] if number == 0 else palette.TEXT[theme]
        line = _line(np.arange(len(held)), np.where(held > 0, held, np.nan), name, colour, shape="hvh",
                     width=6 if number == 0 else 1.5, dash=_DASHES[number % len(_DASHES)])
        traces.append(line | {"customdata": _names(held), "opacity": 0.6 if number == 0 else 1})
    every = np.concatenate([held[held > 0] for held in values.values()] or [np.ones(1)])
    powers = range(int(np.log2(every.min(initial=2**60))) - 1, int(np.log2(every.max(initial=1))) + 3, 2)
    layout = _layout(x=layer, most=None, theme=theme)
    layout["xaxis"] |= _layer_axis(max(len(held) for held in values.values()))
    layout["yaxis"] |= {"type": "log", "rangemode": "normal", "tickmode": "array",
                        "tickvals": [2.0**power for power in powers],
                        "ticktext": [readable_bytes(2.0**power) for power in powers]}
    return figure_of(traces, layout)


def _layer_axis(n_layers: int) -> dict:
    return {"dtick": max(1, -(-n_layers // 16)), "range": [-0.6, n_layers - 0.4]}


def costs(lengths: np.ndarray, *, cached: np.ndarray, uncached: np.ndarray, texts: Mapping[str, str], unit: str,
          theme: palette.Theme = "light") -> go.Figure:
    """Two costs over the tokens, with a cache and without; each may be shorter than `lengths` while it is measured.

    Args:
        lengths: (n_steps,) int.
        cached, uncached: (≤ n_steps,) numbers in `unit`.
        texts: `tokens`, `cached`, `uncached`, `value` (the axis' name).
        unit: behind the numbers on hovering.
    """
    pairs = ((uncached, texts["uncached"], LIMIT[theme]), (cached, texts["cached"], COLOURS["cache"][theme]))
    traces = [_line(lengths[:len(values)], values, name, colour, width=3)
              | {"customdata": None, "hovertemplate": f"%{{y:.3s}}{escape(unit)}"} for values, name, colour in pairs]
    layout = _layout(x=texts["tokens"], most=None, theme=theme)
    layout["yaxis"] |= {"title": axis_name(texts["value"], standoff=8),
                        "tickformat": "~s", "ticksuffix": unit}
    return figure_of(traces, layout)


def device(lengths: np.ndarray, *, series: Mapping[str, np.ndarray], tokens: str,
           theme: palette.Theme = "light") -> go.Figure:
    """Several numbers of bytes that a GPU reports, over the tokens.

    Args:
        series: display name → (n_steps,) bytes, the smallest first.
        tokens: the name of the horizontal axis.
    """
    colours = (COLOURS["cache"][theme], COLOURS["logits"][theme], LIMIT[theme])
    traces = [_line(lengths, values, name, colour)
              for (name, values), colour in zip(series.items(), colours, strict=False)]
    most = max(float(values.max(initial=0)) for values in series.values())
    return figure_of(traces, _layout(x=tokens, most=most, theme=theme))


def needs(lengths: np.ndarray, *, parts: Mapping[str, np.ndarray], names: Mapping[str, str], gpu_bytes: int,
          n_tokens: int, longest: int | None, texts: Mapping[str, str], theme: palette.Theme = "light") -> go.Figure:
    """What must be held at each length, part upon part, and the line of the GPU's size.

    Args:
        lengths: (n,) int, rising.
        parts: part → (n,) bytes, from the bottom up; keys of COLOURS.
        names: part → display name.
        gpu_bytes: the GPU's size.
        n_tokens: the length asked for.
        longest: the most tokens that fit, −1 or None where there is no such line.
        texts: `tokens`, `gpu`, `here`, `longest` (finished sentences of a few words).
    """
    traces, total = [], np.zeros(len(lengths))
    for part, values in parts.items():
        colour = COLOURS[part][theme]
        total = total + values
        traces.append({
            "type": "scatter", "x": lengths, "y": values.astype(float), "name": escape(names[part]),
            "stackgroup": "need", "mode": "lines", "line": {"width": 0.5, "color": colour}, "fillcolor": colour,
            "customdata": _names(values), "hovertemplate": "%{customdata}",
        })
    red, text, span = LIMIT[theme], palette.TEXT[theme], (float(lengths[0]), float(lengths[-1]))
    shapes = [level(gpu_bytes, red, width=2)]
    notes = [{"x": 0, "xref": "paper", "xanchor": "left", "y": gpu_bytes, "yanchor": "bottom", "showarrow": False,
              "text": escape(texts["gpu"]), "font": {"color": red}, "bgcolor": _veil(theme)}]
    if longest is not None and span[0] <= longest <= span[1]:
        shapes.append(upright(longest, red, width=1.5, dash="dash"))
        notes.append(_flag(longest, texts["longest"], red, row=0, span=span, theme=theme))
    shapes.append(upright(n_tokens, text, width=1.5, dash="dot"))
    notes.append(_flag(n_tokens, texts["here"], text, row=1, span=span, theme=theme))
    most = max(float(total.max(initial=0)), float(gpu_bytes))
    return figure_of(traces, _layout(x=texts["tokens"], most=most, theme=theme, room=1.3)
                     | {"shapes": shapes, "annotations": notes})


def variants(names: Sequence[str], values: np.ndarray, *, own: int, theme: palette.Theme = "light") -> go.Figure:
    """Bytes under several kinds of attention as bars, the model's own filled.

    Args:
        names: of the kinds, top first.
        values: (n,) bytes.
        own: index of the model's own.
    """
    place, colour = np.arange(len(names)), COLOURS["cache"][theme]
    return figure_of({
        "type": "bar", "x": values.astype(float), "y": place, "orientation": "h",
        "text": [readable_bytes(value) for value in values], "textposition": "outside", "cliponaxis": False,
        "hoverinfo": "skip", "marker": {"color": [colour if index == own else _faint(colour) for index in place],
                                        "line": {"width": 1, "color": colour}},
    }, bare_layout(title="", theme=theme) | {
        "margin": {"l": names_room(names), "r": 70, "t": 8, "b": 8}, "height": 24 + 38 * len(names),
        "xaxis": {"visible": False, "range": [0, max(float(values.max(initial=0)), 1.0) * 1.08], "fixedrange": True},
        "yaxis": {"zeroline": False, "range": [len(names) - 0.4, -0.6], "tickmode": "array", "tickvals": place,
                  "ticktext": [escape(name) for name in names], "ticklabelstandoff": 4, "showgrid": False,
                  "fixedrange": True},
    })


def _line(x: np.ndarray, values: np.ndarray, name: str, colour: str, *, width: float = 2, **line: str) -> dict:
    return {"type": "scatter", "x": x, "y": values.astype(float), "name": escape(name), "mode": "lines",
            "customdata": _names(values), "hovertemplate": "%{customdata}",
            "line": {"color": colour, "width": width, "dash": "solid", **line}}


def _names(values: np.ndarray) -> list[str]:
    return [readable_bytes(value) if value == value else "" for value in values.tolist()]


def _layout(*, x: str, most: float | None, theme: palette.Theme, room: float = 1.05) -> dict:
    axis = {"zeroline": False, "gridcolor": _GRID[theme], "ticklabelstandoff": 4}
    y = {**axis, "rangemode": "tozero"}
    if most is not None:
        places, names = byte_ticks(most)
        y |= {"tickmode": "array", "tickvals": places, "ticktext": names, "range": [0, max(most * room, 1.0)]}
    return bare_layout(title="", theme=theme) | {
        "margin": {"l": 84, "r": RIGHT, "t": 40, "b": 48}, "showlegend": True, "height": HEIGHT,
        "hovermode": "x unified", "yaxis": y,
        "xaxis": {**axis, "title": axis_name(x, standoff=8), "tickformat": ",d"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
    }


def _flag(x: float, text: str, colour: str, *, row: int, span: tuple[float, float], theme: palette.Theme) -> dict:
    """A note at the top of a vertical line, on the side where there is room."""
    right = x <= span[0] + 0.55 * (span[1] - span[0])
    return {"x": x, "y": 1, "yref": "paper", "yanchor": "top", "yshift": -2 - 22 * row, "showarrow": False,
            "xanchor": "left" if right else "right", "xshift": 4 if right else -4, "text": escape(text),
            "font": {"color": colour}, "bgcolor": _veil(theme)}


def _veil(theme: palette.Theme) -> str:
    """The page's background, half seen through, behind notes that lie on colour."""
    red, green, blue = palette.hex_to_rgb(palette.BACKGROUND[theme])
    return f"rgba({red},{green},{blue},0.8)"


def _faint(colour: str) -> str:
    red, green, blue = palette.hex_to_rgb(colour)
    return f"rgba({red},{green},{blue},0.18)"
