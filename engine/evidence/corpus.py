"""The reference sentences as one model reads them, and their words.

The sentences lie in `assets/corpus`, one file a language, our own. Which of
the two a text is compared with is a rule about its script, nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine import glyphs, text, words
from engine.text import Tokenised

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "corpus"
LANGUAGES = ("zh", "en")


@dataclass(frozen=True)
class Corpus:
    """Attributes:
        language: one of LANGUAGES.
        sentences: as the model reads them.
        words: every word of letters alone that the model knows, once, with its ids as they stand in a sentence.
    """

    language: str
    sentences: tuple[Tokenised, ...]
    words: tuple[tuple[str, tuple[int, ...]], ...]


def read(tokenizer, language: str) -> Corpus:
    """The sentences of one of LANGUAGES, tokenised."""
    typed = sentences(language)
    tokenised = tuple(text.tokenise(tokenizer, sentence) for sentence in typed)
    found: dict[str, tuple[int, ...]] = {}
    for sentence, each in zip(typed, tokenised, strict=True):
        for word in words.group(each.tokens, sentence):
            shown = word.text.strip("␣ ")
            if not word.special and not word.flag and shown.isalpha():
                found.setdefault(shown, each.ids[word.start:word.end])
    return Corpus(language, tokenised, tuple(found.items()))


def sentences(language: str) -> tuple[str, ...]:
    """The reference sentences, as they are written."""
    return tuple((FOLDER / f"{language}.txt").read_text(encoding="utf-8").splitlines())


def language_of(typed: str) -> str:
    """The corpus that a text is compared with: "zh" where most of its letters are Han characters, else "en"."""
    letters = [char for char in typed if char.isalpha()]
    return "zh" if 2 * sum(glyphs.is_han(char) for char in letters) > len(letters) else "en"
