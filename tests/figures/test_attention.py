"""The figures: what they carry, that text is escaped and numbers are not lists, that nothing heavy is imported."""

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from pages.figures import attention, palette, png
from pages.figures.frame import columns_of, shorten

TEXTS = {"query": "query", "key": "key", "weight": "weight", "difference": "difference", "uniform": "uniform",
         "others": "{count} more, {mass} together"}
HOSTILE = ["<script>alert(1)</script>", "</s>", "<b>bold</b>", "&lt;", "%{z}"]


def heatmap(pattern, labels=None, **rest):
    queries = labels or [f"q{i}" for i in range(pattern.shape[0])]
    keys = labels or [f"k{i}" for i in range(pattern.shape[1])]
    return attention.pattern_heatmap(pattern, query_labels=queries, key_labels=keys, texts=TEXTS, **rest)


def test_the_figures_import_neither_torch_nor_streamlit():
    code = ("import sys, pages.figures.attention, pages.figures.palette, pages.figures.frame, pages.figures.png\n"
            "print([name for name in ('torch', 'transformers', 'streamlit') if name in sys.modules])")
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("text", "shown"), [
    ("<script>", "&lt;script>"), ("</s>", "&lt;/s>"), ("<b>", "&lt;b>"), ("&lt;", "&amp;lt;"), ("&<", "&amp;&lt;"),
    ("苹果", "苹果"),
])
def test_escape(text, shown):
    assert attention.escape(text) == shown


def test_no_token_reaches_plotly_as_markup():
    pattern = np.full((5, 5), 0.2, dtype=np.float32)
    texts = {**TEXTS, "weight": "<i>weight"}
    figure = attention.pattern_heatmap(pattern, query_labels=HOSTILE, key_labels=HOSTILE, texts=texts, title="<b>title")
    bars = attention.row_bars(pattern[0], key_labels=HOSTILE, uniform=np.full(5, 0.2), texts=texts, title="<b>title")
    ours = ("<br>", "<extra>", "</extra>")
    for one in (figure, bars):
        written = one.to_json().replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u002f", "/")
        for tag in ours:
            written = written.replace(tag, "")
        assert "<" not in written


def test_repeated_tokens_stay_apart():
    figure = heatmap(np.eye(4, dtype=np.float32), labels=["the", "cat", "the", "cat"])
    for axis in (figure.layout.xaxis, figure.layout.yaxis, figure.layout.xaxis2, figure.layout.yaxis2):
        assert list(axis.tickvals) == [0, 1, 2, 3]
        assert len(axis.ticktext) == 4
    assert list(figure.data[0].x) == [0, 1, 2, 3]


def test_rows_run_downwards_and_weights_are_the_given_ones():
    pattern = np.array([[1, 0, 0], [0.25, 0.75, 0]], dtype=np.float32)
    figure = heatmap(pattern, selected_query=1)
    np.testing.assert_array_equal(figure.data[0].z, pattern)
    assert figure.data[0].z.dtype == np.float32
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0, 1)
    assert list(figure.layout.yaxis.range) == [1.5, -0.5]
    assert "%{y} → %{x}" in figure.data[0].hovertemplate and "%{z:.4f}" in figure.data[0].hovertemplate
    outline = figure.layout.shapes[0]
    assert (outline.x0, outline.x1, outline.y0, outline.y1) == (-0.5, 2.5, 0.5, 1.5)


def test_masked_cells_are_gaps_over_grey_and_only_then():
    pattern = np.tril(np.ones((3, 3), dtype=np.float32))
    masked = np.where(np.triu(np.ones((3, 3), dtype=bool), 1), np.nan, pattern).astype(np.float32)
    assert heatmap(masked).layout.plot_bgcolor == palette.MASKED["light"]
    assert np.isnan(heatmap(masked).data[0].z[0, 1])
    assert heatmap(pattern).layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert heatmap(masked).layout.paper_bgcolor == "rgba(0,0,0,0)"


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (1, 9), (3, 0), (256, 256)])
def test_any_size_makes_a_figure(shape):
    figure = heatmap(np.zeros(shape, dtype=np.float32))
    assert 0 < figure.layout.height < 1200
    assert len(figure.layout.yaxis.ticktext) == shape[0]
    assert len(figure.layout.yaxis2.ticktext) <= 40
    json.loads(figure.to_json())


