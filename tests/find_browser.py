"""Finds a Chromium for the tests, gets one when there is none, and prints its path.

In order: the one named by BROWSER_PATH; an installed Chromium, Chrome or Edge;
Playwright's own download; as root on Debian, the package `chromium`. A candidate
counts only if it answers `--version`. Ends with a plain message and exit status 1
when nothing is left to try. Knows nothing about the tests that use the browser.

    python tests/find_browser.py      # path on stdout, what it does on stderr
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge",
)
MAC_PATHS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)


def starts(path: str) -> bool:
    """True if the browser at `path` runs at all: a download without its system libraries does not."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def installed() -> Iterator[str]:
    """Paths where a browser may stand already, most wanted first."""
    if named := os.environ.get("BROWSER_PATH"):
        yield named
    yield from filter(None, map(shutil.which, NAMES))
    yield from filter(os.path.exists, MAC_PATHS)


def playwright_download() -> str | None:
    """Has Playwright fetch its Chromium (nothing to do when it is there) and returns its path, or None."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    if not Path(path).exists():
        say("No Chromium is installed; Playwright downloads its own ...")
        command = [sys.executable, "-m", "playwright", "install", "--no-shell", "chromium"]
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            return None
    return path


def debian_package() -> str | None:
    """As root on Debian, installs the package `chromium`; its path, or None."""
    if not (hasattr(os, "geteuid") and os.geteuid() == 0 and os.path.exists("/etc/debian_version")):
        return None
    say("Installing the Debian package chromium ...")
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]):
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            return None
    return shutil.which("chromium")


def find_installed() -> str | None:
    """The first installed browser that starts, or None. Fetches nothing."""
    return next(filter(starts, installed()), None)


def find() -> str | None:
    """A browser that starts, fetched if need be, or None."""
    if path := find_installed():
        return path
    for get in (playwright_download, debian_package):
        path = get()
        if path and starts(path):
            return path
    return None


def say(message: str) -> None:
    """Writes to stderr: stdout carries the path alone."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    found = find()
    if found is None:
        say(
            "Expected a Chromium for the browser tests; found none that starts, and could not get one.\n"
            "Install Chromium or Chrome, or name one: BROWSER_PATH=/path/to/chromium make test"
        )
        sys.exit(1)
    print(found)
