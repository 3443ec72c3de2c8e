"""Template sentences of our own, in which one Chinese word takes its English from the words around it.

Knows a small English grammar (agreement, four tenses, questions, negation) and reads data files: lexicon.tsv
(verb phrases, combined with subjects, times and clause forms), openers.tsv (clauses that may stand before them),
frames.tsv (whole sentences with slots) and slots.tsv (what may fill them). Everything is a pure function of the
seed. It knows nothing of tokens, and its English is plain: one translation for a sentence, though several would
be right.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .english import ing, past, third
from .pairs import Pair, chinese_key

HERE = Path(__file__).parent
PER_SENSE = 130  # sentences sampled for one sense of one word, spread evenly over its lines
LEAST_PER_LINE = 16  # and at least so many for one line of a data file
WEIGHT = {"苹果": 2}  # the word that the first page shows
OPENED = 10_000  # added to a line's number: its sentences behind another clause are sampled apart
HELD_OUT_PERCENT = 10  # share of the combinations that training never sees


@dataclass(frozen=True)
class Example:
    """A sentence, its translation, and how to recognise the sense of its ambiguous word."""

    pair: Pair
    word: str
    sense: str
    accept: str  # regular expression that a right translation matches
    line: int = 0  # which line of the data files it came from
    statement: str = ""  # its English in lower case where it may stand behind another clause


@dataclass(frozen=True)
class Subject:
    chinese: str
    english: str
    number: str  # "I", "plural" or "he"
    possessive: str


def _read(name: str) -> list[list[str]]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


PEOPLE = tuple(Subject(*row) for row in _read("subjects.tsv"))
FIRST_SIX = PEOPLE[:6]
COMPANY = {"apple": Subject("苹果", "Apple", "he", "its"), "xiaomi": Subject("小米", "Xiaomi", "he", "its")}
WEATHER = Subject("", "it", "he", "its")

HABITS = (
    ("每天", "every day", 1),
    ("经常", "often", 0),
    ("总是", "always", 0),
    ("有时候", "sometimes", 0),
    ("很少", "seldom", 0),
    ("从来不", "never", 0),
    ("每个周末", "every weekend", 1),
    ("每天早上", "every morning", 1),
    ("每天晚上", "every evening", 1),
    ("常常", "often", 0),
)
PAST_TIMES = (
    ("", ""),
    ("昨天", "yesterday"),
    ("昨晚", "last night"),
    ("今天早上", "this morning"),
    ("上个星期", "last week"),
    ("刚才", "just now"),
    ("上个月", "last month"),
)
FUTURE = (
    ("明天要", "will {v} tomorrow"),
    ("会", "will {v}"),
    ("明天会", "will {v} tomorrow"),
    ("打算", "{be} going to {v}"),
    ("下个星期要", "will {v} next week"),
    ("今晚要", "will {v} tonight"),
)
MODALS = (
    ("可以", "can"),
    ("应该", "should"),
    ("必须", "must"),
    ("不能", "can't"),
    ("不应该", "shouldn't"),
    ("不可以", "can't"),
)
PLACES = (
    ("家里", "at home"),
    ("外面", "outside"),
    ("楼上", "upstairs"),
    ("学校", "at school"),
    ("公园里", "in the park"),
    ("厨房里", "in the kitchen"),
    ("房间里", "in the room"),
    ("朋友家", "at a friend's house"),
)
RECEIVERS = (
    ("我", "me"),
    ("他", "him"),
    ("她", "her"),
    ("我们", "us"),
    ("我妹妹", "my younger sister"),
    ("孩子们", "the children"),
    ("我妈妈", "my mother"),
    ("客人", "the guests"),
)


@dataclass(frozen=True)
class Phrase:
    """A Chinese verb and object with the English verb and object that translate them."""

    verb: str
    object: str
    english: str
    rest: str

    def form(self, verb: str, subject: Subject) -> str:
        return f"{verb} {self.rest.format(poss=subject.possessive)}".strip()


def clauses(phrase: Phrase, subject: Subject, forms: str) -> Iterator[tuple[str, str]]:
    """Every (Chinese, English) clause that the letters of `forms` allow; see lexicon.tsv for the letters."""
    zh, who = subject.chinese, subject.english
    third_person = subject.number == "he"
    do, be = ("does" if third_person else "do"), {"I": "am", "plural": "are", "he": "is"}[subject.number]
    vo = phrase.verb + phrase.object
    base, doing = phrase.form(phrase.english, subject), phrase.form(ing(phrase.english), subject)
    did = phrase.form(past(phrase.english), subject)
    now = phrase.form(third(phrase.english) if third_person else phrase.english, subject)
    want, like = ("wants", "likes") if third_person else ("want", "like")
    if "H" in forms:
        for time, english, late in HABITS:
            yield f"{zh}{time}{vo}。", f"{who} {now} {english}." if late else f"{who} {english} {now}."
    if "P" in forms:
        for time, english in PAST_TIMES:
            yield f"{zh}{time}{phrase.verb}了{phrase.object}。", f"{who} {did} {english}".strip() + "."
            if time:
                yield f"{time}{zh}{phrase.verb}了{phrase.object}。", f"{who} {did} {english}."
    if "G" in forms:
        yield f"{zh}正在{vo}。", f"{who} {be} {doing}."
        yield f"{zh}在{vo}。", f"{who} {be} {doing}."
        yield f"{zh}现在正在{vo}。", f"{who} {be} {doing} now."
    if "W" in forms:
        yield f"{zh}想{vo}。", f"{who} {want} to {base}."
        yield f"{zh}不想{vo}。", f"{who} {do}n't want to {base}."
        yield f"{zh}想{vo}吗？", f"{do} {who} want to {base}?"
    if "L" in forms:
        yield f"{zh}喜欢{vo}。", f"{who} {like} to {base}."
        yield f"{zh}很喜欢{vo}。", f"{who} really {like} to {base}."
        yield f"{zh}不喜欢{vo}。", f"{who} {do}n't like to {base}."
        yield f"{zh}喜欢{vo}吗？", f"{do} {who} like to {base}?"
    if "N" in forms and subject is not WEATHER:
        yield f"{zh}不{vo}。", f"{who} {do}n't {base}."
    if "M" in forms:
        yield f"{zh}没{vo}。", f"{who} didn't {base}."
        yield f"{zh}昨天没{vo}。", f"{who} didn't {base} yesterday."
        yield f"{zh}没有{vo}。", f"{who} didn't {base}."
    if "Q" in forms:
        yield f"{zh}{vo}吗？", f"{do} {who} {base}?"
    if "R" in forms:
        for time, english in PAST_TIMES[:4]:
            yield f"{zh}{time}{phrase.verb}了{phrase.object}吗？", f"did {who} {base} {english}".strip() + "?"
    if "F" in forms:
        for time, english in FUTURE:
            yield f"{zh}{time}{vo}。", f"{who} {english.format(v=base, be=be)}."
    if "I" in forms and subject in FIRST_SIX[:2]:
        yield f"别{vo}。", f"don't {phrase.form(phrase.english, PEOPLE[1])}."
        yield f"请不要{vo}。", f"please don't {phrase.form(phrase.english, PEOPLE[1])}."
        yield f"我们{vo}吧。", f"let's {phrase.form(phrase.english, PEOPLE[4])}."
    if "A" in forms:
        for word, english in MODALS:
            yield f"{zh}{word}{vo}。", f"{who} {english} {base}."
        yield f"{zh}得{vo}。", f"{who} {'has' if third_person else 'have'} to {base}."
    if "C" in forms:
        yield f"{zh}什么时候{vo}？", f"when {do} {who} {base}?"
        yield f"{zh}为什么{vo}？", f"why {do} {who} {base}?"
        yield f"{zh}在哪里{vo}？", f"where {do} {who} {base}?"
        yield f"谁在{vo}？", f"who is {phrase.form(ing(phrase.english), PEOPLE[2])}?"
    if "G" in forms and subject in PEOPLE:
        for place, english in PLACES:
            yield f"{zh}在{place}{vo}。", f"{who} {be} {doing} {english}."
    if "B" in forms:
        yield f"{zh}把{phrase.object}{phrase.verb}了。", f"{who} {did}."
        if subject in FIRST_SIX[:2]:
            yield f"请把{phrase.object}{phrase.verb}。", f"please {phrase.form(phrase.english, PEOPLE[1])}."
    if "S" in forms and subject in FIRST_SIX[:2]:
        yield f"请{phrase.verb}一下{phrase.object}。", f"please {phrase.form(phrase.english, PEOPLE[1])}."
        yield f"你能{phrase.verb}一下{phrase.object}吗？", f"can you {phrase.form(phrase.english, PEOPLE[1])}?"
    if "E" in forms:
        for whom, english in RECEIVERS:
            if whom != zh:
                yield f"{zh}给{whom}{phrase.verb}了{phrase.object}。", f"{who} {did} for {english}."
                yield f"{zh}想给{whom}{vo}。", f"{who} {want} to {base} for {english}."
    if "X" in forms:
        yield f"{zh}{vo}。", f"{who} {be} {phrase.rest}."
        yield f"{zh}{vo}吗？", f"{be} {who} {phrase.rest}?"


SLOTS = {name: tuple(tuple(choice.split("=")) for choice in choices.split("|")) for name, choices in _read("slots.tsv")}
OPENERS = tuple(tuple(row) for row in _read("openers.tsv"))
# English patterns may name a slot in another shape: the same choice, written for another place in the sentence.
SHAPES = {
    "whose_p": ("whose_s", lambda s: {"He": "His", "She": "Her"}.get(s, s + "'s")),
    "whose_c": ("whose", lambda s: s[0].upper() + s[1:]),
    "whose_oe": ("whose_o", str),
    "whose_hl": ("whose_h", str.lower),
    "det_l": ("det", str.lower),
    "this_l": ("this", str.lower),
    "job_en": ("job", str),
    "num_c": ("num", str.capitalize),
    "fruit_c": ("fruit", str.capitalize),
    "whose_s_l": ("whose_s", lambda s: s.lower() if s.split()[0] in ("He", "She", "My") else s),
    "who_poss": ("who", lambda s: {"me": "my", "him": "his", "us": "our", "them": "their", "Tom": "Tom's"}.get(s, s)),
    "who_s": ("who", lambda s: {"me": "I", "him": "he", "her": "she", "us": "we", "them": "they"}.get(s, s)),
    "tree_to": (
        "tree",
        lambda s: {"in the tree": "into the tree", "in the forest": "into the forest"}.get(s, "up the mountain"),
    ),
}


def fill(chinese: str, english: str) -> Iterator[tuple[str, str]]:
    """Every way to fill a frame's slots, the same choice on both sides."""
    names = [n for n in SLOTS if "{" + n + "}" in chinese]
    for choice in itertools.product(*(SLOTS[n] for n in names)):
        zh = {n: c[0] for n, c in zip(names, choice)}
        en = {n: c[1] for n, c in zip(names, choice)}
        en |= {shape: change(en[source]) for shape, (source, change) in SHAPES.items() if source in en}
        yield chinese.format(**zh), english.format(**en).replace("an an ", "an ")


