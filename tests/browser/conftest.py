"""The running app and a Chromium to drive it with.

`app` starts the real app as a person would, on a free port, with an empty
models folder; `slow_line` leads to it over a line that can be held back; `page`
is a fresh browser context whose test fails on any request to another host and
on any console error. Knows nothing of what the pages show.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.find_browser import find_installed

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
START_SECONDS = 60
SETTLE_SECONDS = 60
LOG_CHARACTERS = 6_000
CHROMIUM_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)
#: All tabs of the site in one process, which holds the app's scripts compiled while one tab of it is open.
ONE_PROCESS = "--process-per-site"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
#: Opened at /attention, Streamlit first asks whether the app lives under that path; the 404 is its answer.
BASE_PATH_PROBE = re.compile(r"/\w+/_stcore/(health|host-config)")
#: Any host but this machine resolves to nothing; a route would do the same, but it turns the browser's cache off.
STAY_HERE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"
#: Knows whether every run that this page has asked for has begun and ended.
RUNS = (FOLDER / "runs.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class App:
    """The running app: its address, its log file, and the models folder it reads."""

    url: str
    log: Path
    models: Path

    def log_tail(self) -> str:
        """The end of what the app has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Everything in this folder needs a browser."""
    item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Puts the app's log under a failed test."""
    report = yield
    app = getattr(item, "funcargs", {}).get("app")
    if report.failed and app is not None:
        report.sections.append(("log of the app", app.log_tail()))
    return report


def free_port() -> int:
    """A TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_healthy(url: str, process: subprocess.Popen) -> None:
    """Returns once the app answers; raises TimeoutError, or RuntimeError when it has ended."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the app ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise TimeoutError(f"the app did not answer within {START_SECONDS} s")


@contextmanager
def running(folder: Path) -> Iterator[App]:
    """The real app on a free port, its log and models folder in `folder`; stopped at the end."""
    models = folder / "models"
    models.mkdir()
    port = free_port()
    app = App(f"http://127.0.0.1:{port}", folder / "app.log", models)
    environment = os.environ | {
        "ATTENTION_MODELS": str(models), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1",
        "ATTENTION_CACHE": str(folder / "references"),
    }
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with app.log.open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        try:
            wait_until_healthy(app.url, process)
        except (RuntimeError, TimeoutError) as error:
            pytest.fail(f"{error}; its log:\n{app.log_tail()}", pytrace=False)
        yield app
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The real app, one for the session."""
    with running(tmp_path_factory.mktemp("app")) as shared:
        yield shared


@pytest.fixture
def fresh_app(tmp_path: Path) -> Iterator[App]:
    """The real app, started for one test: nobody has visited it yet."""
    with running(tmp_path) as unvisited:
        yield unvisited


@pytest.fixture(scope="session")
def app_url(app: App) -> str:
    """Where the running app answers, without a trailing slash."""
    return app.url


class SlowLine:
    """A line to the app: `url` leads to it, and what the app sends arrives `seconds` late, in order."""

    def __init__(self, port: int) -> None:
        self.seconds = 0.0
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._connect, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Ends every connection and the thread."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(START_SECONDS)

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_app, to_app = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._pass(reader, to_app, late=False), self._pass(from_app, writer, late=True))
        except (ConnectionError, asyncio.CancelledError):  # the browser has left, or the line is closed
            pass
        finally:
            writer.close()
            to_app.close()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, late: bool) -> None:
        async def deliver() -> None:
            while (parcel := await parcels.get()) is not None:
                due, content = parcel
                await asyncio.sleep(due - self._loop.time())
                sink.write(content)
                await sink.drain()
            sink.write_eof()

        parcels: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
        delivering = asyncio.create_task(deliver())
        while content := await source.read(2**16):
            parcels.put_nowait((self._loop.time() + (self.seconds if late else 0.0), content))
        parcels.put_nowait(None)
        await delivering


@pytest.fixture
def slow_line(app: App) -> Iterator[SlowLine]:
    """A line to the app, at first as quick as any."""
    line = SlowLine(urlsplit(app.url).port)
    yield line
    line.close()


@pytest.fixture(scope="session")
def chromium():
    """Playwright's Chromium and how to launch it: the installed one, or the one `make test` has fetched."""
    from playwright.sync_api import sync_playwright

    path = find_installed()
    if path is None:
        pytest.fail("Expected a Chromium; found none. `make test` gets one; BROWSER_PATH names one.", pytrace=False)
    with sync_playwright() as playwright:
        yield playwright.chromium, {"executable_path": path, "args": [*CHROMIUM_ARGUMENTS, STAY_HERE]}


def options(locale: str) -> dict[str, object]:
    """Of a browser profile: 1280 px wide, light."""
    return {"viewport": {"width": 1280, "height": 900}, "locale": locale, "color_scheme": "light",
            "reduced_motion": "reduce", "accept_downloads": True}


def prepare(profile) -> None:
    """Lets `settled` wait for the profile's pages."""
    profile.set_default_timeout(SETTLE_SECONDS * 1000)
    profile.add_init_script(RUNS)


@pytest.fixture(scope="session")
def profile(chromium, app, tmp_path_factory):
    """One profile for the session, English, on disk: a profile in memory compiles the app's scripts for every page.

    Its first tab stays at an address of the app that runs nothing, and keeps the process that later tabs use.
    """
    kind, start = chromium
    start = start | {"args": [*start["args"], ONE_PROCESS]}
    kept = kind.launch_persistent_context(tmp_path_factory.mktemp("profile"), **start, **options("en-GB"))
    kept.pages[0].goto(f"{app.url}/_stcore/health")
    prepare(kept)
    yield kept
    kept.close()


@pytest.fixture
def context(profile):
    """The profile as new but for its caches: no page, no cookie, nothing stored; a request to another host fails."""
    foreign: list[str] = []

    def judge(request) -> None:
        address = urlsplit(request.url)
        if address.scheme in {"http", "https", "ws", "wss"} and address.hostname not in LOOPBACK:
            foreign.append(request.url)

    profile.on("request", judge)
    yield profile
    _first, *others = profile.pages
    for opened in others:
        if opened.url.startswith("http"):
            opened.evaluate("localStorage.clear(), sessionStorage.clear()")
        opened.close()
    profile.clear_cookies()
    profile.remove_listener("request", judge)
    assert not foreign, f"requests left this machine: {foreign}"


@pytest.fixture
def page(context):
    """A fresh page; errors on its console or in its scripts fail the test."""
    complaints: list[str] = []

    def judge(message) -> None:
        url = message.location.get("url", "")
        if message.type == "error" and not BASE_PATH_PROBE.fullmatch(urlsplit(url).path):
            complaints.append(f"{message.text} ({url})")

    def listen(opened) -> None:
        opened.on("console", judge)
        opened.on("pageerror", lambda error: complaints.append(str(error)))

    context.on("page", listen)
    yield context.new_page()
    context.remove_listener("page", listen)
    assert not complaints, f"errors on the browser's console: {complaints}"


@pytest.fixture
def settled():
    """The function that waits until every run that was asked for has ended and is drawn: `settled(page)`."""

    def wait(page) -> None:
        calm = page.evaluate("milliseconds => window.runs.settled(milliseconds)", SETTLE_SECONDS * 1000)
        assert calm, f"the page did not come to rest within {SETTLE_SECONDS} s"

    return wait
