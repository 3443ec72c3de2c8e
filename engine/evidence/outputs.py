"""Words of the output: which one stands for A, and what is written with B replaced.

The word that stands for A is found by cutting (hide A from the decoder's
cross-attention: whose probability falls most?) and by cross-attention at the
row that predicts it (who looks at A most?). Both are kept, and `standing` weighs
them. It does not know translations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from engine import edits, errors, glyphs, run
from engine.edits import Cut, Item, Outcome, Read
from engine.evidence import places
from engine.evidence.flows import Observed
from engine.evidence.question import Question, Target, candidates
from engine.evidence.swaps import Swap
from engine.evidence_types import OutputWord, Reference
from engine.limits import Limits
from engine.run import Live

#: Losses below this, in nats, do not tell words apart.
LEAST_LOSS = 0.01
#: A word stands for A only if it loses at least this share of the largest loss.
LOSING_SHARE = 0.5


def first_items(question: Question) -> list[Item]:
    """The unedited run, and, where the word that stands for A must be found, the one with A cut off from the decoder.

    Raises:
        InvalidPrompt: the output has no word in it.
    """
    if question.target is not None:
        return [Item(question.source, question.consumed)]
    targets = candidates(question)
    if not targets:
        raise errors.InvalidPrompt(
            "an output with a word in it", got=repr(question.output), next_step="Choose another sentence.",
            code="no_output_words",
        )
    reads = tuple(Read(target.rows, target.ids) for target in targets)
    cut = Cut("cross", tuple(range(len(question.consumed))), question.query.positions)
    return [Item(question.source, question.consumed, edit, reads) for edit in ((), (cut,))]


def output_words(question: Question, observed: Observed, outcomes: Sequence[Outcome]) -> list[OutputWord]:
    """Every word that could stand for A, with what cutting A off and cross-attention say; [] where A is the output.

    Args:
        outcomes: of `first_items`.
    """
    if question.target is not None:
        return []
    before, after = outcomes
    cross = observed.patterns["cross"][..., list(question.query.positions)].sum(-1)
    return [
        OutputWord(
            text=target.text, span=target.span, rows=target.rows, logprob=float(old.sum()),
            cut_delta=float(new.sum() - old.sum()), attention=float(cross[..., list(target.rows)].mean()),
        )
        for target, old, new in zip(candidates(question), before.logprobs, after.logprobs, strict=True)
    ]


def choose(question: Question, found: Sequence[OutputWord], wanted: Reference | None) -> tuple[Target, int | None]:
    """The output to measure, and the index of a word that the person chose for it."""
    if question.target is not None:
        if wanted is not None:
            raise errors.InvalidPrompt(
                "an output word only where A stands in an encoder–decoder's source", got=repr(wanted),
                next_step="Leave it out.", code="output_word_not_taken",
            )
        return question.target, None
    targets = candidates(question)
    if wanted is None:
        return targets[standing(found)], None
    place = places.find(wanted, question.output, question.output_tokens, side="output")
    index = next((i for i, target in enumerate(targets) if set(target.rows) & set(place.positions)), None)
    if index is None:
        raise errors.InvalidPrompt(
            f"a word of the output ({question.output!r})", got=repr(place.text), next_step="Choose one of its words.",
            code="word_absent", text=place.text, side="output",
        )
    return targets[index], index


def by_cut(found: Sequence[OutputWord]) -> int:
    """The index of the word that loses most when A is hidden from the decoder."""
    return int(np.argmin([word.cut_delta for word in found]))


def standing(found: Sequence[OutputWord]) -> int:
    """The index of the word that stands for A: of those that lose nearly as much as any, the one that looks at A most.

    An article may lose more than the noun that it announces. Where cutting costs no word anything, attention decides.
    """
    most = found[by_cut(found)].cut_delta
    if most > -LEAST_LOSS:
        return by_attention(found)
    losing = [index for index, word in enumerate(found) if word.cut_delta <= LOSING_SHARE * most]
    return max(losing, key=lambda index: found[index].attention)


def by_attention(found: Sequence[OutputWord]) -> int:
    """The index of the word whose predicting rows look at A most."""
    return int(np.argmax([word.attention for word in found]))


def with_replacements(live: Live, question: Question, target: Target, others: Sequence[Swap], *,
                      limits: Limits) -> dict[int, tuple[str, bool]]:
    """For each replacement that is not only a baseline: what the model writes, and whether the target is gone."""
    shown = [index for index, swap in enumerate(others) if swap.origin != "random"]
    results: dict[int, tuple[str, bool]] = {}
    if live.family == "encoder-only":
        mask = live.tokenizer.mask_token_id
        items = [
            Item(tuple(mask if at in others[i].query else id_ for at, id_ in enumerate(others[i].ids)),
                 reads=(Read(others[i].query, target.ids),)) for i in shown
        ]
        original = edits.run(live, [Item(question.source, reads=(Read(target.rows, target.ids),))], limits=limits)
        for index, outcome in zip(shown, edits.run(live, items, limits=limits), strict=True):
            filled = live.tokenizer.decode(outcome.likeliest[0]).strip()
            results[index] = filled, outcome.likeliest != original[0].likeliest
        return results
    by_length: dict[int, list[int]] = {}
    for index in shown:
        by_length.setdefault(len(others[index].ids), []).append(index)
    for indices in by_length.values():
        limit = limits.new_tokens_target if live.family == "encoder-decoder" else len(question.predicted)
        written = run.write_batch(live, [others[i].ids for i in indices], limit=limit)
        for index, ids in zip(indices, written, strict=True):
            shown_text = live.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            if live.family == "decoder-only" and question.query.side == "source":
                changed = ids[:len(target.ids)] != target.ids
            else:
                changed = not contains(shown_text, target.text.strip())
            results[index] = shown_text.strip(), changed
    return results


def contains(text: str, word: str) -> bool:
    """Whether `word` stands in `text` as a word of its own; within others where its script has no spaces."""
    if any(glyphs.is_unspaced(char) for char in word):
        return word in text
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None
