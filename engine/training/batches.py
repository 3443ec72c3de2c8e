"""Batches of token ids: bucketed by length, noisy on purpose, and a pure function of (seed, epoch).

Source noise: a word is replaced by `<unk>` or spelt in characters, and the final mark is dropped, so that
the model has met unknown words, character fall-back and sentences without a full stop. Target noise: a word
of the decoder's *input* is replaced by `<unk>`; the words to predict are never touched. It knows ids only.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

PAD, END, UNKNOWN, START = 0, 1, 2, 3


@dataclass(frozen=True)
class Noise:
    """Probabilities, per token except the last, which is per sentence."""

    unknown: float = 0.04
    spell: float = 0.06
    target_unknown: float = 0.08
    drop_mark: float = 0.25


@dataclass(frozen=True)
class Corpus:
    """Training pairs as ids without `</s>`; `spelling` maps a word's id to its characters' ids."""

    sources: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]
    spelling: dict[int, tuple[int, ...]]
    marks: frozenset[int]


@dataclass(frozen=True)
class Batch:
    """source, mask: (n, src_len); inputs, labels: (n, tgt_len); labels are PAD where nothing is predicted."""

    source: torch.Tensor
    mask: torch.Tensor
    inputs: torch.Tensor
    labels: torch.Tensor


def spell_table(tokenizer) -> dict[int, tuple[int, ...]]:
    """Id of every multi-character Chinese word whose characters are all in the lexicon → their ids."""
    vocab = tokenizer.get_vocab()
    return {
        i: tuple(vocab[c] for c in w)
        for w, i in vocab.items()
        if len(w) > 1 and all("\u3400" <= c <= "\u9fff" and c in vocab for c in w)
    }


def encode_corpus(tokenizer, pairs) -> Corpus:
    """Tokenise pairs once; sentences are stored without specials."""
    pairs = list(pairs)
    sources = tokenizer([p.chinese for p in pairs], add_special_tokens=False)["input_ids"]
    targets = tokenizer([p.english for p in pairs], add_special_tokens=False)["input_ids"]
    marks = frozenset(tokenizer.convert_tokens_to_ids(["。", "?", "!", "."])) - {UNKNOWN}
    return Corpus(tuple(map(tuple, sources)), tuple(map(tuple, targets)), spell_table(tokenizer), marks)


def epoch_order(lengths: np.ndarray, *, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Index arrays of one epoch's batches: similar lengths together, random within, random order of batches.

    Args:
        lengths: (n_pairs, 2) source and target tokens.
        size: sentences a batch.
    """
    rng = np.random.default_rng((seed, epoch))
    noise = rng.uniform(0, 0.9, lengths.shape)
    order = np.lexsort(((lengths + noise)[:, 0] // 2, (lengths + noise)[:, 1] // 1.0))
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    rng.shuffle(batches)
    return batches


def noisy(source: tuple[int, ...], corpus: Corpus, noise: Noise, rng: random.Random) -> list[int]:
    """One source sentence with its noise."""
    if len(source) > 1 and source[-1] in corpus.marks and rng.random() < noise.drop_mark:
        source = source[:-1]
    out: list[int] = []
    for i in source:
        draw = rng.random()
        if draw < noise.unknown and len(source) > 2:
            out.append(UNKNOWN)
        elif draw < noise.unknown + noise.spell and i in corpus.spelling:
            out.extend(corpus.spelling[i])
        else:
            out.append(i)
    return out


def pad(rows: list[list[int]]) -> torch.Tensor:
    """Rows of ids, padded on the right: (n, longest) int64."""
    width = max(map(len, rows))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


def epoch_batches(corpus: Corpus, *, size: int, seed: int, epoch: int, noise: Noise, skip: int = 0) -> Iterator[Batch]:
    """The batches of one epoch, from batch `skip` on; equal arguments give equal batches."""
    lengths = np.array([(len(s), len(t)) for s, t in zip(corpus.sources, corpus.targets)], dtype=float)
    for number, indices in enumerate(epoch_order(lengths, size=size, seed=seed, epoch=epoch)):
        if number < skip:
            continue
        rng = random.Random(f"{seed} {epoch} {number}")
        sources = [noisy(corpus.sources[i], corpus, noise, rng) + [END] for i in indices]
        targets = [list(corpus.targets[i]) for i in indices]
        inputs = [[START] + [UNKNOWN if rng.random() < noise.target_unknown else t for t in row] for row in targets]
        source = pad(sources)
        yield Batch(source, (source != PAD).long(), pad(inputs), pad([row + [END] for row in targets]))
