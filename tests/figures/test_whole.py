"""Figures as they are handed on: no template, lists for arrays, and nothing that Plotly takes for a change."""

from __future__ import annotations

import base64
import copy
import json

import numpy as np
import plotly.graph_objects as go
import pytest

from pages.figures.whole import LONGEST_LIST, figure_of

TRACE = {"type": "scatter", "x": np.arange(3), "y": np.array([0.5, np.nan, 2], np.float32),
         "marker": {"color": np.array([1, 2, 3], np.uint8)}}
LAYOUT = {"xaxis": {"tickvals": np.arange(3), "automargin": True}, "yaxis2": {"side": "right"}, "height": 200}


def test_a_figure_has_its_numbers_as_lists_and_no_template():
    spec = json.loads(figure_of(TRACE, LAYOUT).to_json())
    (trace,), layout = spec["data"], spec["layout"]
    assert (trace["x"], trace["y"], trace["marker"]["color"]) == ([0, 1, 2], [0.5, None, 2.0], [1, 2, 3])
    assert layout["xaxis"]["tickvals"] == [0, 1, 2] and "template" not in layout
    assert "bdata" not in json.dumps(spec)


def test_what_every_figure_has_gives_way_to_its_own():
    layout = figure_of([TRACE], LAYOUT).layout
    assert (layout.xaxis.automargin, layout.yaxis.automargin, layout.yaxis2.automargin) == (True, False, False)
    assert layout.autotypenumbers == "strict" and layout.height == 200
    assert LAYOUT["yaxis2"] == {"side": "right"}, "what was handed in stays as it was"


@pytest.mark.parametrize("shape", [(100, 100), (101, 100)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_a_long_array_is_sent_as_bytes_of_the_same_numbers(shape, dtype):
    numbers = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    (trace,) = json.loads(figure_of({"type": "heatmap", "z": numbers}, {}).to_json())["data"]
    long = numbers.size > LONGEST_LIST
    assert isinstance(trace["z"], list) is not long
    found = _read(trace["z"]) if long else np.array(trace["z"])
    np.testing.assert_array_equal(found, numbers)


def _read(sent: dict) -> np.ndarray:
    """Numbers as Plotly reads them from bytes."""
    shape = [int(length) for length in sent["shape"].split(",")]
    return np.frombuffer(base64.b64decode(sent["bdata"]), dtype=sent["dtype"]).reshape(shape)


def test_the_figure_itself_keeps_its_arrays():
    figure = figure_of(TRACE, LAYOUT)
    figure.to_json()
    assert figure.data[0].y.dtype == np.float32 and figure.data[0].y.shape == (3,)


def test_what_is_handed_on_is_the_same_before_and_after_plotly_has_read_it():
    unread, read = figure_of(TRACE, LAYOUT), figure_of(TRACE, LAYOUT)
    assert len(read.data) == 1 and read.layout.height == 200
    assert json.loads(unread.to_json()) == json.loads(read.to_json())


def test_a_figure_is_a_plotly_figure():
    figure = figure_of(TRACE, LAYOUT)
    figure.update_layout(height=300)
    figure.add_trace(TRACE)
    assert isinstance(figure, go.Figure) and figure.layout.height == 300 and len(figure.data) == 2
    assert copy.deepcopy(figure).to_json() == figure.to_json()
    assert not hasattr(figure, "nothing")


@pytest.mark.parametrize("bad", [({"type": "scatter", "colour": "red"}, {}), ({"type": "scatter"}, {"hight": 3})])
def test_plotly_refuses_what_it_does_not_know_on_reading(bad):
    with pytest.raises(ValueError, match="Invalid property"):
        assert figure_of(*bad).data