def test_a_long_axis_thins_its_labels_and_keeps_their_places():
    figure = heatmap(np.zeros((2, 130), dtype=np.float32))
    drawn = figure.layout.xaxis2
    assert list(drawn.tickvals)[:3] == [0, 4, 8]
    assert [text.strip("\u2068\u2069") for text in drawn.ticktext[:3]] == ["k0", "k4", "k8"]


def test_equal_arrays_give_equal_json():
    pattern = np.random.default_rng(3).dirichlet(np.ones(6), 6).astype(np.float32)
    assert heatmap(pattern).to_json() == heatmap(pattern.copy()).to_json()


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"Expected values \(1, 3\).*got \(2, 3\)"):
        attention.pattern_heatmap(np.zeros((2, 3)), query_labels=["a"], key_labels=["a", "b", "c"], texts=TEXTS)
    with pytest.raises(ValueError, match="Expected weights"):
        attention.row_bars(np.zeros(3), key_labels=["a"], uniform=np.ones(3), texts=TEXTS)
    with pytest.raises(ValueError, match="Expected weights and uniform"):
        attention.row_bars(np.zeros(1), key_labels=["a"], uniform=np.ones(3), texts=TEXTS)
    with pytest.raises(ValueError, match="edges"):
        attention.pattern_image(np.zeros((2, 2)), q_edges=np.arange(2), k_edges=np.arange(3), texts=TEXTS)


def test_differences_are_centred_on_zero_also_when_there_are_none():
    def bounds(difference, **rest):
        figure = attention.difference_heatmap(np.array(difference, dtype=np.float32), query_labels=["a"],
                                              key_labels=["a", "b"], texts=TEXTS, **rest)
        return figure.data[0].zmin, figure.data[0].zmax

    assert bounds([[-0.25, 0.125]]) == (-0.25, 0.25)
    assert bounds([[0, 0]]) == (-1, 1)
    assert bounds([[np.nan, np.nan]]) == (-1, 1)
    assert bounds([[0.5, np.nan]], limit=2.0) == (-2, 2)


def test_bars_are_ranked_masked_keys_left_out_and_the_rest_is_summed():
    weights = np.array([0.1, np.nan, 0.6, 0.3], dtype=np.float32)
    figure = attention.row_bars(weights, key_labels=["a", "b", "c", "d"], uniform=np.full(4, 1 / 3),
                                texts=TEXTS)
    np.testing.assert_array_equal(figure.data[0].x, np.array([0.6, 0.3, 0.1], dtype=np.float32))
    assert [text.strip("\u2068\u2069") for text in figure.layout.yaxis.ticktext] == ["c", "d", "a"]
    assert [shape.x0 for shape in figure.layout.shapes] == [pytest.approx(1 / 3)] * 3
    assert figure.layout.annotations[0].text == "uniform 0.33"
    many = np.full(30, 1 / 30, dtype=np.float32)
    figure = attention.row_bars(many, key_labels=[str(i) for i in range(30)], uniform=np.full(30, 1 / 30),
                                texts=TEXTS)
    assert len(figure.data[0].x) == attention.MOST_BARS
    assert figure.layout.annotations[-1].text == "6 more, 0.20 together"
    empty = attention.row_bars(np.full(2, np.nan, np.float32), key_labels=["a", "b"], uniform=np.full(2, np.nan),
                               texts=TEXTS)
    assert len(empty.data[0].x) == 0


