"""The numbers beside the verdict, against computations written out.

Deltas are held to transformers' eager runs with 4-D masks, flows to loops over
eager maps and weights.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from engine import LocalEngine, Prompt, errors
from engine.evidence import reference
from engine.evidence.outputs import contains
from tests.engine import oracle, tiny

SENTENCE = "我喜欢吃苹果, 每天吃一个苹果."


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("ATTENTION_CACHE", str(tmp_path_factory.mktemp("references")))
    patch.setattr(reference, "REFERENCE_RUNS", 300)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return oracle.save_tiny(tmp_path_factory.mktemp("models"), ("gpt2", "llama", "bert", "bart"))


@pytest.fixture(scope="module")
def engine(folder):
    return LocalEngine(assets=folder, folder=folder, device="cpu")


def find(of: oracle.Oracle, word: str) -> int:
    return of.ids(SENTENCE)[0].tolist().index(tiny.VOCABULARY[word])


@pytest.fixture(scope="module")
def llama(engine, folder):
    """Decoder-only with grouped heads: A = the first 苹果, B = 吃, and the eager model."""
    of = oracle.Oracle(folder / "llama")
    return engine.evidence(Prompt("llama", SENTENCE), "苹果", "吃"), of


def sequence(of: oracle.Oracle, n: int = 3) -> tuple[list[int], list[int]]:
    """Ids of the text and its continuation's first n tokens, and the rows that predict these."""
    text = of.ids(SENTENCE)[0].tolist()
    ids = text + of.generate(SENTENCE, new_tokens=n)
    return ids, list(range(len(text) - 1, len(text) - 1 + n))


def with_mask(of: oracle.Oracle, ids: list[int], hidden: list[tuple[int, int]], rows: list[int]) -> float:
    """Log-probability of the continuation with these (query, key) pairs hidden in every layer and head."""
    read = torch.tensor([ids[:-1]])
    n = read.shape[1]
    mask = torch.full((n, n), torch.finfo(torch.float32).min).triu(1)
    for query, key in hidden:
        mask[query, key] = torch.finfo(torch.float32).min
    with torch.no_grad():
        logits = of.model(read, attention_mask=mask[None, None], position_ids=torch.arange(n)[None]).logits[0]
    picked = logits.double().log_softmax(-1)[rows]
    return float(sum(picked[at, ids[row + 1]] for at, row in enumerate(rows)))


def test_cuts_and_hiding_equal_eager_runs_with_the_same_mask(llama):
    evidence, of = llama
    ids, rows = sequence(of)
    a, b = find(of, "苹果"), find(of, "吃")
    plain = with_mask(of, ids, [], rows)
    assert evidence.logprob == pytest.approx(plain, abs=1e-5)
    cut = with_mask(of, ids, [(a, b)], rows) - plain
    assert evidence.delta_logprob == pytest.approx(cut, abs=2e-5) and abs(cut) > 1e-3
    hidden = with_mask(of, ids, [(q, b) for q in range(len(ids) - 1) if q != b], rows) - plain
    assert evidence.hide_delta == pytest.approx(hidden, abs=2e-5)
    like = find(of, "喜欢")
    control = with_mask(of, ids, [(a, like)], rows) - plain
    assert dict(evidence.control_deltas)["喜欢"] == pytest.approx(control, abs=2e-5)
    assert [word for word, _ in evidence.control_deltas] == ["我", "喜欢"]  # what A can see, B left out
    with_b = [word.text for word in evidence.words if not math.isnan(word.cut)]
    assert with_b == ["我", "喜欢", "吃"] and evidence.correlations.n_words == 3


def test_attention_and_uniform_are_the_maps(llama):
    evidence, of = llama
    a, b = find(of, "苹果"), find(of, "吃")
    maps = of.maps(SENTENCE).maps["decoder"]
    np.testing.assert_allclose(evidence.attention, maps[:, :, a, b], atol=1e-5)
    np.testing.assert_allclose(evidence.baseline_uniform, 1 / (a + 1), atol=1e-6)


def test_rollout_by_a_plain_loop(llama):
    evidence, of = llama
    ids, _ = sequence(of)
    with torch.no_grad():
        maps = of.model(torch.tensor([ids[:-1]]), output_attentions=True).attentions
    rolled = np.eye(len(ids) - 1)
    for layer in maps:
        rolled = (0.5 * layer[0].mean(0).double().numpy() + 0.5 * np.eye(len(rolled))) @ rolled
    a, b = find(of, "苹果"), find(of, "吃")
    assert evidence.rollout == pytest.approx(rolled[a, b], abs=1e-5)
    by_word = {word.text: word.rollout for word in evidence.words[:4]}
    assert by_word["苹果"] == pytest.approx(rolled[a, a], abs=1e-5)
    flat = np.tril(np.ones_like(rolled))
    flat /= flat.sum(1, keepdims=True)
    step = 0.5 * flat + 0.5 * np.eye(len(flat))
    assert evidence.rollout_uniform == pytest.approx(np.linalg.matrix_power(step, len(maps))[a, b], abs=1e-6)


