"""Small pictures side by side in one figure: Streamlit makes each changed figure anew, some 30 ms of a browser's time.

It knows Plotly's axes. It does not know what the pictures show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from pages.figures.whole import figure_of

#: Between two pictures, as a share of the figure's width: room for the right one's tick labels and axis title.
GAP = 0.1


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture on a pair of axes.

    Attributes:
        traces: as Plotly takes them, without axes.
        layout: as Plotly takes it, with `xaxis` and `yaxis`; its shapes and annotations stand on these, or with
            `yref` "paper" on the height of the picture.
    """

    traces: Sequence[dict]
    layout: dict


def beside(*panels: Panel) -> go.Figure:
    """One figure of all panels, from left to right, each with its own axes.

    Margins, height and legend are the first one's; traces of one name stand in the legend once.
    """
    width = (1 - GAP * (len(panels) - 1)) / len(panels)
    traces, shapes, notes, axes, named = [], [], [], {}, set()
    for at, panel in enumerate(panels):
        number = str(at + 1) if at else ""
        x, y = f"x{number}", f"y{number}"
        for trace in panel.traces:
            name = trace.get("name")
            shown = trace.get("showlegend", True) and name not in named
            traces.append({**trace, "xaxis": x, "yaxis": y, "showlegend": shown})
            named.add(name)
        left = at * (width + GAP)
        axes[f"xaxis{number}"] = {**panel.layout["xaxis"], "domain": [left, left + width], "anchor": y}
        axes[f"yaxis{number}"] = {**panel.layout["yaxis"], "anchor": x}
        for kept, drawn in ((shapes, "shapes"), (notes, "annotations")):
            kept += [{**one, "xref": x, "yref": f"{y} domain" if one.get("yref") == "paper" else y}
                     for one in panel.layout.get(drawn, ())]
    return figure_of(traces, {**panels[0].layout, **axes, "shapes": shapes, "annotations": notes})