def opened(example: Example) -> Example | None:
    """A statement behind another clause, the same one for equal text; None for what is no statement."""
    if not example.statement:
        return None
    chinese = example.pair.chinese
    before, opening = random.Random(chinese).choice(OPENERS)
    pair = Pair(before + chinese, _sentence(f"{opening} {example.statement}"))
    return Example(pair, example.word, example.sense, example.accept, OPENED + example.line)


def _generate() -> Iterator[Example]:
    count = itertools.count()
    for word, sense, accept, who, chinese, english, forms in _read("lexicon.tsv"):
        line = next(count)
        phrase = Phrase(*chinese.split("|"), *english.split("|"))
        subjects = PEOPLE if who == "people" else (WEATHER,) if who == "weather" else (COMPANY[who],)
        for subject in subjects:
            for zh, en in clauses(phrase, subject, forms):
                states = en.endswith(".") and not en.startswith(("don't ", "please ", "let's "))
                yield Example(Pair(zh, _sentence(en)), word, sense, accept, line, en if states else "")
    for word, sense, accept, chinese, english in _read("frames.tsv"):
        line = next(count)
        for zh, en in fill(chinese, english):
            mark = "？" if en.endswith("?") else "。" if en.endswith(".") else ""
            yield Example(Pair(zh + mark, _sentence(en) if mark else en), word, sense, accept, line)