def test_value_norms_by_the_models_own_weights(llama):
    """‖α W_O v‖ of one pair, from hooks on the eager model's projections (Kobayashi et al. 2020)."""
    evidence, of = llama
    a, b = find(of, "苹果"), find(of, "吃")
    values = []
    handles = [layer.self_attn.v_proj.register_forward_hook(lambda module, inputs, output: values.append(output[0]))
               for layer in of.model.model.layers]
    maps = of.maps(SENTENCE).maps["decoder"]
    for handle in handles:
        handle.remove()
    d_head = of.model.config.head_dim
    groups = of.model.config.num_attention_heads // of.model.config.num_key_value_heads
    assert evidence.value_projected and groups == 2
    for layer, value in enumerate(values):
        weight = of.model.model.layers[layer].self_attn.o_proj.weight.detach()
        for head in range(maps.shape[1]):
            kv = value[b].detach().unflatten(0, (-1, d_head))[head // groups]
            added = maps[layer, head, a, b] * weight[:, head * d_head:(head + 1) * d_head] @ kv
            assert evidence.value_norm[layer, head] == pytest.approx(float(added.norm()), rel=1e-4, abs=1e-6)


def test_replacing_b_is_the_other_sentence(engine, folder):
    of = oracle.Oracle(folder / "llama")
    evidence = engine.evidence(Prompt("llama", SENTENCE), "苹果", "吃", replacements=["买", "发布"])
    chosen = [each for each in evidence.replacements if each.origin == "chosen"]
    assert [each.word for each in chosen] == ["买", "发布"]
    text_length = len(of.ids(SENTENCE)[0])
    ids, _ = sequence(of)
    for each in chosen:  # 发布 is two tokens, so everything after it moves
        replaced = SENTENCE.replace("吃", each.word, 1)
        other = of.ids(replaced)[0].tolist() + ids[text_length:]
        rows = [len(other) - 4 + at for at in range(3)]
        assert each.logprob == pytest.approx(with_mask(of, other, [], rows), abs=1e-5)
        assert each.delta == pytest.approx(each.logprob - evidence.logprob, abs=1e-9)
        assert each.changed == (of.generate(replaced, new_tokens=3) != ids[text_length:])


def test_contrast_margins_are_two_measurements(engine, folder):
    of = oracle.Oracle(folder / "llama")
    evidence = engine.evidence(Prompt("llama", SENTENCE), "苹果", "吃", contrast="apple", replacements=())
    ids, rows = sequence(of)
    a, b = find(of, "苹果"), find(of, "吃")
    contrast = ids[:-3] + [tiny.VOCABULARY[char] for char in "apple"]
    places = list(range(len(ids) - 4, len(ids) - 4 + 5))
    margins = [with_mask(of, ids, hidden, rows) - with_mask(of, contrast, hidden, places) for hidden in ([], [(a, b)])]
    assert evidence.margin == pytest.approx(margins[0], abs=2e-5)
    assert evidence.margin_delta == pytest.approx(margins[1] - margins[0], abs=5e-5)


@pytest.mark.parametrize(("name", "contrast", "code"), [
    ("llama", " ", "bad_contrast"), ("bert", "pear", "contrast_length"), ("bert", "苹果", "bad_contrast"),
    ("llama", "Zürich", "contrast_unwritable"), ("bert", "梨", "contrast_unwritable"),
])
def test_a_contrast_that_cannot_be_is_refused(engine, name, contrast, code):
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.evidence(Prompt(name, SENTENCE), "苹果", "吃", contrast=contrast)
    assert refusal.value.code == code


@pytest.mark.parametrize(("word", "code"), [("", "bad_replacement"), ("吃", "bad_replacement"), ("苹", None)])
def test_a_replacement_that_cannot_be_is_refused(engine, word, code):
    if code is None:  # 苹 before 果 of another word changes nothing of A
        engine.evidence(Prompt("llama", SENTENCE), "苹果", "吃", replacements=[word])
        return
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.evidence(Prompt("llama", SENTENCE), "苹果", "吃", replacements=[word])
    assert refusal.value.code == code


@pytest.mark.parametrize(("text", "word", "expected"), [
    ("an apple.", "apple", True), ("apples", "apple", False), ("Apple", "apple", False), ("我吃苹果", "苹果", True),
    ("it's (new)", "(new)", True), ("", "apple", False),
])
def test_whether_a_word_stands_in_an_output(text, word, expected):
    assert contains(text, word) is expected


def test_the_same_question_twice_is_the_same_answer(engine):
    first, again = (engine.evidence(Prompt("bart", SENTENCE, target="a apple"), "苹果", "吃") for _ in range(2))
    for name in ("verdict", "delta_logprob", "control_deltas", "words"):
        assert str(getattr(first, name)) == str(getattr(again, name))
    assert [each.word for each in first.replacements] == [each.word for each in again.replacements]
    assert not first.attention.flags.writeable
