"""What all figures have in common: one size of text, one way to write a number, one way to shorten a name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pages.figures import emergence, evidence, frame, memory, normalization, positions, qkv, qkv_charts, scaling
from pages.figures.attention import pattern_heatmap

VALUES = np.array([0.1, 0.7, 0.2])
LABELS = ["a", "b", "c"]
FIGURES = {
    "heatmap": lambda: pattern_heatmap(np.eye(3, dtype=np.float32), query_labels=LABELS, key_labels=LABELS, texts={
        "query": "query", "key": "key", "weight": "weight"}),
    "bars": lambda: qkv.bars(VALUES, labels=LABELS, name="weight"),
    "pairs": lambda: qkv_charts.pairs(VALUES, VALUES, labels=LABELS, names=("a", "b"), value="norm", selected=0),
    "grouped bars": lambda: scaling.grouped_bars({"with": VALUES}, names={"with": "with"}, labels=LABELS, x_title="x",
                                                 y_title="y"),
    "changes": lambda: normalization.changes(LABELS, {"LayerNorm": VALUES}, y_name="change"),
}


def names(layout: dict) -> list[dict]:
    """The titles of all axes that have one."""
    return [axis["title"] for name, axis in layout.items() if name[:5] in ("xaxis", "yaxis") and "title" in axis]


@pytest.mark.parametrize("name", FIGURES)
def test_axis_names_are_as_large_as_all_other_text(name):
    layout = json.loads(FIGURES[name]().to_json())["layout"]
    assert names(layout) and {title["font"]["size"] for title in names(layout)} == {layout["font"]["size"]}


def test_every_axis_is_named_in_one_way():
    for module in (emergence, evidence, memory, normalization, positions, qkv, qkv_charts, scaling):
        with open(module.__file__, encoding="utf-8") as file:
            lines = [line for line in file if '"title": {"text"' in line]
        assert all('"side"' in line for line in lines), f"{module.__name__}: only colour bars are named otherwise"


@pytest.mark.parametrize(("value", "told", "short"), [
    (1234.4, "1,234", "1,234"), (999.6, "1,000", "1,000"), (12.345, "12.35", "12.3"), (0.5, "0.50", "0.5"),
    (0.01, "0.01", "0.01"), (0.00912, "0.00912", "0.00912"), (9.16e-5, "9.16 × 10⁻⁵", "9.16 × 10⁻⁵"),
    (1e-12, "1.00 × 10⁻¹²", "1.00 × 10⁻¹²"), (0.0, "0", "0"),
])
def test_how_numbers_are_written(value, told, short):
    assert frame.compact(value) == short
    assert frame.readable(value) == told


def test_a_negative_number_has_a_real_minus_and_its_power_too():
    assert frame.compact(-9.16e-5) == "−9.16 × 10⁻⁵"
