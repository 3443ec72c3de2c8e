"""Traces and a layout as the figure that is shown, saved and exported.

It knows how Streamlit's chart and Plotly decide that a figure has changed. It
does not know what a figure shows.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

import numpy as np
import plotly.graph_objects as go

#: Of every axis, where the figure says nothing else. Plotly need not measure the labels, neither to make room for them,
#: which draws the figure twice, nor to hide those that stick out: a third of the time of a small figure. Where labels
#: may stand aslant, for want of width, only `automargin` knows their height.
AXIS = {"automargin": False, "ticklabeloverflow": "allow"}
#: Of every layout. `strict`: a token such as "12" is no number. `datarevision`, `template`: see `Figure`.
LAYOUT = {"autotypenumbers": "strict", "datarevision": 0, "template": "none", "xaxis": {}, "yaxis": {}}
#: An array with more numbers than this is sent as bytes, which are fewer.
LONGEST_LIST = 10_000


class Figure(go.Figure):
    """A figure that a browser draws once.

    Streamlit's chart hands each figure to Plotly twice: as it came, and a
    moment later as a copy. Plotly draws the copy too if it finds anything
    changed, and changed are, whatever they hold: every template, every array
    that came as bytes (as numpy's do), and every list unless the layout has a
    `datarevision`. So what is handed on has no template, lists for arrays,
    and a `datarevision`; the figure itself keeps its arrays.

    Plotly reads and checks a figure's parts when they are first asked for: a
    page only hands them on, and reading is half of what it computes.
    """

    def __getattr__(self, name: str) -> object:
        """Has Plotly read what `figure_of` was given, as soon as anything of it is asked for."""
        unread = self.__dict__.pop("_unread", None)
        if unread is None:
            raise AttributeError(f"A figure has no {name!r}.")
        super().__init__(**unread)
        return getattr(self, name)

    def to_dict(self) -> dict:
        """What is handed on, as Plotly's JSON says it."""
        unread = self.__dict__.get("_unread")
        data = unread["data"] if unread else [trace.to_plotly_json() for trace in self.data]
        layout = unread["layout"] if unread else self.layout.to_plotly_json()
        return {"data": _listed(data), "layout": _listed({name: layout[name] for name in layout if name != "template"})}


def figure_of(traces: Mapping | Iterable[Mapping], layout: Mapping) -> Figure:
    """The figure of `traces`, as Plotly takes them, on `layout`."""
    layout = LAYOUT | dict(layout)
    layout |= {name: AXIS | axis for name, axis in layout.items() if name[1:5] == "axis"}
    figure = Figure.__new__(Figure)
    figure.__dict__["_unread"] = {"data": [traces] if isinstance(traces, Mapping) else [*traces], "layout": layout}
    return figure


def _listed(value: object) -> object:
    """`value` with lists in the place of its arrays, and bytes in the place of long ones."""
    if isinstance(value, Mapping):
        return {name: _listed(part) for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_listed(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray):
        return value
    if value.size <= LONGEST_LIST or value.dtype.kind not in "fiu":
        return value.tolist()
    # JavaScript has no arrays of 64-bit integers that Plotly reads.
    array = value.astype(np.float64) if value.dtype.itemsize == 8 else value
    return {"dtype": array.dtype.str[1:], "bdata": base64.b64encode(array.tobytes()).decode(),
            "shape": ",".join(map(str, array.shape))}
