"""The exported files, read back with other libraries than wrote them."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from pages.figures import attention, files

WEIGHTS = np.array([[1.0, np.nan], [0.25, 0.75]], np.float32)
TEXTS = {"query": "query", "key": "key", "weight": "weight"}


def test_csv_holds_what_was_taken_from_each_row_beside_its_keys():
    text = files.pattern_csv(WEIGHTS, query_labels=["a", "b"], key_labels=["x", "y"],
                             beside={"=removed": np.array([0.5, 0.125], np.float32)})
    assert list(csv.reader(io.StringIO(text))) == [
        ["", "x", "y", "'=removed"], ["a", "1.000000", "", "0.500000"], ["b", "0.250000", "0.750000", "0.125000"]]


def test_csv_reads_back_with_masked_cells_empty():
    rows = list(csv.reader(io.StringIO(files.pattern_csv(WEIGHTS, query_labels=['a,"b', "二"], key_labels=["x", "y"]))))
    assert rows == [["", "x", "y"], ['a,"b', "1.000000", ""], ["二", "0.250000", "0.750000"]]


@pytest.mark.parametrize("label", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_csv_labels_are_no_formulas(label):
    text = files.pattern_csv(WEIGHTS[:1, :1], query_labels=[label], key_labels=["x"])
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert not rows[1][0].startswith(("=", "+", "-", "@", "\t", "\r"))


def test_json_has_null_for_what_is_no_number():
    value = json.loads(files.to_json({"a": WEIGHTS, "b": (np.float32(np.inf), np.int64(2)), "文": "苹果"}))
    assert value == {"a": [[1.0, None], [0.25, 0.75]], "b": [None, 2], "文": "苹果"}


def test_svg_is_xml_with_a_picture_for_each_head_and_escaped_labels():
    cells = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    names = np.full((2, 3), "<b>&", dtype=object)
    svg = ElementTree.fromstring(files.grid_svg(
        cells, order=[(1, 2), (0, 0)], captions=names, labels=names, title="<t>", notes=["&1", "2"], theme="dark"))
    space = "{http://www.w3.org/2000/svg}"
    bar, *heads = svg.findall(f"{space}image")
    assert [text.text for text in svg.findall(f"{space}text")] == ["<t>", "&1", "2", "0", "1"] + ["<b>&"] * 4
    assert len(heads) == 2 and bar.get("width") == "200"
    above = [float(text.get("y")) for text in svg.findall(f"{space}text")[:5]]
    assert max(above) < min(float(head.get("y")) for head in heads) and sorted(above) == above
    assert max(float(head.get("y")) for head in heads) + files.SIDE < float(svg.get("height"))


def test_page_is_self_contained_and_escapes_what_was_typed():
    figure = attention.pattern_heatmap(WEIGHTS, query_labels=["a", "b"], key_labels=["x", "y"], texts=TEXTS)
    page = files.page_html(figure, title="<t>", language="zh_CN", facts=[("Sentence", "<script>alert(1)</script>")],
                           grid="<svg></svg>", theme="light")
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page and "<title>&lt;t&gt;" in page
    assert 'src="http' not in page and "cdn.plot.ly" not in page.split("<h1>")[1].split("Plotly.newPlot")[0][:2000]
    assert len(page) > 1_000_000  # Plotly's own script is inside
