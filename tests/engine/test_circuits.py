"""What is computed from a walk, and what real reruns say: against full matrices, eager copies and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine import Head, Prompt, circuits, errors, knockouts
from engine.walk import walk
from tests.engine import oracle

EN, ZH = "the cat sat on it", "我喜欢吃苹果"


def walked(engine, name: str, stream: str = "decoder", layer: int = 1, head: int = 1):
    return walk(engine, Prompt(name, ZH if name == "zh-en" else EN), Head(stream, layer, head))


@pytest.mark.parametrize(("name", "stream"), [("zh-en", "encoder"), ("gpt2", "decoder"), ("llama", "decoder")])
def test_the_rank_of_the_full_matrix_is_at_most_d_head(engine, name, stream):
    found = walked(engine, name, stream)
    spectrum = circuits.spectrum(found.query, found.key)
    full = found.query.weight.T.astype(np.float64) @ found.key.weight
    d_head = len(found.query.weight)
    assert full.shape == (spectrum.width, spectrum.width) and d_head < spectrum.width
    singular = np.linalg.svd(full, compute_uv=False)
    np.testing.assert_allclose(spectrum.values, singular[:d_head], rtol=1e-9)
    assert singular[d_head] < 1e-12 * singular[0]
    assert spectrum.rank == np.linalg.matrix_rank(full) <= d_head
    assert 1 <= spectrum.effective <= spectrum.rank


@pytest.mark.parametrize(("name", "stream"), [("zh-en", "encoder"), ("gpt2", "decoder"), ("llama", "decoder")])
def test_swapped_roles_are_symmetric_and_the_heads_own_are_not(engine, name, stream):
    found = walked(engine, name, stream)
    own, keys, plain = circuits.swap_roles(found)
    np.testing.assert_allclose(own.weights, found.weights, atol=1e-5)
    assert own.asymmetry > 0.1
    assert keys.asymmetry < 1e-7 and plain.asymmetry < 1e-7
    np.testing.assert_allclose(keys.scores, found.key.after @ found.key.after.T * found.terms.scaling, atol=1e-4)
    np.testing.assert_allclose(plain.scores, found.input @ found.input.T / np.sqrt(found.d_model), atol=1e-3)
    for swapped in (own, keys, plain):
        np.testing.assert_allclose(swapped.weights.sum(1), 1, atol=1e-9)
        assert (swapped.weights[~found.terms.visible] == 0).all()


def test_roles_cannot_be_swapped_between_two_texts(engine):
    with pytest.raises(ValueError, match="self-attention"):
        circuits.swap_roles(walked(engine, "marian", "cross"))


def test_asymmetry_of_planted_matrices():
    assert circuits.asymmetry(np.array([[1.0, 2.0], [2.0, 5.0]])) == 0
    assert circuits.asymmetry(np.array([[0.0, 2.0], [-2.0, 0.0]])) == 1
    assert circuits.asymmetry(np.zeros((3, 3))) == 0


def test_silencing_takes_one_words_difference_away(engine):
    found = walked(engine, "bert", "encoder")
    weights, _ = circuits.silence(found, "query")
    np.testing.assert_allclose(weights, np.broadcast_to(weights[:1], weights.shape), atol=1e-12)
    assert weights[0].max() > 2 / weights.shape[1]
    weights, mixed = circuits.silence(found, "key")
    np.testing.assert_allclose(weights, 1 / weights.shape[1], atol=1e-12)
    np.testing.assert_allclose(mixed, np.broadcast_to(found.value.after.mean(0), mixed.shape), atol=1e-5)
    weights, mixed = circuits.silence(found, "value")
    np.testing.assert_allclose(weights, found.weights, atol=1e-6)
    np.testing.assert_allclose(mixed, np.broadcast_to(found.value.after.mean(0), mixed.shape), atol=1e-5)


def test_a_silenced_query_still_has_a_position_under_rope(engine):
    weights, _ = circuits.silence(walked(engine, "llama"), "query")
    seen = weights[-2:, :-1] / weights[-2:, :-1].sum(1, keepdims=True)
    assert np.abs(seen[0] - seen[1]).max() > 1e-3


def test_without_the_mask_the_future_is_seen(engine):
    found = walked(engine, "gpt2")
    weights, leaked = circuits.lift_mask(found)
    scores = found.query.after.astype(np.float64) @ found.key.after.T * found.terms.scaling
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert leaked == pytest.approx(np.triu(expected, 1).sum() / len(expected), abs=1e-6)
    assert circuits.lift_mask(walked(engine, "bert", "encoder"))[1] == 0


def test_costs_by_hand():
    cost = circuits.cost(10, d_model=8, n_heads=2, n_kv_heads=1, d_head=4)
    assert (cost.cells, cost.bytes) == (200, 800)
    assert cost.scores == 10 * 10 * 4 * 2 * 2  # q·k and weights·v
    assert cost.projections == 10 * (8 * 8 + 8 * 4 + 8 * 4 + 8 * 8)  # q, k, v, output
    at = [circuits.cost(n, d_model=8, n_heads=2, n_kv_heads=2, d_head=4) for n in (16, 32)]
    assert at[0].scores == at[0].projections  # n = 2 · d_model
    assert at[1].scores == 4 * at[0].scores


def test_distances_of_planted_patterns():
    patterns = np.array([[[1, 0, 0]], [[0, 1, 0]], [[0.5, 0.5, 0]], [[1, 0, 0]]])
    distances = circuits.head_distances(patterns)
    assert distances[0, 1] == pytest.approx(1) and distances[0, 3] == 0
    mean = np.array([0.75, 0.25])
    divergence = (np.log2(1 / 0.75) + 0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25)) / 2
    assert mean.sum() == 1 and distances[0, 2] == pytest.approx(np.sqrt(divergence))
    np.testing.assert_array_equal(distances, distances.T)


def test_a_planar_set_is_laid_out_as_it_is():
    planted = np.random.default_rng(0).normal(size=(9, 2))
    distances = np.linalg.norm(planted[:, None] - planted[None], axis=-1)
    points, kept = circuits.flatten(distances)
    np.testing.assert_allclose(np.linalg.norm(points[:, None] - points[None], axis=-1), distances, atol=1e-9)
    assert kept == pytest.approx(1)
    assert circuits.flatten(np.zeros((1, 1)))[0].shape == (1, 2)


# --- reruns ----------------------------------------------------------------------------------------------------------


def test_a_removed_head_is_a_zero_in_front_of_the_output_projection(engine, folder):
    prompt, head = Prompt("gpt2", EN), Head("decoder", 1, 2)
    found = walk(engine, prompt, head)
    zero = np.zeros_like(found.mixed)
    runs = [{2: found.mixed}, {2: zero}, {0: zero, 1: zero, 3: zero}]
    effects = knockouts.replace_outputs(engine, prompt, head, runs)
    copy = oracle.Oracle(folder / "gpt2").model
    ids = torch.tensor([oracle.Oracle(folder / "gpt2").tokenizer(EN).input_ids])

    def logs(removed: tuple[int, ...]) -> torch.Tensor:
        def cut(module, args):
            given = args[0].clone()
            for index in removed:
                given[..., index * 8:(index + 1) * 8] = 0
            return (given,)

        handle = copy.transformer.h[1].attn.c_proj.register_forward_pre_hook(cut)
        with torch.no_grad():
            rows = copy(ids).logits[0].double().log_softmax(-1)
        handle.remove()
        return rows

    base = logs(())
    for at, removed in enumerate([(), (2,), (0, 1, 3)]):
        edited = logs(removed)
        divergence = (base.exp() * (base - edited)).sum(-1).numpy()
        np.testing.assert_allclose(effects.change[at], divergence, atol=1e-5)
        top = base.argmax(-1)
        np.testing.assert_allclose(effects.logprob[at], (edited - base).gather(1, top[:, None])[:, 0], atol=1e-4)
        assert effects.flipped()[at] == int((edited.argmax(-1) != top).sum())
    assert effects.unit == "nats" and effects.mean()[1] > 0.01 > effects.mean()[0]


@pytest.mark.parametrize(("name", "stream"), [("zh-en", "cross"), ("zh-en", "encoder"), ("llama", "decoder"),
                                              ("bert", "encoder")])
def test_putting_back_what_was_there_changes_nothing(engine, name, stream):
    found = walked(engine, name, stream)
    prompt = Prompt(name, ZH if name == "zh-en" else EN)
    same = {index: found.heads[index] for index in range(found.n_heads)}
    none = {index: 0 * found.heads[index] for index in range(found.n_heads)}
    effects = knockouts.replace_outputs(engine, prompt, found.head, [same, none])
    assert effects.mean()[0] < 1e-6 < effects.mean()[1]


def test_a_masked_decoder_leaks_nothing_and_an_unmasked_one_does(engine, folder):
    prompt = Prompt("gpt2", EN)
    effects, changed = knockouts.leak(engine, prompt)
    assert effects.change.shape == (2, changed)
    assert (effects.change[0] < 1e-9).all() and (effects.change[1] > 1e-4).all()
    reference = oracle.Oracle(folder / "gpt2")
    ids = torch.tensor([reference.tokenizer(EN).input_ids])
    assert changed == ids.shape[1] - 1
    other = ids.clone()
    other[0, -1] = [id_ for id_ in ids[0].tolist() if id_ != int(ids[0, -1])][-1]
    everything = torch.zeros(1, 1, ids.shape[1], ids.shape[1])  # a mask of one's own, additive: hides nothing
    with torch.no_grad():
        before, after = (reference.model(i, attention_mask=everything).logits[0].double().log_softmax(-1)
                         for i in (ids, other))
    expected = (before.exp() * (before - after)).sum(-1)[:-1]
    np.testing.assert_allclose(effects.change[1], expected, atol=1e-5)
    assert knockouts.leak(engine, Prompt("bert", EN)) is None
    assert knockouts.leak(engine, Prompt("gpt2", "t")) is None


def test_padding_is_nothing_while_the_mask_says_so(engine, folder):
    prompt, head = Prompt("bert", EN), Head("encoder", 0, 1)
    found = knockouts.pad(engine, prompt, head, n_pads=3)
    reference = oracle.Oracle(folder / "bert")
    ids = reference.tokenizer(EN).input_ids
    n = len(ids)
    longer = torch.tensor([ids + [reference.tokenizer.pad_token_id] * 3])
    for mask, weights in (([1] * n + [0] * 3, found.weights), ([1] * (n + 3), found.unhidden)):
        with torch.no_grad():
            out = reference.model(longer, attention_mask=torch.tensor([mask]), output_attentions=True)
        np.testing.assert_allclose(weights, out.attentions[0][0, 1].numpy(), atol=1e-5)
    assert (found.weights[:, n:] == 0).all()
    assert found.mass == pytest.approx(found.unhidden[:n, n:].sum(1).mean(), abs=1e-6)
    assert found.change[0] < 1e-6 < found.change[1]


def test_padding_needs_room_in_the_context(engine):
    with pytest.raises(errors.TextTooLong) as caught:
        knockouts.pad(engine, Prompt("bert", "a" * 252), Head("encoder", 0, 0))  # 254 with <s> and </s>, of 256
    assert caught.value.numbers["limit"] == 253


def test_padding_of_a_translation_counts_in_the_text_alone(engine):
    prompt = Prompt("zh-en", ZH)
    for stream in ("encoder", "cross", "decoder"):
        found = knockouts.pad(engine, prompt, Head(stream, 1, 1))
        n_keys = len(engine.trace(prompt).tokens(stream).key)
        assert found.weights.shape[1] == n_keys + (3 if stream != "decoder" else 0)
        assert (found.mass > 0) == (stream != "decoder") and found.change[0] < 1e-5 < found.change[1]
