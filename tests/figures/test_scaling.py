"""Pictures of saturation: what they carry, where their marks stand, and that text is escaped."""

import numpy as np
import plotly.graph_objects as go
import pytest

from pages.figures import palette, scaling
from pages.figures.beside import beside
from pages.figures.scaling import Marker

TEXTS = {"score": "score", "density": "density", "theory": "theory", "key": "key", "weight": "weight",
         "uniform": "uniform", "layer": "layer", "head": "head", "value": "entropy"}
NAMES = {"with": "with division", "without": "without division", "chosen": "chosen"}
HOSTILE = ["<script>alert(1)</script>", "</s>", "<b>bold</b>", "&lt;"]
X = 2.0 ** np.arange(2, 11)


def curves(**rest) -> go.Figure:
    lines = {"without": np.linspace(3, 0, 9), "with": np.full(9, 4.0)}
    return beside(scaling.curves(X, lines, **{"names": NAMES, "x_title": "d_k", "y_title": "entropy"} | rest))


def test_the_histogram_is_a_density_under_the_normal_curve():
    scores = np.random.default_rng(0).normal(0, 8, 200_000)
    figure = beside(scaling.histogram(scores, variance=64.0, reach=40.0, state="without", texts=TEXTS))
    steps, curve = figure.data
    assert (steps.y * np.diff(steps.x)[0]).sum() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(steps.y, curve.y, atol=0.12 * curve.y.max())
    assert (steps.line.shape, steps.fill) == ("hvh", "tozeroy")
    assert curve.y.max() == pytest.approx(1 / (8 * np.sqrt(2 * np.pi)), rel=1e-3)
    assert tuple(figure.layout.xaxis.range) == (-40, 40)


def test_a_narrow_histogram_keeps_its_bins_on_a_wide_axis():
    scores = np.random.default_rng(0).normal(0, 1, 50_000)
    figure = beside(scaling.histogram(scores, variance=1.0, reach=128.0, state="with", texts=TEXTS))
    assert np.diff(figure.data[0].x)[0] < 0.2 and np.count_nonzero(figure.data[0].y) > 40


def test_a_row_is_drawn_key_by_key_from_zero_to_one():
    weights = np.array([0.1, 0.7, 0.2])
    figure = beside(scaling.row_softmax(weights, state="with", texts=TEXTS))
    np.testing.assert_array_equal(figure.data[0].y, weights)
    assert figure.layout.yaxis.range[0] == 0 and figure.layout.yaxis.range[1] >= 1
    assert figure.layout.shapes[0].y0 == figure.layout.shapes[0].y1 == pytest.approx(1 / 3)
    assert "0.333" in figure.layout.annotations[0].text


def test_marks_stand_where_they_are_told_and_the_upright_at_its_value():
    figure = curves(markers=[Marker(64.0, 1.5, "without", "here"), Marker(64.0, 4.0, "with", "")],
                    upright=(9.7, "2 ln n"), theory=(np.zeros(9), "theory"))
    named, unnamed = (trace for trace in figure.data if trace.mode == "markers")
    assert (named.x[0], named.y[0], named.showlegend, unnamed.showlegend) == (64.0, 1.5, True, False)
    assert figure.layout.showlegend
    assert named.marker.symbol != unnamed.marker.symbol
    line, = figure.layout.shapes
    assert line.x0 == line.x1 == 9.7
    # Annotations on a logarithmic axis are placed by the exponent, shapes by the value.
    assert figure.layout.annotations[0].x == pytest.approx(np.log10(9.7))
    assert figure.layout.xaxis.type == "log"
    assert [trace.name for trace in figure.data if trace.mode == "lines"] == ["theory", NAMES["without"], NAMES["with"]]


def test_ticks_stand_at_the_powers_of_their_base():
    for base, expected in ((2, X), (4, X[::2])):
        np.testing.assert_allclose(curves(tick_base=base).layout.xaxis.tickvals, expected)


def test_panels_beside_each_other_keep_axes_marks_and_heights_of_their_own():
    lines = {"without": np.linspace(3, 0, 9), "with": np.full(9, 4.0)}
    panels = [scaling.curves(X, lines, names=NAMES, x_title="d_k", y_title=title, upright=(9.7, "2 ln n"))
              for title in ("entropy", "largest", "norm")]
    figure = beside(*panels)
    assert [axis.title.text for axis in figure.select_yaxes()] == ["entropy", "largest", "norm"]
    domains = [axis.domain for axis in figure.select_xaxes()]
    assert domains[0][0] == 0 and domains[-1][1] == pytest.approx(1)
    assert all(left[1] < right[0] for left, right in zip(domains, domains[1:]))
    assert len({round(end - start, 9) for start, end in domains}) == 1
    assert [(trace.xaxis, trace.yaxis) for trace in figure.data[::2]] == [("x", "y"), ("x2", "y2"), ("x3", "y3")]
    assert [trace.name for trace in figure.data if trace.showlegend] == [
        NAMES["without"], NAMES["with"]], "once each"
    assert [(shape.xref, shape.yref) for shape in figure.layout.shapes] == [
        ("x", "y domain"), ("x2", "y2 domain"), ("x3", "y3 domain")]
    assert [note.xref for note in figure.layout.annotations] == ["x", "x2", "x3"]
    lined = beside(*(scaling.row_softmax(np.full(4, 0.25), state=state, texts=TEXTS) for state in ("without", "with")))
    assert [(shape.yref, shape.y0) for shape in lined.layout.shapes] == [("y", 0.25), ("y2", 0.25)]


