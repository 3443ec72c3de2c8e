"""One stream as a page shows it: axis labels, flags, sinks and patterns, by tokens or by words.

It turns the engine's values into what figures and components take; it draws
nothing. Masked cells are NaN from here on, so that they cannot pass for zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import streamlit as st

from engine import Head, LocalEngine, Prompt, Trace, Word, summaries, words
from engine.types import Token

Unit = Literal["words", "tokens"]
UNITS: tuple[Unit, ...] = ("words", "tokens")
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class StreamView:
    """The axes of one stream in one unit.

    Attributes:
        stream, unit: which.
        queries: q_len labels; in `decoder` and `cross` "predicted ‹ read". A text that repeats carries its number.
        keys: k_len labels, likewise.
        query_flags, key_flags: "", "unknown", "fallback" or "special" for each.
        sink: (k_len,) bool, the keys that the sink switch sets aside.
        query_units, key_units: the token ranges that the labels stand for.
    """

    stream: str
    unit: Unit
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    query_flags: tuple[str, ...]
    key_flags: tuple[str, ...]
    sink: np.ndarray
    query_units: tuple[Word, ...]
    key_units: tuple[Word, ...]

    @property
    def sinks(self) -> tuple[str, ...]:
        """The labels of the keys that the sink switch sets aside."""
        return tuple(name for name, sink in zip(self.keys, self.sink, strict=True) if sink)

    @property
    def size(self) -> int:
        """The longer axis."""
        return max(len(self.queries), len(self.keys))


def view(trace: Trace, stream: str, *, unit: Unit) -> StreamView:
    """The axes of `stream` in `unit`."""
    axes = trace.tokens(stream)
    if unit == "words":
        query_units, key_units = axes.query_words, axes.key_words
    else:
        query_units, key_units = _one_by_one(axes.query), _one_by_one(axes.key)
    keys = numbered([(unit_.start, unit_.text) for unit_ in key_units])
    queries = keys
    if stream != "encoder":
        read = trace.tokens("decoder")
        read_units = read.key_words if unit == "words" else _one_by_one(read.key)
        queries, read_keys = _predicted_and_read(query_units, read_units, read.key)
        keys = read_keys if stream == "decoder" else keys
    token_sink = summaries.sink_keys(axes.key, stream=stream)
    return StreamView(
        stream=stream, unit=unit, queries=queries, keys=keys,
        query_flags=tuple(_flag(unit_) for unit_ in query_units), key_flags=tuple(_flag(unit_) for unit_ in key_units),
        sink=np.array([bool(token_sink[unit_.start:unit_.end].all()) for unit_ in key_units]),
        query_units=query_units, key_units=key_units,
    )


def numbered(placed: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    """Labels that tell apart what repeats: 我₁, 我₂ …; a text that stands at one place alone stays bare.

    Args:
        placed: (place, text) of each; the same text at the same place is the same thing.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, text in sorted(set(placed)):
        places[text].append(place)
    number = {(place, text): index for text, at in places.items() for index, place in enumerate(at, 1)}
    return tuple(text if len(places[text]) == 1 else text + str(number[place, text]).translate(_SUBSCRIPTS)
                 for place, text in placed)


def _predicted_and_read(query_units: Sequence[Word], read_units: Sequence[Word],
                        read: Sequence[Token]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels of a decoder's rows, "predicted ‹ read", and of what it has read.

    What is predicted is read one place later, so both are numbered as one text. A row reads the word that ends
    where the row starts; where it starts within a word, the token.
    """
    names = numbered([(unit.start, unit.text) for unit in read_units]
                     + [(unit.start + 1, unit.text) for unit in query_units])
    keys, predicted = names[:len(read_units)], names[len(read_units):]
    last = {unit.end - 1: name for unit, name in zip(read_units, keys, strict=True)}
    return tuple(f"{name} ‹ {last.get(unit.start, read[unit.start].text)}"
                 for unit, name in zip(query_units, predicted, strict=True)), keys


def part(shown: StreamView, rows: tuple[int, int], columns: tuple[int, int]) -> StreamView:
    """The axes of a region [start, end) of tokens; for views by tokens."""
    return replace(
        shown, queries=shown.queries[slice(*rows)], keys=shown.keys[slice(*columns)],
        query_flags=shown.query_flags[slice(*rows)], key_flags=shown.key_flags[slice(*columns)],
        sink=shown.sink[slice(*columns)], query_units=shown.query_units[slice(*rows)],
        key_units=shown.key_units[slice(*columns)],
    )


def pattern(engine: LocalEngine, prompt: Prompt, head: Head, shown: StreamView) -> np.ndarray:
    """One head's pattern in the view's unit, (q_len, k_len) float32, NaN where masked."""
    return _in_units(engine.pattern(prompt, head), engine.visible(prompt, head), shown)


def even(engine: LocalEngine, prompt: Prompt, head: Head, shown: StreamView) -> np.ndarray:
    """What a head would give that looks at every token in sight alike, in the view's unit, as `pattern`.

    By words it is handled as a pattern is: a word's share is summed over its tokens and averaged over its rows',
    which under a causal mask see more and more.
    """
    visible = engine.visible(prompt, head)
    return _in_units(visible / np.maximum(visible.sum(axis=1, keepdims=True), 1), visible, shown)


def patterns(engine: LocalEngine, prompt: Prompt, shown: StreamView) -> np.ndarray:
    """Every head's pattern in the view's unit, (n_layers, n_heads, q_len, k_len) float32, NaN where masked; read-only.

    Kept for the prompts asked last: opening a head draws the same grid again.
    """
    return _patterns(engine, prompt, shown.stream, shown.unit)


@st.cache_resource(max_entries=32, show_spinner=False)
def _patterns(_engine: LocalEngine, prompt: Prompt, stream: str, unit: Unit) -> np.ndarray:
    shown = view(_engine.trace(prompt), stream, unit=unit)
    every = np.stack([
        np.stack([_in_units(one, _engine.visible(prompt, Head(stream, layer, head)), shown)
                  for head, one in enumerate(heads)])
        for layer, heads in enumerate(_engine.patterns(prompt, stream))
    ])
    every.setflags(write=False)
    return every


def set_sink_aside(weights: np.ndarray, shown: StreamView) -> tuple[np.ndarray, np.ndarray]:
    """The pattern renormalised without the view's sink keys, and the mass removed from each row.

    Args:
        weights: (q_len, k_len) float32, NaN where masked.

    Returns:
        (q_len, k_len) float32 with masked cells and the sink's columns NaN, and (q_len,) float32.
    """
    masked = np.isnan(weights)
    rest, removed = summaries.set_sink_aside(np.where(masked, 0, weights), shown.sink)
    return np.where(masked | shown.sink, np.nan, rest).astype(np.float32), removed


def _one_by_one(tokens: Sequence[Token]) -> tuple[Word, ...]:
    return tuple(Word(token.text, i, i + 1, token.special, token.flag) for i, token in enumerate(tokens))


def _flag(unit: Word) -> str:
    return unit.flag or ("special" if unit.special else "")


def _in_units(weights: np.ndarray, visible: np.ndarray, shown: StreamView) -> np.ndarray:
    if shown.unit == "tokens":
        return np.where(visible, weights, np.nan).astype(np.float32)
    units = {"query_words": shown.query_units, "key_words": shown.key_units}
    summed = words.aggregate(weights, **units)
    seen = words.aggregate(visible.astype(np.float32), **units) > 0
    return np.where(seen, summed, np.nan).astype(np.float32)
