"""The home page's small figures carry the numbers they are given."""

from __future__ import annotations

import numpy as np
import pytest

from pages.figures import home


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_bars_show_every_value_and_the_baseline(theme):
    figure = home.bars([0.5, -0.25], labels=["<a>", "b"], baseline=0.2, number="+.2f", theme=theme)
    np.testing.assert_array_equal(figure.data[0].x, [0.5, -0.25])
    assert [note.text for note in figure.layout.annotations] == ["+0.50", "−0.25"]
    assert figure.layout.shapes[0].x0 == 0.2
    low, high = figure.layout.xaxis.range
    assert low < -0.25 and high > 0.5
    assert "&lt;a>" in figure.layout.yaxis.ticktext[0]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_has_no_sign_is_a_band_around_zero(theme):
    figure = home.bars([0.14, -2.74], sizes=[0.09, 0.9], labels=["a", "b"], theme=theme)
    bands = figure.layout.shapes
    assert [(band.x0, band.x1) for band in bands] == [(-0.09, 0.09), (-0.9, 0.9)]
    assert all(band.y0 < at < band.y1 for at, band in enumerate(bands))
    assert figure.data[0].x.tolist() == [0.14, -2.74], "no bar of what has no sign"
    low, high = figure.layout.xaxis.range
    assert low < -2.74 and high > 0.9
    assert not home.bars([0.14], labels=["a"], theme=theme).layout.shapes


def test_what_rounds_to_zero_has_no_sign():
    figure = home.bars([-0.001, 0.004, -0.01], labels=["a", "b", "c"], number="+.2f", theme="light")
    assert figure.data[0].text == ("0.00", "0.00", "−0.01")


def test_all_zero_bars_still_have_a_range():
    low, high = home.bars([0.0, 0.0], labels=["a", "b"], theme="light").layout.xaxis.range
    assert low == 0 and high >= 0


def test_line_carries_its_points_and_limit():
    figure = home.line(np.arange(3), np.arange(3) ** 2, limit=2.5, x_unit="k", y_unit=" GiB", theme="dark")
    np.testing.assert_array_equal(figure.data[0].y, [0, 1, 4])
    assert figure.layout.shapes[0].y0 == 2.5