def test_each_bar_has_the_uniform_weight_of_its_own_key():
    weights = np.array([0.2, 0.5, 0.3], dtype=np.float32)
    figure = attention.row_bars(weights, key_labels=["a", "b", "c"], uniform=np.array([0.1, 0.7, 0.2]), texts=TEXTS,
                                number=".3f")
    assert [(shape.x0, shape.x1, shape.y0, shape.y1) for shape in figure.layout.shapes] == [
        (0.7, 0.7, -0.5, 0.5), (0.2, 0.2, 0.5, 1.5), (0.1, 0.1, 1.5, 2.5)]
    assert figure.layout.annotations[0].text == "uniform" and figure.data[0].texttemplate == "%{x:.3f}"
    assert figure.layout.xaxis.range[1] > 0.7


def test_a_pooled_picture_stands_on_token_positions():
    edges = np.array([0, 4, 8, 12])
    figure = attention.pattern_image(np.eye(3), q_edges=edges, k_edges=edges, texts=TEXTS)
    image = figure.data[0]
    # Block 0 covers tokens 0..3, whose middle is 1.5; the picture ends half a token outside the last one.
    assert (image.x0, image.dx, image.y0, image.dy) == (1.5, 4, 1.5, 4)
    assert list(figure.layout.xaxis.range) == [-0.5, 11.5]
    assert list(figure.layout.yaxis.range) == [11.5, -0.5]
    assert image.source.startswith("data:image/png;base64,")


def test_png_decodes_to_its_palette():
    picture = np.array([[0, 255, 7], [1, 2, 3]], dtype=np.uint8)
    colours = palette.weight_colours("light")
    written = png.indexed_png(picture, colours)
    image = pytest.importorskip("PIL.Image")
    import io
    with image.open(io.BytesIO(written)) as opened:
        np.testing.assert_array_equal(np.asarray(opened.convert("RGB")), colours[picture])
    assert struct.unpack(">II", written[16:24]) == (3, 2)
    assert zlib.crc32(written[12:29]) == struct.unpack(">I", written[29:33])[0]
    with pytest.raises(ValueError, match="at least one pixel"):
        png.indexed_png(np.zeros((0, 3), np.uint8), colours)


def test_tick_labels_are_cut_by_width_not_by_count():
    assert columns_of("苹果ab") == 6
    assert shorten("ordinary") == "ordinary"
    assert shorten("苹果" * 20, columns=9) == "苹果…苹果"
    assert shorten("and ‹ internationalisation", columns=18) == "and ‹ in…lisation"
    assert shorten("abcdefgh", columns=4) == "ab…h"
    assert columns_of(shorten("x" * 99)) <= 19


@pytest.mark.parametrize(("shape", "height", "one_row", "square"), [
    ((12, 83), 12 * 18, 18, False), ((83, 83), 560, 18, True), ((83, 12), 560, 38, True), ((40, 83), 560, 18, False),
    ((5, 5), 5 * 56, 56, True), ((12, 20), 12 * 28, 28, True),
])
def test_few_rows_with_many_keys_stay_legible(shape, height, one_row, square):
    rows, columns = shape
    figure = attention.pattern_heatmap(np.zeros(shape, np.float32), query_labels=["q"] * rows, texts=TEXTS,
                                       key_labels=["k"] * columns)
    empty = attention.pattern_heatmap(np.zeros((1, columns), np.float32), query_labels=["q"], texts=TEXTS,
                                      key_labels=["k"] * columns)
    assert figure.layout.height - empty.layout.height == pytest.approx(height - one_row, abs=2)
    assert (figure.layout.yaxis.scaleanchor == "x") is square
    name, = figure.layout.annotations
    assert (name.text, name.xref, name.yref) == (TEXTS["query"], "x domain", "y domain")
    assert figure.layout.yaxis2.title.text is None


def test_the_toolbar_sends_nothing_away():
    config = attention.plotly_config("head-2-1")
    assert "sendChartToCloud" in config["modeBarButtonsToRemove"]
    assert config["displaylogo"] is False
    assert config["toImageButtonOptions"]["filename"] == "head-2-1"
