"""Scaling in real models: against transformers' eager attention with its `scaling` changed, and autograd."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch

from engine import Head, LocalEngine, Prompt, attention, errors, limits, scaling
from engine.saturation import softmax_stats
from tests.engine import oracle, tiny
from tests.engine.bounds import BRIEF

TEXT = "I like the apple"
KINDS = ("gpt2", "llama", "gemma2", "gpt_oss", "opt", "bert", "t5", "bart")
DIVISORS = {"gpt2": 8**0.5, "llama": 8**0.5, "gemma2": 24**0.5, "gpt_oss": 4.0, "opt": 8**0.5, "bert": 8**0.5,
            "t5": 1.0, "bart": 8**0.5}
ONE = scaling.MULTIPLIERS.index(1.0)


def prompt_of(kind: str) -> Prompt:
    return Prompt(kind, f"I like the {'<mask>' if kind == 'bert' else 'apple'}")


@pytest.fixture(scope="module")
def originals(oracles):
    """Kind → its oracle, the ids it reads of `prompt_of`, and the ids it writes (its start first) or fills in."""
    @functools.cache
    def get(kind: str) -> tuple[oracle.Oracle, list[int], list[int]]:
        of, text = oracles(kind), prompt_of(kind).text
        source = of.ids(text)[0].tolist()
        if of.family == "encoder-only":
            with torch.no_grad():
                return of, source, [int(logits_of(of, source)[source.index(tiny.MASK)].argmax())]
        most = BRIEF.new_tokens_target if of.family == "encoder-decoder" else BRIEF.new_tokens_decoder
        return of, source, of.generate(text, new_tokens=most)

    return get


def rescaled_eager(folder, kind: str, multiplier: float) -> oracle.Oracle:
    """The reference model with every attention module's own `scaling` multiplied."""
    reference = oracle.Oracle(folder / kind)
    changed = [module for module in reference.model.modules() if isinstance(getattr(module, "scaling", None), float)]
    assert changed, "the reference has no scaling to change"
    for module in changed:
        module.scaling *= multiplier
    return reference


