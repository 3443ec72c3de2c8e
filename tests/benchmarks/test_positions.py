"""What the positions page costs: its numbers and pictures at n = d = 512, and a slider's move in the browser.

A move is timed by the browser, from the key's event to the frame after headline
and pictures have changed. Nothing is asserted but that the work was done.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import numpy as np
import pytest

from engine import positions
from pages.figures import positions as figures
from tests.benchmarks import repaint, zh_en

TEXTS = {"position": "position", "dimension": "dimension", "value": "value"}
REPEATS = 7


def seconds(job) -> list[float]:
    """Wall-clock seconds of each of REPEATS runs after one unmeasured."""
    job()
    found = []
    for _turn in range(REPEATS):
        began = time.perf_counter()
        job()
        found.append(time.perf_counter() - began)
    return found


def line(found: list[float]) -> str:
    return f"median {statistics.median(found):.3f} s, slowest {max(found):.3f} s of {len(found)}"


def test_positions_at_512(report):
    def work() -> None:
        table = positions.sinusoidal(512, 512)
        frequencies = positions.rope_frequencies(512)
        alike = positions.similarity(table, 100)
        places = np.arange(512)
        shown = [figures.table(table, texts=TEXTS, row=100, column=8),
                 figures.lines(places, {"8": table[:, 8]}, x_name="position", y_name="value"),
                 figures.lines(places, {"alike": alike}, x_name="position", y_name="cosine"),
                 figures.lines(places[:256], {"λ": positions.wavelengths(frequencies)}, x_name="pair", y_name="λ")]
        positions.rope_rotate(table, places, frequencies)
        assert all(len(figure.to_json()) > 100 for figure in shown)

    report("positions: table, similarity, rotation and pictures at n = d = 512", line(seconds(work)), "≤ 0.5 s")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator:
    """The page with sinusoids shown, warm."""
    address = f"positions?lang=en&model={zh_en.NAME}"
    with repaint.opened(tmp_path_factory.mktemp("app"), address, until=".st-key-own .js-plotly-plot") as page:
        yield page


@pytest.mark.parametrize(("key", "pictures"), [("d", ["similarity"]), ("at", ["similarity"])])
def test_a_slider_move(page, report, key, pictures):
    selectors = [".st-key-said", *(f".st-key-picture-{name}" for name in pictures)]
    found = repaint.slider(page, key, selectors)
    report(f"positions: slider “{key}” → headline, formula and pictures repainted", repaint.line(found), "≤ 0.3 s")
