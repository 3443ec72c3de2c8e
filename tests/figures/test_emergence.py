"""Figures of a question over training: every number lies where its head and its snapshot say."""

from __future__ import annotations

import numpy as np
import pytest

from pages.figures import emergence, palette

STEPS = ("0", "1,100", "<b>11,562</b>")
MASSES = np.random.default_rng(0).uniform(0, 1, (3, 2, 4))
TEXTS = {name: f"<i>{name}</i>" for name in ("mass", "step", "hide", "cut", "hide_control", "cut_control", "delta")}


@pytest.mark.parametrize("theme", palette.THEMES)
def test_looks_are_sorted_by_the_finished_model(theme):
    figure = emergence.looks(MASSES, steps=STEPS, texts=TEXTS, theme=theme)
    heat, numbers = figure.data
    labels = figure.layout.yaxis.ticktext
    assert len(labels) == 8 and list(figure.layout.xaxis.ticktext) == ["0", "1,100", "&lt;b>11,562&lt;/b>"]
    for row, label in enumerate(labels):
        layer, head = int(label[1]), int(label[4])
        np.testing.assert_array_equal(heat.z[row], MASSES[:, layer, head])
    assert (np.diff(np.asarray(heat.z)[:, -1]) <= 0).all() and (heat.zmin, heat.zmax) == (0, 1)
    for x, y, text in zip(numbers.x, numbers.y, numbers.text, strict=True):
        assert text == f"{heat.z[y][x]:.2f}"
    assert "<i>" not in figure.to_json()


def test_losses_stand_below_zero_beside_their_controls():
    hide, cut = np.array([0.0, -1.5, -2.5]), np.array([0.1, -0.2, 0.0])
    figure = emergence.losses(hide=hide, cut=cut, hide_control=np.array([0.0, 0.4, np.nan]),
                              cut_control=np.array([0.0, 0.1, 0.2]), steps=STEPS, texts=TEXTS)
    drawn = {trace.name: np.asarray(trace.y, float) for trace in figure.data}
    np.testing.assert_array_equal(drawn["&lt;i>hide&lt;/i>"], hide)
    np.testing.assert_array_equal(drawn["&lt;i>cut&lt;/i>"], cut)
    np.testing.assert_array_equal(drawn["&lt;i>hide_control&lt;/i>"], [0, -0.4, np.nan])
    np.testing.assert_array_equal(drawn["&lt;i>cut_control&lt;/i>"], [0, -0.1, -0.2])
    assert all(list(trace.x) == [0, 1, 2] for trace in figure.data)
