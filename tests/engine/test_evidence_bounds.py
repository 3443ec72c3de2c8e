"""Contrasts and replacements at the edge of what the model and the limits can take: measured, or refused with numbers.

The models' positions end at N_CTX, so that one token too many is an index without a row.
"""

from __future__ import annotations

import numpy as np
import pytest
import transformers

from engine import LocalEngine, Prompt, errors
from engine.evidence import question, reference
from tests.engine import oracle, tiny

N_CTX = 24
KINDS = ("gpt2", "llama", "bert", "bart")


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("ATTENTION_CACHE", str(tmp_path_factory.mktemp("references")))
    patch.setattr(reference, "REFERENCE_RUNS", 30)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = oracle.save_tiny(tmp_path_factory.mktemp("models"), KINDS)
    for kind in KINDS:
        config = transformers.AutoConfig.from_pretrained(folder / kind)
        setattr(config, "n_positions" if kind == "gpt2" else "max_position_embeddings", N_CTX)
        model = type(tiny.model(kind))(config)
        model.save_pretrained(folder / kind)
    return LocalEngine(folder=folder, device="cpu")


def of_length(n_tokens: int) -> str:
    """B first, A last, and characters between, each of one token."""
    return "吃" + "我" * (n_tokens - 2) + "苹果"


@pytest.mark.parametrize(("name", "framing", "room"), [("gpt2", 0, 3), ("llama", 1, 3), ("bert", 2, 0), ("bart", 2, 0)])
def test_a_replacement_fits_or_is_refused_with_the_numbers(engine, name, framing, room):
    """A decoder-only model also has to write the three tokens that are measured."""
    def ask(n_text, word):
        prompt = Prompt(name, of_length(n_text), "the a" if name == "bart" else None)
        return engine.evidence(prompt, "苹果", "吃", replacements=[word])

    fits = ask(N_CTX - framing - room - 1, "发布").replacements[0]  # two tokens: the model is full
    assert fits.word == "发布" and np.isfinite(fits.logprob)
    for n_text, word in ((N_CTX - framing - room, "发布"), (6, "很" * 200), (6, "a" * N_CTX)):
        with pytest.raises(errors.TextTooLong) as refusal:
            ask(n_text, word)
        numbers = refusal.value.numbers
        assert refusal.value.code == "replacement_too_long"
        assert numbers["length"] > numbers["limit"] and numbers["word"] == word
    assert engine.trace(Prompt(name, of_length(6)))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_full_text_takes_only_words_of_its_length(engine, name):
    full = Prompt(name, of_length(N_CTX - 1 - (name == "llama")))  # room for one token
    assert np.isfinite(engine.evidence(full, "苹果", "吃", replacements=["买"]).replacements[0].logprob)
    with pytest.raises(errors.TextTooLong):
        engine.evidence(full, "苹果", "吃", replacements=["发布"])
    with pytest.raises(errors.TextTooLong) as refusal:
        engine.evidence(full, "苹果", "吃", contrast="apple")
    assert refusal.value.code == "contrast_too_long"
    assert (refusal.value.numbers["length"], refusal.value.numbers["limit"]) == (N_CTX - 2 + 5, N_CTX - 1)


@pytest.mark.parametrize(("name", "before"), [("gpt2", 6), ("llama", 7)])
def test_a_contrast_fits_or_is_refused_with_the_numbers(engine, name, before):
    prompt = Prompt(name, of_length(6))
    fits = "abc" * 10
    measured = engine.evidence(prompt, "苹果", "吃", contrast=fits[:N_CTX - before], replacements=())
    assert np.isfinite(measured.margin)
    for word in (fits[:N_CTX - before + 1], "apple" * 30):
        with pytest.raises(errors.TextTooLong) as refusal:
            engine.evidence(prompt, "苹果", "吃", contrast=word, replacements=())
        assert refusal.value.code == "contrast_too_long"


def test_a_contrast_in_a_translation_fits_or_is_refused(engine):
    prompt = Prompt("bart", "我吃苹果", "the a")

    def ask(word):
        return engine.evidence(prompt, "the", "吃", query_in="output", contrast=word, replacements=())

    first = [token.text for token in engine.trace(prompt).tokens("decoder").query].index("the")
    assert np.isfinite(ask("b" * (N_CTX - first)).margin)
    with pytest.raises(errors.TextTooLong) as refusal:
        ask("b" * (N_CTX - first + 1))
    assert refusal.value.code == "contrast_too_long"


def test_a_context_that_holds_no_reference_sentence_is_refused(engine, monkeypatch, tmp_path):
    monkeypatch.setenv("ATTENTION_CACHE", str(tmp_path))
    monkeypatch.setattr(reference.budget, "n_ctx", lambda config: 5)
    engine = LocalEngine(folder=engine._folder, device="cpu")
    with pytest.raises(errors.ModelRefused) as refusal:
        engine.evidence(Prompt("bart", "我吃", "the a"), "the", "吃", query_in="output", replacements=())
    assert refusal.value.code == "context_too_short"


def test_no_sequence_is_longer_than_what_evidence_takes(engine, monkeypatch):
    monkeypatch.setattr(question, "LONGEST", 12)
    with pytest.raises(errors.TextTooLong) as refusal:
        engine.evidence(Prompt("bert", of_length(10)), "苹果", "吃", replacements=["发布"])
    assert refusal.value.numbers["limit"] == 12


@pytest.mark.parametrize(("asked", "code"), [
    ({"contrast": 5}, "not_text"), ({"replacements": [5]}, "not_text"), ({"replacements": b"ab"}, "not_text"),
    ({"replacements": 5}, "not_words"), ({"replacements": "做吃"}, "not_words"),
    ({"replacements": {"做"}}, "not_words"),
    ({"contrast": "a" * 201}, "too_many_characters"), ({"replacements": ["a" * 201]}, "too_many_characters"),
    ({"replacements": ["做"] * 33}, "too_many_replacements"),
])
def test_what_is_no_word_is_refused(engine, asked, code):
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.evidence(Prompt("gpt2", of_length(6)), "苹果", "吃", **asked)
    assert refusal.value.code == code


def test_half_characters_are_replaced_as_in_the_text(engine):
    prompt = Prompt("gpt2", of_length(6))
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.evidence(prompt, "苹果", "吃", contrast="\ud800")
    assert refusal.value.code == "contrast_unwritable"
    found = engine.evidence(prompt, "苹果", "吃", replacements=["\ud800", "\udfff", " 买 ", "买"])
    assert [each.word for each in found.replacements if each.origin == "chosen"] == ["\ufffd", "买"]
