"""Text to tokens with spans, and tokens back to spans in the model's output.

Knows fast tokenizers only (those of the `tokenizers` library), because only
they say which characters a token came from. A person's text is text: a typed
`</s>` is tokenised as five characters' worth of text, never as the end of the
sequence; the one exception is a mask token, which is there to be typed.

Does not know where one word ends (`engine.words` has that rule), nor whether a
model's context is long enough: no text is cut here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import tokenizers

from engine import errors
from engine.backends import Backend, as_target, backend_of, refusing
from engine.glyphs import is_blank, is_invisible, is_latin_letter, visible
from engine.types import Token
from engine.words import runs

__all__ = ["Tokenised", "decode_tokens", "legible", "prepare", "tokenise", "tokenise_target", "visible"]

_REPLACEMENT = "\ufffd"
_SPACE = "␣"
_WORD_MARKERS = "▁Ġ"
#: Invisible characters too common to remark on.
_EVERYDAY = frozenset("\n\r\t")
#: At least so many tokens before the current one are decoded with it, so that decoders which
#: treat the first token differently don't.
_CONTEXT = 4
#: No character is written in more bytes, so no more tokens than this wait for one.
_LONGEST_PENDING = 8
#: How far ahead in the output a piece is looked for when it isn't next.
_LOOKAHEAD = 48


@dataclass(frozen=True)
class Tokenised:
    """A text as the model reads it.

    Attributes:
        ids: vocabulary ids, the tokenizer's own special tokens included.
        tokens: one Token for each id; spans rise and lie within the text.
        notes: language-neutral codes, "special_tokens_as_text".
    """

    ids: tuple[int, ...]
    tokens: tuple[Token, ...]
    notes: tuple[str, ...]


def legible(raw: str, *, limit: int, what: str) -> str:
    """The text as it will be tokenised, blank or not.

    Only lone surrogates, which no tokenizer can read, are replaced (by U+FFFD);
    everything else stays as typed.

    Args:
        raw: what the person typed.
        limit: most characters allowed.
        what: name of the text for messages: "text", "target", "contrast" or "replacement".

    Raises:
        InvalidPrompt: not a string (code "not_text").
        TextTooLong: more than `limit` characters (code "too_many_characters").
    """
    if not isinstance(raw, str):
        raise errors.InvalidPrompt(
            f"the {what} as a string", got=type(raw).__name__, next_step="Pass a str.", code="not_text", what=what,
        )
    if len(raw) > limit:
        raise errors.TextTooLong(
            f"at most {limit:,} characters of {what}", got=f"{len(raw):,}", next_step="Shorten it, or show a part.",
            code="too_many_characters", limit=limit, length=len(raw), what=what,
        )
    return "".join(_REPLACEMENT if "\ud800" <= char <= "\udfff" else char for char in raw)


def prepare(raw: str, *, limit: int, what: str) -> tuple[str, tuple[str, ...]]:
    """The text as `legible` gives it, if anything is in it, with notes on what the person should know.

    Args:
        raw, limit, what: as `legible`.

    Returns:
        The text and codes out of "surrogates_replaced", "invisible_characters".

    Raises:
        InvalidPrompt: nothing but blanks (code "empty_text"), and as `legible`.
        TextTooLong: as `legible`.
    """
    text = legible(raw, limit=limit, what=what)
    if all(map(is_blank, text)):
        raise errors.InvalidPrompt(
            f"some {what}", got="nothing but blanks" if text else "nothing", next_step="Type a sentence.",
            code="empty_text", what=what,
        )
    notes = []
    if text != raw:
        notes.append("surrogates_replaced")
    if any(_remarkable(text, at) for at in range(len(text))):
        notes.append("invisible_characters")
    return text, tuple(notes)


def _remarkable(text: str, at: int) -> bool:
    """Whether the character at `at` is invisible and not everyday: line breaks, tabs, and ZWJ inside emoji are."""
    char = text[at]
    if not is_invisible(char) or char in _EVERYDAY:
        return False
    in_emoji = char == "\u200d" and at and unicodedata.category(text[at - 1]) in ("So", "Sk", "Mn")
    return not in_emoji


def tokenise(tokenizer, text: str) -> Tokenised:
    """`text` as ids and tokens with spans in characters.

    The ids are those of `tokenizer(text, split_special_tokens=True)`, without
    the tokenizer's truncation, and with no special token that the text spells
    out: a Unigram tokenizer would still read one. Where the text holds the tokenizer's mask token
    and no other special token's name, the mask is read as the mask.

    Args:
        tokenizer: a fast transformers tokenizer. It is not changed: a private
            copy of its backend encodes, so that threads cannot meet in its settings.
        text: from `prepare`.

    Raises:
        ModelRefused: the tokenizer isn't a fast one (code "slow_tokenizer"), or fails (code "tokenizer_unreadable").
    """
    backend = backend_of(tokenizer)
    mask = tokenizer.mask_token
    literals = {literal for literal in backend.specials if literal in text}
    if mask is not None and mask in literals and not any(
        literal in text.replace(mask, "\n") for literal in backend.specials
    ):
        reader, notes = backend.with_specials, ()
    else:
        reader, notes = backend.as_text, ("special_tokens_as_text",) if literals else ()
    with refusing():
        encoding = reader.encode(text)
    pieces = [
        _Piece(id_, raw, None if added else span, bool(added))
        for id_, raw, span, added in zip(
            encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
    ]
    return Tokenised(tuple(encoding.ids), _tokens(backend, pieces, text), notes)


def tokenise_target(tokenizer, text: str) -> Tokenised:
    """`text` as `tokenise` gives it, but as what the model is to write: in a multilingual tokenizer's target language.

    The ids are those of `tokenizer(text_target=text)`. The tokenizer is switched meanwhile: only in its model's worker.
    """
    with as_target(tokenizer):
        return tokenise(tokenizer, text)


def decode_tokens(tokenizer, ids: Sequence[int], *, output: str) -> tuple[Token, ...]:
    """Tokens of ids that the model wrote (or was given), with spans into the decoded text.

    Spans come from tokenising `output` again where that gives the same ids,
    else from decoding step by step; None where neither can tell.

    Args:
        tokenizer: the fast tokenizer that decoded them.
        ids: vocabulary ids, special ones included; ids beyond the vocabulary are named by number.
        output: their text, decoded without special tokens.
    """
    backend = backend_of(tokenizer)
    ids = [int(id_) for id_ in ids]
    written = [at for at, id_ in enumerate(ids) if id_ not in backend.special_ids]
    spans: list[tuple[int, int] | None] = [None] * len(ids)
    if output:
        with refusing():
            again = backend.as_text.encode(output, add_special_tokens=False)
        if again.ids == [ids[at] for at in written]:
            found = list(again.offsets)
        else:
            found = _align(backend.as_text, [ids[at] for at in written], output)
        for at, span in zip(written, found, strict=True):
            spans[at] = span
    pieces = [
        _Piece(id_, backend.name(id_), span, id_ in backend.special_ids) for id_, span in zip(ids, spans, strict=True)
    ]
    return _tokens(backend, pieces, output)


# --- pieces to tokens ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Piece:
    """An id with its vocabulary entry and, for what was typed or written, its raw offsets."""

    id: int
    raw: str
    span: tuple[int, int] | None
    special: bool


def _tokens(backend: Backend, pieces: Sequence[_Piece], text: str) -> tuple[Token, ...]:
    spans = _trimmed(pieces, text)
    shares = _shares(spans)
    tokens = []
    for piece, span, (part, parts) in zip(pieces, spans, shares, strict=True):
        if span is None:
            shown = _SPACE if _is_marker(piece) else visible(piece.raw) or _SPACE
        elif text[span[0]:span[1]].isspace():
            shown = "".join(_SPACE if unicodedata.category(char) == "Zs" else visible(char)
                            for char in text[span[0]:span[1]])
        else:
            shown = visible(text[span[0]:span[1]])
        if parts > 1:
            shown = f"{shown}·{part}/{parts}"
        unknown = piece.id == backend.unknown_id and not piece.special
        tokens.append(Token(shown, piece.id, span, piece.special, "unknown" if unknown else ""))
    return _with_fallbacks(tokens, text, backend.floor_ids)


def _is_marker(piece: _Piece) -> bool:
    return not piece.special and bool(piece.raw) and not piece.raw.strip(_WORD_MARKERS)


def _trimmed(pieces: Sequence[_Piece], text: str) -> list[tuple[int, int] | None]:
    """Spans without the blanks around them, rising, within the text; None where a piece covers no character."""
    spans: list[tuple[int, int] | None] = []
    begun = reached = 0
    for piece in pieces:
        span = None
        if piece.span is not None:
            start = min(max(piece.span[0], begun), len(text))
            end = min(max(piece.span[1], start), len(text))
            if start == end and _is_marker(piece):
                # Some tokenizers cut blanks off their offsets and leave nothing of a token that is only blanks.
                start = _before_blanks(text, start, max(reached, start - len(piece.raw)))
            span = _without_blanks(piece, text, start, end)
        if span is not None:
            begun, reached = span
        spans.append(span)
    return _with_marks(spans, text)


def _with_marks(spans: Sequence[tuple[int, int] | None], text: str) -> list[tuple[int, int] | None]:
    """Spans that also hold the combining marks after them that no token covers: one unknown may stand for é's two."""
    covered = {at for span in spans if span is not None for at in range(*span)}

    def end_of(start: int, end: int) -> int:
        while end < len(text) and end not in covered and _is_mark(text[end]) and not text[start].isspace():
            end += 1
        return end

    return [span and (span[0], end_of(*span)) for span in spans]


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M")


