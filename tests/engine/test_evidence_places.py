"""From a substring, a span or an occurrence to tokens; and what cannot be found, said plainly."""

from __future__ import annotations

import pytest

from engine import LocalEngine, Prompt, errors
from engine.evidence import places
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


SENTENCE = "我喜欢吃苹果"


@pytest.mark.parametrize(("name", "query", "key", "extra", "code"), [
    ("gpt2", "苹果", "梨", {}, "word_absent"), ("gpt2", "梨", "吃", {}, "word_absent"),
    ("gpt2", "苹果", "果", {}, "words_share_token"), ("bert", "苹", "果", {}, "words_share_token"),
    ("gpt2", "吃", "苹果", {}, "key_after_query"), ("bert", "苹果", "吃", {"query_in": "output"}, "no_output_side"),
    ("gpt2", "苹果", "吃", {"query_in": "middle"}, "bad_side"),
    ("bart", "梨", "吃", {"query_in": "output"}, "word_absent"),
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
