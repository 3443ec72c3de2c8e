"""Words out of tokens, and patterns summed to words.

The rule, in order:

1. Special tokens, tokens the model doesn't know, and tokens that cover no
   character stay alone.
2. Fragments of one character (overlapping spans) always merge.
3. Neighbours whose spans touch merge when the characters on both sides of the
   boundary are letters, digits or marks of a script written with spaces (Latin,
   Cyrillic, Arabic, Hangul, …). An apostrophe, ZWJ or ZWNJ between two such
   characters belongs to the word.
4. Everything else stays as the model cut it: Han, Kana, Thai and Khmer tokens,
   punctuation, blanks, symbols.

It does not know dictionaries, hyphens or abbreviations: "well-known" is three words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from engine.glyphs import is_unspaced, visible
from engine.types import Token, Word

_JOINERS = frozenset("'’＇\u200c\u200d")


def runs(length: int, joined: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
    """Maximal runs [start, end) tiling [0, length); `joined(at)` says whether `at` continues `at − 1`'s run."""
    start = 0
    for at in range(1, length + 1):
        if at == length or not joined(at):
            yield start, at
            start = at


def group(tokens: Sequence[Token], text: str) -> tuple[Word, ...]:
    """Words over `tokens` by the module's rule.

    Args:
        tokens: an axis, in order.
        text: the text that the tokens' spans count in.

    Returns:
        Words whose ranges tile [0, len(tokens)) in order. A word's flag is
        "unknown" or "fallback" when one of its tokens carries that flag.
    """
    return tuple(
        _word(tokens[start:end], start, text) for start, end in runs(len(tokens), lambda at: _joined(tokens, at, text))
    )


def aggregate(pattern: np.ndarray, *, query_words: Sequence[Word], key_words: Sequence[Word]) -> np.ndarray:
    """The pattern between words: summed over a word's keys, averaged over its queries.

    Rows sum to the mean of what their tokens' rows summed to.

    Args:
        pattern: (q_len, k_len) float.
        query_words: words tiling [0, q_len).
        key_words: words tiling [0, k_len).

    Returns:
        (n_query_words, n_key_words) float32.

    Raises:
        ValueError: the words don't tile the pattern's axes.
    """
    rows = _starts(query_words, pattern.shape[0])
    columns = _starts(key_words, pattern.shape[1])
    if not len(rows) or not len(columns):
        return np.zeros((len(rows), len(columns)), np.float32)
    by_key = np.add.reduceat(pattern, columns, axis=1, dtype=np.float64)
    summed = np.add.reduceat(by_key, rows, axis=0)
    return (summed / np.diff(rows, append=pattern.shape[0])[:, None]).astype(np.float32)


def _starts(words: Sequence[Word], length: int) -> np.ndarray:
    starts = [word.start for word in words]
    ends = [word.end for word in words]
    if [0, *ends] != [*starts, length] or any(start >= end for start, end in zip(starts, ends, strict=True)):
        raise ValueError(f"words must tile [0, {length}); got {list(zip(starts, ends, strict=True))}")
    return np.array(starts, dtype=np.intp)


def _word(members: Sequence[Token], start: int, text: str) -> Word:
    flags = {token.flag for token in members}
    flag = "unknown" if "unknown" in flags else "fallback" if "fallback" in flags else ""
    shown = members[0].text
    if len(members) > 1:
        shown = visible(text[members[0].span[0]:max(token.span[1] for token in members)])
    return Word(shown, start, start + len(members), all(token.special for token in members), flag)


def _joined(tokens: Sequence[Token], at: int, text: str) -> bool:
    before, here = tokens[at - 1], tokens[at]
    if any(token.special or token.span is None for token in (before, here)):
        return False
    if here.span[0] < before.span[1]:
        return True
    if here.span[0] != before.span[1] or "unknown" in (before.flag, here.flag):
        return False
    return _inside_word(text, here.span[0])


def _inside_word(text: str, boundary: int) -> bool:
    """Whether the characters before and after `boundary` are of one word, joiners looked through."""
    before, after = boundary - 1, boundary
    if text[before] in _JOINERS:
        before -= 1
    elif text[after] in _JOINERS:
        after += 1
    return before >= 0 and after < len(text) and _is_wordlike(text[before]) and _is_wordlike(text[after])


def _is_wordlike(char: str) -> bool:
    return unicodedata.category(char)[0] in "LNM" and not is_unspaced(char)