def test_grids_share_one_scale_and_outline_one_head():
    grids = [np.full((3, 4), value) for value in (0.2, 0.9, 1.6)]
    figure = scaling.head_grids(grids, titles=["<b>a", "b", "c"], texts=TEXTS, most=1.61, selected=(2, 1))
    assert [trace.coloraxis for trace in figure.data[::2]] == ["coloraxis"] * 3
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 1.61)
    assert [(shape.x0, shape.y0) for shape in figure.layout.shapes] == [(0.5, 1.5)] * 3
    assert all(tuple(axis.range) == (2.5, -0.5) for axis in figure.select_yaxes()), "layer 0 on top"
    assert figure.layout.annotations[0].text == "&lt;b>a"


def test_many_heads_carry_no_numbers():
    few, many = (scaling.head_grids([np.zeros((12, n))], titles=["a"], texts=TEXTS, most=1.0) for n in (8, 12))
    assert [trace.type for trace in few.data] == ["heatmap", "scatter"] and [trace.type for trace in many.data] == [
        "heatmap"]


def luminance(colour: np.ndarray) -> np.ndarray:
    """Relative luminance of (n, 3) sRGB in 0 … 255, by WCAG 2.2."""
    c = np.asarray(colour, dtype=float) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("theme", palette.THEMES)
def test_numbers_on_cells_can_be_read(theme):
    values = np.linspace(0, 1.6, 32).reshape(4, 8)
    values[3, 7] = np.nan
    figure = scaling.head_grids([values], titles=["a"], texts=TEXTS, most=1.6, theme=theme)
    numbers = figure.data[1]
    assert (numbers.x[9], numbers.y[9], numbers.text[9], numbers.text[31]) == (1, 1, f"{values[1, 1]:.2f}", "")
    places, colours = zip(*figure.layout.coloraxis.colorscale, strict=True)
    scale = np.array([palette.hex_to_rgb(colour) for colour in colours])
    cells = np.stack([np.interp(values.ravel()[:-1] / 1.6, places, scale[:, i]) for i in range(3)], axis=1)
    ink = np.array([palette.hex_to_rgb(colour) for colour in numbers.textfont.color[:-1]])
    levels = np.sort([luminance(cells), luminance(ink)], axis=0) + 0.05
    assert (levels[1] / levels[0]).min() > 4.4


def test_equal_labels_stay_apart():
    figure = scaling.grouped_bars({"with": np.array([0.1, 0.2, 0.3]), "without": np.zeros(3)}, names=NAMES,
                                  labels=["the", "cat", "the"], x_title="token", y_title="p", most=1.0)
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2]
    assert [trace.name for trace in figure.data] == [NAMES["with"], NAMES["without"]]
    np.testing.assert_array_equal(figure.data[0].x, [0, 1, 2])
    assert figure.data[0].marker.pattern.shape != figure.data[1].marker.pattern.shape


def test_no_text_reaches_plotly_as_markup():
    hostile = dict.fromkeys(TEXTS, "<script>x</script>")
    names = dict.fromkeys(NAMES, "<i>name</i>")
    figures = [
        beside(scaling.histogram(np.zeros(4), variance=1.0, reach=4.0, state="with", texts=hostile),
               scaling.row_softmax(np.full(4, 0.25), state="with", texts=hostile)),
        curves(names=names, x_title="<b>", y_title="<b>", upright=(9.0, "<b>"),
               markers=[Marker(8.0, 1.0, "with", "<i>")], theory=(np.zeros(9), "<i>")),
        scaling.head_grids([np.zeros((2, 2))], titles=["<i>"], texts=hostile, most=1.0),
        scaling.grouped_bars({"with": np.ones(4)}, names=names, labels=HOSTILE, x_title="<b>", y_title="<b>"),
    ]
    for figure in figures:
        written = figure.to_json().replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u002f", "/")
        for ours in ("<br>", "<extra>", "</extra>"):
            written = written.replace(ours, "")
        assert "<" not in written


@pytest.mark.parametrize("theme", palette.THEMES)
def test_equal_arrays_give_equal_figures_and_states_differ_in_colour(theme):
    assert curves(theme=theme).to_json() == curves(theme=theme).to_json()
    assert len(set(scaling.COLOURS[theme].values())) == len(set(scaling.SYMBOLS.values())) == 3
