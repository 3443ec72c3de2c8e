"""What a person waits for on the scaling page: from the key that moves a slider to the frame with the new numbers.

The real app in a real browser; times are the browser's own, from the key's
event until table and pictures have changed and the frame after that. The part
of it that is computing is given too. Nothing is asserted but that they changed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import numpy as np
import pytest

from engine import LocalEngine, Prompt, saturation, scaling
from tests.benchmarks import zh_en
from tests.benchmarks.measure import spent
from tests.browser.conftest import CHROMIUM_ARGUMENTS, SETTLED, running
from tests.find_browser import find_installed

REPEATS = 6
TEXT = "我喜欢吃苹果"
#: Arms a watch: it starts with the next key and stops when what `selectors` show has changed and been painted.
WATCH = """(selectors) => {
  const shown = (selector) => {
    const place = document.querySelector(selector), chart = place?.querySelector('.js-plotly-plot');
    return chart ? JSON.stringify(chart._fullData?.map((data) => [...(data.y ?? data.z ?? [])].join()))
                 : place?.textContent;
  };
  const before = selectors.map(shown);
  window.stopped = null;
  window.addEventListener('keydown', (event) => {
    const look = () => selectors.every((selector, i) => shown(selector) !== undefined && shown(selector) !== before[i])
      ? requestAnimationFrame(() => requestAnimationFrame((now) => { window.stopped = now - event.timeStamp; }))
      : requestAnimationFrame(look);
    requestAnimationFrame(look);
  }, {capture: true, once: true});
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator:
    """The page with a sentence measured, warm."""
    from playwright.sync_api import sync_playwright

    zh_en.folder()
    with running(tmp_path_factory.mktemp("app")) as app, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_installed(), args=list(CHROMIUM_ARGUMENTS))
        opened = browser.new_page(viewport={"width": 1280, "height": 1000}, locale="en-GB")
        opened.set_default_timeout(120_000)
        opened.goto(f"{app.url}/scaling?lang=en&model={zh_en.NAME}&text={TEXT}")
        opened.locator(".st-key-scaling-in-model-export").wait_for()
        opened.wait_for_selector(SETTLED, state="attached")
        yield opened
        browser.close()


def waits(page, key: str, selectors: list[str]) -> list[float]:
    """Seconds of each of REPEATS moves of a slider to the right."""
    slider = page.locator(f".st-key-{key}").get_by_role("slider")
    slider.scroll_into_view_if_needed()
    slider.focus()
    found = []
    for _turn in range(REPEATS):
        page.evaluate(WATCH, selectors)
        slider.press("ArrowRight")
        page.wait_for_function("window.stopped !== null")
        found.append(page.evaluate("window.stopped") / 1000)
        page.wait_for_selector(SETTLED, state="attached")
        page.wait_for_timeout(300)
    return found[1:]


def line(found: list[float], part: float) -> str:
    return (f"median {statistics.median(found):.2f} s, fastest {min(found):.2f} s, slowest {max(found):.2f} s of "
            f"{len(found)}; computing {part:.3f} s of processor time")


def test_d_k_moved(page, report):
    found = waits(page, "d_k", [".st-key-picture-chance-scores-without", ".st-key-picture-chance-row-without"])
    part = spent(lambda: [saturation.softmax_stats(scores) for scores in saturation.simulate(256, 128, 500)])
    report("scaling: d_k moved → histogram and row painted", line(found, part.processor), "≤ 0.3 s")


def test_n_moved_with_its_curve_over_every_d_k(page, report):
    # A sweep over all d_k, where nobody asked for this n before.
    page.locator(".st-key-n").get_by_role("slider").press("Home")
    page.wait_for_timeout(2_000)
    found = waits(page, "n", [".st-key-picture-chance-entropy", ".st-key-picture-chance-row-without"])

    def sweep() -> None:
        for d_head in 2 ** np.arange(2, 10.5, 0.5):
            for scores in saturation.simulate(round(d_head), 128, 500):
                saturation.softmax_stats(scores)

    report("scaling: n moved → curve over d_k and row painted", line(found, spent(sweep).processor), "≤ 0.3 s")


def test_multiplier_moved(page, report):
    found = waits(page, "half_octaves", [".st-key-picture-model-head"])
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
