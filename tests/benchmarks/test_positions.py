"""What the positions page costs: its numbers and pictures at n = d = 512, and one move of a slider in the app.

The move is Streamlit's own run of the page's part, without a browser (AppTest);
the browser adds its painting. Nothing is asserted but that the work was done.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np

from engine import positions
from pages.figures import positions as figures
from tests.benchmarks import zh_en

APP = str(Path(__file__).resolve().parents[2] / "app.py")
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


def test_a_slider_move(report):
    from streamlit.testing.v1 import AppTest

    zh_en.folder()
    app = AppTest.from_file(APP, default_timeout=120)
    app.query_params["lang"] = "en"
    app.run()
    app.switch_page("pages/positions.py").run()
    values = iter(range(64, 512, 8))

    def move() -> None:
        app.slider(key="n").set_value(next(values))
        app.run()
        assert not app.exception and not app.error

    report("positions: a move of n, the whole page run again", line(seconds(move)), "≤ 0.3 s")
