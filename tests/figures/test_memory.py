"""The memory figures: what they carry, round numbers of bytes, escaped text, and the lines that say where it ends."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pages.figures import files, memory, palette

LENGTHS = np.arange(1, 6)
HELD = LENGTHS * 6144
TEXTS = {"tokens": "tokens", "held": "held", "storage": "storage", "formula": "formula", "layer": "layer",
         "cached": "with", "uncached": "without", "value": "seconds", "gpu": "GPU: 24 GiB", "here": "here",
         "longest": "up to"}
MARKUP = {name: f"<b>{text}</b>&amp;" for name, text in TEXTS.items()}


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 B"), (1, "1 B"), (1023, "1,023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (70_272, "68.62 KiB"),
    (819_200, "800 KiB"), (256 * 2**20, "256 MiB"), (3.8125 * 2**30, "3.812 GiB"), (2**60, "1,024 PiB"),
])
def test_readable_bytes(count, text):
    assert memory.readable_bytes(count) == text


@pytest.mark.parametrize("most", [0, 1, 7, 1000, 1024, 5000, 6e5, 3.3e9, 24 * 2**30, 1.7e15])
def test_ticks_are_round_few_and_cover_all(most):
    places, names = memory.byte_ticks(most)
    assert places[0] == 0 and places[-1] >= most
    assert 2 <= len(places) <= 8
    assert len(set(names)) == len(names)
    np.testing.assert_allclose(np.diff(places), places[1])


def growth(storage=HELD, texts=TEXTS, **rest):
    return memory.growth(LENGTHS, HELD, storage=storage, formula=HELD, texts=texts, **rest)


def costs(texts=TEXTS, **rest):
    return memory.costs(LENGTHS, cached=LENGTHS * 0.1, uncached=LENGTHS[:3] * 0.2, texts=texts, unit="s", **rest)


def needs(longest=3, texts=TEXTS, **rest):
    parts = {"weights": np.full(5, 100.0), "cache": LENGTHS * 10.0}
    return memory.needs(LENGTHS, parts=parts, names={"weights": texts["held"], "cache": texts["storage"]},
                        gpu_bytes=130, n_tokens=2, longest=longest, texts=texts, **rest)


def test_growth_carries_the_cache_and_the_formula():
    names = {trace.name: trace for trace in growth().data}
    assert set(names) == {"held", "formula"}
    np.testing.assert_array_equal(names["held"].y, HELD)
    assert list(names["held"].customdata) == ["6 KiB", "12 KiB", "18 KiB", "24 KiB", "30 KiB"]
    with_storage = growth(storage=HELD + 10, selected=2)
    assert {trace.name for trace in with_storage.data} == {"held", "formula", "storage"}
    assert with_storage.layout.shapes[0].x0 == LENGTHS[2]


def test_layers_carry_both():
    figure = memory.layers(HELD, formula=HELD + 1, texts=TEXTS)
    np.testing.assert_array_equal(figure.data[0].y, HELD)
    np.testing.assert_array_equal(figure.data[1].y, HELD + 1)
    many = memory.layers(np.ones(126), formula=np.ones(126), texts=TEXTS)
    assert many.layout.xaxis.dtick == 8


def test_kinds_leave_gaps_where_nothing_is_held():
    figure = memory.kinds_by_layer({"own": np.array([4.0, 0.0, 4096.0]), "other": np.full(3, 64.0)}, layer="layer")
    assert figure.layout.yaxis.type == "log"
    assert np.isnan(figure.data[0].y[1])
    ticks = figure.layout.yaxis.tickvals
    assert ticks[0] <= 4 and ticks[-1] >= 4096
    assert figure.data[0].line.width > figure.data[1].line.width


def test_costs_may_still_be_measured():
    with_cache = {trace.name: trace for trace in costs().data}
    assert len(with_cache["without"].x) == 3
    assert len(with_cache["with"].x) == 5


def test_needs_show_the_gpu_the_length_and_the_edge():
    figure = needs()
    assert [shape.y0 for shape in figure.layout.shapes if shape.y0 == shape.y1] == [130]
    assert sorted(shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1) == [2, 3]
    assert {note.text for note in figure.layout.annotations} == {"GPU: 24 GiB", "here", "up to"}
    assert figure.layout.yaxis.range[1] > 150
    assert figure.layout.margin.r >= 7.2 * len("20,000,000") / 2, "the last tick's label, digits of 13 px, is whole"
    for longest in (-1, None, 99):
        assert sorted(shape.x0 for shape in needs(longest).layout.shapes if shape.x0 == shape.x1) == [2]


def test_variants_fill_the_models_own():
    figure = memory.variants(["own", "<b>mha"], np.array([100, 800]), own=0)
    assert list(figure.data[0].text) == ["100 B", "800 B"]
    assert figure.data[0].marker.color[0] == memory.COLOURS["cache"]["light"] != figure.data[0].marker.color[1]
    assert figure.layout.yaxis.ticktext[1] == "&lt;b>mha"


def test_device_carries_every_series():
    figure = memory.device(LENGTHS, series={"live": HELD, "reserved": HELD * 2, "device": HELD * 3}, tokens="tokens")
    assert [trace.name for trace in figure.data] == ["live", "reserved", "device"]


@pytest.mark.parametrize("theme", palette.THEMES)
def test_no_text_reaches_plotly_as_markup(theme):
    figures = [growth(HELD + 1, MARKUP, theme=theme), costs(MARKUP, theme=theme), needs(3, MARKUP, theme=theme),
               memory.layers(HELD, formula=HELD, texts=MARKUP, theme=theme),
               memory.kinds_by_layer({"<b>own": HELD}, layer="<b>layer", theme=theme),
               memory.device(LENGTHS, series={"<b>live": HELD}, tokens="<b>", theme=theme)]
    for figure in figures:
        assert "<b" not in figure.to_json().replace("\\u003c", "<")


def test_equal_arrays_give_equal_json():
    assert growth().to_json() == growth().to_json()
    json.loads(needs().to_json())


def test_an_empty_run_makes_a_figure():
    none = np.zeros(0, dtype=np.int64)
    memory.growth(none, none, storage=none, formula=none, texts=TEXTS)


def test_colours_of_parts_can_be_told_apart_without_hue():
    """Neighbours in the stack differ in lightness (relative luminance, WCAG 2) on both themes."""
    def luminance(colour: str) -> float:
        parts = [part / 255 for part in palette.hex_to_rgb(colour)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for theme in palette.THEMES:
        stack = [luminance(memory.COLOURS[part][theme]) for part in ("weights", "cache", "logits", "scores")]
        for below, above in zip(stack, stack[1:], strict=False):
            assert (max(below, above) + 0.05) / (min(below, above) + 0.05) >= 1.3


def test_tables_quote_formulas_and_leave_nothing_empty():
    written = files.table_csv({"=name": np.array([1, 2]), "value": [0.5, float("nan")], "text": ["@x", None]})
    assert written == "'=name,value,text\n1,0.5,'@x\n2,,\n"
    with pytest.raises(ValueError):
        files.table_csv({"a": [1], "b": [1, 2]})
