"""The norms' figures: the frame lies on the averaged band, marks carry their numbers, text stays text."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pages.figures import normalization as figures
from pages.figures import palette

VALUES = np.arange(24, dtype=float).reshape(4, 6) - 12
TEXTS = {"token": "token", "feature": "feature", "value": "value", "mean": "mean", "variance": "variance"}
HOSTILE = "<b>x</b>&amp;"


def band(**rest):
    given = {"labels": ["我", "a", "b", HOSTILE], "first_feature": 10, "breaks": (2,), "limit": 3.0, "texts": TEXTS}
    return figures.band(VALUES, **given | rest)


def frames(figure):
    return [shape for shape in figure.layout.shapes if shape.type == "rect"]


def test_the_frame_lies_on_the_token_or_on_the_feature():
    under, row = frames(band(row=1))
    assert (row.x0, row.x1, row.y0, row.y1) == (9.5, 15.5, 0.5, 1.5)
    _, column = frames(band(column=12))
    assert (column.x0, column.x1, column.y0, column.y1) == (11.5, 12.5, -0.5, 3.5)
    assert (under.x0, under.x1, under.y0, under.y1) == (row.x0, row.x1, row.y0, row.y1)
    assert under.line.width > row.line.width, "one is apart from any cell: not so the orange of +limit"
    assert (under.line.color, row.line.color) == (palette.BACKGROUND["light"], palette.TEXT["light"])
    assert frames(band()) == []
    assert [shape.y0 for shape in band().layout.shapes] == [1.5], "a line between two sentences"


def test_the_picture_carries_the_values_with_zero_in_the_middle():
    heatmap = band().data[0]
    np.testing.assert_array_equal(heatmap.z, VALUES.astype(np.float32))
    assert (heatmap.zmin, heatmap.zmax) == (-3, 3)
    np.testing.assert_array_equal(heatmap.x, np.arange(10, 16))


def test_moments_stand_where_they_belong():
    groups = {"before": (np.array([1.0, 2.0]), np.array([4.0, 0.0])), "LayerNorm": (np.zeros(2), np.ones(2))}
    figure = figures.moments(groups, labels=["a", HOSTILE], texts=TEXTS)
    assert [trace.name for trace in figure.data] == ["before", "LayerNorm"]
    np.testing.assert_array_equal(figure.data[0].x, [1, 2])
    assert figure.data[0].y[1] > 0, "a logarithmic axis holds no zero"
    assert len({trace.marker.symbol for trace in figure.data}) == 2
    assert figure.layout.yaxis.type == "log"
    near = figures.moments({"before": (np.zeros(2), np.array([0.15, 30.0]))}, labels=["a", "b"], texts=TEXTS)
    for axis in (figure.layout.yaxis, near.layout.yaxis):
        # By default Plotly writes 0.2 and 2 alike, as "2".
        assert axis.dtick == 2 and axis.exponentformat == "power" or [*map(float, axis.ticktext)] == [*axis.tickvals]
    assert {"0.2", "0.5", "1", "2", "5", "10"} <= set(near.layout.yaxis.ticktext)


def test_bars_are_as_high_as_the_change():
    figure = figures.changes(["a", "b"], {"LayerNorm": np.zeros(2), "BatchNorm": np.array([0.5, 2.0])}, y_name="change")
    assert figure.data[0].y.max() == 0 and list(figure.data[0].text) == ["0", "0"]
    np.testing.assert_array_equal(figure.data[1].y, [0.5, 2.0])
    assert list(figure.data[1].text) == ["0.50", "2.00"], "as many digits as in the sentence above"
    assert figure.layout.yaxis.range[1] > 2
    nothing = figures.changes(["a"], {"LayerNorm": np.zeros(1), "BatchNorm": np.zeros(1)}, y_name="change")
    assert nothing.layout.yaxis.range[1] == 1


def test_power_laws_are_drawn_on_logarithmic_axes_without_zeros():
    figure = figures.falls(np.array([1, 2, 4]), {"a": np.array([1.0, 0.5, 0.0])}, x_name="x", y_name="y")
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    assert np.isnan(figure.data[0].y[2])
    layers = figures.by_layer({"a": np.array([1e-9, 1.0]), "b": np.array([1e3, 2.0])}, first=0, x_name="x", y_name="y")
    np.testing.assert_array_equal(layers.data[0].x, [0, 1])
    assert layers.layout.yaxis.dtick == 2, "twelve decades, six ticks"
    assert figure.layout.yaxis.ticktext[:3] == ("0.1", "0.2", "0.5")


def test_losses_keep_the_whole_run_and_the_level_of_guessing():
    series = {"a": np.array([2.7, np.nan]), "b": np.array([2.7, 1.0])}
    figure = figures.losses(np.array([1, 2]), series, chance=(2.77, "guessing"), n_steps=40, x_name="x", y_name="y")
    assert tuple(figure.layout.xaxis.range) == (0, 40)
    assert figure.layout.shapes[0].y0 == 2.77 and figure.layout.annotations[0].text == "guessing"
    assert len({trace.line.dash for trace in figure.data}) == 2


@pytest.mark.parametrize("theme", palette.THEMES)
def test_text_is_escaped_and_equal_arrays_give_equal_json(theme):
    def drawn():
        hostile = dict.fromkeys(TEXTS, HOSTILE)
        return [
            band(theme=theme, texts=hostile, row=0),
            figures.moments({HOSTILE: (np.zeros(1), np.ones(1))}, labels=[HOSTILE], texts=hostile, theme=theme),
            figures.changes([HOSTILE], {HOSTILE: np.ones(1)}, y_name=HOSTILE, theme=theme),
            figures.falls(np.array([1, 2]), {HOSTILE: np.ones(2)}, x_name=HOSTILE, y_name=HOSTILE, theme=theme),
            figures.losses(np.array([1]), {HOSTILE: np.ones(1)}, chance=(1.0, HOSTILE), n_steps=2, x_name=HOSTILE,
                           y_name=HOSTILE, theme=theme),
        ]

    first, second = ([figure.to_json() for figure in drawn()] for _ in range(2))
    assert first == second
    for text in first:
        assert "<b>" not in json.dumps(json.loads(text), ensure_ascii=False)
