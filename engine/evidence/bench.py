"""Lays out edited runs of one question, and measures them: log-probability, and margin against a contrast.

A `Frame` is one concrete sequence: the sentence, or the one with B replaced,
each with the output measured or, where a contrast takes several tokens, with
the contrast in its place. Edits are made per frame, since positions differ.
It does not know what an edit means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine import edits, errors, text
from engine.edits import Cut, Item, Observer, Patch, Read
from engine.evidence import places
from engine.evidence.question import Question, Target, most_tokens
from engine.evidence.swaps import Swap
from engine.limits import Limits
from engine.run import Live

#: A bias on logits this low, in nats, leaves a token no probability at all (float32 ends at exp(−103)).
FORBIDS = -100.0


@dataclass(frozen=True)
class Frame:
    """One sequence to edit.

    Attributes:
        source, consumed: its ids.
        rows: A's rows in the question's stream.
        columns: B's columns.
        target, contrast, output: what is read: the target (None in the side frame), the contrast, where it can be read
            here, and with B replaced the whole output.
    """

    source: tuple[int, ...]
    consumed: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    target: Read | None
    contrast: Read | None = None
    output: Read | None = None

    @property
    def reads(self) -> tuple[Read, ...]:
        return tuple(read for read in (self.target, self.contrast, self.output) if read is not None)


#: Makes the edits of a frame; told which of its run's frames it is.
MakeEdits = Callable[[int, Frame], tuple[Cut | Patch, ...]]


@dataclass(frozen=True)
class Measured:
    """What a series of runs gave, each array (n_runs,) float64, natural logs; margins NaN without a contrast."""

    logprob: np.ndarray
    output: np.ndarray
    margin: np.ndarray


class Bench:
    """Measures runs of one question.

    Args:
        live: the model, held by the caller.
        question: gives the sequence.
        target: the output measured.
        contrast: a word in its place, or None.
        limits: carries the memory headroom.

    Raises:
        InvalidPrompt: as `contrast_ids`.
        TextTooLong: the contrast has more tokens than fit behind what precedes it.
    """

    def __init__(self, live: Live, question: Question, target: Target, *, contrast: str | None,
                 limits: Limits) -> None:
        self._live, self._question, self._target, self._limits = live, question, target, limits
        self._contrast = None if contrast is None else contrast_ids(live, question, target, contrast)
        self.frames()  # refuses, before anything is run, a contrast that does not fit

    def frames(self, swap: Swap | None = None) -> tuple[Frame, ...]:
        """The main frame, and the side frame of a contrast of several tokens."""
        main = self._frame(swap, None)
        if self._contrast is None:
            return (main,)
        if len(self._contrast) > 1 and self._live.family != "encoder-only":
            return main, self._frame(swap, self._contrast)
        return (replace(main, contrast=Read(main.target.rows[:len(self._contrast)], self._contrast)),)

    def measure(self, runs: Sequence[tuple[tuple[Frame, ...], MakeEdits]], *,
                observe: Callable[[int, int], Observer | None] | None = None,
                on_done: Callable[[int], None] | None = None) -> Measured:
        """Run all of them and read them.

        Args:
            runs: frames of one sequence, from `frames`, and what makes their edits.
            observe: for (run, frame), what sees its calls.
            on_done: receives how many of the sequences are done.
        """
        items, owners = [], []
        for index, (frames, make) in enumerate(runs):
            for which, frame in enumerate(frames):
                items.append(Item(frame.source, frame.consumed, make(which, frame), frame.reads))
                owners.append((index, which))
        watchers = [observe(*owner) for owner in owners] if observe is not None else None

        def dispatch(item: int, key, call, output) -> None:
            if watchers[item] is not None:
                watchers[item](item, key, call, output)

        outcomes = edits.run(self._live, items, limits=self._limits, observe=dispatch if watchers else None,
                             on_done=on_done)
        logprob, output, contrast = (np.full(len(runs), np.nan) for _ in range(3))
        for (index, which), outcome in zip(owners, outcomes, strict=True):
            frame = runs[index][0][which]
            sums = iter([float(of_read.sum()) for of_read in outcome.logprobs])
            for read, array in ((frame.target, logprob), (frame.contrast, contrast), (frame.output, output)):
                if read is not None:
                    array[index] = next(sums)
        return Measured(logprob, output, logprob - contrast)

    def _frame(self, swap: Swap | None, contrast: tuple[int, ...] | None) -> Frame:
        question, target, family = self._question, self._target, self._live.family
        n_text = len(question.tokens)
        source = question.source
        query = question.query.positions
        columns = question.key.positions
        shift = 0
        if swap is not None:
            columns = swap.key
            query = swap.query or query
            source = self._masked(swap) if family == "encoder-only" else swap.ids + source[n_text:]
            shift = len(swap.ids) - n_text if family == "decoder-only" else 0
        rows = tuple(row + shift for row in target.rows)
        reads = {"target": Read(rows, target.ids)}
        if swap is not None:
            reads["output"] = Read(tuple(row + shift for row in question.predicted_rows), question.predicted)
        consumed = question.consumed
        if contrast is not None:
            first = rows[0]
            if family == "decoder-only":
                source = source[:first + 1] + contrast[:-1]
            else:
                consumed = consumed[:first + 1] + contrast[:-1]
            if (length := first + len(contrast)) > (limit := most_tokens(self._live)):
                raise errors.TextTooLong(
                    f"a contrast that leaves the sequence within {limit} tokens", got=f"one that makes it {length}",
                    next_step="Choose a shorter word, or shorten the sentence.", code="contrast_too_long", limit=limit,
                    length=length,
                )
            rows = tuple(range(first, first + len(contrast)))
            reads = {"target": None, "contrast": Read(rows, contrast)}
        if question.query.side == "output":
            query = rows
        # Decoders are causal: what comes after the last row that is read changes nothing before it.
        read = 1 + max(row for read in reads.values() if read is not None for row in read.rows)
        if family == "decoder-only":
            source = source[:read]
        return Frame(source, consumed[:read], query, columns, **reads)

    def _masked(self, swap: Swap) -> tuple[int, ...]:
        mask = self._live.tokenizer.mask_token_id
        return tuple(mask if at in swap.query else id_ for at, id_ in enumerate(swap.ids))


def contrast_ids(live: Live, question: Question, target: Target, contrast: str) -> tuple[int, ...]:
    """The ids of `contrast` as it would be written in the target's place.

    Raises:
        InvalidPrompt: empty, the target itself, without tokens, not to be written by the model, or (encoder-only) not
            of as many tokens as A.
    """
    word = contrast.strip()
    if not word or word == target.text.strip():
        raise errors.InvalidPrompt(
            f"a contrast to {target.text.strip()!r}", got=repr(word), next_step="Choose a different word.",
            code="bad_contrast", word=word,
        )
    before, after = _around(live, question, target)
    written = before + word + after
    tokens = text.tokenise(live.tokenizer, written).tokens
    place = places.find((len(before), len(before) + len(word)), written, tokens, side="output")
    ids = tuple(tokens[at].id for at in place.positions)
    if any(tokens[at].flag == "unknown" for at in place.positions) or _forbidden(live, ids):
        raise errors.InvalidPrompt(
            "a contrast that the model can write", got=f"{word!r}, which it has no tokens for",
            next_step="Choose another word.", code="contrast_unwritable", word=word,
        )
    if live.family == "encoder-only" and len(ids) != len(target.ids):
        raise errors.InvalidPrompt(
            f"a contrast of {len(target.ids)} token(s), as many as were masked", got=f"{word!r}, which has {len(ids)}",
            next_step="Choose another word.", code="contrast_length", word=word, wanted=len(target.ids),
            length=len(ids),
        )
    return ids


def _forbidden(live: Live, ids: Sequence[int]) -> bool:
    """Whether the model's bias on logits keeps it from ever writing one of `ids`: the margin would be that bias."""
    bias = getattr(live.model, "final_logits_bias", None)
    return bias is not None and bool((bias[0, list(ids)] <= FORBIDS).any())


def _around(live: Live, question: Question, target: Target) -> tuple[str, str]:
    """What stands before and after the contrast."""
    source, output = question.trace.source_text, question.output
    if live.family == "encoder-only":
        return source[:target.span[0]], source[target.span[1]:]
    if live.family == "encoder-decoder":
        return output[:target.span[0]], output[target.span[1]:]
    written = output[:target.span[0]] if target.span is not None else ""
    return source + _blank(live, question) + written.lstrip(), ""


def _blank(live: Live, question: Question) -> str:
    """The blank between a text and its continuation, which many tokenizers drop where they decode that alone."""
    read = question.source[:len(question.tokens)]
    before, both = (live.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                    for ids in (read, read + question.predicted))
    rest = both[len(before):] if both.startswith(before) else question.output
    return rest[:len(rest) - len(rest.lstrip())]
