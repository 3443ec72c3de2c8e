"""The demo model's tokenizer: a Unigram lexicon made by hand from word counts, as a stock fast tokenizer.

A trained Unigram or BPE joins 吃苹果 into one piece, and then no head can attend from 苹果 to 吃. Here the
lexicon holds whole Chinese words (count ≥ 3 after segmentation, verb–object compounds split by hand)
and every character seen twice, scored by log-frequency; Unigram's best path is then the segmentation, and
no segmenter is needed at run time. English ids come first, so that training needs the first rows of the
embedding only. It knows nothing of the model. A word outside the lexicon falls back to characters, a
character outside it to `<unk>`.
"""

from __future__ import annotations

import collections
import json
import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .charsmap import build_charsmap, read_table
from .pairs import Pair

SPECIAL = ("<pad>", "</s>", "<unk>", "<s>")  # ids 0–3; <s> starts the decoder
LEAST_COUNT = 3  # of a whole word, either language
LEAST_CHARACTER = 2  # of a Chinese character; a rarer one is <unk>
ENGLISH_PIECES = 1500  # vocabulary of the BPE that supplies pieces of rarer English words
PIECE_PENALTY = 12.0  # nats; a whole English word always beats its pieces
CHARACTER_PENALTY = 2.0  # nats; a Chinese word beats its characters unless they are frequent words
_LINES = (Path(__file__).parent / "words.tsv").read_text(encoding="utf-8").splitlines()
_LISTS = {name: entries.split() for name, entries in (line.split("\t") for line in _LINES if not line.startswith("#"))}
VERBS, OBJECTS = frozenset(_LISTS["verbs"]), frozenset(_LISTS["objects"])  # split where they form one word
SPLIT_BY_HAND = {entry.replace("|", ""): entry.split("|") for entry in _LISTS["split"]}
WORDS = _LISTS["words"]  # told to the segmenter, and kept however rare
# Phrases that the segmenter took for words: they keep their ids, and their score never wins. They were found
# after the shipped weights had been trained with them as words; a new training never meets them.
MUTED, MUTED_SCORE = frozenset(_LISTS["muted"]), -60.0
ENDINGS = ("'s", "'ll", "'m", "'re", "'ve", "'d", "'t")
PRE_TOKENS = r"▁?[A-Za-z]+(?:'[a-z]+)?|\p{Han}+|▁?\d|▁?[^A-Za-z\d\p{Han}▁]"
_ENGLISH_WORD = re.compile(r"▁?[A-Za-z]+(?:'[a-z]+)?|▁?\d|▁?[^A-Za-z\d▁]")


@dataclass(frozen=True)
class Lexicon:
    """Pieces and their scores (log-probabilities); the first `n_english` may appear in English output.

    `fallback` holds the ids of characters that are in the lexicon only to spell words that are not.
    """

    pieces: tuple[tuple[str, float], ...]
    n_english: int
    fallback: tuple[int, ...] = ()


def write_lexicon(folder: Path, lexicon: Lexicon) -> None:
    """lexicon.json: which ids English output may use, and which characters only spell unknown words."""
    entry = {"n_english": lexicon.n_english, "fallback_ids": lexicon.fallback}
    (folder / "lexicon.json").write_text(json.dumps(entry) + "\n", encoding="utf-8")


def read_lexicon(folder: Path) -> Lexicon:
    """The lexicon of a finished model: its own pieces and lexicon.json."""
    pieces = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    entry = json.loads((folder / "lexicon.json").read_text(encoding="utf-8"))
    return Lexicon(tuple((p, s) for p, s in pieces), entry["n_english"], tuple(entry["fallback_ids"]))


def split_word(word: str) -> list[str]:
    """Split a verb–object compound (打电话 → 打, 电话) that a segmenter keeps whole."""
    if word in SPLIT_BY_HAND:
        return SPLIT_BY_HAND[word]
    if word[0] in VERBS and word[1:] in OBJECTS:
        return [word[0], word[1:]]
    return [word]


