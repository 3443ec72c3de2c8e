"""Softmax saturation against closed forms, autograd's Jacobian and the random energy model; no model is run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine import errors
from engine.saturation import DISTRIBUTIONS, expected_entropy, freezing_d_head, simulate, softmax, softmax_stats


def autograd_norm(row: np.ndarray) -> float:
    """‖∂softmax/∂scores‖_F by torch's autograd, float64."""
    jacobian = torch.autograd.functional.jacobian(lambda s: s.softmax(-1), torch.tensor(row, dtype=torch.float64))
    return float(jacobian.norm())


@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 5.0, 20.0])
@pytest.mark.parametrize("k_len", [1, 2, 7, 64])
def test_the_jacobian_is_autograds(spread, k_len):
    rows = np.random.default_rng(1).normal(0, spread, (4, k_len))
    expected = [autograd_norm(row) for row in rows]
    np.testing.assert_allclose(softmax_stats(rows).jacobian_norm, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("gap", [20.0, 40.0, 200.0])
def test_a_nearly_frozen_row_keeps_its_digits(gap):
    # Two keys: J = p(1−p)·[[1, −1], [−1, 1]], so ‖J‖ = 2p(1−p); 1 − p from the exponential itself.
    small = np.exp(-gap) / (1 + np.exp(-gap))
    found = softmax_stats(np.array([gap, 0.0]))
    np.testing.assert_allclose(found.jacobian_norm, 2 * small * (1 / (1 + np.exp(-gap))), rtol=1e-12)
    assert found.jacobian_norm > 0


def test_the_ends_of_the_scale():
    n = 37
    entropy, largest, norm = softmax_stats(np.zeros((3, n)))
    np.testing.assert_allclose(entropy, np.log(n), rtol=1e-12)
    np.testing.assert_allclose(largest, 1 / n, rtol=1e-12)
    # Uniform: J = (I − 11ᵀ/n)/n, a projection of rank n − 1 over n.
    np.testing.assert_allclose(norm, np.sqrt(n - 1) / n, rtol=1e-12)
    frozen = softmax_stats(np.array([1e4, 0.0, -1e4]))
    assert (frozen.entropy, frozen.max_probability, frozen.jacobian_norm) == (0, 1, 0)
    torn = softmax_stats(np.array([1e4, 1e4, 0.0]))
    np.testing.assert_allclose([torn.entropy, torn.max_probability, torn.jacobian_norm], [np.log(2), 0.5, 0.5])


def test_entropy_is_torchs():
    scores = np.random.default_rng(2).normal(0, 3, (5, 4, 50))
    expected = torch.distributions.Categorical(logits=torch.from_numpy(scores)).entropy().numpy()
    np.testing.assert_allclose(softmax_stats(scores).entropy, expected, atol=1e-12)
    np.testing.assert_allclose(softmax(scores), torch.from_numpy(scores).softmax(-1).numpy(), atol=1e-14)


def test_what_must_not_matter_does_not():
    scores = np.random.default_rng(3).normal(0, 2, (6, 20))
    shuffled = scores[:, np.random.default_rng(4).permutation(20)]
    masked = np.concatenate([scores, np.full((6, 3), -np.inf)], axis=1)
    for other in (scores + 1e3, shuffled, masked, scores.astype(np.float32)):
        for found, expected in zip(softmax_stats(other), softmax_stats(scores), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert scores.max() < 100, "the caller's scores stay as they are"


def test_a_row_without_keys_is_no_distribution():
    found = softmax_stats(np.array([[0.0, 1.0], [-np.inf, -np.inf]]))
    for values in found:
        assert np.isfinite(values[0]) and np.isnan(values[1])


@pytest.mark.parametrize("scores", [np.zeros((3, 0)), np.float64(1.0)])
def test_no_keys_at_all_is_refused(scores):
    with pytest.raises(errors.InvalidPrompt, match="at least one key"):
        softmax_stats(scores)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("d_head", "k_len"), [(4, 8), (4, 128), (64, 128), (1024, 128), (256, 512)])
def test_the_variance_of_q_dot_k_is_d_head(d_head, k_len, distribution):
    unscaled, scaled = simulate(d_head, k_len, distribution=distribution)
    assert unscaled.shape == scaled.shape == (2000, k_len)
    # 16,000 products at least; Laplace's kurtosis of 6 leaves the widest sampling error, some 4 % at d_head 4.
    assert unscaled.var() == pytest.approx(d_head, rel=0.12 if distribution == "laplace" and d_head == 4 else 0.06)
    assert abs(unscaled.mean()) < 0.1 * np.sqrt(d_head)
    np.testing.assert_allclose(scaled, unscaled / d_head**0.5, rtol=1e-12)


def test_the_seed_decides_and_nothing_else():
    first, second, other = simulate(16, 32, 50, 7), simulate(16, 32, 50, 7), simulate(16, 32, 50, 8)
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[0], other[0])
    assert simulate(3, 5, 1, 0)[0].shape == (1, 5) and simulate(1, 1, 3, 0)[1].shape == (3, 1)


