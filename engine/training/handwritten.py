"""Sentences written by hand to test the sense of ambiguous words outside the templates' wording.

They are data only, and never trained on. handwritten.tsv is the first set; once its failures were known, templates were
added, so handwritten_blind.tsv was written before that model was trained, by somebody who had seen neither the
templates nor the first set nor any output. A wrong translation may still pass, and a free but
right one may fail: the check looks for the ambiguous word's English, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KNOWN, BLIND = "handwritten.tsv", "handwritten_blind.tsv"


@dataclass(frozen=True)
class Check:
    """A sentence and the regular expression that a translation with the right sense matches."""

    chinese: str
    word: str
    sense: str
    accept: str


def read_checks(name: str = KNOWN) -> list[Check]:
    """All hand-written sentences of one set, in file order."""
    lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
    return [Check(*line.split("\t")) for line in lines if line and not line.startswith("#")]
