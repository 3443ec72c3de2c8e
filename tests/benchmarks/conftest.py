"""Marks everything in this folder `benchmark`, gives it time, and lets it print its lines at once."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
SECONDS = 900


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The hook sees every collected test, so it looks for this folder's."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.benchmark)
            if config.pluginmanager.hasplugin("timeout"):
                # Before the general limit that tests/conftest.py has added: the first one found counts.
                item.add_marker(pytest.mark.timeout(SECONDS), append=False)


@pytest.fixture
def report(capsys: pytest.CaptureFixture):
    """Prints one plain line, `report(name, measured, goal)`, also without pytest's -s."""

    def line(name: str, measured: str, goal: str) -> None:
        with capsys.disabled():
            print(f"\n{name}: {measured} (goal {goal})", end="", flush=True)

    return line