@pytest.mark.parametrize("arguments", [(0, 8), (8, 0), (8, 8, 0)])
def test_sizes_below_one_are_refused(arguments):
    with pytest.raises(errors.InvalidPrompt, match="from 1"):
        simulate(*arguments)


@pytest.mark.parametrize("arguments", [(4.5, 4), ("a", 3), (4, 4, 2.5), (4, None), (4, 4, 2, -1), (4, 4, 2, "x"),
                                       (4, 4, 2, 1.5)])
def test_sizes_and_seeds_are_whole_numbers(arguments):
    with pytest.raises(errors.InvalidPrompt) as caught:
        simulate(*arguments)
    assert caught.value.code == "bad_amount"


@pytest.mark.parametrize("sizes", [(1024, 10**7, 10**6), (1, 10**5, 10**5), (10**6, 10**3, 1), (10**6, 1, 10**6)])
def test_what_would_fill_the_memory_is_refused_with_the_numbers(sizes):
    with pytest.raises(errors.InvalidPrompt) as caught:
        simulate(*sizes)
    assert caught.value.code == "large_simulation" and caught.value.numbers["count"] > caught.value.numbers["limit"]


def test_scores_further_apart_than_a_float_reaches_are_frozen():
    entropy, largest, norm = softmax_stats([1e308, -1e308, 0.0])  # a warning would be an error here
    assert (entropy, largest, norm) == (0.0, 1.0, 0.0)


def test_an_unknown_distribution_is_refused():
    with pytest.raises(errors.InvalidPrompt, match="laplace"):
        simulate(8, 8, distribution="cauchy")


@pytest.mark.parametrize("k_len", [32, 128, 512])
def test_scaled_scores_are_as_soft_at_every_d_head(k_len):
    medians = [np.median(softmax_stats(simulate(d, k_len)[1]).entropy) for d in (64, 256, 1024)]
    # ln n − ½ for Gaussian scores of variance 1; what few keys leave beyond it goes like 1/n.
    np.testing.assert_allclose(medians, np.log(k_len) - 0.5, atol=0.02 + 3 / k_len)


def test_unscaled_softmax_freezes_past_two_ln_n():
    n = 512
    freezing = freezing_d_head(n)
    assert freezing == pytest.approx(2 * np.log(512)) == pytest.approx(12.476649)
    assert expected_entropy(freezing, n) == 0 and expected_entropy(0.0, n) == pytest.approx(np.log(n))
    entropy, largest, norm = zip(*(
        [np.median(values) for values in softmax_stats(simulate(d, n)[0])] for d in (4, 12, 48, 192, 1024)
    ), strict=True)
    assert entropy[0] > 0.6 * np.log(n) and largest[0] < 0.1, "before: many keys share"
    assert entropy[2] < 0.2 * np.log(n) and largest[2] > 0.5, "after: one key takes most"
    assert all(np.diff(entropy) < 0) and all(np.diff(largest) > 0)
    assert norm[4] < 0.01 < 0.1 < norm[1], "frozen: no gradient passes"


def test_the_mean_jacobian_misleads_where_the_median_does_not():
    unscaled, scaled = (softmax_stats(scores).jacobian_norm for scores in simulate(128, 128))
    assert unscaled.mean() > scaled.mean()
    assert np.median(unscaled) < np.median(scaled)
