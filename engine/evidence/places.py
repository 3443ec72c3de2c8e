"""From how a person names a word to the characters and tokens it is.

A substring means its first occurrence; (substring, n) its n-th, from zero; a
pair of integers a span. A reference that covers a part of a token takes the
whole token, and the result says so. It does not know what is asked of the word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from engine import errors
from engine.evidence_types import Place, Reference
from engine.types import Token

Side = Literal["source", "output"]


def find(reference: Reference, text: str, tokens: Sequence[Token], *, side: Side) -> Place:
    """The word that `reference` names.

    Args:
        reference: as in `engine.evidence_types.Reference`.
        text: the characters that the tokens' spans count in.
        tokens: an axis, in order; those without a span are never part of a word.
        side: what `text` is.

    Returns:
        A Place whose positions index `tokens`.

    Raises:
        InvalidPrompt: not a reference, empty, absent, outside of the text, no such occurrence, or no token there.
    """
    (start, end), occurrences = _span(reference, text, side)
    positions = tuple(
        at for at, token in enumerate(tokens)
        if token.span is not None and not token.special and token.span[0] < end and start < token.span[1]
    )
    if not positions:
        raise errors.InvalidPrompt(
            f"a word of the {side} that has tokens", got=f"{text[start:end]!r}, which the model does not read as any",
            next_step="Choose another word.", code="word_without_tokens", text=text[start:end], side=side,
        )
    whole = _trimmed(text, min(tokens[at].span[0] for at in positions), max(tokens[at].span[1] for at in positions))
    return Place(
        text=text[slice(*whole)], span=whole, side=side, positions=positions, occurrences=occurrences,
        widened=whole != _trimmed(text, start, end),
    )


def check_apart(query: Place, key: Place) -> None:
    """Refuse a question whose two words share a token: there is no edge between them to look at.

    Raises:
        InvalidPrompt: code "same_word" or "words_share_token".
    """
    if (query.side, query.positions) == (key.side, key.positions):
        raise errors.InvalidPrompt(
            "two different words", got=f"{query.text!r} for both",
            next_step="Pick another word; a one-word sentence has none.", code="same_word", text=query.text,
        )
    if query.side == key.side and set(query.positions) & set(key.positions):
        raise errors.InvalidPrompt(
            "two words that share no token", got=f"{query.text!r} and {key.text!r}",
            next_step="Choose words further apart, or another occurrence.", code="words_share_token",
            query=query.text, key=key.text,
        )


def _span(reference: Reference, text: str, side: Side) -> tuple[tuple[int, int], int]:
    """The characters asked for, and how often the substring occurs (1 for a span)."""
    if isinstance(reference, str):
        reference = (reference, 0)
    if not (isinstance(reference, tuple | list) and len(reference) == 2 and type(reference[1]) is int
            and type(reference[0]) in (int, str)):
        raise errors.InvalidPrompt(
            "a substring, a span (start, end), or (substring, occurrence)", got=repr(reference),
            next_step="Name the word by its text.", code="bad_reference", reference=repr(reference),
        )
    first, second = reference
    if isinstance(first, int):
        if not 0 <= first < second <= len(text):
            raise errors.InvalidPrompt(
                f"a span within the {side}'s {len(text)} characters", got=f"{first}…{second}",
                next_step="Choose a span inside.", code="span_outside", start=first, end=second, length=len(text),
                side=side,
            )
        return (first, second), 1
    if not first.strip():
        raise errors.InvalidPrompt(
            f"a word of the {side}", got="nothing", next_step="Name the word by its text.", code="empty_word",
            side=side,
        )
    starts = _occurrences(first, text)
    if not starts:
        raise errors.InvalidPrompt(
            f"a word that stands in the {side} ({text!r})", got=repr(first),
            next_step="Choose a word of this sentence.", code="word_absent", text=first, side=side,
        )
    if not 0 <= second < len(starts):
        raise errors.InvalidPrompt(
            f"an occurrence in 0…{len(starts) - 1} of {first!r} in the {side}", got=str(second),
            next_step="Occurrences count from zero.", code="occurrence_absent", text=first, occurrence=second,
            occurrences=len(starts), side=side,
        )
    return (starts[second], starts[second] + len(first)), len(starts)


def _occurrences(part: str, text: str) -> list[int]:
    """Where `part` starts, without overlaps."""
    starts, at = [], text.find(part)
    while at >= 0:
        starts.append(at)
        at = text.find(part, at + len(part))
    return starts


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without blanks at its ends, which many tokens carry; as it is where it is all blank."""
    inner = text[start:end].strip()
    if not inner:
        return start, end
    start += len(text[start:end]) - len(text[start:end].lstrip())
    return start, start + len(inner)
