"""Models, an engine and oracles that the tests of several files only ask, made once a process.

A test that changes a model, a folder or an engine makes its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine import LocalEngine
from tests.engine import oracle
from tests.engine.bounds import BRIEF


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with every tiny model that must be shown."""
    return oracle.save_tiny(tmp_path_factory.mktemp("shown"), oracle.SHOWN)


@pytest.fixture(scope="session")
def engine(folder: Path) -> LocalEngine:
    """Of the embedded models and those of `folder`, on the CPU, with brief outputs."""
    return LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu", bounds=BRIEF)


@pytest.fixture(scope="session")
def oracles(folder: Path) -> Callable[[str], oracle.Oracle]:
    """Model's name → its oracle."""
    made = {}

    def get(name: str) -> oracle.Oracle:
        if name not in made:
            made[name] = oracle.Oracle((oracle.ASSETS if name == "zh-en" else folder) / name)
        return made[name]

    return get
