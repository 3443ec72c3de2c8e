"""Sentences written by hand to test the sense of ambiguous words outside the templates' wording.

They are data only (handwritten.tsv): never trained on. A wrong translation may still pass, and a free but
right one may fail: the check looks for the ambiguous word's English, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Check:
    """A sentence and the regular expression that a translation with the right sense matches."""

    chinese: str
    word: str
    sense: str
    accept: str


def read_checks() -> list[Check]:
    """All hand-written sentences, in file order."""
    lines = (Path(__file__).parent / "handwritten.tsv").read_text(encoding="utf-8").splitlines()
    return [Check(*line.split("\t")) for line in lines if line and not line.startswith("#")]
