"""The memory page: how long a slider move takes to repaint, a book to be counted, a model to be weighed.

A repaint is the browser's own time from the key that moves the slider to the
frame that shows the new picture; beside it stands what the engine and the
figures take of it, measured in this process in the same minute.
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import pytest

from engine import LocalEngine, kv_growth, kv_memory
from tests.benchmarks import zh_en
from tests.benchmarks.measure import SETTLED
from tests.browser.conftest import CHROMIUM_ARGUMENTS, running
from tests.find_browser import find_installed

REPEATS = 12
#: Resolves with the milliseconds from the next key to the frame after the headline and the chart have both changed.
WATCH = """(chart) => new Promise((resolve) => {
    const shown = () => [document.querySelector("h3")?.textContent,
                         document.querySelector(`${chart} .js-plotly-plot`)?.querySelector("svg")?.innerHTML];
    const before = shown();
    let from = null;
    document.addEventListener("keydown", (event) => { from ??= event.timeStamp; }, {capture: true, once: true});
    const look = (now) => {
        const after = shown();
        if (from !== null && after[0] !== before[0] && after[1] && after[1] !== before[1]) { resolve(now - from); }
        else { requestAnimationFrame(look); }
    };
    requestAnimationFrame(look);
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The memory page in a browser, warm."""
    from playwright.sync_api import sync_playwright

    with running(tmp_path_factory.mktemp("memory")) as app, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_installed(), args=list(CHROMIUM_ARGUMENTS))
        opened = browser.new_page(viewport={"width": 1440, "height": 1000}, locale="en-GB")
        opened.set_default_timeout(60_000)
        opened.goto(f"{app.url}/memory?lang=en&kv_tokens=1024")
        opened.locator(".st-key-kv-needs .js-plotly-plot svg").first.wait_for()
        opened.wait_for_selector(SETTLED, state="attached")
        yield opened
        browser.close()


def server_part(n_tokens: int) -> float:
    """Seconds of the engine's arithmetic for one picture."""
    shape, setting = kv_memory.PRESETS["llama-3-8b"], kv_memory.Setting()
    began = time.perf_counter()
    for length in range(0, 2 * n_tokens, max(1, 2 * n_tokens // 160)):
        kv_memory.need(shape, length, setting)
    kv_memory.longest(shape, setting, gpu_bytes=24 * 2**30)
    return time.perf_counter() - began


def test_slider_repaints(page, report):
    slider = page.get_by_role("slider", name="Tokens in each sequence")
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_timeout(1500)
    found, part = [], []
    for number in range(REPEATS):
        handle = page.evaluate_handle(f"() => {{ window.moved = ({WATCH})('.st-key-kv-needs'); return null; }}")
        slider.press("ArrowRight")
        found.append(page.evaluate("window.moved") / 1000)
        handle.dispose()
        page.wait_for_selector(SETTLED, state="attached")
        page.wait_for_timeout(400)
        part.append(server_part(1024 + number))
    report("slider move → headline and curve repainted",
           f"median {statistics.median(found):.2f} s, fastest {min(found):.2f} s, slowest {max(found):.2f} s of "
           f"{len(found)}; the arithmetic in it {statistics.median(part):.3f} s", "≤ 0.3 s")


def test_a_book_is_counted(report):
    engine = LocalEngine(assets=zh_en.folder(), device="cpu")
    line = "我喜欢吃苹果，也喜欢在家看书。\n"
    book = line * (1_000_000 // len(line.encode()))
    count = partial(engine.submit, zh_en.NAME, partial(kv_growth.count_tokens, text=book))
    engine.submit(zh_en.NAME, lambda live: None).result()
    began = time.perf_counter()
    n_tokens = count().result()
    report("a book of 1 MB counted", f"{time.perf_counter() - began:.2f} s, {n_tokens:,} tokens", "≤ 5 s")


@pytest.mark.parametrize("name", ["gpt2", "llama-3-8b", "deepseek-v3"])
def test_a_model_is_weighed(report, name):
    kv_memory.measure(name, 8)
    began = time.perf_counter()
    kv_memory.measure(name, 8192)
    report(f"{name} built at full size and its cache weighed", f"{time.perf_counter() - began:.2f} s", "≤ 5 s")
