"""The ready questions that ship with the app, from assets/questions.json.

Each says what it teaches, never what the verdict is: verdicts are computed. One
says what two numbers of the embedded model show; a test holds it to them.
Knows nothing of models beyond the family the questions suit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pages.widgets.language import Language

QUESTIONS = Path(__file__).resolve().parents[2] / "assets" / "questions.json"
#: The family all of them are meant for.
FAMILY = "encoder-decoder"


@dataclass(frozen=True)
class Ready:
    """One ready question.

    Attributes:
        text: the sentence.
        query, key: A and B, substrings.
        ask_zh, ask_en: the question in a few words.
        teaches_zh, teaches_en: what it is for; true whatever the verdict.
        query_in: where A stands.
        contrast: a word against which margins are taken, or "".
        second, second_key, second_contrast: a sentence to compare with, B in it and its own contrast, or "".
    """

    text: str
    query: str
    key: str
    ask_zh: str
    ask_en: str
    teaches_zh: str
    teaches_en: str
    query_in: str = "source"
    contrast: str = ""
    second: str = ""
    second_key: str = ""
    second_contrast: str = ""

    def ask(self, language: Language) -> str:
        """The question, in `language`."""
        return self.ask_zh if language.code == "zh" else self.ask_en

    def teaches(self, language: Language) -> str:
        """What it teaches, in `language`."""
        return self.teaches_zh if language.code == "zh" else self.teaches_en


@cache
def load() -> tuple[Ready, ...]:
    """All questions, in the order in which they are offered."""
    return tuple(Ready(**entry) for entry in json.loads(QUESTIONS.read_text(encoding="utf-8")))
