"""What a person waits for on the scaling page: from the key that moves a slider to the frame with the new numbers.

The real app in a real browser; times are the browser's own, from the key's
event until table and pictures have changed and the frame after that. The part
of it that is computing is given too. Nothing is asserted but that they changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from engine import LocalEngine, Prompt, saturation, scaling
from tests.benchmarks import repaint, zh_en
from tests.benchmarks.measure import spent

TEXT = "我喜欢吃苹果"
@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator:
    """The page with a sentence measured, warm."""
    address = f"scaling?lang=en&model={zh_en.NAME}&text={TEXT}"
    with repaint.opened(tmp_path_factory.mktemp("app"), address, until=".st-key-scaling-in-model-export") as page:
        yield page


def line(found: list[float], part: float) -> str:
    return f"{repaint.line(found)}; computing {part:.3f} s of processor time"


def test_d_k_moved(page, report):
    found = repaint.slider(page, "d_k", [".st-key-picture-chance-scores", ".st-key-picture-chance-row"])
    part = spent(lambda: [saturation.softmax_stats(scores) for scores in saturation.simulate(256, 128, 500)])
    report("scaling: d_k moved → histogram and row painted", line(found, part.processor), "≤ 0.3 s")


def test_n_moved_with_its_curve_over_every_d_k(page, report):
    # A sweep over all d_k, where nobody asked for this n before.
    page.locator(".st-key-n").get_by_role("slider").press("Home")
    page.wait_for_timeout(2_000)
    found = repaint.moves(page, "n", ["ArrowRight"] * repaint.REPEATS,
                          [".st-key-picture-chance-over-d-head", ".st-key-picture-chance-row"])

    def sweep() -> None:
        for d_head in 2 ** np.arange(2, 10.5, 0.5):
            for scores in saturation.simulate(round(d_head), 128, 500):
                saturation.softmax_stats(scores)

    report("scaling: n moved → curve over d_k and row painted", line(found, spent(sweep).processor), "≤ 0.3 s")


def test_multiplier_moved(page, report):
    found = repaint.slider(page, "half_octaves", [".st-key-picture-model-head"])
    engine, prompt = LocalEngine(assets=zh_en.folder(), device="cpu"), Prompt(zh_en.NAME, TEXT)
    scaling.heads(engine, prompt)
    parts = {name: spent(job).wall for name, job in {
        "heads": lambda: scaling.heads(engine, prompt), "gradients": lambda: scaling.gradients(engine, prompt),
        "one output": lambda: scaling.outputs(engine, prompt, (0.5,)),
    }.items()}
    report("scaling: multiplier moved → the head's curve painted", line(found, 0.0), "≤ 0.3 s")
    report("scaling: measured once a sentence", ", ".join(f"{name} {part:.2f} s" for name, part in parts.items()),
           "none")


def test_measuring_takes_no_longer_for_a_long_text(report):
    engine = LocalEngine(assets=zh_en.folder(), device="cpu")
    for length in (1, 8, 24):
        prompt = Prompt(zh_en.NAME, "我喜欢吃苹果，" * length)
        engine.trace(prompt)
        began = time.perf_counter()
        found = scaling.heads(engine, prompt)["encoder"]
        report(f"scaling: every head at every multiplier, {found.q_len} tokens ({found.rows} rows measured)",
               f"{time.perf_counter() - began:.2f} s", "none")
