"""What exactly is run and read for "does A attend to B", by family.

encoder–decoder, A in the source   edge: encoder, A's rows to B's columns; read: the output word that stands for A
encoder–decoder, A in the output   edge: cross, the rows that predict A to B's columns; read: A
decoder-only, A in the text        edge: decoder, the rows that read A; read: the first tokens of the continuation
decoder-only, A in the output      edge: decoder, the rows that predict A; read: A
encoder-only                       A is masked; edge: encoder, A's rows; read: A at its masked places

B is always a word of the text. Outputs are teacher-forced: what the model wrote
before an edit stays the context. It runs the model only to continue a
decoder-only text and to fill a mask that was typed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine import budget, edits, errors, run, text, words
from engine.edits import Item, Read
from engine.evidence import places
from engine.evidence_types import Place, Reference
from engine.limits import Limits
from engine.run import Live
from engine.types import Stream, Token, Trace, Word

#: How many tokens of a decoder-only model's continuation are measured.
NEXT_TOKENS = 3
#: Longest text or output, in tokens: every word of it is cut in a run of its own.
LONGEST = 128


@dataclass(frozen=True)
class Target:
    """The output that is measured.

    Attributes:
        text: its characters.
        span: where they stand in the output (encoder-only: in the text); None where tokens carry no spans.
        rows, ids: the logits rows that predict its tokens, and those.
    """

    text: str
    span: tuple[int, int] | None
    rows: tuple[int, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """One question about one run.

    Attributes:
        trace: the run.
        stream: where the edge lies.
        source: ids that the model reads; encoder-only: A masked; decoder-only: text and continuation.
        consumed: ids that an encoder–decoder's decoder reads.
        predicted: the ids of the whole output, with `predicted_rows`, the rows that predict them.
        tokens: of the text, in key order.
        words: of the text, ranges over `tokens`.
        output: the model's output.
        output_tokens: its tokens.
        query, key: A and B; `query.positions` are rows of `stream`, `key.positions` columns.
        target: what is measured; None until the output word that stands for A is found.
    """

    trace: Trace
    stream: Stream
    source: tuple[int, ...]
    consumed: tuple[int, ...]
    predicted: tuple[int, ...]
    predicted_rows: tuple[int, ...]
    tokens: tuple[Token, ...]
    words: tuple[Word, ...]
    output: str
    output_tokens: tuple[Token, ...]
    query: Place
    key: Place
    target: Target | None



def ask(live: Live, trace: Trace, *, query: Reference, key: Reference, query_in: str, limits: Limits) -> Question:
    """The question, its words found and its run laid out.

    Raises:
        InvalidPrompt: a word is absent or ill named, the words share a token, A cannot see B, or the family has no
            such side.
        TextTooLong: more tokens than LONGEST.
    """
    if query_in not in ("source", "output"):
        raise errors.InvalidPrompt(
            'query_in "source" or "output"', got=repr(query_in), next_step="Say where A stands.",
            code="bad_side", side=str(query_in),
        )
    if live.family == "encoder-decoder":
        question = _encoder_decoder(trace, query, key, query_in)
    elif live.family == "decoder-only":
        question = _decoder_only(live, trace, query, key, query_in, limits=limits)
    else:
        question = _encoder_only(live, trace, query, key, query_in, limits=limits)
    places.check_apart(question.query, question.key)
    longest = max(len(question.source), len(question.consumed))
    if longest > LONGEST:
        raise errors.TextTooLong(
            f"at most {LONGEST} tokens to gather evidence in", got=str(longest), next_step="Shorten the sentence.",
            code="too_long_for_evidence", limit=LONGEST, length=longest,
        )
    return question


def most_tokens(live: Live) -> int:
    """The longest sequence that an edited run may read; what a decoder-only model writes last is never read."""
    bound = budget.n_ctx(live.model.config)
    return min(LONGEST, bound - (live.family == "decoder-only")) if bound else LONGEST


@dataclass(frozen=True)
class TextWord:
    """A word of the text that can be cut: its characters, its part in the question, its key columns."""

    text: str
    span: tuple[int, int]
    role: Literal["query", "key", "other"]
    columns: tuple[int, ...]


def words_of(question: Question) -> list[TextWord]:
    """The words of the text in order, special tokens left out; A (where it stands there) and B as they were named."""
    named = [(question.key, "key")] + ([(question.query, "query")] if question.query.side == "source" else [])
    taken = {at for place, _ in named for at in place.positions}
    found = [TextWord(place.text, place.span, role, place.positions) for place, role in named]
    for word in question.words:
        columns = tuple(at for at in range(word.start, word.end) if at not in taken)
        spans = [question.tokens[at].span for at in columns]
        if columns and not word.special and all(span is not None for span in spans):
            span = min(start for start, _ in spans), max(end for _, end in spans)
            whole = len(columns) == word.end - word.start
            found.append(TextWord(
                word.text if whole else question.trace.source_text[slice(*span)], span, "other", columns))
    return sorted(found, key=lambda each: each.columns)


# --- the families ----------------------------------------------------------------------------------------------------


def _ids(tokens: Sequence[Token]) -> tuple[int, ...]:
    return tuple(token.id for token in tokens)


def _encoder_decoder(trace: Trace, query: Reference, key: Reference, query_in: str) -> Question:
    source, decoder = trace.tokens("encoder"), trace.tokens("decoder")
    b = places.find(key, trace.source_text, source.key, side="source")
    if query_in == "source":
        a, target = places.find(query, trace.source_text, source.key, side="source"), None
    else:
        a = places.find(query, trace.output, decoder.query, side="output")
        target = Target(a.text, a.span, a.positions, _ids(decoder.query[at] for at in a.positions))
    rows = range(len(decoder.query))
    return Question(
        trace=trace, stream="encoder" if query_in == "source" else "cross", source=_ids(source.query),
        consumed=_ids(decoder.consumed), predicted=_ids(decoder.query), predicted_rows=tuple(rows),
        tokens=source.key, words=source.key_words, output=trace.output, output_tokens=decoder.query, query=a, key=b,
        target=target,
    )


def _decoder_only(live: Live, trace: Trace, query: Reference, key: Reference, query_in: str, *,
                  limits: Limits) -> Question:
    read = trace.tokens("decoder")
    ids = _ids(read.key)
    b = places.find(key, trace.source_text, read.key, side="source")
    limit = limits.new_tokens_decoder if query_in == "output" else NEXT_TOKENS
    room = (budget.n_ctx(live.model.config) or len(ids) + limit) - len(ids)
    if room < 1:
        raise errors.TextTooLong(
            "a text that leaves the model room to continue", got=f"{len(ids)} tokens", next_step="Shorten it.",
            code="no_room_to_continue", length=len(ids),
        )
    new = run.write_batch(live, [ids], limit=min(limit, room))[0]
    output = live.tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    tokens = text.decode_tokens(live.tokenizer, new, output=output)
    rows = tuple(range(len(ids) - 1, len(ids) - 1 + len(new)))
    if query_in == "output":
        found = places.find(query, output, tokens, side="output")
        a = replace(found, positions=tuple(rows[at] for at in found.positions))
        target = Target(found.text, found.span, a.positions, tuple(new[at] for at in found.positions))
    else:
        a = places.find(query, trace.source_text, read.key, side="source")
        if max(b.positions) > min(a.positions):
            raise errors.InvalidPrompt(
                "B before A: in a decoder a word sees only what precedes it",
                got=f"{b.text!r} after {a.text!r}", next_step="Ask the other way round.", code="key_after_query",
                query=a.text, key=b.text,
            )
        shown = live.tokenizer.decode(new[:NEXT_TOKENS], clean_up_tokenization_spaces=False)
        target = Target(shown, None, rows[:NEXT_TOKENS], new[:NEXT_TOKENS])
    return Question(
        trace=trace, stream="decoder", source=ids + new[:-1], consumed=(), predicted=new, predicted_rows=rows,
        tokens=read.key, words=read.key_words, output=output, output_tokens=tokens, query=a, key=b, target=target,
    )


def _encoder_only(live: Live, trace: Trace, query: Reference, key: Reference, query_in: str, *,
                  limits: Limits) -> Question:
    mask = live.tokenizer.mask_token_id
    if query_in == "output" or mask is None or live.model.get_output_embeddings() is None:
        raise errors.InvalidPrompt(
            "A in the text of a model that predicts masked words",
            got="an encoder, which writes no output" if query_in == "output" else "a model without such a head",
            next_step="Ask about a word of the text, or choose another model.", code="no_output_side",
        )
    tokens = trace.tokens("encoder")
    b = places.find(key, trace.source_text, tokens.key, side="source")
    a = _find_masked(query, trace.source_text, tokens.key, mask)
    ids = list(_ids(tokens.key))
    wanted = tuple(ids[at] for at in a.positions)
    for at in a.positions:
        ids[at] = mask
    shown = a.text
    if mask in wanted:  # typed as a mask: what the model itself puts there
        item = Item(tuple(ids), reads=(Read(a.positions, wanted),))
        wanted = edits.run(live, [item], limits=limits)[0].likeliest[0]
        shown = live.tokenizer.decode(wanted).strip()
    target = Target(shown, a.span, a.positions, wanted)
    return Question(
        trace=trace, stream="encoder", source=tuple(ids), consumed=(), predicted=wanted, predicted_rows=a.positions,
        tokens=tokens.key, words=tokens.key_words, output=shown, output_tokens=(), query=a, key=b, target=target,
    )


def _find_masked(query: Reference, source: str, tokens: Sequence[Token], mask: int) -> Place:
    """A in the text; a mask token that was typed may be named like any word."""
    seen = [replace(token, special=False) if token.id == mask and token.span else token for token in tokens]
    return places.find(query, source, seen, side="source")


# --- words for A in an encoder–decoder's output ----------------------------------------------------------------------


def candidates(question: Question) -> list[Target]:
    """The words of the output that could stand for A: those with a letter or a digit."""
    row_words = words.group(question.output_tokens, question.output)
    found = []
    for word in row_words:
        members = question.output_tokens[word.start:word.end]
        if word.special or any(token.span is None for token in members) or not any(c.isalnum() for c in word.text):
            continue
        span = min(token.span[0] for token in members), max(token.span[1] for token in members)
        rows = tuple(range(word.start, word.end))
        found.append(Target(question.output[slice(*span)].strip(), span, rows, _ids(members)))
    return found
