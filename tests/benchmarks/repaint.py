"""How long a page takes to repaint: from a person's key to the frame after text and pictures have changed.

The real app in a real browser; times are the browser's own. It knows nothing of what the pages show.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks import zh_en
from tests.benchmarks.measure import SETTLED
from tests.browser.conftest import CHROMIUM_ARGUMENTS, running
from tests.find_browser import find_installed

REPEATS = 6
#: Arms a watch: it starts with the next key and stops when what `selectors` show has changed and been painted. It looks
#: when the page has changed, not in every frame: a frame asked for is a frame painted, in the time that is measured.
WATCH = """(selectors) => {
  const shown = (selector) => {
    const place = document.querySelector(selector), chart = place?.querySelector('.js-plotly-plot');
    const numbers = (data) => [data.x, data.y, data.z].map((values) => [...(values ?? [])].join());
    if (chart) return JSON.stringify([chart._fullData?.map(numbers),
                                      chart._fullLayout?.shapes?.map((shape) => [shape.x0, shape.y0])]);
    // A slider writes its value at once; what st.markdown has written comes with the run.
    const written = [...(place?.querySelectorAll('[data-testid=stMarkdown]') ?? [])];
    return written.length ? written.map((one) => one.textContent).join() : place?.textContent;
  };
  const before = selectors.map(shown);
  window.stopped = null;
  window.addEventListener('keydown', (event) => {
    const changed = (selector, i) => { const now = shown(selector); return now !== undefined && now !== before[i]; };
    const observer = new MutationObserver(() => {
      if (!selectors.every(changed)) return;
      observer.disconnect();
      // The next frame shows it; when the one after begins, it has been shown.
      requestAnimationFrame(() => requestAnimationFrame((now) => { window.stopped = now - event.timeStamp; }));
    });
    observer.observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
  }, {capture: true, once: true});
}"""


@contextmanager
def opened(folder: Path, address: str, *, until: str) -> Iterator:
    """A page of the running app at `address`, warm: `until` is on it and the run is over."""
    from playwright.sync_api import sync_playwright

    zh_en.folder()
    with running(folder) as app, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_installed(), args=list(CHROMIUM_ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, locale="en-GB")
        page.set_default_timeout(120_000)
        page.goto(f"{app.url}/{address}")
        page.locator(until).first.wait_for()
        page.wait_for_selector(SETTLED, state="attached")
        yield page
        browser.close()


def keys(page, pressed: Sequence[str], selectors: list[str]) -> list[float]:
    """Seconds of each key after the first, until everything that `selectors` show has changed and been painted."""
    found = []
    for key in pressed:
        page.evaluate(WATCH, selectors)
        page.keyboard.press(key)
        page.wait_for_function("window.stopped !== null", polling=100)
        found.append(page.evaluate("window.stopped") / 1000)
        page.wait_for_selector(SETTLED, state="attached")
        page.wait_for_timeout(300)
    return found[1:]


def slider(page, key: str, selectors: list[str]) -> list[float]:
    """Seconds of each of REPEATS moves of the slider `key` to the right and as many back, the first left out."""
    return moves(page, key, ["ArrowRight"] * REPEATS + ["ArrowLeft"] * REPEATS, selectors)


def moves(page, key: str, pressed: Sequence[str], selectors: list[str]) -> list[float]:
    """Seconds of each key pressed on the slider `key`, the first left out."""
    handle = page.locator(f".st-key-{key}").get_by_role("slider")
    handle.scroll_into_view_if_needed()
    handle.focus()
    return keys(page, pressed, selectors)


def line(found: list[float]) -> str:
    return (f"median {statistics.median(found):.2f} s, fastest {min(found):.2f} s, slowest {max(found):.2f} s of "
            f"{len(found)}")
