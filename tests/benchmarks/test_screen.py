"""What a person waits for in the browser: from the key to the painted grid, and from the click to the painted head.

The real app runs with zh-en loaded. Times are the browser's own, from the input
event to the frame that shows the new picture; each is also given as a multiple
of the engine's part of the work, asked in this process in the same minute. Where
/proc tells, the processor time of app and browser stands beside them: on a busy
machine the waits say more about the machine.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from engine import LocalEngine, Prompt
from tests.benchmarks import zh_en
from tests.benchmarks.measure import SETTLED, processor_seconds
from tests.browser.conftest import CHROMIUM_ARGUMENTS, free_port, wait_until_healthy
from tests.find_browser import find_installed

ROOT = Path(__file__).resolve().parents[2]
WATCH = (Path(__file__).parent / "stopwatch.js").read_text(encoding="utf-8")
N_TOKENS = 20
REPEATS = 12
PEOPLE = ("我", "你", "他", "她", "我们", "他们", "你们", "老师", "学生", "朋友", "爸爸", "妈妈", "医生", "孩子")


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    """zh-en in this process, for token counts and for the engine's part."""
    made = LocalEngine(assets=zh_en.folder(), device="cpu")
    made.trace(Prompt(zh_en.NAME, "你好"))
    return made


@dataclass(frozen=True)
class App:
    """The running app: its address and its process."""

    url: str
    pid: int


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The running app, with zh-en among its models."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "ATTENTION_MODELS": str(zh_en.folder()), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with (tmp_path_factory.mktemp("app") / "app.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until_healthy(address, process)
        yield App(address, process.pid)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def page(app):
    """A page that shows zh-en's grid, warm: the model is loaded and probed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_installed(), args=list(CHROMIUM_ARGUMENTS))
        opened = browser.new_page(viewport={"width": 1280, "height": 1000}, locale="zh-CN")
        opened.set_default_timeout(120_000)
        opened.goto(f"{app.url}/attention?{urlencode({'model': zh_en.NAME, 'text': '你好', 'unit': 'tokens'})}")
        opened.locator(".am-grid[data-digest]").wait_for(state="attached")
        opened.wait_for_selector(SETTLED, state="attached")
        opened.evaluate(WATCH)
        yield opened
        browser.close()


def sentences(engine: LocalEngine) -> list[str]:
    """REPEATS + 1 different sentences of exactly N_TOKENS tokens, </s> among them."""
    found = []
    for person in PEOPLE:
        text = f"{person}每天早上在学校吃一个苹果，然后去图书馆看书，晚上和朋友一起看电视"
        while text and (n := len(engine.trace(Prompt(zh_en.NAME, text)).tokens("encoder").query)) > N_TOKENS:
            text = text[:-1]
        if text and n == N_TOKENS:
            found.append(text)
    assert len(found) > REPEATS, f"only {len(found)} sentences of {N_TOKENS} tokens"
    return found[:REPEATS + 1]


@dataclass(frozen=True)
class Wait:
    """Seconds from an input event to the new picture, and of the processor in that time, if known."""

    seconds: float
    app: float
    browser: float


def waited(page, app: App, event: str, names: list[str], act: Callable[[], None]) -> Wait:
    """What passes from the browser's `event` that `act` causes until all pictures in `names` are new on screen."""
    page.evaluate("([event, names]) => window.stopwatch(event, names)", [event, names])
    app_before, browser_before = processor_seconds(app.pid), browser_seconds(page)
    act()
    page.wait_for_function("window.stopped !== null", polling=100)
    app_after, browser_after = processor_seconds(app.pid), browser_seconds(page)
    milliseconds = page.evaluate("window.stopped")
    page.wait_for_selector(SETTLED, state="attached")
    page.wait_for_timeout(300)
    return Wait(milliseconds / 1000, app_after - app_before, browser_after - browser_before)


def browser_seconds(page) -> float:
    """Processor seconds of all the browser's processes so far."""
    session = page.context.browser.new_browser_cdp_session()
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return sum(process["cpuTime"] for process in found)


def line(waits: list[Wait], engine_part: list[float]) -> str:
    found, part = [wait.seconds for wait in waits], statistics.median(engine_part)
    middle = statistics.median(found)
    app, browser = (statistics.fmean(getattr(wait, name) for wait in waits) for name in ("app", "browser"))
    return (f"median {middle:.2f} s, fastest {min(found):.2f} s, slowest {max(found):.2f} s of {len(found)}; "
            f"{middle / part:.1f}× the engine's part ({part:.4f} s); "
            f"processor time: app {app:.2f} s, browser's processes {browser:.2f} s")


def test_sentence_to_grid(engine, app, page, report):
    box = page.locator("textarea").first
    found, engine_part = [], []
    fresh = LocalEngine(assets=zh_en.folder(), device="cpu")
    fresh.trace(Prompt(zh_en.NAME, "你好"))
    for text in sentences(engine):
        box.fill(text)
        found.append(waited(page, app, "keydown", ["grid"], lambda: box.press("Control+Enter")))
        assert page.locator("textarea").first.input_value() == text
        began = time.perf_counter()
        prompt = Prompt(zh_en.NAME, text)
        fresh.trace(prompt)
        fresh.summaries(prompt, "encoder")
        fresh.patterns(prompt, "encoder")
        engine_part.append(time.perf_counter() - began)
    # The first one warms the page's code.
    report(f"sentence of {N_TOKENS} tokens → grid painted", line(found[1:], engine_part[1:]),
           "≤ 0.6 s")


def test_head_to_repainted_head(engine, app, page, report):
    cells = page.get_by_role("gridcell")
    assert cells.count() > REPEATS - 1
    prompt = Prompt(zh_en.NAME, sentences(engine)[-1])
    engine.trace(prompt)
    found, engine_part = [], []
    for number in range(1, min(REPEATS, cells.count())):
        cell = cells.nth(number)
        cell.scroll_into_view_if_needed()
        box = cell.bounding_box()
        found.append(waited(page, app, "click", ["lines", "heatmap"], lambda box=box: page.mouse.click(
            box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)))
        began = time.perf_counter()
        engine.patterns(prompt, "encoder")
        engine_part.append(time.perf_counter() - began)
    report("another head chosen → its heatmap and lines painted", line(found, engine_part),
           "≤ 0.2 s")
