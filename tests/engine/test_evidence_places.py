"""From a substring, a span or an occurrence to tokens; and what cannot be found, said plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine import LocalEngine, Prompt, errors
from engine.evidence import places, reference
from engine.types import Token
from tests.engine import oracle

TEXT = "the apple, the pineapple 苹果"


def token(start: int, end: int, *, special: bool = False) -> Token:
    return Token(TEXT[start:end], 9, None if special else (start, end), special)


TOKENS = (token(0, 0, special=True), token(0, 3), token(3, 9), token(9, 10), token(10, 14), token(14, 19),
          token(19, 24), token(24, 27), token(0, 0, special=True))


@pytest.mark.parametrize(("reference", "positions", "text", "occurrences", "widened"), [
    ("the", (1,), "the", 2, False), (("the", 1), (4,), "the", 2, False), ("apple", (2,), "apple", 2, False),
    (("apple", 1), (6,), "apple", 2, False), ("pineapple", (5, 6), "pineapple", 1, False),
    ((4, 9), (2,), "apple", 1, False), ((3, 9), (2,), "apple", 1, False), ("苹果", (7,), "苹果", 1, False),
    ("苹", (7,), "苹果", 1, True), ("果", (7,), "苹果", 1, True), ("app", (2,), "apple", 2, True),
    ((7, 12), (2, 3, 4), "apple, the", 1, True), ([4, 9], (2,), "apple", 1, False),
])
def test_found(reference, positions, text, occurrences, widened):
    place = places.find(reference, TEXT, TOKENS, side="source")
    assert (place.positions, place.text, place.occurrences, place.widened) == (positions, text, occurrences, widened)
    assert TEXT[slice(*place.span)] == text


@pytest.mark.parametrize(("reference", "code"), [
    ("pear", "word_absent"), ("", "empty_word"), ("  ", "empty_word"), (("the", 2), "occurrence_absent"),
    (("the", -1), "occurrence_absent"), ((5, 5), "span_outside"), ((-1, 3), "span_outside"), ((0, 99), "span_outside"),
    (7, "bad_reference"), (None, "bad_reference"), (("the", True), "bad_reference"), (("a", "b"), "bad_reference"),
    ((1, 2, 3), "bad_reference"), ((1.0, 2), "bad_reference"),
])
def test_refused(reference, code):
    with pytest.raises(errors.InvalidPrompt) as refusal:
        places.find(reference, TEXT, TOKENS, side="source")
    assert refusal.value.code == code


def test_a_word_that_no_token_covers_is_refused():
    with pytest.raises(errors.InvalidPrompt) as refusal:
        places.find("苹果", TEXT, TOKENS[:7], side="source")
    assert refusal.value.code == "word_without_tokens"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = oracle.save_tiny(tmp_path_factory.mktemp("models"), ("gpt2", "bert", "bart"))
    return LocalEngine(assets=folder, folder=folder, device="cpu")


@pytest.fixture
def references(monkeypatch, tmp_path_factory):
    """A folder of the module's own for what the corpus gives, and few runs for it."""
    monkeypatch.setenv("ATTENTION_CACHE", str(tmp_path_factory.getbasetemp() / "places"))
    monkeypatch.setattr(reference, "REFERENCE_RUNS", 200)


SENTENCE = "我喜欢吃苹果"


