"""What a person sees when something is refused, busy or broken, and what they should know about a result.

Texts come from `error_texts` by the error's code, in the interface's language;
an unknown code falls back to the engine's own English. Everything the engine or
a person wrote is escaped: a banner shows it as typed, never as Markdown. Knows
nothing of why an error was raised.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import streamlit as st

from engine.errors import Busy, EngineError
from pages.widgets import error_texts
from pages.widgets.language import Translate

log = logging.getLogger("attention_microscope")

#: Longest value a banner quotes, in characters; the rest is counted, not shown.
QUOTED_CHARACTERS = 300

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_SURROGATE = re.compile("[\ud800-\udfff]")
#: Inside what Markdown would make a link (www., http://, name@host) or another sign (->, <-, --, <=, >=, ~=) of.
_MADE_OF = re.compile(r"(?<=www)(?=\.)|(?<=:)(?=//)|(?=@[\w.-]*\.\w)|(?<=[<-])(?=[->])|(?<=[<>~])(?==)", re.IGNORECASE)
_JOINER = "\u2060"


def escape(text: str) -> str:
    """`text` so that Streamlit's Markdown shows its characters as they are, on one line; a lone surrogate as U+FFFD.

    A backslash does not keep Streamlit from making links and arrows; an invisible joiner within them does.
    """
    whole = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    return _PUNCTUATION.sub(r"\\\1", _MADE_OF.sub(_JOINER, whole))


def readable(name: str, value: object) -> str:
    """A value as a person reads it: bytes as MiB, thousands apart, floats with three digits, long texts cut.

    Args:
        name: its keyword in the error; one that holds "bytes" or ends in
            "memory" means a number of bytes.
        value: what the error carries.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "bytes" in name or name.endswith("memory"):
            return human_bytes(value)
        return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
    if isinstance(value, list | tuple | set | frozenset):
        value = ", ".join(str(part) for part in value)
    text = str(value)
    if len(text) > QUOTED_CHARACTERS:
        text = f"{text[:QUOTED_CHARACTERS]} … (+{len(text) - QUOTED_CHARACTERS:,})"
    return text


def human_bytes(count: float) -> str:
    """`count` bytes in the largest unit that leaves a number of at least 1, such as "1.5 GiB"."""
    power = 0
    while abs(count) >= 1024 and power < len(_UNITS) - 1:
        count /= 1024
        power += 1
    return f"{count:.0f} {_UNITS[power]}" if power == 0 else f"{count:.1f} {_UNITS[power]}"


def error_parts(error: EngineError, _: Translate) -> tuple[str, str, str]:
    """(expected, got, next step) of `error` as Markdown with every value escaped, in the language of `_`."""
    texts = error_texts.BY_CODE.get(error.code)
    values = {name: escape(_spoken(name, value, _)) for name, value in error.numbers.items()}
    if texts is not None and error_texts.placeholders(texts) <= values.keys():
        return tuple(_(text).format(**values) for text in (texts.expected, texts.got, texts.next_step))
    return escape(error.expected), escape(readable("got", error.got)), escape(error.next_step)


def _spoken(name: str, value: object, _: Translate) -> str:
    known = error_texts.VALUES.get(name, {})
    return _(known[value]) if isinstance(value, str) and value in known else readable(name, value)


def show_error(error: EngineError, _: Translate) -> None:
    """Shows what was expected, what came, and what to do next."""
    expected, got, next_step = error_parts(error, _)
    heading = _(error_texts.heading(error))
    lines = (
        f"**{heading}**",
        _("Expected: {text}").format(text=expected),
        _("Got: {text}").format(text=got),
        _("What to do: {text}").format(text=next_step),
    )
    st.error("  \n".join(lines), icon=":material/block:")


def show_busy(error: EngineError, _: Translate) -> None:
    """Shows that the model's queue was full: nothing is wrong, and trying again may work."""
    _expected, got, next_step = error_parts(error, _)
    st.warning(f"**{_('The model is busy')}**  \n{got}  \n{next_step}", icon=":material/hourglass_top:")


def show_unexpected(error: Exception, _: Translate) -> str:
    """Logs `error` with its traceback under a new id, shows only the id, and returns it."""
    identifier = uuid.uuid4().hex[:8]
    log.error("unexpected error %s", identifier, exc_info=error)
    st.error(
        f"**{_('Something went wrong here')}**  \n"
        + _("This is a fault of the program. Its log has the details under {id}; the page still works.").format(
            id=f"`{identifier}`"
        ),
        icon=":material/error:",
    )
    return identifier


@contextmanager
def guard(_: Translate) -> Iterator[None]:
    """The page's edge: whatever is raised inside is shown, and the page survives."""
    try:
        yield
    except Busy as error:
        show_busy(error, _)
    except EngineError as error:
        show_error(error, _)
    except Exception as error:  # noqa: BLE001 — the edge: logged under an id, which is all a person sees
        show_unexpected(error, _)


def show_notes(notes: Iterable[str], _: Translate) -> None:
    """Shows what a person should know about a result, by the codes in `Trace.notes`; an unknown code is shown."""
    for note in notes:
        text = error_texts.NOTES.get(note)
        st.info(_(text) if text else escape(note), icon=":material/info:")
