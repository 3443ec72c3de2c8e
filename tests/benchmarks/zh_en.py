"""Where the benchmarks find zh-en: embedded, or in a folder named by BENCHMARK_MODELS until it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "zh-en"
VARIABLE = "BENCHMARK_MODELS"


def folder() -> Path:
    """The folder that holds zh-en; skips, with what to do, where there is none."""
    for parent in (ROOT / "assets" / "models", Path(os.environ.get(VARIABLE, ROOT / "no folder named"))):
        if (parent / NAME / "config.json").is_file():
            return parent
    pytest.skip(f"No {NAME} under assets/models; {VARIABLE} can name a folder that holds one.")
