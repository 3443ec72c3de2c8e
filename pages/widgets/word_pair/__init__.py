"""The words of a sentence, of which one clicks two: an arrow is drawn from A, who looks, to B, who is looked at.

It knows words as display strings with flags, in two strips: the source and,
where A may stand there, the output. It does not know tokens or what is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pages.widgets.canvas import pack, pending, register, require_texts

#: Interface strings `word_pair` needs, already translated: `source` and `output` name the strips, `first` and
#: `second` tell which word to click next, `unknown` and `fallback` say what a mark on a word means.
TEXTS = ("source", "output", "first", "second", "unknown", "fallback")

SIDES = ("source", "output")

_component = register(Path(__file__).parent)


@dataclass(frozen=True)
class Pair:
    """Two clicked words.

    Attributes:
        side: where A stands, "source" or "output".
        query: index of A among the words of its side.
        key: index of B among the words of the source.
    """

    side: str
    query: int
    key: int


def word_pair(
    *,
    source: Sequence[str],
    source_flags: Sequence[str],
    output: Sequence[str],
    chosen: Mapping[str, object],
    texts: Mapping[str, str],
    key: str,
) -> Pair | None:
    """Show the words; return the pair that was clicked in this run, else None.

    Args:
        source: display strings of the source's words.
        source_flags: "", "unknown" or "fallback" for each.
        output: those of the output's words; empty where A cannot stand there.
        chosen: what the arrow shows: `side`, `query` and `key`, the latter two as lists of word indices (a reference
            may cover several words), empty while nothing is chosen.
        texts: the strings of TEXTS.
        key: unique on the page.

    Raises:
        ValueError: words and flags differ in number, or a text is missing.
    """
    if len(source) != len(source_flags):
        raise ValueError(f"Expected {len(source)} flags; got {len(source_flags)}. Give one for each word.")
    header = {
        "source": list(source), "flags": list(source_flags), "output": list(output), "chosen": dict(chosen),
        "texts": require_texts(texts, TEXTS),
    }
    result = _component(data=pack(header, np.zeros(0, dtype=np.uint8)), key=key, on_pair_change=lambda: None)
    return _pair(result.pair, len(source), len(output))


def clicked(key: str, *, n_source: int, n_output: int) -> Pair | None:
    """The pair that the component `key` has just sent, before it is drawn in this run; else None."""
    return _pair(pending(key, "pair"), n_source, n_output)


def _pair(value: object, n_source: int, n_output: int) -> Pair | None:
    """What the browser sent, if it is two words that exist; a browser may send anything."""
    if not isinstance(value, Mapping) or value.get("side") not in SIDES:
        return None
    side, query, key = value["side"], value.get("query"), value.get("key")
    limits = ((query, n_source if side == "source" else n_output), (key, n_source))
    if not all(type(index) is int and 0 <= index < limit for index, limit in limits):
        return None
    return None if side == "source" and query == key else Pair(side, query, key)
