"""What is trained on and what is held out, gathered from the pairs, the templates and the hand-written sentences.

The only place that knows all three sources. No hand-written sentence, and none of the four that the first
page shows, is ever trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .pairs import Pair, Split, chinese_key, read_pairs, split_pairs
from .templates import Example, template_split

SHOWN = ("我喜欢吃苹果", "他每天吃一个苹果", "苹果发布了新手机", "我买了苹果的股票")


@dataclass(frozen=True)
class Data:
    """Training pairs, the split of the corpus, and the template combinations held out."""

    train: tuple[Pair, ...]
    split: Split
    held_out: tuple[Example, ...]


def gather(path: Path | str) -> Data:
    """Read and split everything; equal files give equal data."""
    split = split_pairs(read_pairs(path))
    templates, held_out = template_split()
    away = {chinese_key(text) for text in SHOWN} | {chinese_key(e.pair.chinese) for e in held_out}
    away |= {chinese_key(p.chinese) for part in (split.dev, split.test) for p in part}
    pairs = [*split.train, *(e.pair for e in templates)]
    return Data(tuple(p for p in pairs if chinese_key(p.chinese) not in away), split, tuple(held_out))