def _before_blanks(text: str, end: int, least: int) -> int:
    start = end
    while start > least and text[start - 1].isspace():
        start -= 1
    return start


def _without_blanks(piece: _Piece, text: str, start: int, end: int) -> tuple[int, int] | None:
    covered = text[start:end]
    if covered and not covered.isspace():
        if _is_marker(piece) and covered.strip(_WORD_MARKERS):
            return None  # a word marker put in front of a character, with that character's offsets
        start += len(covered) - len(covered.lstrip())
        end -= len(covered) - len(covered.rstrip())
    return (start, end) if end > start else None


def _shares(spans: Sequence[tuple[int, int] | None]) -> list[tuple[int, int]]:
    """For each token (k, n): it is the k-th of n whose spans overlap in a chain; (1, 1) when it stands alone."""

    def overlap(at: int) -> bool:
        return spans[at] is not None and spans[at - 1] is not None and spans[at][0] < spans[at - 1][1]

    return [(at - first + 1, end - first) for first, end in runs(len(spans), overlap) for at in range(first, end)]


def _with_fallbacks(tokens: list[Token], text: str, floor_ids: frozenset[int]) -> tuple[Token, ...]:
    """Flags characters whose score is the floor, and Latin words that came apart into single letters."""

    def same_latin_word(at: int) -> bool:
        before, here = tokens[at - 1].span, tokens[at].span
        return (before is not None and here is not None and before[1] == here[0]
                and is_latin_letter(text[here[0] - 1]) and is_latin_letter(text[here[0]]))

    fallen = {at for at, token in enumerate(tokens) if token.id in floor_ids and token.span is not None}
    for first, end in runs(len(tokens), same_latin_word):
        if end - first > 1 and all(sum(not _is_mark(char) for char in text[slice(*token.span)]) == 1
                                   for token in tokens[first:end]):
            fallen.update(range(first, end))
    return tuple(
        replace(token, flag="fallback") if at in fallen and not token.flag else token for at, token in enumerate(tokens)
    )


