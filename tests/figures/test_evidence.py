"""Pictures of evidence show the numbers they were given, with their baselines in them, and nothing as markup."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest

from pages.figures import evidence, palette
from tests.evidence_value import grid

RNG = np.random.default_rng(5)
MASS_TEXTS = {"mass": "mass", "uniform": "uniform", "offset": "usual", "swap": "others"}
HOSTILE = ["<b>x</b>", "&amp;", "苹果", "苹果"]


def trace(figure: go.Figure, name: str):
    """The one trace called `name`."""
    found = [each for each in figure.data if each.name == name]
    assert len(found) == 1, [each.name for each in figure.data]
    return found[0]


def masses(**changes) -> go.Figure:
    attending = np.zeros((3, 4), bool)
    attending[1, 2] = True
    given = {"uniform": np.full((3, 4), .2), "offset": grid(1), "swap": grid(2), "attending": attending,
             "texts": MASS_TEXTS} | changes
    return evidence.head_masses(grid(0), **given)


def test_heads_that_attend_come_first_then_the_heaviest():
    mass, attending = grid(0), np.zeros((3, 4), bool)
    attending[2, 0] = True
    order = evidence.order_heads(mass, attending)
    assert order[0] == (2, 0) and len(order) == 12
    rest = [float(mass[at]) for at in order[1:]]
    assert rest == sorted(rest, reverse=True)
    many = RNG.random((12, 12))
    assert len(evidence.order_heads(many, np.zeros_like(many, bool))) == evidence.MOST_HEADS


def test_masses_stand_beside_their_three_baselines():
    figure = masses()
    order = evidence.order_heads(grid(0), np.eye(3, 4, 1, dtype=bool) & (np.arange(3) == 1)[:, None])
    for name, values in (("mass", grid(0)), ("uniform", np.full((3, 4), .2)), ("usual", grid(1)), ("others", grid(2))):
        np.testing.assert_allclose(trace(figure, name).x, [values[at] for at in order], rtol=1e-6)
    fills = trace(figure, "mass").marker.color
    assert fills[0] == palette.ACCENT["light"] and set(fills[1:]) == {"rgba(0,0,0,0)"}, "others hollow"


def test_carriers_are_one_more_row():
    together = evidence.Together("carriers", .7, .2, .1, True)
    figure = masses(together=together)
    assert len(trace(figure, "mass").x) == 13
    assert (trace(figure, "mass").x[-1], trace(figure, "uniform").x[-1], trace(figure, "usual").x[-1]) == (.7, .2, .1)
    assert "carriers" in figure.layout.yaxis.ticktext[-1]


def test_baselines_that_do_not_exist_leave_no_mark():
    figure = masses(offset=np.full((3, 4), np.nan), swap=np.full((3, 4), np.nan))
    assert np.isnan(np.array(trace(figure, "usual").x, float)).all()
    assert np.isfinite(figure.layout.xaxis.range).all()


def test_flows_mark_what_uniform_heads_would_give_to_b():
    figure = evidence.word_flows(
        HOSTILE, rollout=np.array([.1, .2, .3, .4]), value=np.array([.4, .3, .2, .1]), key=2, rollout_uniform=.25,
        value_uniform=.15, texts={"rollout": "rollout", "value": "value", "uniform": "uniform"})
    uniform = trace(figure, "uniform")
    assert list(uniform.x) == [.25, .15] and all(abs(y - 2) < .5 for y in uniform.y)
    assert list(trace(figure, "rollout").marker.opacity).index(1.0) == 2


def test_effects_show_b_among_all_words_and_a_line_at_zero():
    figure = evidence.word_effects(HOSTILE, cut=np.array([-.1, np.nan, -.9, 0]), hide=np.array([0, -.2, -3, .1]), key=2,
                                   texts={"cut": "cut", "hide": "hide", "delta": "nats"})
    np.testing.assert_allclose(trace(figure, "cut").x, [-.1, np.nan, -.9, 0])
    assert len(trace(figure, "hide").y) == len(set(trace(figure, "hide").y)) == 4, "equal words stay two rows"
    assert [shape.x0 for shape in figure.layout.shapes] == [0]


def test_layers_stand_in_a_band_of_the_controls():
    figure = evidence.layer_effects(np.array([-.0001, -.5]), everywhere=.8, control=.07, texts={
        "layer": "layer {layer}", "everywhere": "all", "control": "controls", "delta": "nats"})
    assert list(figure.data[0].x) == [-.0001, -.5, .8]
    assert figure.data[0].text == ("0.000", "−0.500", "+0.800")
    band = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (band.x0, band.x1) == (-.07, .07)
    assert [text.strip("\u2068\u2069") for text in figure.layout.yaxis.ticktext] == ["layer 0", "layer 1", "all"]


def test_replacements_are_sorted_by_whether_the_output_changed():
    figure = evidence.replacement_effects(
        ["吃", "用", "喝", "红"], deltas=np.array([0, -6, -.8, -.4]), changed=[None, True, False, None],
        texts={"changed": "changed", "kept": "kept", "baseline": "baseline", "delta": "nats"})
    assert list(trace(figure, "changed").x) == [-6] and list(trace(figure, "kept").x) == [-.8]
    assert list(trace(figure, "baseline").x) == [0, -.4], "the original's zero is in the picture"
    assert trace(figure, "baseline").text == ("0.00", "−0.40")


@pytest.mark.parametrize("theme", palette.THEMES)
def test_head_map_is_symmetric_around_zero(theme):
    values = np.array([[-.9, .1], [0, .3]])
    figure = evidence.head_map(values, outlined=values < -.5, theme=theme,
                               texts={"layer": "layer", "head": "head", "value": "nats"})
    heat = figure.data[0]
    assert (heat.zmin, heat.zmax) == (-.9, .9)
    middle = [colour for at, colour in heat.colorscale if at == .5]
    assert middle == palette.to_hex(palette.diverging(theme)[128:129])
    assert [(shape.x0, shape.y0) for shape in figure.layout.shapes] == [(-.47, -.47)]


def test_a_map_of_nothing_still_has_a_scale():
    for values in (np.zeros((2, 2)), np.full((2, 2), np.nan)):
        heat = evidence.head_map(values, texts={"layer": "layer", "head": "head", "value": "nats"}).data[0]
        assert (heat.zmin, heat.zmax) == (-1, 1)


def test_correlations_show_spearman_and_carry_kendall():
    rho, tau = np.array([[1, -.5], [-.5, 1]]), np.array([[1, -.3], [-.3, np.nan]])
    figure = evidence.correlation_table(rho, kendall=tau, names=["a", "<i>"], bar="rho")
    np.testing.assert_array_equal(figure.data[0].z, rho)
    np.testing.assert_array_equal(figure.data[0].customdata[..., 0].astype(float), tau)
    assert figure.data[0].customdata[0, 1, 1] == "&lt;i>", "the hover names the column"
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-1, 1)
    assert "<i>" not in figure.to_json() and "&lt;i>" in figure.layout.yaxis.ticktext[1]


def test_words_are_never_markup():
    figure = evidence.word_effects(HOSTILE, cut=np.zeros(4), hide=np.zeros(4), key=0,
                                   texts={"cut": "<cut>", "hide": "hide", "delta": "<nats>"})
    for text in (*figure.layout.yaxis.ticktext[1:], *figure.data[0].text, figure.data[0].name):
        assert "<" not in text
    assert figure.layout.yaxis.ticktext[0] == "<b>\u2068&lt;b>x&lt;/b>\u2069</b>", "B's row alone is bold, by us"


def test_equal_arrays_give_equal_json():
    assert masses().to_json() == masses().to_json()


def test_a_value_that_rounds_to_zero_has_no_sign():
    effects = np.array([[-0.0004, 0.0004], [-0.25, np.nan]])
    figure = evidence.head_map(effects, texts={"layer": "layer", "head": "head", "value": "nats"})
    assert list(figure.data[1].text) == ["0.000", "0.000", "−0.250", ""]
