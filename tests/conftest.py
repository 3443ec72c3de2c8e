"""What every test shares: one thread for torch, a time limit, and order.

Imports neither Streamlit nor Playwright nor torch, so that the CUDA tests run
with a Python that has only torch, transformers and pytest.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports torch: two test processes with all cores each are slower than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent
TEST_SECONDS = 120
GPU_TEST_SECONDS = 600


def pytest_configure(config: pytest.Config) -> None:
    """A CUDA run's Python is the machine's own: what its packages deprecate, while imported too, is no failure."""
    if config.option.markexpr == "gpu":
        config.addinivalue_line("filterwarnings", "default")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """In a CUDA run, opens only files that hold CUDA tests: the others may import what is not installed."""
    if config.option.markexpr != "gpu" or collection_path.suffix != ".py":
        return None
    return True if "mark.gpu" not in collection_path.read_text(encoding="utf-8") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Gives every test a time limit where pytest-timeout is installed, and runs the browser's last.

    Last, because Playwright's loop stays on the main thread until the session ends.
    """
    if config.pluginmanager.hasplugin("timeout"):
        for item in items:
            if item.get_closest_marker("timeout") is None:
                seconds = GPU_TEST_SECONDS if item.get_closest_marker("gpu") else TEST_SECONDS
                item.add_marker(pytest.mark.timeout(seconds))
    items.sort(key=lambda item: "browser" in item.path.relative_to(ROOT).parts)


@pytest.fixture(scope="module", autouse=True)
def thaw() -> Iterator[None]:
    """Lets the engines of a file go: an engine takes what it has loaded out of the collector's sight."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT
