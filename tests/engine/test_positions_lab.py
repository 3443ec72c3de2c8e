"""Two orders of the same tokens through the engine: the permuted output without positions, and what is left after.

Oracle: a model without positions is equivariant where no mask tells the order
(float32 rounding, 1e-5), and every other request sees the model unchanged.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine import Head, LocalEngine, Prompt, errors, positions, positions_lab
from engine.limits import DEFAULT
from tests.engine import oracle, tiny

EQUIVARIANT = ("bert", "t5", "bart", "marian")
BOUNDS = replace(DEFAULT, new_tokens_target=8, new_tokens_decoder=4)
TEXT = "我喜欢吃苹果, the apple"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = oracle.save_tiny(tmp_path_factory.mktemp("models"), (*EQUIVARIANT, "modernbert", "gpt2", "llama"))
    return LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu", bounds=BOUNDS)


@pytest.mark.parametrize("order", positions_lab.ORDERS)
@pytest.mark.parametrize("kind", EQUIVARIANT)
def test_without_positions_the_output_is_the_same_permuted(engine, kind, order):
    found = positions_lab.compare_orders(engine, Prompt(kind, TEXT), order=order, seed=3)
    at = list(found.permutation)
    assert sorted(at) == list(range(len(at))) and at != sorted(at) and not found.mask_tells_order
    first, other = found.off
    scale = np.abs(first.vectors).max()
    np.testing.assert_allclose(other.vectors, first.vectors[at], atol=1e-5 * scale)
    np.testing.assert_allclose(other.patterns, first.patterns[..., at, :][..., at], atol=1e-5)
    assert found.vector_residual_off == pytest.approx(np.abs(other.vectors - first.vectors[at]).max() / scale)
    assert found.vector_residual_off < found.rounding == positions_lab.ROUNDING
    assert first.output == other.output or kind == "bert"
    assert found.vector_residual_on > 0.05 and found.pattern_residual_on > 0.05
    assert [token.id for token in other.tokens] == [first.tokens[i].id for i in at]
    assert all(at[i] == i for i, token in enumerate(first.tokens) if token.special)


@pytest.mark.parametrize(("text", "order", "same"), [
    ("我我我", "swap ends", True), ("我爱我", "swap ends", True), ("我爱我", "reverse", True),
    ("我爱你", "swap ends", False), ("我我你", "swap ends", False),
])
def test_an_order_that_reads_like_the_sentence_is_known(embedded, text, order, same):
    found = positions_lab.compare_orders(embedded, Prompt("zh-en", text), order=order)
    assert found.same_text == same


def test_the_run_with_positions_is_the_engines_own(engine):
    prompt = Prompt("marian", TEXT)
    found = positions_lab.compare_orders(engine, prompt)
    np.testing.assert_allclose(found.on[0].patterns, engine.patterns(prompt, "encoder"), atol=1e-6)
    assert found.on[0].output == engine.trace(prompt).output


@pytest.mark.parametrize("kind", ["gpt2", "llama", "modernbert"])
def test_a_mask_tells_the_order_by_itself(engine, kind):
    found = positions_lab.compare_orders(engine, Prompt(kind, TEXT))
    assert found.mask_tells_order and found.vector_residual_off > 0.01 and found.removed
    hidden = np.isnan(found.on[0].patterns)
    assert hidden.any() and not hidden.diagonal(axis1=-2, axis2=-1).any()


def test_other_requests_never_meet_a_model_without_positions(engine):
    prompt, head = Prompt("marian", TEXT), Head("encoder", 1, 2)
    alone = engine.pattern(prompt, head)
    fresh = LocalEngine(assets=oracle.ASSETS, folder=engine._folder, device="cpu", bounds=BOUNDS)
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(positions_lab.compare_orders, fresh, prompt) for _ in range(6)]
        asked = [pool.submit(fresh.pattern, Prompt("marian", TEXT), head) for _ in range(6)]
        for run in runs:
            assert run.result(60).vector_residual_off < 1e-5
        for answer in asked:
            np.testing.assert_allclose(answer.result(60), alone, atol=1e-6)


def test_a_sentence_of_one_token_is_read_character_by_character(engine):
    found = positions_lab.compare_orders(engine, Prompt("marian", "苹果"))
    assert found.by_character
    assert [token.text for token in found.on[0].tokens[:2]] == ["苹", "果"]
    assert [token.text for token in found.on[1].tokens[:2]] == ["果", "苹"]
    assert not positions_lab.compare_orders(engine, Prompt("marian", "苹果吃")).by_character


@pytest.mark.parametrize(("ask", "code"), [
    (lambda engine: positions_lab.compare_orders(engine, Prompt("bert", "我")), "nothing_to_permute"),
    (lambda engine: positions_lab.compare_orders(engine, Prompt("bert", "a b" * 40)), "too_many_tokens"),
    (lambda engine: positions_lab.compare_orders(engine, Prompt("bert", TEXT), order="inside out"), "unknown_order"),
    (lambda engine: positions_lab.compare_orders(engine, Prompt("bert", "")), "empty_text"),
    (lambda engine: positions_lab.compare_orders(engine, Prompt("nowhere", TEXT)), "model_not_found"),
    (lambda engine: positions_lab.read(engine, "bert", n_positions=2), "bad_length"),
])
def test_what_cannot_be_compared_is_refused(engine, ask, code):
    with pytest.raises(errors.EngineError) as refused:
        ask(engine)
    assert refused.value.code == code


def test_a_model_is_read_through_the_engine(engine):
    found = positions_lab.read(engine, "llama", n_positions=30)
    with torch.no_grad():
        expected = positions.of_model(tiny.model("llama"), n_positions=30)
    np.testing.assert_array_equal(found.sources[0].frequencies, expected.sources[0].frequencies)
    assert positions_lab.read(engine, "marian", n_positions=4096).n_positions == 256