@pytest.mark.parametrize(("name", "query", "key", "extra", "code"), [
    ("gpt2", "苹果", "梨", {}, "word_absent"), ("gpt2", "梨", "吃", {}, "word_absent"),
    ("gpt2", "苹果", "果", {}, "same_word"), ("bart", "苹果", "苹果", {}, "same_word"),
    ("bert", "苹", "果", {}, "same_word"), ("bert", "吃苹果", "苹果", {}, "words_share_token"),
    ("gpt2", "吃苹果", "吃", {}, "words_share_token"),
    ("gpt2", "吃", "苹果", {}, "key_after_query"), ("bert", "苹果", "吃", {"query_in": "output"}, "no_output_side"),
    ("gpt2", "苹果", "吃", {"query_in": "middle"}, "bad_side"),
    ("bart", "梨", "吃", {"query_in": "output"}, "word_absent"),
    ("gpt2", ("苹果", 1), "吃", {}, "occurrence_absent"), ("bart", "苹果", ("吃", 1), {}, "occurrence_absent"),
    ("gpt2", "苹果", "吃", {"output_word": "a"}, "output_word_not_taken"),
])
def test_a_question_that_cannot_be_is_refused_before_anything_is_computed(engine, monkeypatch, name, query, key, extra,
                                                                         code):
    if code != "output_word_not_taken":
        monkeypatch.setattr("engine.evidence.reference.measure", None)  # calling it would fail
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.evidence(Prompt(name, SENTENCE), query, key, **extra)
    assert refusal.value.code == code


def test_a_text_too_long_to_cut_word_by_word_is_refused(engine):
    with pytest.raises(errors.TextTooLong) as refusal:
        engine.evidence(Prompt("bert", SENTENCE * 40), ("苹果", 1), "吃")
    assert refusal.value.code == "too_long_for_evidence"


@pytest.mark.parametrize(("name", "text", "key", "code"), [
    ("bart", "苹果", "苹果", "same_word"), ("bert", "苹果", "果", "same_word"),
    ("gpt2", "苹果", "吃", "word_absent"),
])
def test_a_sentence_of_one_token_has_no_second_word(engine, name, text, key, code):
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.evidence(Prompt(name, text), "苹果", key)
    assert refusal.value.code == code


TWICE = "我吃苹果, 每天吃一个苹果."


@pytest.mark.parametrize("name", ["gpt2", "bert", "bart"])
def test_a_word_that_stands_twice_is_told_apart_by_its_occurrence(engine, references, name):
    """Of one word both occurrences may be A and B; a cut goes to the one that was named."""
    prompt = Prompt(name, TWICE, "a b c" if name == "bart" else None)
    first, second = (engine.evidence(prompt, ("苹果", 1), ("吃", at), replacements=()) for at in (0, 1))
    assert (first.query.span, first.key.span, second.key.span) == ((11, 13), (1, 2), (8, 9))
    assert first.query.occurrences == first.key.occurrences == 2
    named = {word.span: word for word in first.words}
    assert named[1, 2].cut == pytest.approx(first.delta_logprob, abs=1e-5)
    assert named[8, 9].cut == pytest.approx(second.delta_logprob, abs=1e-5)
    assert first.delta_logprob != second.delta_logprob
    assert [reason.code for reason in first.reasons].count("first_of_several") == 2
    itself = engine.evidence(prompt, ("苹果", 1), "苹果", replacements=())
    assert itself.key.span == (2, 4) and itself.query.span == (11, 13)


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_marks_alone_can_be_asked_about(engine, references, name):
    evidence = engine.evidence(Prompt(name, "。。，!"), "!", "，", replacements=())
    assert [word.text for word in evidence.words] == ["。", "。", "，", "!"]
    assert np.isfinite(evidence.attention).all() and math.isfinite(evidence.delta_logprob)


def test_markup_in_a_sentence_is_a_word_like_any(engine, references):
    evidence = engine.evidence(Prompt("gpt2", "<script>a</script>吃苹果"), "苹果", ("script", 1), replacements=())
    assert evidence.key.text == "script" and evidence.key.span == (11, 17)


def test_a_part_of_an_outputs_token_takes_the_whole_and_says_so(engine, references):
    evidence = engine.evidence(Prompt("bart", "我吃苹果", "a the b"), "th", "吃", query_in="output", replacements=())
    assert evidence.query.text == evidence.target == "the" and evidence.query.widened
    assert "widened" in [reason.code for reason in evidence.reasons]
