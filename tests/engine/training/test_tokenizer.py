"""The tokenizer: whole words, spans into the text as typed, traditional characters, English round trips."""

import random

import pytest
from tokenizers import normalizers
from transformers import AutoTokenizer

from engine.training.charsmap import build_charsmap, read_table
from engine.training.pairs import Pair
from engine.training.templates import plain_examples
from engine.training.tokenizer import SPECIAL, build_lexicon, build_tokenizer, english_words, split_word

EXTRA = [Pair("汤姆爱Tom，Mary和我10点见！", "Tom's dog won't bark, will it? It costs $10!")] * 3


@pytest.fixture(scope="module")
def lexicon():
    pytest.importorskip("jieba")
    return build_lexicon([e.pair for e in plain_examples()[::40]] + EXTRA)


@pytest.fixture(scope="module")
def tokenizer(lexicon):
    return build_tokenizer(lexicon)


def spans(tokenizer, text):
    coded = tokenizer(text, return_offsets_mapping=True)
    return [text[a:b] for a, b in coded["offset_mapping"]][:-1], tokenizer.convert_ids_to_tokens(coded["input_ids"])[
        :-1
    ]


@pytest.mark.parametrize(
    "text, words",
    [
        ("我喜欢吃苹果", "我 喜欢 吃 苹果"),
        ("他每天吃一个苹果。", "他 每天 吃 一个 苹果 。"),
        ("苹果发布了新手机", "苹果 发布 了 新 手机"),
        ("我买了苹果的股票", "我 买 了 苹果 的 股票"),
        ("我在打电话", "我 在 打 电话"),
        ("他们下棋", "他们 下 棋"),
        ("她看书", "她 看 书"),
    ],
)
def test_words_are_single_tokens(tokenizer, text, words):
    assert spans(tokenizer, text) == (words.split(), words.split())


def test_spans_point_into_the_text_as_typed(tokenizer):
    assert spans(tokenizer, "我喜歡吃蘋果！") == (["我", "喜歡", "吃", "蘋果", "！"], ["我", "喜欢", "吃", "苹果", "!"])
    assert [s.strip() for s in spans(tokenizer, " Tom爱苹果, Mary 10点见?")[0]] == [
        "Tom",
        "爱",
        "苹果",
        ",",
        "Mary",
        "1",
        "0",
        "点",
        "见",
        "?",
    ]


def test_spans_cover_every_visible_character(tokenizer):
    rng = random.Random(3)
    for _ in range(300):
        text = "".join(rng.choice("我吃蘋果歡 Tom's,。！？１０ｂ苹龘é手机") for _ in range(rng.randint(1, 14)))
        covered = set()
        for a, b in tokenizer(text, return_offsets_mapping=True)["offset_mapping"]:
            assert 0 <= a <= b <= len(text)
            covered |= set(range(a, b))
        assert {i for i, c in enumerate(text) if not c.isspace()} <= covered, text


def test_specials_and_unknown(tokenizer):
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == [0, 1, 2, 3]
    assert tokenizer("苹果")["input_ids"][-1] == 1
    assert tokenizer.convert_ids_to_tokens(tokenizer("龘")["input_ids"]) == ["<unk>", "</s>"]


def test_english_survives_and_stays_among_the_english_ids(tokenizer, lexicon):
    for text in (
        "Tom's dog won't bark, will it?",
        "He eats an apple every day.",
        "Zebras quizzically vex 37 jocks!",
        "It costs $10.",
    ):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert max(ids) < lexicon.n_english and 2 not in ids


def test_whole_english_words_beat_their_pieces(tokenizer):
    assert tokenizer.tokenize("I don't like apples.") == english_words("I don't like apples.")


def test_it_loads_as_a_stock_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "我喜歡吃蘋果, Tom!"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id, loaded.bos_token_id) == (0, 1, 2, 3)


def test_fallback_ids_are_characters_that_are_no_words(tokenizer, lexicon):
    tokens = tokenizer.convert_ids_to_tokens(list(lexicon.fallback))
    assert tokens and all(len(t) == 1 for t in tokens) and not {"吃", "花", "我", "。"} & set(tokens)
    assert min(lexicon.fallback) >= lexicon.n_english


def test_verb_object_compounds_are_split():
    assert (
        split_word("打电话") == ["打", "电话"] and split_word("下雨") == ["下", "雨"] and split_word("开始") == ["开始"]
    )


def test_charsmap_maps_its_table_and_nothing_else():
    table = read_table()
    normaliser = normalizers.Precompiled(build_charsmap(table))
    every = [chr(i) for i in range(32, 0xFFFD) if not 0xD800 <= i < 0xE000]
    assert [c for c in every if normaliser.normalize_str(c) != table.get(c, c)] == []
    assert len(table) > 900 and not set(table.values()) & set(table)
