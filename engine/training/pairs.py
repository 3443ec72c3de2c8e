"""Sentence pairs: read, clean, normalise, and split so that no held-out sentence has a paraphrase in training.

Knows the tab-separated export format of Tatoeba pairs (Chinese, English, attribution; the columns may
be swapped, as in the Anki export) and nothing of models or tokens. It does not judge translations:
a wrong pair in the export stays a wrong pair here.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

MAX_CHINESE = 48  # characters; 96% of the export is below, and long pairs cost the most time
MAX_ENGLISH = 160  # characters
_HAN = re.compile(r"[\u3400-\u9fff]")
_NO_WORD = re.compile(r"\W")
_CHINESE_MARKS = str.maketrans(
    {
        ",": "，",
        "?": "？",
        "!": "！",
        ":": "：",
        ";": "；",
        "(": "（",
        ")": "）",
        "﹐": "，",
        "•": "·",
        "「": "“",
        "」": "”",
        "＂": '"',
        "％": "%",
        "－": "-",
        "\u3000": " ",
        "‧": "·",
    }
)
_ENGLISH_MARKS = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\u00a0": " ", "\u202f": " "}
)


@dataclass(frozen=True)
class Pair:
    """One Chinese sentence and one English translation of it."""

    chinese: str
    english: str


@dataclass(frozen=True)
class Split:
    """Three disjoint lists of pairs; no group of paraphrases touches two of them."""

    train: tuple[Pair, ...]
    dev: tuple[Pair, ...]
    test: tuple[Pair, ...]


def clean_chinese(text: str) -> str:
    """Full-width Chinese punctuation, half-width letters and digits, no spaces beside a Chinese character."""
    text = unicodedata.normalize("NFKC", text.strip())
    text = re.sub(r"(?<!\d)\.(?=$|\s)", "。", text)
    text = re.sub(r"(?<!\d)([,?!:;])|([,?!:;])(?!\d)", lambda m: m[0].translate(_CHINESE_MARKS), text)
    text = text.translate(_CHINESE_MARKS) if not re.search(r"\d[,:]\d", text) else text
    text = re.sub(r"\s+", " ", text)
    return re.sub(r"(?<=[\u3400-\u9fff，。？！：；]) | (?=[\u3400-\u9fff，。？！：；])", "", text)


def clean_english(text: str) -> str:
    """ASCII quotes and hyphens, accents kept, single spaces."""
    text = unicodedata.normalize("NFC", text.strip()).translate(_ENGLISH_MARKS)
    return re.sub(r"\s+", " ", text)


def read_pairs(path: Path | str) -> list[Pair]:
    """Read and clean every usable pair of a tab-separated export, in file order, without exact repeats.

    Raises:
        ValueError: the file holds no line with a Chinese and an English column.
    """
    seen: dict[Pair, None] = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        columns = line.split("\t")
        if len(columns) < 2:
            continue
        first, second = columns[:2]
        if _HAN.search(second) and not _HAN.search(first):
            first, second = second, first
        if not _HAN.search(first) or _HAN.search(second):
            continue
        pair = Pair(clean_chinese(first), clean_english(second))
        if len(pair.chinese) <= MAX_CHINESE and len(pair.english) <= MAX_ENGLISH:
            seen.setdefault(pair)
    if not seen:
        raise ValueError(f"{path}: expected lines 'chinese<TAB>english…', found none with a Chinese column")
    return list(seen)


def chinese_key(text: str) -> str:
    """The sentence without punctuation and spaces: equal keys mean the same sentence to the split."""
    return _NO_WORD.sub("", text).lower()


def english_key(text: str) -> str:
    """The sentence lower-cased, without punctuation, contractions undone."""
    text = text.lower().replace("can't", "cannot").replace("won't", "will not").replace("n't", " not")
    for short, long in (("'m", " am"), ("'re", " are"), ("'ll", " will"), ("'ve", " have")):
        text = text.replace(short, long)
    return " ".join(re.findall(r"\w+", re.sub(r"'", "", text)))


def group_pairs(pairs: list[Pair]) -> list[int]:
    """Number the paraphrase groups: pairs that share a Chinese or an English key are in one group.

    Returns:
        One group number for each pair: the index of the group's first pair (union–find).
    """
    parent = list(range(len(pairs)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, pair in enumerate(pairs):
        for key in (("zh", chinese_key(pair.chinese)), ("en", english_key(pair.english))):
            a, b = root(first.setdefault(key, i)), root(i)
            parent[max(a, b)] = min(a, b)
    return [root(i) for i in range(len(pairs))]


def split_pairs(pairs: list[Pair], *, n_test: int = 1200, n_dev: int = 400, seed: int = 7) -> Split:
    """Hold out whole groups, chosen by a hash of their content, so the choice outlives reordering.

    Groups are taken in hash order until each held-out part has at least its number of pairs; a group of
    more than eight pairs ("Come here!" and its like) stays in training, since it is no single sentence.
    """
    members: dict[int, list[Pair]] = {}
    for number, pair in zip(group_pairs(pairs), pairs):
        members.setdefault(number, []).append(pair)

    def rank(group: list[Pair]) -> bytes:
        name = min(f"{p.chinese}\t{p.english}" for p in group)
        return hashlib.sha256(f"{seed}\t{name}".encode()).digest()

    train: list[Pair] = []
    dev: list[Pair] = []
    test: list[Pair] = []
    for group in sorted(members.values(), key=rank):
        if len(group) > 8:
            train += group
        elif len(test) < n_test:
            test += group
        elif len(dev) < n_dev:
            dev += group
        else:
            train += group
    return Split(tuple(train), tuple(dev), tuple(test))
