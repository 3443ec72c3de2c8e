"""The interventions: cut the edge, hide the word, patch A's vector, replace B; and what each did to the output.

One batch holds all cuts of a question. Cutting A→B takes the edge in every
layer and head of its stream; hiding B takes every edge into B, in every
stream, but B's own. Patching gives A's rows, in every layer of the stream,
what attention brought them in the sentence with B replaced, so that A's vector
becomes that sentence's (in `cross`: what cross-attention brought becomes it),
while everything else still sees the original. It judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from engine import attention
from engine.edits import Cut, Observer, Patch
from engine.evidence.bench import Bench, Frame, MakeEdits
from engine.evidence.question import Question, TextWord
from engine.evidence.swaps import Swap
from engine.types import Stream


@dataclass(frozen=True)
class Effects:
    """Every array is a change, after − before, in nats, on the log-probability or the margin.

    Attributes:
        base: log-probability or margin of the unedited run.
        cut: the edge A→B, all layers and heads.
        by_layer: (n_layers,); by_head: (n_layers, n_heads).
        cut_words, hide_words: (n_words,) the same cut to each word, and hiding it; NaN for A, and for words that A
            cannot see.
        patches: (n_swaps,).
        swapped: (n_swaps,) log-probability or margin, itself, in the sentence with B replaced.
    """

    base: float
    cut: float
    by_layer: np.ndarray
    by_head: np.ndarray
    cut_words: np.ndarray
    hide_words: np.ndarray
    patches: np.ndarray
    swapped: np.ndarray


@dataclass(frozen=True)
class Interventions:
    """What all runs gave.

    Attributes:
        logprob, margin: effects on either; `margin` is all NaN without a contrast.
        swapped_output: (n_swaps,) log-probability of the whole original output with B replaced.
        swap_attention: (n_swaps, n_layers, n_heads) mass from A to the word in B's place.
    """

    logprob: Effects
    margin: Effects
    swapped_output: np.ndarray
    swap_attention: np.ndarray


def intervene(bench: Bench, question: Question, words: Sequence[TextWord], swaps: Sequence[Swap], *,
              streams: Sequence[Stream], shape: tuple[int, int], seen: np.ndarray,
              on_done: Callable[[int, int], None]) -> Interventions:
    """Run everything and sort it.

    Args:
        bench: measures.
        words: the words of the text, of `question.words_of`.
        swaps: sentences with B replaced.
        streams: of the model.
        shape: (n_layers, n_heads) of the question's stream.
        seen: (n_words,) bool, words that A can see.
        on_done: receives runs done, and of how many (an estimate until the end).
    """
    n_layers, n_heads = shape
    cuts = _cut_runs(question, words, streams, shape, seen)
    total = len(swaps) * 2 + len(cuts)
    stream = question.stream
    masses = np.zeros((len(swaps), n_layers, n_heads), np.float32)
    brought: dict[tuple[int, int], list[Tensor]] = {}
    swap_frames = [bench.frames(swap) for swap in swaps]

    def observe(run: int, which: int) -> Observer:
        frame = swap_frames[run][which]
        kept = brought.setdefault((run, which), [])

        def watch(_: int, key, call, output) -> None:
            if key[0] != stream:
                return
            kept.append(output[list(frame.rows)].clone())
            if not which:
                masses[run, key[1]] = mass(call, frame.rows, frame.columns)

        return watch

    swapped = bench.measure([(frames, _nothing) for frames in swap_frames], observe=observe,
                            on_done=lambda done: on_done(done, total))
    frames = bench.frames()
    runs = [(frames, make) for make in cuts]
    runs += [(frames, _patch(stream, index, brought)) for index in range(len(swaps))]
    measured = bench.measure(runs, on_done=lambda done: on_done(len(swaps) + done, total))
    return Interventions(
        logprob=_sorted(measured.logprob, swapped.logprob, shape, words, seen, len(swaps)),
        margin=_sorted(measured.margin, swapped.margin, shape, words, seen, len(swaps)),
        swapped_output=swapped.output, swap_attention=masses,
    )


def mass(call: attention.Call, rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
    """Mass from rows to columns of one layer, mean over rows, sum over columns, (n_heads,) float32."""
    low, high = min(rows), max(rows) + 1
    weights = attention.pattern(call, rows=slice(low, high))
    picked = weights[:, [row - low for row in rows]][:, :, list(columns)]
    return picked.sum(-1).mean(-1).cpu().numpy()


def _cut_runs(question: Question, words: Sequence[TextWord], streams: Sequence[Stream], shape: tuple[int, int],
              seen: np.ndarray) -> list[MakeEdits]:
    """Nothing; the edge; the edge by layer; by head; each word's edge; each word hidden. `_sorted` knows the order."""
    n_layers, n_heads = shape
    stream = question.stream
    places = [(None, None), *((layer, None) for layer in range(n_layers)),
              *((layer, head) for layer in range(n_layers) for head in range(n_heads))]
    runs: list[MakeEdits] = [_nothing]
    runs += [_cut(stream, question.key.positions, layer, head) for layer, head in places]
    runs += [_cut(stream, word.columns, None, None)
             for word, is_seen in zip(words, seen, strict=True) if word.role != "query" and is_seen]
    runs += [_hide(streams, word.columns) for word in words if word.role != "query"]
    return runs


def _sorted(values: np.ndarray, swapped: np.ndarray, shape: tuple[int, int], words: Sequence[TextWord],
            seen: np.ndarray, n_swaps: int) -> Effects:
    n_layers, n_heads = shape
    base, deltas = float(values[0]), values[1:] - values[0]
    parts = iter(np.split(deltas, np.cumsum([1, n_layers, n_layers * n_heads])))
    cut, by_layer, by_head, rest = next(parts), next(parts), next(parts), next(parts)
    cut_words, hide_words = (np.full(len(words), np.nan) for _ in range(2))
    others = np.array([word.role != "query" for word in words], bool)
    n_seen = int((others & seen).sum())
    cut_words[others & seen] = rest[:n_seen]
    hide_words[others] = rest[n_seen:n_seen + int(others.sum())]
    return Effects(
        base=base, cut=float(cut[0]), by_layer=by_layer, by_head=by_head.reshape(shape), cut_words=cut_words,
        hide_words=hide_words, patches=rest[len(rest) - n_swaps:], swapped=swapped,
    )


def _nothing(which: int, frame: Frame) -> tuple:
    return ()


def _cut(stream: Stream, columns: tuple[int, ...], layer: int | None, head: int | None) -> MakeEdits:
    return lambda which, frame: (Cut(stream, frame.rows, columns, layer, head),)


def _hide(streams: Sequence[Stream], columns: tuple[int, ...]) -> MakeEdits:
    """Every edge into `columns` from rows that are not their own, in every stream whose keys are the text."""
    def make(which: int, frame: Frame) -> tuple[Cut, ...]:
        in_text = tuple(at for at in range(len(frame.source)) if at not in columns)
        if "cross" in streams:
            return (Cut("encoder", in_text, columns), Cut("cross", tuple(range(len(frame.consumed))), columns))
        return (Cut(streams[0], in_text, columns),)

    return make


def _patch(stream: Stream, index: int, brought: dict[tuple[int, int], list[Tensor]]) -> MakeEdits:
    return lambda which, frame: (Patch(stream, frame.rows, tuple(brought[index, which])),)
