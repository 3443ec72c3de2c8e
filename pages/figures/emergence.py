"""A question over the model's training: where each head looked, and what taking B away cost, snapshot by snapshot.

Snapshots stand at equal distances, in the order of training: most happens in its first steps. It knows numbers and
display strings, not models or the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from pages.figures import palette
from pages.figures.evidence import GREY, LEGEND, SECOND, order_heads
from pages.figures.frame import axis_name, bare_layout, colour_bar, escape
from pages.figures.whole import figure_of

_HEIGHT = 430


def looks(masses: np.ndarray, *, steps: Sequence[str], texts: Mapping[str, str],
          theme: palette.Theme = "light") -> go.Figure:
    """Mass from A to B, a row a head, a column a snapshot; the heads strongest at the end, strongest first.

    Args:
        masses: (n_snapshots, n_layers, n_heads) float in [0, 1].
        steps: n_snapshots display strings.
        texts: `mass`, `step`.
    """
    heads = order_heads(masses[-1], np.ones(masses.shape[1:], bool))
    values = np.stack([masses[:, layer, head] for layer, head in heads])
    y, x = np.indices(values.shape)
    cells = palette.weight_colours(theme)[palette.weights_to_bytes(values.ravel())]
    layout = _layout(steps, texts["step"], theme, x_axis={"side": "top"}, y_axis={
        "tickmode": "array", "tickvals": np.arange(len(heads)), "autorange": "reversed", "showgrid": False,
        "ticktext": [f"L{layer} H{head}" for layer, head in heads]})
    return figure_of([
        {"type": "heatmap", "z": values, "zmin": 0, "zmax": 1, "colorscale": palette.plotly_weight_scale(theme),
         "colorbar": colour_bar(texts["mass"]), "xgap": 1, "ygap": 1,
         "hovertemplate": f"%{{y}}<br>{escape(texts['step'])} %{{x}}<br>{escape(texts['mass'])} %{{z:.4f}}"
                          "<extra></extra>"},
        {"type": "scatter", "x": x.ravel(), "y": y.ravel(), "mode": "text", "hoverinfo": "skip", "showlegend": False,
         "text": np.char.mod("%.2f", values).ravel(), "textfont": {"size": 11, "color": palette.ink_on(cells)}},
    ], layout | {"margin": {"l": 64, "r": 8, "t": 44, "b": 76, "pad": 0}})


def losses(*, hide: np.ndarray, hide_control: np.ndarray, cut: np.ndarray, cut_control: np.ndarray,
           steps: Sequence[str], texts: Mapping[str, str], theme: palette.Theme = "light") -> go.Figure:
    """What the output lost at each snapshot, beside what the other words' cuts cost it.

    Args:
        hide, cut: (n_snapshots,) Δ, nats, after − before: B hidden from everyone; the edge A→B cut.
        hide_control, cut_control: (n_snapshots,) median |Δ| of the same done to the other words; NaN leaves no line.
        steps: n_snapshots display strings.
        texts: `hide`, `cut`, `hide_control`, `cut_control`, `delta` (the axis), `step`.
    """
    at, traces = np.arange(len(steps)), []
    drawn = (("hide", hide, 1, palette.ACCENT, "circle"), ("cut", cut, 1, SECOND, "diamond"),
             ("hide_control", hide_control, -1, palette.ACCENT, ""), ("cut_control", cut_control, -1, SECOND, ""))
    for name, values, sign, colour, symbol in drawn:
        style = {"mode": "lines+markers", "marker": {"size": 8, "symbol": symbol}} if symbol else {"mode": "lines"}
        traces.append({
            "type": "scatter", "x": at, "y": sign * np.asarray(values, dtype=float), "name": escape(texts[name]),
            "line": {"color": colour[theme], "width": 2.2 if symbol else 1.6, "dash": "solid" if symbol else "dot"},
            "hovertemplate": f"{escape(texts['step'])} %{{x}}<br>{escape(texts[name])} %{{y:+.3f}}<extra></extra>",
            **style})
    layout = _layout(steps, texts["step"], theme, y_axis={
        "title": axis_name(texts["delta"], standoff=10),
        "gridcolor": "rgba(128,128,128,0.18)", "zeroline": True, "zerolinecolor": GREY[theme], "zerolinewidth": 1})
    return figure_of(traces, layout | {"showlegend": True, "legend": LEGEND,
                                       "margin": {"l": 64, "r": 12, "t": 64, "b": 52, "pad": 0}})


def _layout(steps: Sequence[str], name: str, theme: palette.Theme, *, y_axis: dict,
            x_axis: dict | None = None) -> dict:
    axis = {"zeroline": False, "fixedrange": True}
    return bare_layout(title="", theme=theme) | {
        "height": _HEIGHT,
        "xaxis": {**axis, "showgrid": False, "tickmode": "array", "tickvals": np.arange(len(steps)), "tickangle": 0,
                  "ticktext": [escape(step) for step in steps], "tickfont": {"size": 11},
                  "range": [-0.5, len(steps) - 0.5],
                  "title": axis_name(name, standoff=6), **(x_axis or {})},
        "yaxis": {**axis, **y_axis},
    }