def logits_of(reference: oracle.Oracle, source, consumed=()) -> torch.Tensor:
    extra = {"decoder_input_ids": torch.tensor([consumed])} if consumed else {}
    return reference.model(input_ids=torch.tensor([source]), **extra).logits[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_divisor_is_what_the_model_divides_by(engine, kind):
    for found in scaling.heads(engine, prompt_of(kind)).values():
        assert found.divisor == pytest.approx(DIVISORS[kind], rel=1e-6)
        assert found.multipliers[-1] == found.divisor and found.multipliers[ONE] == 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gpt_oss"])  # its sink takes part here, not there
def test_with_its_own_scaling_the_heads_are_those_of_the_summaries(engine, kind):
    for stream, found in scaling.heads(engine, prompt_of(kind)).items():
        summary = engine.summaries(prompt_of(kind), stream)
        np.testing.assert_allclose(found.entropy[ONE], summary.entropy, atol=2e-6)
        np.testing.assert_allclose(found.max_probability[ONE], summary.max, atol=2e-6)


@pytest.mark.parametrize("kind", ["gpt2", "opt", "bart"])
def test_without_the_division_the_scores_are_q_dot_k(engine, kind):
    prompt = prompt_of(kind)
    for stream, found in scaling.heads(engine, prompt).items():
        head = Head(stream, 1, 2)
        q, k, _, passed = engine.query_key_value(prompt, head)
        # OPT's queries come divided already.
        products = (q @ k.T).astype(np.float64) * (DIVISORS[kind] if passed == 1 else 1.0)
        seen = engine.visible(prompt, head)
        expected = softmax_stats(np.where(seen, products, -np.inf))
        choice = seen.sum(1) > 1
        np.testing.assert_allclose(found.entropy[-1, 1, 2], expected.entropy.mean(), rtol=1e-4)
        np.testing.assert_allclose(found.max_probability[-1, 1, 2], expected.max_probability.mean(), rtol=1e-4)
        np.testing.assert_allclose(
            found.jacobian_norm[-1, 1, 2], np.median(expected.jacobian_norm[choice]), rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(found.product_variance[1, 2], products[seen].var(), rtol=1e-4)


def test_a_flat_multiplier_leaves_nearly_uniform_rows(engine):
    found = scaling.heads(engine, prompt_of("bart"))["encoder"]
    assert np.all(np.diff(found.entropy[:-1], axis=0) <= 1e-9), "sharper never raises a row's entropy"
    # At 1/16 the scores' spread σ is some tenths, and uniform's entropy is ln n − O(σ²).
    np.testing.assert_allclose(found.entropy[0], found.uniform_entropy, atol=0.1)


def test_long_texts_are_measured_on_some_rows_and_say_so(engine, monkeypatch):
    prompt = Prompt("gpt2", "the apple " * 8)
    whole = scaling.heads(engine, prompt)["decoder"]
    monkeypatch.setattr(scaling, "MEASURED_CELLS", 1)
    some = scaling.heads(engine, prompt)["decoder"]
    assert whole.rows == whole.q_len == some.q_len and scaling.LEAST_ROWS <= some.rows < whole.rows
    np.testing.assert_allclose(some.entropy[ONE], whole.entropy[ONE], atol=0.8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("multiplier", [1.0, 0.25, 4.0])
def test_the_output_is_that_of_eager_with_another_scaling(engine, folder, originals, kind, multiplier):
    prompt = prompt_of(kind)
    own, changed = scaling.outputs(engine, prompt, (1.0, multiplier))
    _, source, ids = originals(kind)
    with torch.no_grad():
        reference = rescaled_eager(folder, kind, multiplier)
        if reference.family == "encoder-decoder":
            logits, ids = logits_of(reference, source, ids[:-1]), ids[1:]
        elif reference.family == "decoder-only":
            logits = logits_of(reference, source + ids[:-1])[len(source) - 1:]
        else:
            place = source.index(tiny.MASK)
            logits = logits_of(reference, source)[place:place + 1]
        expected = logits.double().log_softmax(-1)[range(len(ids)), ids].numpy()
    np.testing.assert_allclose(changed.logprobs, expected, atol=2e-4)
    assert changed.logprob == pytest.approx(expected.sum(), abs=5e-3)
    assert len(changed.tokens) == len(ids) and own.multiplier == 1.0
    if multiplier == 1.0:
        assert changed.output == own.output == engine.trace(prompt).output
    else:
        assert not np.allclose(changed.logprobs, own.logprobs, rtol=1e-2)


def test_a_typed_target_is_what_is_judged(engine):
    prompt = Prompt("bart", TEXT, target="the cat")
    (own,) = scaling.outputs(engine, prompt, (1.0,))
    assert own.tokens == ("<s>", "the", "␣", "c", "a", "t", "</s>") and own.output != "the cat"


def test_an_encoder_without_a_mask_has_no_output_but_a_gradient(engine):
    assert scaling.outputs(engine, Prompt("bert", TEXT), (1.0,)) == ()
    assert scaling.gradients(engine, Prompt("bert", TEXT))["encoder"].at_scores[ONE].min() > 0


def test_rescaling_ends_with_its_block(engine):
    prompt = prompt_of("llama")
    before = scaling.outputs(engine, prompt, (1.0,))[0].logprobs
    scaling.outputs(engine, prompt, (8.0,))
    assert np.array_equal(scaling.outputs(engine, prompt, (1.0,))[0].logprobs, before)


def call_of(generator, *, n_heads=4, n_kv_heads=2, q_len=5, k_len=7, d_head=6, **rest) -> attention.Call:
    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    return attention.Call(draw(n_heads, q_len, d_head), draw(n_kv_heads, k_len, d_head), draw(n_kv_heads, k_len, 3),
                          None, False, d_head**-0.5, **rest)


@pytest.mark.parametrize("multiplier", [0.5, 1.0, 6**0.5])
def test_one_layer_backwards_is_the_softmax_jacobian(multiplier):
    generator = torch.Generator().manual_seed(5)
    call = call_of(generator, query_scaling=0.5)
    arriving = torch.randn(5, 4, 3, generator=generator)
    at_scores, at_queries = scaling.backward(call, arriving, multiplier)
    for head in range(4):
        q, k, v = (part.double().numpy() for part in (call.query[head], call.key[head // 2], call.value[head // 2]))
        scale = call.scaling * multiplier
        p = np.exp(q @ k.T * scale)
        p /= p.sum(1, keepdims=True)
        g = arriving[:, head].double().numpy() @ v.T
        by_scores = p * (g - (p * g).sum(1, keepdims=True))
        assert at_scores[head] == pytest.approx(np.linalg.norm(by_scores), rel=1e-5)
        # Once more by the scaling, and by what the queries were multiplied with before the call.
        assert at_queries[head] == pytest.approx(np.linalg.norm(scale * by_scores @ k) * 0.5, rel=1e-5)


@pytest.mark.parametrize(("kind", "projection"), [
    ("llama", "o_proj"), ("gemma2", "o_proj"), ("gpt_oss", "o_proj"), ("opt", "out_proj"), ("bart", "out_proj"),
    ("t5", "o"),
])
def test_what_arrives_is_the_gradient_of_eagers_own_loss(engine, folder, originals, kind, projection):
    prompt = prompt_of(kind)
    reference = oracle.Oracle(folder / kind)
    _, source, ids = originals(kind)
    kept = []

    def keep(module, inputs):
        inputs[0].retain_grad()
        kept.append(inputs[0])

    decoder_only = reference.family == "decoder-only"
    for name, module in reference.model.named_modules():
        if name.rsplit(".", 1)[-1] == projection:
            module.register_forward_pre_hook(keep)
    if decoder_only:
        logits = logits_of(reference, source + ids[:-1])[len(source) - 1:]
    else:
        logits, ids = logits_of(reference, source, ids[:-1]), ids[1:]
    torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum").backward()

    def arriving(live):
        encoded, written = scaling._written(live, prompt, engine.limits)
        item = scaling._item(live, encoded, written, engine.limits, masks_only=False)
        return scaling._arriving(live, item)[1]

    found = engine.submit(kind, arriving).result()
    assert len(found) == len(kept)
    largest = max(float(tensor.grad.abs().max()) for tensor in kept)
    for ours, theirs in zip(found, kept, strict=True):
        np.testing.assert_allclose(ours.flatten(1), theirs.grad[0], atol=2e-4 * largest)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("gemma2", "t5")])  # a soft cap, a large bias
def test_a_saturated_head_lets_less_through(engine, kind):
    for found in scaling.gradients(engine, prompt_of(kind)).values():
        assert np.isfinite(found.at_scores).all() and found.at_scores.shape == found.at_queries.shape
        sharpest = len(scaling.MULTIPLIERS) - 1  # ×32
        assert np.median(found.at_scores[sharpest]) < np.median(found.at_scores[ONE])


def test_too_long_for_a_backward_pass_is_refused(folder):
    short = LocalEngine(folder=folder, device="cpu", bounds=dataclasses.replace(limits.DEFAULT, detail=8))
    with pytest.raises(errors.InvalidPrompt, match="at most 8 tokens"):
        scaling.gradients(short, prompt_of("gpt2"))