# --- ids to spans ----------------------------------------------------------------------------------------------------


def _align(backend: tokenizers.Tokenizer, ids: Sequence[int], output: str) -> list[tuple[int, int] | None]:
    """A span in `output` for each id, found by decoding a few ids at a time and looking the pieces up in order."""
    spans: list[tuple[int, int] | None] = [None] * len(ids)
    reached = first = 0
    begins = [0]
    for at in range(len(ids)):
        # Never from inside a character: decoders of byte tokens spoil the whole run that one broken character is in.
        context = next((begin for begin in reversed(begins) if begin <= first - _CONTEXT), 0)
        piece = _decoded(backend, ids[context:first], ids[first:at + 1])
        is_next = output.startswith(piece.strip(), _after_blanks(output, reached))
        if piece.endswith(_REPLACEMENT) and not is_next and at + 1 - first < _LONGEST_PENDING and at + 1 < len(ids):
            continue
        found = _locate(piece, output, reached)
        if found is not None:
            spans[first:at + 1] = [found] * (at + 1 - first)
            reached = found[1]
        first = at + 1
        begins.append(first)
    return spans


def _decoded(backend: tokenizers.Tokenizer, context: Sequence[int], ids: Sequence[int]) -> str:
    before = backend.decode(list(context), skip_special_tokens=True)
    both = backend.decode([*context, *ids], skip_special_tokens=True)
    return both[len(before):] if both.startswith(before) else backend.decode(list(ids))


def _after_blanks(output: str, start: int) -> int:
    while start < len(output) and output[start].isspace():
        start += 1
    return start


def _locate(piece: str, output: str, reached: int) -> tuple[int, int] | None:
    """Where `piece` next stands in `output`, blanks around it aside; None if it doesn't."""
    core = piece.strip()
    if not core:
        end = reached + len(piece)
        return (reached, end) if piece and output[reached:end].isspace() and end <= len(output) else None
    start = output.find(core, reached, reached + len(core) + _LOOKAHEAD)
    return None if start < 0 else (start, start + len(core))
