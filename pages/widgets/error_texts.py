"""The engine's errors and notes as texts of the interface, by their codes. Data, no behaviour of note.

Each text is an English message for the catalogue, with `{names}` of the values
that the error carries in `numbers`. A test holds this table to the engine's
sources: every code has an entry, and an entry names only values that are there.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

from engine import errors


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


def heading(error: errors.EngineError) -> str:
    """The English heading for this kind of error."""
    return next(text for kind, text in _HEADINGS if isinstance(error, kind))


#: From the particular to the general: the first that fits is taken.
_HEADINGS: tuple[tuple[type[errors.EngineError], str], ...] = (
    (errors.TextTooLong, N_("The text is too long")),
    (errors.InvalidPrompt, N_("This request cannot be run")),
    (errors.ModelNotFound, N_("There is no such model")),
    (errors.ModelRefused, N_("This model was refused")),
    (errors.HubUnavailable, N_("The model hub cannot be reached")),
    (errors.ModelError, N_("This model cannot be used")),
    (errors.OverBudget, N_("This needs more memory than is free")),
    (errors.OutOfMemory, N_("The memory ran out")),
    (errors.Busy, N_("The model is busy")),
    (errors.EngineError, N_("This did not work")),
)

BY_CODE: dict[str, Texts] = {
    "unknown_stream": Texts(
        N_("one of the streams this model has"),
        N_("{stream}"),
        N_("Choose one of the streams on the page."),
    ),
}

NOTES: dict[str, str] = {
    "surrogates_replaced": N_("Half characters (lone surrogates) in the text were replaced by � before the run."),
    "special_tokens_as_text": N_(
        "The text holds the names of special tokens, such as </s>; they were read as plain characters."
    ),
}
