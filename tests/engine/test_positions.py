"""The position formulas against the papers' claims and transformers' own values.

Oracles: properties the papers prove, and transformers' rotary modules, ALiBi
slopes and buckets.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import transformers
from transformers.models.bloom import modeling_bloom
from transformers.models.llama import modeling_llama
from transformers.models.t5.modeling_t5 import T5Attention

from engine import errors, positions

#: Float32 values of transformers' against our float64 ones.
FLOAT32 = 2e-6
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
SCALINGS = {
    "default": {"rope_type": "default"},
    "other base": {"rope_type": "default", "rope_theta": 1e6},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": YARN,
    "yarn, not rounded": {**YARN, "truncate": False, "beta_fast": 24, "beta_slow": 2, "rope_theta": 150_000.0},
    "yarn, two temperatures": {**YARN, "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.7},
    "yarn, own temperature": {**YARN, "attention_factor": 1.3},
    "llama3": LLAMA3,
    "llama3.2": {**LLAMA3, "factor": 32.0},
}


def rotary(scaling: dict, *, d_head: int = 64, n_ctx: int = 8192) -> modeling_llama.LlamaRotaryEmbedding:
    config = transformers.LlamaConfig(hidden_size=d_head * 2, num_attention_heads=2, head_dim=d_head,
                                      max_position_embeddings=n_ctx,
                                      rope_parameters={"rope_theta": 10_000.0, **scaling})
    return modeling_llama.LlamaRotaryEmbedding(config)


# --- sinusoids -------------------------------------------------------------------------------------------------------


def test_the_table_is_the_papers():
    table = positions.sinusoidal(40, 10)
    assert table.shape == (40, 10) and table.dtype == np.float64
    for p in (0, 1, 17, 39):
        for i in range(5):
            angle = p / 10_000 ** (2 * i / 10)
            assert table[p, 2 * i] == pytest.approx(math.sin(angle), abs=1e-12)
            assert table[p, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-12)


def test_an_odd_width_ends_with_a_sine():
    table = positions.sinusoidal(5, 7)
    assert table.shape == (5, 7)
    np.testing.assert_allclose(table[:, 6], np.sin(np.arange(5) * 10_000 ** (-6 / 7)), atol=1e-12)


@pytest.mark.parametrize("base", [100.0, 10_000.0])
def test_products_of_the_table_depend_on_the_offset_alone(base):
    """Vaswani et al. 2017, §3.5; to float64 rounding of d/2 = 32 products."""
    table = positions.sinusoidal(200, 64, base=base)
    products = table @ table.T
    for offset in (0, 1, 5, 50):
        along = np.diagonal(products, offset)
        np.testing.assert_allclose(along, along[0], atol=1e-10)
    np.testing.assert_allclose(products, products.T, atol=1e-10)  # distance without direction
    assert products[0, 0] > products[0, 1] > products[0, 2]


@pytest.mark.parametrize("offset", [1, 7, 30])
def test_a_shift_of_the_table_is_linear(offset):
    """PE(p + k) = M_k PE(p) with one M_k for all p: fitted on some positions, it holds on the others."""
    table = positions.sinusoidal(100_000, 16)  # long enough for the slowest wave to turn
    even, odd = np.arange(0, 90_000, 2), np.arange(1, 90_000, 2)
    shift, *_ = np.linalg.lstsq(table[even], table[even + offset], rcond=None)
    np.testing.assert_allclose(table[odd] @ shift, table[odd + offset], atol=1e-8)
    np.testing.assert_allclose(shift @ shift.T, np.eye(16), atol=1e-8)  # and it is a rotation


def test_similarity_is_the_cosine():
    table = np.random.default_rng(0).normal(size=(12, 5))
    expected = [a @ table[3] / np.linalg.norm(a) / np.linalg.norm(table[3]) for a in table]
    np.testing.assert_allclose(positions.similarity(table, 3), expected, atol=1e-12)
    np.testing.assert_array_equal(positions.similarity(np.zeros((4, 3)), 1), np.zeros(4))


# --- rotations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCALINGS)
def test_frequencies_are_transformers(name):
    scaling = SCALINGS[name]
    theirs = rotary(scaling)
    ours = positions.rope_frequencies(64, scaling=scaling)
    assert ours.shape == (32,) and ours.dtype == np.float64
    np.testing.assert_allclose(ours, theirs.inv_freq.double().numpy(), rtol=FLOAT32)
    assert positions.rope_attention_factor(scaling) == pytest.approx(theirs.attention_scaling, rel=1e-9)


@pytest.mark.parametrize("length", [100, 8192, 8193, 20_000, 100_000])
def test_dynamic_frequencies_follow_the_length(length):
    theirs = rotary({"rope_type": "dynamic", "factor": 2.0})
    theirs(torch.zeros(1), torch.arange(length)[None])
    scaling = {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 8192}
    ours = positions.rope_frequencies(64, scaling=scaling, n_positions=length)
    np.testing.assert_allclose(ours, theirs.inv_freq.double().numpy(), rtol=1e-5)
    assert (length <= 8192) == np.array_equal(ours, positions.rope_frequencies(64))


def test_a_partial_rotation_turns_a_share():
    ours = positions.rope_frequencies(64, scaling={"rope_type": "default", "partial_rotary_factor": 0.25})
    np.testing.assert_array_equal(ours, positions.rope_frequencies(16))
    x = np.random.default_rng(0).normal(size=(3, 64))
    turned = positions.rope_rotate(x, np.arange(3), ours)
    np.testing.assert_array_equal(turned[:, 16:], x[:, 16:])
    assert np.abs(turned[1:, :16] - x[1:, :16]).max() > 0.1


def test_base_and_rope_theta_say_the_same():
    by_base = positions.rope_frequencies(32, 500_000.0)
    np.testing.assert_array_equal(by_base, positions.rope_frequencies(32, scaling={"rope_theta": 500_000.0}))
    assert (np.diff(by_base) < 0).all() and by_base[0] == 1.0  # low dimensions turn fast


def test_rotation_is_transformers():
    module = rotary({"rope_type": "default"}, d_head=16)
    x = torch.randn(1, 3, 9, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cos, sin = module(x, torch.arange(9)[None])
    theirs, _ = modeling_llama.apply_rotary_pos_emb(x, x, cos, sin)
    ours = positions.rope_rotate(x.numpy(), np.arange(9), positions.rope_frequencies(16))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=-1), np.linalg.norm(x.numpy(), axis=-1), rtol=1e-12)


@pytest.mark.parametrize("name", SCALINGS)
def test_rotated_scores_depend_on_the_offset_alone(name):
    """Su et al. 2021, §3.2: ⟨R_m q, R_n k⟩ is a function of m − n."""
    generator = np.random.default_rng(1)
    q, k = generator.normal(size=(2, 64))
    frequencies = positions.rope_frequencies(64, scaling=SCALINGS[name])
    for offset in (-3, 0, 1, 40):
        scores = [positions.rope_rotate(q, p, frequencies) @ positions.rope_rotate(k, p - offset, frequencies)
                  for p in (0, 5, 123, 1000)]
        np.testing.assert_allclose(scores, scores[0], atol=1e-9)
        assert positions.rope_scores(q, k, np.array([offset]), frequencies)[0] == pytest.approx(scores[0], abs=1e-9)


def test_decay_is_a_bound_and_no_law():
    """Su et al. 2021, §3.4.3: the bound falls; for independent q and k the mean score is 0 at every offset."""
    offsets = np.arange(0, 250, 10)
    frequencies = positions.rope_frequencies(64)
    bound = positions.rope_bound(np.ones(64), np.ones(64), offsets, frequencies) / 64
    assert bound[0] == pytest.approx(1.0) and (bound[1:] < 1).all() and bound[20:].max() < 0.5
    q, k = np.random.default_rng(0).normal(size=(2, 4000, 64))
    means = positions.rope_scores(q, k, offsets, frequencies).mean(axis=0)
    assert np.abs(means).max() < 5 * math.sqrt(64 / 4000)  # five standard errors of a sum of 64 products


@pytest.mark.parametrize("base", [100, 10_000, 1_000_000])
@pytest.mark.parametrize("d", [8, 64, 256])
def test_no_score_exceeds_its_bound(d, base):
    offsets = np.arange(2000)
    for scaling in (None, {"rope_type": "linear", "factor": 8.0}):
        frequencies = positions.rope_frequencies(d, base, scaling)
        q, k = np.random.default_rng(d).normal(size=(2, 20, d))
        q[0] = k[0] = 1
        scores = positions.rope_scores(q, k, offsets, frequencies)
        assert (np.abs(scores) <= positions.rope_bound(q, k, offsets, frequencies) + 1e-9).all()


# --- biases ----------------------------------------------------------------------------------------------------------


def test_alibi_slopes_are_blooms():
    for n_heads in (*range(1, 70), 96, 112, 128):
        theirs = modeling_bloom._get_alibi_slopes(n_heads, torch.device("cpu")).double().numpy()
        np.testing.assert_allclose(positions.alibi_slopes(n_heads), theirs, rtol=FLOAT32)


def test_alibi_slopes_of_the_paper():
    """Press et al. 2022, §3: 8 heads have 1/2 … 1/2⁸; 12 are not 2^(−8h/12)."""
    np.testing.assert_array_equal(positions.alibi_slopes(8), 0.5 ** np.arange(1, 9))
    np.testing.assert_allclose(positions.alibi_slopes(12)[8:], 2.0 ** np.array([-0.5, -1.5, -2.5, -3.5]))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (8, 16), (20, 100), (64, 1000), (16, 20)])
def test_buckets_are_t5s(bidirectional, n_buckets, max_distance):
    relative = np.arange(-3000, 3000).reshape(3, -1)
    theirs = T5Attention._relative_position_bucket(
        torch.from_numpy(relative), bidirectional=bidirectional, num_buckets=n_buckets, max_distance=max_distance)
    ours = positions.t5_bucket(relative, bidirectional=bidirectional, n_buckets=n_buckets, max_distance=max_distance)
    assert ours.dtype == np.int64
    np.testing.assert_array_equal(ours, theirs.numpy())


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ask", "code"), [
    (lambda: positions.sinusoidal(0, 4), "position_size"),
    (lambda: positions.sinusoidal(4, 4, base=1.0), "position_size"),
    (lambda: positions.rope_frequencies(7), "position_size"),
    (lambda: positions.rope_rotate(np.ones(4), 1, np.ones(3)), "position_size"),
    (lambda: positions.alibi_slopes(0), "position_size"),
    (lambda: positions.t5_bucket(np.arange(3), bidirectional=True, n_buckets=2), "position_size"),
    (lambda: positions.t5_bucket(np.arange(3), bidirectional=False, max_distance=16), "position_size"),
    (lambda: positions.rope_frequencies(8, scaling={"rope_type": "spiral"}), "rope_scaling"),
    (lambda: positions.rope_frequencies(8, scaling={"rope_type": "linear"}), "rope_scaling"),
    (lambda: positions.rope_frequencies(8, scaling={"rope_type": "yarn", "factor": 4.0}), "rope_scaling"),
    (lambda: positions.rope_frequencies(8, scaling={"rope_type": "dynamic", "factor": 2.0}, n_positions=9),
     "rope_scaling"),
    *((lambda asked=asked: positions.rope_frequencies(8, scaling=asked), "rope_scaling") for asked in (
        {"rope_theta": "x"}, {"rope_theta": float("inf")}, {"partial_rotary_factor": "x"},
        {"partial_rotary_factor": 1.5}, "linear", 5, ["linear"], {"rope_type": ["linear"]},
        {"rope_type": "linear", "factor": float("inf")}, {"rope_type": "linear", "factor": float("nan")},
        {"rope_type": "linear", "factor": True}, {"rope_type": "linear", "factor": -1.0},
        YARN | {"beta_fast": "x"}, YARN | {"beta_slow": [1]}, YARN | {"original_max_position_embeddings": "x"},
        {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": "x"},
    )),
    *((lambda asked=asked: positions.rope_attention_factor(asked), "rope_scaling") for asked in (
        "yarn", YARN | {"attention_factor": "x"}, YARN | {"mscale": "x", "mscale_all_dim": 1.0})),
    (lambda: positions.rope_rotate(np.ones((4, 16)), np.arange(5), np.ones(8)), "bad_array"),
    (lambda: positions.rope_rotate(np.ones((2, 4, 16)), np.ones((3, 4)), np.ones(8)), "bad_array"),
    (lambda: positions.rope_rotate(np.ones((4, 16)), "x", np.ones(8)), "bad_array"),
    (lambda: positions.rope_rotate(np.float64(1), 0, np.ones(8)), "bad_array"),
    (lambda: positions.rope_rotate(np.ones((4, 16)), np.arange(4), np.ones((2, 4))), "bad_array"),
    *((lambda asked=asked: positions.alibi_slopes(asked), "position_size") for asked in (2.5, "a", None, -1, True)),
    *((lambda asked=asked: positions.sinusoidal(*asked), "position_size") for asked in ((4.5, 4), (4, "a"), (4, None))),
    *((lambda asked=asked: positions.sinusoidal(4, 4, base=asked), "position_size") for asked in (
        "x", float("inf"), float("nan"), 0.5)),
    *((lambda asked=asked: positions.rope_frequencies(*asked), "position_size") for asked in (
        (8.0,), ("8",), (0,), (8, "x"), (8, 1.0))),
    (lambda: positions.rope_frequencies(8, n_positions="x"), "position_size"),
    (lambda: positions.rope_frequencies(8, scaling={"partial_rotary_factor": 0.1}), "position_size"),
    (lambda: positions.t5_bucket(np.arange(3), bidirectional=True, n_buckets=8.5), "position_size"),
])
def test_what_makes_no_sense_is_refused(ask, code):
    with pytest.raises(errors.InvalidPrompt) as refused:
        ask()
    assert refused.value.code == code


def test_a_refusal_says_what_came():
    with pytest.raises(errors.InvalidPrompt, match=r"n_heads as a whole number from 1; got n_heads = 2\.5"):
        positions.alibi_slopes(2.5)


def test_positions_may_stand_for_any_axes_before():
    x = np.random.default_rng(0).normal(size=(3, 4, 8))
    frequencies = positions.rope_frequencies(8)
    whole = positions.rope_rotate(x, np.arange(4), frequencies)
    for head in range(3):
        np.testing.assert_array_equal(whole[head], positions.rope_rotate(x[head], np.arange(4), frequencies))
    np.testing.assert_array_equal(positions.rope_rotate(x, 2, frequencies)[:, 2], whole[:, 2])
