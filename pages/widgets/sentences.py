"""The example sentences that ship with the app, from assets/sentences.json.

Every sentence is this project's own. Knows nothing of models beyond the family
a sentence suits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pages.widgets.language import Language

SENTENCES = Path(__file__).resolve().parents[2] / "assets" / "sentences.json"


@dataclass(frozen=True)
class Example:
    """One example sentence.

    Attributes:
        text: what is typed.
        family: the model family it suits ("encoder-decoder", "decoder-only" or "encoder-only").
        look_zh, look_en: one line on what to look at.
    """

    text: str
    family: str
    look_zh: str
    look_en: str

    def look(self, language: Language) -> str:
        """What to look at, in `language`."""
        return self.look_zh if language.code == "zh" else self.look_en


@cache
def load() -> tuple[Example, ...]:
    """All examples, in the order in which they are offered."""
    return tuple(Example(**entry) for entry in json.loads(SENTENCES.read_text(encoding="utf-8")))


def examples(family: str) -> tuple[Example, ...]:
    """The examples for models of `family`; all of them while the family is unknown ("")."""
    return tuple(example for example in load() if not family or example.family == family)