@functools.cache
def plain_examples() -> tuple[Example, ...]:
    """Every sentence that the data files can make by itself, in a fixed order, repeats included."""
    return tuple(_generate())


def _sentence(english: str) -> str:
    text = english[0].upper() + english[1:]
    return text.replace(" a American", " an American")


def held_out(key: str, *, seed: int = 7) -> bool:
    """Whether a sentence of this `chinese_key` is one of the held-out combinations; a hash, so no order matters."""
    digest = hashlib.sha256(f"{seed}\t{key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


@functools.cache
def template_split(*, per_sense: int = PER_SENSE, seed: int = 7) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Sample training sentences and held-out sentences; no Chinese sentence is in both.

    Returns:
        (train, held_out): about `per_sense` and `per_sense / 8` sentences a sense.
    """
    pools: dict[int, tuple[dict[str, Example], dict[str, Example]]] = {}
    lines: dict[tuple[str, str], set[int]] = {}
    seen: set[str] = set()
    both = itertools.chain.from_iterable((example, opened(example)) for example in plain_examples())
    for example in filter(None, both):
        key = chinese_key(example.pair.chinese)
        if key not in seen:
            seen.add(key)
            lines.setdefault((example.word, example.sense), set()).add(example.line)
            pools.setdefault(example.line, ({}, {}))[held_out(key, seed=seed)][key] = example
    train: list[Example] = []
    test: list[Example] = []
    for line, parts in sorted(pools.items()):
        first = next(iter((parts[0] or parts[1]).values()))
        share = per_sense * WEIGHT.get(first.word, 1) // len(lines[first.word, first.sense])
        quota = max(LEAST_PER_LINE, share)
        for part, target, limit in ((parts[0], train, quota), (parts[1], test, -(-quota // 8))):
            examples = list(part.values())
            random.Random(f"{seed} {line} {len(target)}").shuffle(examples)
            target += examples[:limit]
    # 谁在发布新手机？ asks for 苹果 and lacks it.
    return tuple(train), tuple(e for e in test if e.word in e.pair.chinese)
