"""What is trained on and what is held out, gathered from the pairs, the templates and the hand-written sentences.

The only place that knows all three sources. No hand-written sentence, and none of the four that the first
page shows, is ever trained on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from .handwritten import BLIND, read_checks
from .pairs import Pair, Split, chinese_key, read_pairs, split_pairs
from .templates import Example, template_split

N_JOINED = 4000
JOINED_LENGTH = 14  # characters of either sentence, at most
SHOWN = ("我喜欢吃苹果", "他每天吃一个苹果", "苹果发布了新手机", "我买了苹果的股票")


@dataclass(frozen=True)
class Data:
    """Training pairs, two of them joined into one, the split of the corpus, and the template combinations held out."""

    train: tuple[Pair, ...]
    joined: tuple[Pair, ...]
    split: Split
    held_out: tuple[Example, ...]


def gather(path: Path | str) -> Data:
    """Read and split everything; equal files give equal data."""
    split = split_pairs(read_pairs(path))
    templates, held_out = template_split()
    away = {chinese_key(text) for text in SHOWN} | {chinese_key(e.pair.chinese) for e in held_out}
    away |= {chinese_key(check.chinese) for check in (*read_checks(), *read_checks(BLIND))}
    away |= {chinese_key(p.chinese) for part in (split.dev, split.test) for p in part}
    pairs = [*split.train, *(e.pair for e in templates)]
    train = tuple(p for p in pairs if chinese_key(p.chinese) not in away)
    return Data(train, join_pairs(train), split, tuple(held_out))


def join_pairs(pairs: tuple[Pair, ...], *, count: int = N_JOINED, seed: int = 7) -> tuple[Pair, ...]:
    """Two random short statements as one sentence pair, so that a second clause is nothing new to the model.

    Chinese joins with a comma what English writes as two sentences; half of the pairs keep their full stop.
    Joining random sentences helps small corpora (Nguyen et al. 2021, "Data Augmentation by Concatenation").
    """
    rng = random.Random(seed)
    short = [p for p in pairs if len(p.chinese) <= JOINED_LENGTH]
    first = [p for p in short if p.chinese.endswith("。")]
    if not first:
        return ()
    joined = []
    for number in range(count):
        one, two = rng.choice(first), rng.choice(short)
        chinese = one.chinese[:-1] + "，" if number % 2 else one.chinese
        joined.append(Pair(chinese + two.chinese, f"{one.english} {two.english}"))
    return tuple(joined)
