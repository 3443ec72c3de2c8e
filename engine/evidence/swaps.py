"""Other words in B's place: which ones, and the sentence with them.

Suggestions come from the reference corpus, as the model's own tokenizer cuts
it: some nearest to B in the model's input embeddings (so a verb is replaced by
a verb, where the model knows what that is), some at random, drawn by a seed
that the sentence fixes. They know no grammar: a sentence with a random word
may be nonsense, which is what a baseline is for.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from engine import errors, text
from engine.evidence import places
from engine.evidence.corpus import Corpus
from engine.evidence.question import Question, most_tokens
from engine.run import Live

#: How many suggestions of each kind.
N_NEAR, N_RANDOM = 4, 4

Origin = Literal["chosen", "near", "random"]


@dataclass(frozen=True)
class Swap:
    """The text with another word in B's place.

    Attributes:
        word, origin: that word, and where it is from.
        text: the sentence.
        ids: as the model reads it (A not masked).
        key: columns of the word.
        query: positions of A's tokens where A is in the text, else ().
    """

    word: str
    origin: Origin
    text: str
    ids: tuple[int, ...]
    key: tuple[int, ...]
    query: tuple[int, ...]


def swaps(live: Live, question: Question, corpus: Corpus, *, chosen: Sequence[str] | None) -> list[Swap]:
    """The sentences to compare with: those chosen (or, without a choice, near ones), then random ones.

    Args:
        corpus: where suggestions come from.
        chosen: words that a person wants in B's place; None means suggestions.

    Raises:
        InvalidPrompt: a chosen word is empty, B itself, or melts into A's tokens.
        TextTooLong: the sentence with a chosen word in it is longer than the model or evidence can take.
    """
    found = [_chosen(live, question, word) for word in chosen or ()]
    vocabulary = _vocabulary(question, corpus)
    used = {question.key.text.casefold(), *(swap.word.casefold() for swap in found)}
    if chosen is None:
        found += _first(live, question, _nearest(live, question, vocabulary), "near", N_NEAR, used)
    seed = zlib.crc32(f"{question.trace.source_text}|{question.key.span}".encode())
    order = np.random.default_rng(seed).permutation(len(vocabulary))
    return found + _first(live, question, [vocabulary[at][0] for at in order], "random", N_RANDOM, used)


def swap(live: Live, question: Question, word: str, origin: Origin) -> Swap | None:
    """The sentence with `word` in B's place; None where A is not read as the same tokens any more."""
    start, end = question.key.span
    source = question.trace.source_text
    replaced = source[:start] + word + source[end:]
    tokenised = text.tokenise(live.tokenizer, replaced)
    shift = len(word) - (end - start)
    key = places.find((start, start + len(word)), replaced, tokenised.tokens, side="source").positions
    query: tuple[int, ...] = ()
    if question.query.side == "source":
        first, last = question.query.span
        moved = (first + shift, last + shift) if first >= end else (first, last)
        wanted = tuple(question.tokens[at].id for at in question.query.positions)
        query = tuple(
            at for at, token in enumerate(tokenised.tokens)
            if token.span is not None and token.span[0] < moved[1] and moved[0] < token.span[1]
        )
        if tuple(tokenised.ids[at] for at in query) != wanted or set(query) & set(key):
            return None
    return Swap(word, origin, replaced, tokenised.ids, key, query)


def _chosen(live: Live, question: Question, word: str) -> Swap:
    word = word.strip()
    if not word or word == question.key.text:
        raise errors.InvalidPrompt(
            f"another word in the place of {question.key.text!r}", got=repr(word),
            next_step="Choose a different word.", code="bad_replacement", word=word,
        )
    found = swap(live, question, word, "chosen")
    length = 0 if found is None else len(found.ids) + len(question.source) - len(question.tokens)
    if length > (limit := most_tokens(live)):
        raise errors.TextTooLong(
            f"a word in the place of {question.key.text!r} with which the sentence stays within {limit} tokens",
            got=f"{word!r}, with which it takes {length}", next_step="Choose a shorter word, or shorten the sentence.",
            code="replacement_too_long", word=word, limit=limit, length=length,
        )
    if found is None:
        raise errors.InvalidPrompt(
            f"a word that leaves {question.query.text!r} a word of its own", got=f"{word!r}, which melts into it",
            next_step="Choose a different word.", code="replacement_melts", word=word,
        )
    return found


def _first(live: Live, question: Question, candidates: Sequence[str], origin: Origin, count: int,
           used: set[str]) -> list[Swap]:
    """The first `count` candidates that fit: as many tokens as B, the rest of the sentence read as before."""
    found: list[Swap] = []
    for word in candidates:
        if len(found) == count:
            break
        if word.casefold() in used:
            continue
        fitting = swap(live, question, word, origin)
        if fitting is not None and len(fitting.ids) == len(question.tokens) and \
                fitting.key == question.key.positions:
            used.add(word.casefold())
            found.append(fitting)
    return found


def _vocabulary(question: Question, corpus: Corpus) -> list[tuple[str, tuple[int, ...]]]:
    """Words of the corpus with their ids: of as many tokens as B, and not of this sentence."""
    present = {word.text.casefold().strip() for word in question.words}
    length = len(question.key.positions)
    return [(word, ids) for word, ids in corpus.words if len(ids) == length and word.casefold() not in present]


def _nearest(live: Live, question: Question, vocabulary: list[tuple[str, tuple[int, ...]]]) -> list[str]:
    """The vocabulary's words by the cosine of their mean input embedding with B's, nearest first."""
    if not vocabulary:
        return []
    table = live.model.get_input_embeddings().weight.detach()
    b = torch.tensor([question.tokens[at].id for at in question.key.positions], device=table.device)
    ids = torch.tensor([ids for _, ids in vocabulary], device=table.device)
    similarity = torch.cosine_similarity(table[ids].float().mean(1), table[b].float().mean(0), dim=-1)
    return [vocabulary[at][0] for at in similarity.argsort(descending=True).tolist()]
