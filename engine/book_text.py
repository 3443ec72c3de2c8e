"""Reads an uploaded book: which encoding its bytes are in, and whether they are a text at all.

A few broken bytes, such as those of a file cut within a character, are replaced
and counted; what is wrong in more places than that is refused, not guessed.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from engine import errors

#: Of so many characters one may be unreadable or a control character.
ONE_IN = 1000
_REPLACED = "\ufffd"
_CONTROL = re.compile(r"[\x01-\x08\x0e-\x1f\x7f-\x9f]")
#: By the marks that a file may begin with; the codecs leave the mark in place.
_MARKS = (
    (codecs.BOM_UTF8, "UTF-8", "utf-8"), (codecs.BOM_UTF16_LE, "UTF-16 LE", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "UTF-16 BE", "utf-16-be"),
)
#: Without a mark: GB 18030 reads much of what is UTF-8, and so comes second.
_UNMARKED = (("UTF-8", "utf-8"), ("GB 18030", "gb18030"))


@dataclass(frozen=True)
class Book:
    """A text, the name of the encoding it was in, and how many unreadable places became U+FFFD."""

    text: str
    encoding: str
    replaced: int


def read(content: bytes, name: str) -> Book:
    """The text in a file's bytes.

    Args:
        content: the file's.
        name: of the file, for a refusal.

    Raises:
        InvalidPrompt: nothing in it (code "book_empty"), or no text (code "book_not_text").
    """
    for mark, encoding, codec in _MARKS:
        if content.startswith(mark):
            tried, content = ((encoding, codec),), content[len(mark):]
            break
    else:
        tried = _UNMARKED
    for encoding, codec in tried:
        book = _decoded(content, encoding, codec)
        if not book.text or book.text.isspace():
            raise errors.InvalidPrompt(
                "a text file with words in it", got=f"{name}, which has none",
                next_step="Upload another file, or paste the text.", code="book_empty", file=name)
        if book.replaced * ONE_IN <= len(book.text) and _is_text(book.text):
            return book
    raise errors.InvalidPrompt(
        "a text in UTF-8, in UTF-16 that says so, or in GB 18030", got=f"{name}, whose bytes are no such text",
        next_step="Save the book as plain text in UTF-8 and upload that.", code="book_not_text", file=name)


def _decoded(content: bytes, encoding: str, codec: str) -> Book:
    text = content.decode(codec, errors="replace")
    replaced = 0
    if _REPLACED in text:
        # Those that the book itself holds were read, not replaced.
        own = content.decode(codec, errors="ignore").count(_REPLACED)
        replaced = text.count(_REPLACED) - own
    return Book(text, encoding, replaced)


def _is_text(text: str) -> bool:
    return "\0" not in text and len(_CONTROL.findall(text)) * ONE_IN <= len(text)
