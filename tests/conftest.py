"""What every test shares: one thread for torch, a time limit, and order.

Imports neither Streamlit nor Playwright nor torch, so that the CUDA tests run
with a Python that has only torch, transformers and pytest.
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from engine import Evidence, LocalEngine

# Before anything imports torch: two test processes with all cores each are slower than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent
TEST_SECONDS = 120
#: Where a marker says that more is asked for: of a browser's walk, 40 s on an idle machine.
LONGER = {"gpu": 600, "browser": 300}
FILES_A_THAW = 24


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
                seconds = [TEST_SECONDS, *(LONGER[name] for name in LONGER if item.get_closest_marker(name))]
                item.add_marker(pytest.mark.timeout(max(seconds)))
    items.sort(key=lambda item: "browser" in item.path.relative_to(ROOT).parts)


@pytest.fixture(scope="session")
def files_begun() -> Iterator[int]:
    """Counts a process's files of tests."""
    return itertools.count()


@pytest.fixture(scope="module", autouse=True)
def thaw(files_begun: Iterator[int]) -> None:
    """Lets the engines of past files go, now and then: an engine takes what it has loaded out of the collector's sight.

    Each time, torch and all the tests are walked through, which takes longer than most files; what stays is put out of
    sight again, so that loads and pages do not walk through it either.
    """
    if next(files_begun) % FILES_A_THAW == 0:
        gc.unfreeze()
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where statistics of the reference corpus are kept for all who ask the embedded model: ATTENTION_CACHE for them.

    A file's name there tells the weights, the sentences and the bounds that it was measured with.
    """
    return tmp_path_factory.mktemp("references")


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, references: Path) -> LocalEngine:
    """An engine of the embedded models on the CPU, with an empty models folder, for tests that only ask it."""
    from engine import LocalEngine
    from tests.engine import oracle

    made = LocalEngine(assets=oracle.ASSETS, folder=tmp_path_factory.mktemp("none"), device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTENTION_CACHE", str(references))
        assert made._references is not None  # made at its first use, of the folder named then
    return made


@pytest.fixture(scope="session")
def ask(embedded: LocalEngine) -> Callable[..., Evidence]:
    """`embedded.evidence` of zh-en: (text, query, key, …) → Evidence, each question once."""
    from engine import Prompt

    @functools.cache
    def answer(text: str, query: str, key: str, **options: str | None) -> Evidence:
        return embedded.evidence(Prompt("zh-en", text), query, key, **options)

    return answer


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT
