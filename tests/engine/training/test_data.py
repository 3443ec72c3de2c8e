"""The sentences: no leak from held-out to training, templates that agree with their own checks."""

import itertools
import re

import pytest

from engine.training import templates
from engine.training.corpus import SHOWN, gather, join_pairs
from engine.training.english import ing, past, third
from engine.training.handwritten import BLIND, read_checks
from engine.training.pairs import Pair, chinese_key, clean_chinese, english_key, read_pairs, split_pairs
from engine.training.templates import opened, plain_examples, template_split

ANIMALS = "猫狗鸟马牛羊鸡鸭鱼虎"
VERBS = "吃喝看听买卖打叫怕爱"


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """Three hundred made-up pairs, a third of which share a side with another."""
    made = []
    for i, animal in enumerate(ANIMALS):
        for j, verb in enumerate(VERBS):
            made += [
                Pair(f"{animal}{verb}了。", f"Animal {i} did {j}."),
                Pair(f"{animal}{verb}过了！", f"Animal {i} did {j}!"),
                Pair(f"{animal}{verb}过了", f"Animal {i} has done {j}."),
            ]
    return made


def test_no_sentence_of_a_held_out_group_is_trained_on(pairs):
    split = split_pairs(pairs, n_test=40, n_dev=20)
    assert (
        len(split.test) >= 40
        and len(split.dev) >= 20
        and len(split.train) + len(split.dev) + len(split.test) == len(pairs)
    )
    for key, side in ((chinese_key, "chinese"), (english_key, "english")):
        seen = [{key(getattr(p, side)) for p in part} for part in (split.train, split.dev, split.test)]
        assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_chain_of_shared_sides_is_one_group(pairs):
    split = split_pairs(pairs, n_test=40, n_dev=20)
    home = {p: name for name in ("train", "dev", "test") for p in getattr(split, name)}
    for a, b, c in zip(pairs[::3], pairs[1::3], pairs[2::3]):
        assert home[a] == home[b] == home[c]


def test_split_does_not_depend_on_the_order_of_the_file(pairs):
    forward, backward = split_pairs(pairs, n_test=40, n_dev=20), split_pairs(pairs[::-1], n_test=40, n_dev=20)
    assert set(forward.test) == set(backward.test) and set(forward.dev) == set(backward.dev)
    assert set(split_pairs(pairs, n_test=40, n_dev=20, seed=8).test) != set(forward.test)


@pytest.mark.parametrize(
    "raw, clean",
    [
        ("我爱你!", "我爱你！"),
        ("你好, 汤姆", "你好，汤姆"),
        ("他 说：“好”。", "他说：“好”。"),
        ("３个", "3个"),
        ("我爱 Tom。", "我爱Tom。"),
        ("I love 你", "I love你"),
    ],
)
def test_chinese_is_cleaned(raw, clean):
    assert clean_chinese(raw) == clean


def test_columns_may_be_swapped_and_repeats_go(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text(
        "chinese\tenglish\nI eat.\t我吃。\tCC-BY\n我吃。\tI eat.\tCC-BY\nbroken line\n我喝。\tI drink.\n",
        encoding="utf-8",
    )
    assert read_pairs(path) == [Pair("我吃。", "I eat."), Pair("我喝。", "I drink.")]
    path.write_text("no Chinese\tat all\n", encoding="utf-8")
    with pytest.raises(ValueError, match="expected lines"):
        read_pairs(path)


def test_english_key_undoes_contractions_and_case():
    assert english_key("I can't swim!") == english_key("i cannot swim") != english_key("I can swim.")


@pytest.mark.parametrize(
    "verb, forms",
    {
        "buy": ("bought", "buys", "buying"),
        "carry": ("carried", "carries", "carrying"),
        "play": ("played", "plays", "playing"),
        "wash": ("washed", "washes", "washing"),
        "make": ("made", "makes", "making"),
        "see": ("saw", "sees", "seeing"),
        "cut": ("cut", "cuts", "cutting"),
        "have": ("had", "has", "having"),
        "go": ("went", "goes", "going"),
    }.items(),
)
def test_verbs_are_inflected(verb, forms):
    assert (past(verb), third(verb), ing(verb)) == forms


def test_templates_are_deterministic_and_held_out_combinations_are_apart():
    first = template_split()
    assert tuple(itertools.islice(templates._generate(), 20_000)) == plain_examples()[:20_000]
    train, held = ({chinese_key(e.pair.chinese) for e in part} for part in first)
    assert not train & held and len(held) >= 1000
    assert {e.word for e in first[1]} == {e.word for e in first[0]} and len({e.word for e in first[0]}) >= 13


def test_every_template_translation_passes_its_own_check():
    wrong = [e for e in plain_examples() if e.word in e.pair.chinese and not re.search(e.accept, e.pair.english)]
    assert not wrong, wrong[:5]


def test_template_english_is_well_formed():
    for example in plain_examples():
        text = example.pair.english
        assert "{" not in text and "  " not in text and " ." not in text, text
        assert not re.match(r"(He|She|Tom|Mary|My (father|mother|friend)) (don't|like|want|have to)\b", text), text
        assert not re.search(r"\ba [aeio]|\ban [bcdfgjklmnprstvw]|\bI (is|are|doesn't)\b", text), text


def test_a_clause_before_a_statement_leaves_it_as_it_is():
    found = [(example, opened(example)) for example in plain_examples()[::200]]
    behind = [(example, longer) for example, longer in found if longer is not None]
    assert len(behind) > 1000
    for example, longer in behind:
        before = longer.pair.chinese.removesuffix(example.pair.chinese)
        [opening] = [english for chinese, english in templates.OPENERS if chinese == before]
        assert longer.pair.english.casefold() == f"{opening} {example.pair.english}".casefold()
        assert (longer.word, longer.accept) == (example.word, example.accept)
    for example, longer in found:
        if longer is None:
            said = example.pair.english
            whole_sentence = example.line > 400  # a frame's
            assert said.endswith("?") or said.startswith(("Don't", "Please", "Let's")) or whole_sentence, said


def test_joined_pairs_join_both_sides_and_only_training_pairs():
    pairs = tuple(Pair(f"我有{n}个。", f"I have {n}.") for n in "一二三四五") + (Pair("你好吗？", "How are you?"),)
    joined = join_pairs(pairs, count=40)
    assert joined == join_pairs(pairs, count=40) and len(joined) == 40
    for pair in joined:
        one, two = next((a, b) for a in pairs for b in pairs if f"{a.english} {b.english}" == pair.english)
        assert pair.chinese in {one.chinese + two.chinese, one.chinese[:-1] + "，" + two.chinese}
        assert one.chinese.endswith("。")
    assert {"，" in pair.chinese for pair in joined} == {True, False}
    assert join_pairs((Pair("好吗？", "OK?"),)) == ()


def test_words_have_at_least_two_senses_where_it_matters():
    senses: dict[str, set[str]] = {}
    for example in plain_examples():
        senses.setdefault(example.word, set()).add(example.sense)
    assert sum(len(s) > 1 for s in senses.values()) >= 13 and senses["苹果"] == {"fruit", "Apple"}


def test_hand_written_and_shown_sentences_are_never_trained_on(tmp_path):
    path = tmp_path / "pairs.tsv"
    kept_away = (*SHOWN, "我来了", read_checks(BLIND)[0].chinese)
    path.write_text(
        "".join(f"{text}。\tsomething {i}\n" for i, text in enumerate(kept_away)),
        encoding="utf-8",
    )
    data = gather(path)
    trained = {chinese_key(p.chinese) for p in data.train}
    assert not trained & set(SHOWN)
    checks = [*read_checks(), *read_checks(BLIND)]
    assert len(read_checks()) >= 60 and len(read_checks(BLIND)) >= 60
    assert all(check.word in check.chinese for check in checks)
    assert not trained & {chinese_key(c.chinese) for c in checks}
