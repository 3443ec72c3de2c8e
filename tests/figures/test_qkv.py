"""The pictures of a head's steps: what they carry, that text is escaped and numbers are typed arrays."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from pages.figures import frame, palette, qkv, qkv_charts

TEXTS = {"dimension": "dimension", "value": "value", "product": "product", "sum": "sum", "query": "query",
         "key": "key", "score": "score", "masked": "masked", "queries": "queries", "keys": "keys"}
HOSTILE = "<script>alert(1)</script>"


def strip(labels) -> list[str]:
    return [label.strip("\u2068\u2069") for label in labels]


def test_rows_stand_in_order_with_free_lines_between():
    rows = [np.full(3, value, np.float32) for value in (1, 2, -4)]
    figure = qkv.vector_rows(rows, labels=["a", "b", "c"], texts=TEXTS, gaps=[1, 2])
    cells = figure.data[0].z
    np.testing.assert_array_equal(cells[[0, 2, 4]], np.stack(rows))
    assert np.isnan(cells[[1, 3]]).all() and cells.dtype == np.float32
    assert strip(figure.layout.yaxis.ticktext) == ["a", "", "b", "", "c"]
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-4, 4)
    with pytest.raises(ValueError, match="Expected 1 rows"):
        qkv.vector_rows(rows, labels=["a"], texts=TEXTS)


def test_the_running_sum_ends_at_the_dot_product_in_either_order():
    q, k = np.array([1, -2, 3], np.float32), np.array([4, 5, 6], np.float32)
    plain, sorted_ = (qkv.products(q, k, order=order, texts=TEXTS) for order in ("dimension", "size"))
    np.testing.assert_array_equal(plain.data[0].y, [4, -10, 18])
    np.testing.assert_array_equal(sorted_.data[0].y, [18, 4, -10])
    np.testing.assert_array_equal(sorted_.data[0].customdata, [2, 0, 1])
    np.testing.assert_array_equal(plain.data[1].y, [4, -6, 12])
    for figure in (plain, sorted_):
        assert figure.data[1].y[-1] == float(q @ k) == 12
        assert figure.layout.annotations[0].text == "+12.000"


def test_the_mask_lies_over_the_scores_and_leaves_them_legible():
    scores = np.array([[1, 2], [-3, 4]], np.float32)
    visible = np.array([[True, False], [True, True]])
    labels = ["a", "b"]
    figure = qkv.masked_scores(scores, visible, query_labels=labels, key_labels=labels, texts=TEXTS)
    np.testing.assert_array_equal(figure.data[0].z, scores)
    np.testing.assert_array_equal(np.isnan(figure.data[1].z), visible)
    assert figure.data[1].colorscale[0][1] == palette.MASKED["light"] and figure.data[1].opacity < 1
    assert (list(figure.data[2].x), list(figure.data[2].y)) == ([1], [0])
    open_ = qkv.masked_scores(scores, np.ones((2, 2), bool), query_labels=labels, key_labels=labels, texts=TEXTS)
    assert [trace.type for trace in open_.data] == ["heatmap", "scatter"]
    big = np.tril(np.ones((40, 40), bool))
    many = qkv.masked_scores(np.zeros((40, 40)), big, query_labels=["x"] * 40, key_labels=["x"] * 40, texts=TEXTS)
    assert sum(trace.type == "scatter" for trace in many.data) == 1  # the anchor of the axes alone


def test_every_cell_can_be_hit_and_one_is_outlined():
    cells = go.Heatmap(z=np.arange(6.0).reshape(2, 3), hovertemplate="%{y} → %{x}: %{z:.4f}")
    figure = qkv.clickable(qkv.mark_cell(go.Figure(cells), 1, 2, theme="dark"))
    shape = figure.layout.shapes[0]
    assert (shape.x0, shape.x1, shape.y0, shape.y1) == (1.5, 2.5, 0.5, 1.5)
    assert shape.line.color == palette.ACCENT["dark"]
    points = figure.data[1]
    assert list(zip(points.y, points.x, strict=True)) == [(y, x) for y in range(2) for x in range(3)]
    np.testing.assert_array_equal(points.customdata, np.arange(6))
    assert points.hovertemplate == "%{y} → %{x}: %{customdata:.4f}" and points.marker.opacity == 0
    assert len(qkv.clickable(go.Figure(go.Heatmap(z=np.zeros((65, 3)), hovertemplate=""))).data) == 1


def test_bars_keep_their_order_and_say_what_is_missing():
    figure = qkv.bars(np.array([0.5, -1.0, np.nan]), labels=["a", "b", "c"], name="value", selected=1, number=".2f")
    np.testing.assert_array_equal(figure.data[0].x, [0.5, -1, 0])
    assert figure.data[0].text == ("0.50", "−1.00", "–")
    assert figure.data[0].marker.line.color[1] == palette.ACCENT["light"]
    assert len(set(figure.data[0].marker.color)) == 2
    json.loads(qkv.bars(np.zeros(0), labels=[], name="value").to_json())


def test_small_numbers_share_one_power_of_ten_that_the_axis_says():
    figure = qkv.bars(np.array([0.000235, 9.16e-05, np.nan]), labels=["a", "b", "c"], name="nats", number=None)
    assert figure.data[0].text == ("2.35", "0.916", "–") and figure.layout.xaxis.title.text == "nats (× 10⁻⁴)"
    np.testing.assert_allclose(figure.data[0].x, [2.35, 0.916, 0])
    mixed = qkv.bars(np.array([0.5, 5.28e-05]), labels=["a", "b"], name="nats", number=None)
    assert mixed.data[0].text == ("0.5", "5.28 × 10⁻⁵") and mixed.layout.xaxis.title.text == "nats"
    both = qkv_charts.pairs(np.array([0.000235]), np.array([9.16e-05]), labels=["a"], names=("x", "y"), value="nats")
    assert [trace.text for trace in both.data] == [("2.35",), ("0.916",)]
    assert both.layout.yaxis.title.text == "nats (× 10⁻⁴)"
    assert [frame.compact(value) for value in (0.0, 0.0123, 9.16e-05, -1.8e-11)] == [
        "0", "0.0123", "9.16 × 10⁻⁵", "−1.80 × 10⁻¹¹"]
    for plain in (np.array([0.5, 1e-9]), np.zeros(2), np.zeros(0)):
        assert frame.in_powers(plain) == (pytest.approx(plain), "")


def test_longer_numbers_get_more_room_beside_their_bars():
    def room(number):
        figure = qkv.bars(np.array([0.123456]), labels=["a"], name="value", number=number)
        return figure.layout.xaxis.range[1] / 0.123456 - 1

    # A plot of 180 pixels, characters of 7: the share of the plot that is right of the longest bar holds the number.
    for number, characters in ((".2f", 4), (".6f", 8)):
        assert 180 * room(number) / (1 + room(number)) > 7 * characters * 0.95


def test_bar_pairs_show_both_numbers_of_each_row_also_where_one_is_nothing():
    figure = qkv.bar_pairs(np.array([0.0, 3e-8]), np.array([0.3, 0.319]), labels=["a", "b"], names=("on", "off"),
                           name="change")
    assert [list(trace.x) for trace in figure.data] == [[0, 3e-8], [0.3, 0.319]]
    assert [trace.text for trace in figure.data] == [("0.000", "0.000"), ("0.300", "0.319")]
    assert [trace.name for trace in figure.data] == ["on", "off"] and figure.layout.showlegend
    assert figure.layout.xaxis.range[1] > 0.319 and strip(figure.layout.yaxis.ticktext) == ["a", "b"]
    qkv.bar_pairs(np.zeros(0), np.zeros(0), labels=[], names=("x", "y"), name="value").to_json()


def test_grouped_heads_lead_to_their_own_key():
    figure = qkv.sharing(6, 2, head=4, texts=TEXTS)
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert [line.x[1] for line in lines] == [1, 1, 1, 4, 4, 4]
    assert [line.line.width for line in lines] == [1, 1, 1, 3, 3, 3]


def test_a_spectrum_ends_in_zeros():
    texts = {"index": "number", "value": "value", "zeros": "{count} more, all 0"}
    figure = qkv_charts.spectrum(np.array([3.0, 1.0]), width=5, texts=texts)
    np.testing.assert_array_equal(figure.data[0].y, np.array([3, 1, 0, 0, 0], np.float32))
    assert figure.layout.annotations[0].text == "3 more, all 0"
    assert not qkv_charts.spectrum(np.array([3.0, 1.0]), width=2, texts=texts).layout.annotations


def test_growth_is_drawn_on_logarithms():
    lengths = np.array([1, 10, 100])
    figure = qkv_charts.growth(lengths, {"square": lengths**2}, now=10,
                               texts={"tokens": "tokens", "count": "count", "now": "now"})
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    np.testing.assert_array_equal(figure.data[0].y, [1, 100, 10_000])
    assert figure.layout.annotations[-1].x == 1


def test_heads_on_the_plane_carry_their_names():
    points = np.array([[0, 1], [2, 3], [4, 5]])
    figure = qkv_charts.head_map(points, heads=[(0, 0), (0, 1), (1, 0)], selected=2,
                                 texts={"layer": "layer", "head": "head"})
    assert figure.data[0].text == ("0·0", "0·1", "1·0")
    assert figure.data[0].marker.line.color[2] == palette.ACCENT["light"]
    colours = figure.data[0].marker.color
    assert colours[0] == colours[1] != colours[2]


def test_names_on_the_plane_keep_apart_or_are_left_out():
    apart = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    assert qkv_charts.name_sides(apart, first=0) == ["top center"] * 3
    sides = qkv_charts.name_sides(np.array([[0.0, 0.0]] * 6 + [[0.0, 10.0]]), first=5)
    assert sides[5] == sides[6] == "top center" and sides[:6].count(None) == 2
    assert len({side for side in sides[:6] if side}) == 4


def test_pairs_stand_side_by_side():
    figure = qkv_charts.pairs(np.array([1.0, 2.0]), np.array([3.0, 4.0]), labels=["a", "b"], names=("x", "y"),
                              value="nats", selected=1)
    assert [list(trace.y) for trace in figure.data] == [[1, 2], [3, 4]]
    assert list(figure.layout.xaxis.ticktext) == ["a", "<b>b</b>"]


def test_no_token_reaches_plotly_as_markup():
    two = np.ones((1, 1), np.float32)
    texts = dict.fromkeys(TEXTS, HOSTILE)
    figures = [
        qkv.vector_rows([np.ones(2)], labels=[HOSTILE], texts=texts),
        qkv.products(np.ones(2), np.ones(2), order="size", texts=texts),
        qkv.masked_scores(two, two == 0, query_labels=[HOSTILE], key_labels=[HOSTILE], texts=texts),
        qkv.bars(np.ones(1), labels=[HOSTILE], name=HOSTILE),
        qkv.bar_pairs(np.ones(1), np.ones(1), labels=[HOSTILE], names=(HOSTILE, HOSTILE), name=HOSTILE),
        qkv.sharing(2, 1, head=0, texts=texts),
        qkv_charts.pairs(np.ones(1), np.ones(1), labels=[HOSTILE], names=(HOSTILE, HOSTILE), value=HOSTILE),
    ]
    for figure in figures:
        written = figure.to_json().replace("\\u003c", "<").replace("\\u003e", ">")
        for ours in ("<br>", "<extra>", "<\\u002fextra>"):
            written = written.replace(ours, "")
        assert "<" not in written


@pytest.mark.parametrize("theme", palette.THEMES)
def test_equal_arrays_give_equal_json(theme):
    rows = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    first, again = (qkv.vector_rows(list(array), labels=list("abc"), texts=TEXTS, theme=theme).to_json()
                    for array in (rows, rows.copy()))
    assert first == again
