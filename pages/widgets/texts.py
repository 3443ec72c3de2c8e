"""What tables of interface texts are made of: marked messages, the three texts of an error, the streams' names."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass


def N_(message: str) -> str:
    """Marks a text for the catalogue; it is translated where it is shown."""
    return message


@dataclass(frozen=True)
class Texts:
    """One error: what was expected, what came, what to do."""

    expected: str
    got: str
    next_step: str


def placeholders(texts: Texts) -> set[str]:
    """The names in braces of all three texts."""
    joined = "".join((texts.expected, texts.got, texts.next_step))
    return {name for _text, name, _spec, _conversion in string.Formatter().parse(joined) if name}


def streams(_: Callable[[str], str]) -> dict[str, str]:
    """Every stream → its name."""
    return {"encoder": _("Encoder self-attention"), "decoder": _("Decoder self-attention (masked)"),
            "cross": _("Cross-attention")}
