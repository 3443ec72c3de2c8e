"""What interface texts are made of: marked messages, sentences joined, an error's three texts, the streams' names."""

from __future__ import annotations

import math
import string
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from pages.figures.frame import written


def N_(message: str) -> str:
    """Marks a text for the catalogue; it is translated where it is shown."""
    return message


@dataclass(frozen=True)
class Texts:
    """One error: what was expected, what came, what to do."""

    expected: str
    got: str
    next_step: str


def joined(*sentences: str) -> str:
    """Sentences one after another: with a space between, but for one that ends in a full-width mark."""
    text = ""
    for sentence in filter(None, sentences):
        text += sentence if not text or unicodedata.east_asian_width(text[-1]) in "WF" else f" {sentence}"
    return text


def signed(value: float, digits: int = 2) -> str:
    """A difference: sign, `digits` after the point and a real minus; nothing but zeros has no sign; "–" for none."""
    return written(value, f"+.{digits}f") if math.isfinite(value) else "–"


def placeholders(texts: Texts) -> set[str]:
    """The names in braces of all three texts."""
    every = "".join((texts.expected, texts.got, texts.next_step))
    return {name for _text, name, _spec, _conversion in string.Formatter().parse(every) if name}


def streams(_: Callable[[str], str]) -> dict[str, str]:
    """Every stream → its name."""
    return {"encoder": _("Encoder self-attention"), "decoder": _("Decoder self-attention (masked)"),
            "cross": _("Cross-attention")}
