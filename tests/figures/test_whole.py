"""Figures as they are handed on: no template, lists for arrays, and nothing that Plotly takes for a change."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pages.figures.whole import LONGEST_LIST, figure_of

TRACE = {"type": "scatter", "x": np.arange(3), "y": np.array([0.5, np.nan, 2], np.float32),
         "marker": {"color": np.array([1, 2, 3], np.uint8)}}
LAYOUT = {"xaxis": {"tickvals": np.arange(3), "automargin": False}, "yaxis2": {"side": "right"}, "height": 200}


def test_a_figure_has_its_numbers_as_lists_and_no_template():
    spec = json.loads(figure_of(TRACE, LAYOUT).to_json())
    (trace,), layout = spec["data"], spec["layout"]
    assert (trace["x"], trace["y"], trace["marker"]["color"]) == ([0, 1, 2], [0.5, None, 2.0], [1, 2, 3])
    assert layout["xaxis"]["tickvals"] == [0, 1, 2] and "template" not in layout
    assert "bdata" not in json.dumps(spec)


def test_what_every_figure_has_gives_way_to_its_own():
    layout = figure_of([TRACE], LAYOUT).layout
    assert (layout.xaxis.automargin, layout.yaxis.automargin, layout.yaxis2.automargin) == (False, True, True)
    assert layout.autotypenumbers == "strict" and layout.height == 200
    assert LAYOUT["yaxis2"] == {"side": "right"}, "what was handed in stays as it was"


@pytest.mark.parametrize(("size", "listed"), [(LONGEST_LIST, True), (LONGEST_LIST + 1, False)])
def test_a_long_array_is_sent_as_bytes(size, listed):
    x = json.loads(figure_of({"type": "scatter", "x": np.arange(size)}, {}).to_json())["data"][0]["x"]
    assert isinstance(x, list) == listed


def test_the_figure_itself_keeps_its_arrays():
    figure = figure_of(TRACE, LAYOUT)
    figure.to_json()
    assert figure.data[0].y.dtype == np.float32 and figure.data[0].y.shape == (3,)


def test_bytes_and_lists_are_the_same_numbers():
    for array in (np.linspace(0, 1, 12).reshape(3, 4), np.arange(6, dtype=np.int64).reshape(2, 3), np.zeros((0, 3))):
        trace = {"type": "heatmap", "z": array}
        (ours,) = json.loads(figure_of(trace, {}).to_json())["data"]
        assert np.array_equal(np.array(ours["z"]).reshape(array.shape), array)
