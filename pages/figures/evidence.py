"""Pictures of evidence: four answers, each with its baseline in it, maps over heads, and rank correlations.

It knows arrays and display strings, and returns Plotly figures; equal arrays
give equal JSON. B's marks are in the accent colour, what they are compared with
in grey. It does not know models, verdicts, or the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from pages.figures import palette
from pages.figures.frame import (
    BAR,
    axis_name,
    bare_layout,
    colour_bar,
    escape,
    isolate,
    names_room,
    shorten,
    upright,
    written,
)
from pages.figures.whole import figure_of

#: Heads drawn by `head_masses`; the rest is counted by the page.
MOST_HEADS = 14
#: Most numbers written into a map's cells.
MOST_NUMBERS = 96
#: What B is compared with.
GREY = {"light": "#8a919e", "dark": "#8b93a1"}
#: The second of two measures that stand side by side.
SECOND = {"light": "#2f5bb7", "dark": "#7fa6f8"}

#: One row above the picture; a click hides nothing.
LEGEND = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "font": {"size": 12},
          "itemclick": False, "itemdoubleclick": False}

#: Half-width columns of a row's label; a longer one is cut.
ROW_COLUMNS = 30

_ROW = 25


@dataclass(frozen=True)
class Together:
    """Several heads taken as one: their mean mass and its baselines, and whether they attend."""

    label: str
    mass: float
    uniform: float
    offset: float
    attend: bool


def order_heads(mass: np.ndarray, attending: np.ndarray) -> list[tuple[int, int]]:
    """(layer, head) of the heads that `head_masses` draws: attending ones first, then by mass, at most MOST_HEADS."""
    flat = np.lexsort((-mass.ravel(), ~attending.ravel()))[:MOST_HEADS]
    return [tuple(int(part) for part in np.unravel_index(at, mass.shape)) for at in flat]


def head_masses(
    mass: np.ndarray,
    *,
    uniform: np.ndarray,
    offset: np.ndarray,
    swap: np.ndarray,
    attending: np.ndarray,
    together: Together | None = None,
    texts: Mapping[str, str],
    theme: palette.Theme = "light",
) -> go.Figure:
    """Mass from A to B, a row a head, beside three baselines of the same head.

    Args:
        mass, uniform, offset, swap: (n_layers, n_heads) float; NaN baselines leave no mark.
        attending: (n_layers, n_heads) bool; those heads' bars are filled, the others' hollow.
        together: several heads as one, drawn as the last row; None for none.
        texts: `mass`, `uniform`, `offset`, `swap`.
    """
    heads = order_heads(mass, attending)
    labels, filled = [f"L{layer} H{head}" for layer, head in heads], [bool(attending[at]) for at in heads]
    picked = {name: [float(values[at]) for at in heads]
              for name, values in (("mass", mass), ("uniform", uniform), ("offset", offset), ("swap", swap))}
    if together is not None:
        labels.append(together.label)
        filled.append(together.attend)
        for name, value in (("mass", together.mass), ("uniform", together.uniform), ("offset", together.offset),
                            ("swap", np.nan)):
            picked[name].append(value)
    rows = np.arange(len(labels))
    picked = {name: np.array(values) for name, values in picked.items()}
    fills = [palette.ACCENT[theme] if fill else "rgba(0,0,0,0)" for fill in filled]
    traces = [{
        "type": "bar", "x": picked["mass"], "y": rows, "orientation": "h", "name": escape(texts["mass"]), "width": 0.62,
        "marker": {"color": fills, "line": {"width": 1.4, "color": palette.ACCENT[theme]}},
        "hovertemplate": f"%{{y}}<br>{escape(texts['mass'])} %{{x:.4f}}<extra></extra>",
    }]
    marks = (("uniform", "line-ns-open", 15, 2), ("offset", "diamond", 10, 1), ("swap", "x-thin-open", 9, 2))
    for name, symbol, size, line in marks:
        traces.append({
            "type": "scatter", "x": picked[name], "y": rows, "mode": "markers", "name": escape(texts[name]),
            "marker": {"symbol": symbol, "size": size, "color": palette.TEXT[theme],
                       "line": {"width": line, "color": palette.BACKGROUND[theme] if name == "offset"
                                else palette.TEXT[theme]}},
            "hovertemplate": f"%{{y}}<br>{escape(texts[name])} %{{x:.4f}}<extra></extra>",
        })
    top = max(0.05, *(float(values[np.isfinite(values)].max(initial=0.0)) for values in picked.values()))
    return figure_of(traces, _rows_layout(labels, theme=theme, x_axis={"range": [0, min(1.02, 1.15 * top)]}))


def word_flows(
    words: Sequence[str],
    *,
    rollout: np.ndarray,
    value: np.ndarray,
    key: int | None,
    rollout_uniform: float,
    value_uniform: float,
    texts: Mapping[str, str],
    theme: palette.Theme = "light",
) -> go.Figure:
    """How much of each word could reach A: rollout and value-weighted share, a row a word.

    Args:
        words: display strings, n_words of them.
        rollout, value: (n_words,) float.
        key: index of B, whose row is marked and carries the uniform baselines; None for none.
        rollout_uniform, value_uniform: what uniform heads would give to B.
        texts: `rollout`, `value`, `uniform`.
    """
    traces = _paired_bars(words, (("rollout", rollout), ("value", value)), key=key, texts=texts, theme=theme,
                          number=".4f")
    if key is not None:
        traces.append({
            "type": "scatter", "x": [rollout_uniform, value_uniform], "y": [key - 0.19, key + 0.19], "mode": "markers",
            "name": escape(texts["uniform"]),
            "marker": {"symbol": "line-ns-open", "size": 13, "color": palette.TEXT[theme], "line": {"width": 2}},
            "hovertemplate": f"{escape(texts['uniform'])} %{{x:.4f}}<extra></extra>",
        })
    return figure_of(traces, _rows_layout(words, theme=theme, x_axis={"rangemode": "tozero"}, bold=key, row=36))


def word_effects(
    words: Sequence[str],
    *,
    cut: np.ndarray,
    hide: np.ndarray,
    key: int | None,
    texts: Mapping[str, str],
    theme: palette.Theme = "light",
) -> go.Figure:
    """What the output loses when an edge is cut or a word hidden, a row a word: B beside every other word.

    Args:
        words: display strings, n_words of them.
        cut, hide: (n_words,) Δ log-probability, nats; NaN leaves no bar.
        key: index of B.
        texts: `cut`, `hide`, `delta` (the axis).
    """
    traces = _paired_bars(words, (("cut", cut), ("hide", hide)), key=key, texts=texts, theme=theme, number="+.4f")
    return figure_of(traces, _rows_layout(
        words, theme=theme, x_axis={"title": axis_name(texts["delta"])}, shapes=[_zero_line(theme)], bold=key,
        row=36))


def layer_effects(
    effects: np.ndarray,
    *,
    everywhere: float,
    control: float,
    texts: Mapping[str, str],
    theme: palette.Theme = "light",
) -> go.Figure:
    """The cut in one layer at a time and in all of them, with the controls' median size as a band around zero.

    Args:
        effects: (n_layers,) Δ log-probability, nats.
        everywhere: the same of all layers at once.
        control: median |Δ| of the same cut, all layers, to the other words; NaN, without any, draws no band.
        texts: `layer` with `{layer}`, `everywhere`, `control`, `delta`.
    """
    labels = [texts["layer"].format(layer=layer) for layer in range(len(effects))] + [texts["everywhere"]]
    values = np.append(np.asarray(effects, dtype=float), everywhere)
    traces, shapes = [{
        "type": "bar", "x": values, "y": np.arange(len(values)), "orientation": "h", "width": 0.6,
        "name": escape(texts["delta"]), "showlegend": False,
        "marker": {"color": palette.ACCENT[theme], "opacity": [0.6] * len(effects) + [1.0]},
        "text": [written(value, "+.3f") for value in values], "textposition": "outside", "cliponaxis": False,
        "hovertemplate": "%{y}<br>%{x:+.4f}<extra></extra>",
    }], [_zero_line(theme)]
    band = 0.0 if np.isnan(control) else control
    if not np.isnan(control):
        shapes.insert(0, {"type": "rect", "x0": -band, "x1": band, "y0": 0, "y1": 1, "yref": "paper",
                          "fillcolor": GREY[theme], "opacity": 0.25, "line": {"width": 0}, "layer": "below"})
        # A shape has no entry in the legend; an empty trace lends it one.
        traces.append({"type": "scatter", "x": [None], "y": [None], "mode": "markers", "name": escape(texts["control"]),
                       "marker": {"symbol": "square", "size": 11, "color": GREY[theme], "opacity": 0.5}})
    low, high = min(-band, float(np.nanmin(values))), max(band, float(np.nanmax(values)))
    room = 0.28 * max(high - low, 1e-3)
    x_axis = {"range": [low - room, high + room], "title": axis_name(texts["delta"])}
    return figure_of(traces, _rows_layout(labels, theme=theme, x_axis=x_axis, shapes=shapes))


def replacement_effects(
    labels: Sequence[str],
    *,
    deltas: np.ndarray,
    changed: Sequence[bool | None],
    texts: Mapping[str, str],
    theme: palette.Theme = "light",
) -> go.Figure:
    """B replaced: Δ log-probability of the measured output, a row a sentence, beside the original's zero.

    Args:
        labels: display strings, the original's first.
        deltas: (n,) nats; the first is the original's 0.
        changed: for each, whether the output changed; None where none was written.
        texts: `changed`, `kept`, `baseline`, `delta`.
    """
    traces, rows, values = [], np.arange(len(labels)), np.asarray(deltas, dtype=float)
    groups = (("changed", True, palette.ACCENT[theme]), ("kept", False, SECOND[theme]), ("baseline", None, GREY[theme]))
    for name, state, colour in groups:
        here = [at for at in rows if changed[at] is state]
        if here:
            traces.append({
                "type": "bar", "x": values[here], "y": here, "orientation": "h", "width": 0.6,
                "name": escape(texts[name]), "marker": {"color": colour},
                "text": [written(value, "+.2f") for value in values[here]], "textposition": "outside",
                "cliponaxis": False, "hovertemplate": "%{y}<br>%{x:+.4f}<extra></extra>",
            })
    low, high = min(0.0, float(np.nanmin(deltas))), max(0.0, float(np.nanmax(deltas)))
    room = 0.22 * max(high - low, 1e-3)
    x_axis = {"range": [low - room, high + room], "title": axis_name(texts["delta"])}
    return figure_of(traces, _rows_layout(labels, theme=theme, x_axis=x_axis, shapes=[_zero_line(theme)], bold=0))


def head_map(
    values: np.ndarray,
    *,
    texts: Mapping[str, str],
    title: str = "",
    limit: float | None = None,
    outlined: np.ndarray | None = None,
    theme: palette.Theme = "light",
) -> go.Figure:
    """A signed number for each head, layers downwards: 0 has the page's colour, the two signs have a hue each.

    Args:
        values: (n_layers, n_heads) float; NaN grey.
        texts: `layer`, `head`, `value`.
        limit: the value of the strongest colour; None takes the largest |value|.
        outlined: (n_layers, n_heads) bool, heads to frame.
    """
    traces, layout = _matrix(
        values, rows=[str(at) for at in range(values.shape[0])], columns=[str(at) for at in range(values.shape[1])],
        limit=limit or _largest(values), title=title, bar=texts["value"], theme=theme,
        hover=f"{escape(texts['layer'])} %{{y}}, {escape(texts['head'])} %{{x}}<br>%{{z:+.4f}}<extra></extra>",
    )
    layout["xaxis"]["title"] = axis_name(texts["head"], standoff=4)
    layout["yaxis"]["title"] = axis_name(texts["layer"], standoff=4)
    layout["shapes"] = [
        {"type": "rect", "x0": head - 0.47, "x1": head + 0.47, "y0": layer - 0.47, "y1": layer + 0.47,
         "line": {"color": palette.ACCENT[theme], "width": 2.5}}
        for layer, head in (np.argwhere(outlined) if outlined is not None else ())]
    return figure_of(traces, layout)


def correlation_table(
    spearman: np.ndarray,
    *,
    kendall: np.ndarray,
    names: Sequence[str],
    title: str = "",
    bar: str,
    theme: palette.Theme = "light",
) -> go.Figure:
    """Rank correlations of every pair of measures: Spearman in the cells, Kendall's tau-b in the hover.

    Args:
        spearman, kendall: (n_measures, n_measures) float64; NaN grey.
        names: of the measures.
        bar: what the colour means.
    """
    # Columns carry the rows' numbers: whole names would stand aslant, the last one outside the picture.
    numbers = [str(number) for number in range(1, len(names) + 1)]
    rows = [f"{number} · {name}" for number, name in zip(numbers, names, strict=True)]
    extra = np.empty((*kendall.shape, 2), dtype=object)
    extra[..., 0], extra[..., 1] = kendall, [escape(name) for name in names]
    return figure_of(*_matrix(
        spearman, rows=rows, columns=numbers, limit=1.0, title=title, bar=bar, theme=theme, digits=2, extra=extra,
        hover="%{y} · %{customdata[1]}<br>ρ = %{z:+.3f}, τ = %{customdata[0]:+.3f}<extra></extra>",
    ))


def _paired_bars(words: Sequence[str], measures: Sequence[tuple[str, np.ndarray]], *, key: int | None,
                 texts: Mapping[str, str], theme: palette.Theme, number: str) -> list[dict]:
    """Two measures of each word as bars above each other; B's are solid, the other words' pale."""
    rows = np.arange(len(words))
    pale = [1.0 if at == key else 0.45 for at in rows]
    styles = zip(measures, (palette.ACCENT[theme], SECOND[theme]), (-0.19, 0.19), strict=True)
    return [{
        "type": "bar", "x": np.asarray(values, dtype=float), "y": rows + shift, "orientation": "h",
        "name": escape(texts[name]), "width": 0.36, "text": [escape(word) for word in words], "textposition": "none",
        "marker": {"color": colour, "opacity": pale},
        "hovertemplate": f"%{{text}}<br>{escape(texts[name])} %{{x:{number}}}<extra></extra>",
    } for (name, values), colour, shift in styles]


def _matrix(values: np.ndarray, *, rows: Sequence[str], columns: Sequence[str], limit: float, title: str, bar: str,
            theme: palette.Theme, hover: str, digits: int = 3,
            extra: np.ndarray | None = None) -> tuple[list[dict], dict]:
    traces = [{
        "type": "heatmap", "z": np.asarray(values, dtype=float), "x": np.arange(len(columns)),
        "y": np.arange(len(rows)), "customdata": extra, "zmin": -limit, "zmax": limit,
        "colorscale": palette.plotly_difference_scale(theme), "colorbar": colour_bar(bar),
        "xgap": 1, "ygap": 1, "hoverongaps": False, "hovertemplate": hover,
    }]
    if values.size <= MOST_NUMBERS:
        # In a trace of its own, because a heatmap's numbers are of two greys that half-strong cells swallow.
        numbers = ["" if np.isnan(value) else written(value, f"+.{digits}f") for value in values.ravel()]
        cells = palette.difference_colours(theme)[palette.differences_to_bytes(values.ravel(), limit=limit)]
        y, x = np.indices(values.shape)
        traces.append({
            "type": "scatter", "x": x.ravel(), "y": y.ravel(), "mode": "text",
            "text": numbers,
            "textfont": {"size": 11, "color": palette.ink_on(cells)}, "hoverinfo": "skip", "showlegend": False})
    plain = {"showgrid": False, "zeroline": False, "ticks": "", "automargin": True, "tickmode": "array",
             "fixedrange": True}
    cell = max(14, min(34, 480 // max(1, len(rows))))
    return traces, bare_layout(title=title, theme=theme) | {
        "xaxis": {**plain, "tickvals": np.arange(len(columns)), "side": "top",
                  "ticktext": [escape(shorten(name, 26)) for name in columns]},
        "yaxis": {**plain, "tickvals": np.arange(len(rows)), "ticktext": [escape(shorten(name, 30)) for name in rows],
                  "ticklabelstandoff": 4, "autorange": "reversed"},
        "margin": {"l": names_room(rows) + 20, "r": 8, "t": 84 if title else 40, "b": BAR, "pad": 0},
        "height": int(cell * len(rows) + 150 + (36 if title else 0)),
        "plot_bgcolor": palette.MASKED[theme] if np.isnan(values).any() else "rgba(0,0,0,0)",
    }


def _largest(values: np.ndarray) -> float:
    # Where nothing differs a scale still needs two ends.
    return (float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0) or 1.0


def _zero_line(theme: palette.Theme) -> dict:
    return upright(0, palette.TEXT[theme], width=1)


def _rows_layout(labels: Sequence[str], *, theme: palette.Theme, x_axis: dict, shapes: Sequence[dict] = (),
                 bold: int | None = None, row: int = _ROW) -> dict:
    names = [shorten(label, ROW_COLUMNS) for label in labels]
    ticks = [isolate(escape(name)) for name in names]
    if bold is not None and bold < len(ticks):
        ticks[bold] = f"<b>{ticks[bold]}</b>"
    return bare_layout(title="", theme=theme) | {
        "showlegend": True, "barmode": "overlay", "legend": LEGEND, "shapes": shapes,
        "margin": {"l": names_room(names), "r": 16, "t": 44, "b": 44, "pad": 4},
        "height": 100 + row * max(2, len(labels)),
        "xaxis": {"zeroline": False, "gridcolor": "rgba(128,128,128,0.18)", "fixedrange": True, **x_axis},
        "yaxis": {"tickmode": "array", "tickvals": np.arange(len(labels)), "ticktext": ticks,
                  "range": [len(labels) - 0.5, -0.5], "showgrid": False, "zeroline": False, "fixedrange": True},
    }