def segment(sentences: Iterable[str]) -> list[list[str]]:
    """Segment Chinese with jieba, plus our own words, for counting only."""
    import logging

    import jieba

    jieba.setLogLevel(logging.ERROR)
    cutter = jieba.Tokenizer()
    for word in WORDS:
        cutter.add_word(word, 100_000 if len(word) > 1 else None)
    return [[part for word in cutter.cut(text, HMM=False) for part in split_word(word)] for text in sentences]


def english_words(text: str) -> list[str]:
    """The pre-tokens of an English sentence: words with their contraction ("▁don't"), digits, marks."""
    return _ENGLISH_WORD.findall("▁" + text.replace(" ", "▁"))


def build_lexicon(pairs: Iterable[Pair]) -> Lexicon:
    """Count words of the training pairs and score them; see the module docstring."""
    pairs = list(pairs)
    english = collections.Counter(w for p in pairs for w in english_words(p.english))
    chinese = collections.Counter(
        w for words in segment(unicodedata.normalize("NFKC", p.chinese) for p in pairs) for w in words
    )
    characters = collections.Counter(
        c for p in pairs for c in unicodedata.normalize("NFKC", p.chinese) if not c.isspace()
    )
    total_en, total_zh = sum(english.values()), sum(chinese.values())

    scores: dict[str, float] = {w: math.log(n / total_en) for w, n in english.items() if n >= LEAST_COUNT}
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[A-Za-z]+"), "isolated")
    letters = [c for c in map(chr, range(33, 127))]
    bpe.train_from_iterator(
        ["\n".join(w for w in english.elements())],
        trainers.BpeTrainer(vocab_size=ENGLISH_PIECES, initial_alphabet=letters, show_progress=False),
    )
    pieces = sorted(bpe.get_vocab().items(), key=lambda item: item[1])
    for rank, (piece, _) in enumerate(p for p in pieces if re.fullmatch(r"▁?[A-Za-z]+", p[0])):
        scores.setdefault(piece, -PIECE_PENALTY - math.log(rank + 2) / 2)
    for ending in ENDINGS:
        scores.setdefault(ending, -PIECE_PENALTY)
    for mark in [*letters, "▁", *("▁" + c for c in letters)]:
        scores.setdefault(mark, -2 * PIECE_PENALTY)
    first = sorted(scores.items(), key=lambda item: (-item[1], item[0]))

    words = {w: math.log(n / total_zh) for w, n in chinese.items() if n >= LEAST_COUNT or w in WORDS}
    floor = math.log(1 / total_zh)
    for c in (c for c, n in characters.items() if n >= LEAST_CHARACTER):
        words.setdefault(c, max(floor, math.log(chinese.get(c, 0.5) / total_zh)) - CHARACTER_PENALTY)
    second = [(w, s) for w, s in sorted(words.items(), key=lambda item: (-item[1], item[0])) if w not in scores]
    pieces = [(s, 0.0) for s in SPECIAL] + first + second
    rare = {c for c in characters if chinese.get(c, 0) < LEAST_COUNT and c not in WORDS and c not in scores}
    fallback = tuple(i for i, (piece, _) in enumerate(pieces) if piece in rare)
    return Lexicon(tuple(pieces), len(SPECIAL) + len(first), fallback)


def build_tokenizer(lexicon: Lexicon) -> PreTrainedTokenizerFast:
    """The stock fast tokenizer around a lexicon; offsets point into the text as it was typed."""
    tokenizer = Tokenizer(
        models.Unigram(
            [(p, MUTED_SCORE if p in MUTED else s) for p, s in lexicon.pieces], unk_id=SPECIAL.index("<unk>")
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Precompiled(build_charsmap(read_table())),
            normalizers.Strip(),
            normalizers.Replace(Regex(r"[‘’]"), "'"),
            normalizers.Replace(Regex(r"\s+"), "▁"),
            normalizers.Prepend("▁"),
            normalizers.Replace(Regex(r"▁+(?=[^ -~▁]|[,?!.;:]|$)"), ""),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PRE_TOKENS), "isolated")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", SPECIAL.index("</s>"))]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>",
        model_max_length=128,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
