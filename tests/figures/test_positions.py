"""The position figures: what they carry, that equal arrays give equal JSON, that text is escaped."""

from __future__ import annotations

import base64
import json
import struct
import zlib

import numpy as np
import pytest

from pages.figures import palette, positions

TEXTS = {"position": "<b>position", "dimension": "dimension", "value": "value", "query": "<i>query", "key": "key"}
TABLE = np.random.default_rng(0).normal(size=(12, 8))


def pixels(figure) -> np.ndarray:
    """The palette indices of a picture's PNG."""
    data = base64.b64decode(figure.data[0].source.split(",", 1)[1])
    columns, rows = struct.unpack(">II", data[16:24])
    at, raw = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        raw += data[at + 8:at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    return np.frombuffer(zlib.decompress(raw), np.uint8).reshape(rows, columns + 1)[:, 1:]


def drawn(theme="light"):
    x = np.arange(20)
    return {
        "table": positions.table(TABLE, texts=TEXTS, row=3, column=2, theme=theme),
        "large table": positions.table(np.tile(TABLE, (20, 20)), texts=TEXTS, theme=theme),
        "lines": positions.lines(x, {"<u>a": x / 2, "b": x**2 + 1.0}, x_name="<s>x", y_name="y", log_y=True,
                                 marker=(2, 1.0), level=(10.0, "<b>level"), place=(5.0, "place"), theme=theme),
        "graded": positions.graded_lines(x, np.outer(np.arange(5), x), names=["<h>0", "1", "2", "3", "4"], chosen=1,
                                         x_name="x", y_name="y", place=(4.0, "t"), theme=theme),
        "pairs": positions.turning_pairs(np.outer([1.0, 0.1], x), names=["<p>0", "1"], theme=theme),
        "grid": positions.grid(np.where(np.eye(4, dtype=bool), np.nan, 1.0), texts=TEXTS, theme=theme),
    }


@pytest.mark.parametrize("theme", palette.THEMES)
def test_equal_arrays_give_equal_json_and_no_markup(theme):
    first, second = drawn(theme), drawn(theme)
    for name, figure in first.items():
        written = figure.to_json()
        assert written == second[name].to_json()
        plain = written.replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u002f", "/")
        for ours in ("<br>", "<extra>", "</extra>"):
            plain = plain.replace(ours, "")
        assert "<" not in plain, name
        assert all(not isinstance(trace.to_plotly_json().get("x"), list) for trace in figure.data)
        assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"


def test_a_small_table_carries_its_numbers():
    figure = drawn()["table"]
    np.testing.assert_allclose(figure.data[0].z, TABLE.astype(np.float32))
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-np.abs(TABLE).max(), np.abs(TABLE).max())
    outlines = [(s.x0, s.x1, s.y0, s.y1) for s in figure.layout.shapes]
    assert outlines == [(-0.5, 7.5, 2.5, 3.5)] * 2 + [(1.5, 2.5, -0.5, 11.5)] * 2
    assert [s.line.color for s in figure.layout.shapes] == 2 * [palette.BACKGROUND["light"], palette.TEXT["light"]]
    assert list(figure.layout.yaxis.range) == [11.5, -0.5]


def test_a_large_table_is_one_picture_of_the_same_colours():
    values = np.tile(TABLE, (20, 20))
    assert values.size > positions.POINTED_CELLS
    figure = drawn()["large table"]
    assert figure.data[0].type == "image"
    np.testing.assert_array_equal(pixels(figure), palette.differences_to_bytes(values, limit=np.abs(TABLE).max()))


def test_lines_carry_series_and_comparisons():
    figure = drawn()["lines"]
    named = [trace for trace in figure.data if trace.showlegend is not False]
    assert [trace.name for trace in named] == ["&lt;u>a", "b"] and figure.layout.showlegend
    np.testing.assert_array_equal(named[1].y, np.arange(20) ** 2 + 1.0)
    assert len({(t.line.color, t.line.dash) for t in named}) == 2
    level, place = figure.layout.shapes
    assert (level.y0, level.y1) == (10.0, 10.0) and (place.x0, place.x1) == (5.0, 5.0)
    assert figure.layout.annotations[0].y == pytest.approx(1.0)  # annotations on a log axis stand in powers of ten


def test_the_chosen_head_is_drawn_last_and_in_the_accent():
    figure = drawn()["graded"]
    assert figure.data[-1].name == "1" and figure.data[-1].line.color == palette.ACCENT["light"]
    np.testing.assert_array_equal(figure.data[-1].y, np.arange(20))
    assert palette.ACCENT["light"] not in {trace.line.color for trace in figure.data[:-1]}


def test_hands_point_where_the_angles_say():
    figure = drawn()["pairs"]
    hands = [trace for trace in figure.data if trace.mode == "lines+markers"]
    for centre, angle, hand in zip((0.0, 2.7), (19.0, 1.9), hands, strict=True):
        np.testing.assert_allclose(hand.x, [centre, centre + np.cos(angle)])
        np.testing.assert_allclose(hand.y, [0.0, np.sin(angle)])


def test_what_is_hidden_has_the_masked_colour():
    assert drawn()["grid"].layout.plot_bgcolor == palette.MASKED["light"]
    whole = positions.grid(np.ones((3, 3)), texts=TEXTS)
    assert whole.layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_json_is_small_at_512():
    figure = positions.table(np.random.default_rng(0).normal(size=(512, 512)), texts=TEXTS)
    assert len(json.dumps(figure.to_dict(), default=str)) < 600_000
