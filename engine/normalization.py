"""Three ways to normalise the same activations, and what else the batch does to each of them.

LayerNorm (Ba, Kiros & Hinton 2016) takes mean and variance over the features
of one token; RMSNorm (Zhang & Sennrich 2019) its mean square alone; BatchNorm
(Ioffe & Szegedy 2015) mean and variance of one feature over every token of the
batch, padding included where nobody says otherwise. Reference forms, as the
papers write them.

Numpy in, numpy out, float64 inside. It knows no model: `engine.norm_activations`
asks one; `gradient_norms` and `train_comparison`, which build small ones, are
handed through from their own modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.checks import array
from engine.norm_depth import gradient_norms
from engine.norm_training import train_comparison

__all__ = [
    "EPS", "MOMENTUM", "BatchNoise", "BatchStatistics", "batch_noise", "batch_norm", "batch_statistics",
    "gradient_norms", "layer_norm", "rms_norm", "running_statistics", "train_comparison",
]

#: Added to the variance, as in the papers' reference code.
EPS = 1e-5
#: Share of the newest batch in BatchNorm's running statistics, torch's default.
MOMENTUM = 0.1


def layer_norm(x: np.ndarray, gamma: np.ndarray | None = None, beta: np.ndarray | None = None, *,
               eps: float = EPS) -> np.ndarray:
    """γ·(x − mean)/√(variance + eps) + β, mean and variance over the last axis; the shape of x, float64.

    Args:
        x: (…, d_model) float.
        gamma, beta: (d_model,) float; None leaves them out.
        eps: added to the variance (the biased one).

    Raises:
        InvalidPrompt: an x without features or tokens, a gamma or a beta of another width (code "bad_array").
    """
    x = array(x, what="x", shape=(..., None))
    centred = x - x.mean(-1, keepdims=True)
    return _affine(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps), gamma, beta)


def rms_norm(x: np.ndarray, gamma: np.ndarray | None = None, *, eps: float = EPS) -> np.ndarray:
    """γ·x/√(mean of x² + eps) over the last axis; the mean stays. The shape of x, float64.

    Args:
        x: (…, d_model) float.
        gamma: (d_model,) float; None leaves it out.

    Raises:
        InvalidPrompt: as `layer_norm`.
    """
    x = array(x, what="x", shape=(..., None))
    return _affine(x / np.sqrt((x**2).mean(-1, keepdims=True) + eps), gamma, None)


@dataclass(frozen=True)
class BatchStatistics:
    """What BatchNorm knows of each feature.

    Attributes:
        mean: (d_model,) float64.
        variance: (d_model,) float64; the biased one of a batch, the unbiased one of running statistics.
        count: values that each was taken over.
    """

    mean: np.ndarray
    variance: np.ndarray
    count: int


def batch_statistics(x: np.ndarray, *, mask: np.ndarray | None = None) -> BatchStatistics:
    """Mean and biased variance of each feature over every other axis.

    Args:
        x: (…, d_model) float.
        mask: (…) bool, True where a token counts; None counts all, padding included, as BatchNorm does by itself.

    Raises:
        InvalidPrompt: an x without features or tokens, or a mask of another shape (code "bad_array").
    """
    x = array(x, what="x", shape=(..., None))
    rows = x.reshape(-1, x.shape[-1]) if mask is None else x[array(mask, what="mask", shape=x.shape[:-1]) > 0]
    return BatchStatistics(rows.mean(0), rows.var(0), len(rows))


def batch_norm(x: np.ndarray, gamma: np.ndarray | None = None, beta: np.ndarray | None = None, *,
               statistics: BatchStatistics | None = None, eps: float = EPS) -> np.ndarray:
    """γ·(x − mean)/√(variance + eps) + β, mean and variance of each feature; the shape of x, float64.

    Args:
        x: (…, d_model) float.
        gamma, beta: (d_model,) float; None leaves them out.
        statistics: of another batch, or running ones (eval mode); None takes those of x itself (train mode).

    Raises:
        InvalidPrompt: as `layer_norm`.
    """
    x = array(x, what="x", shape=(..., None))
    known = batch_statistics(x) if statistics is None else statistics
    return _affine((x - known.mean) / np.sqrt(known.variance + eps), gamma, beta)


def running_statistics(batches: Iterable[BatchStatistics], *, momentum: float = MOMENTUM) -> BatchStatistics:
    """What BatchNorm has gathered for eval mode after `batches`: moving averages that start at mean 0, variance 1.

    The variance enters unbiased, as in torch.nn.BatchNorm1d. A batch of one value has none: it enters as 0.
    """
    mean, variance, count = np.zeros(1), np.ones(1), 0
    for batch in batches:
        unbiased = batch.variance * (batch.count / max(batch.count - 1, 1))
        mean = (1 - momentum) * mean + momentum * batch.mean
        variance = (1 - momentum) * variance + momentum * unbiased
        count += batch.count
    return BatchStatistics(mean, variance, count)


@dataclass(frozen=True)
class BatchNoise:
    """How much BatchNorm depends on who else is in the batch, by the batch's size. Arrays (n_sizes,) float64.

    Attributes:
        sizes: sentences in a batch, int64.
        noise: standard deviation of the batch's mean over batches drawn at random, in standard deviations of the
            feature, root mean square over features.
        gap: root mean square difference of the sentence's outputs between train mode (statistics of a batch of this
            size that holds it) and eval mode (running statistics).
        gap_layer: the same for LayerNorm, which has no modes: 0.
    """

    sizes: np.ndarray
    noise: np.ndarray
    gap: np.ndarray
    gap_layer: np.ndarray


def batch_noise(sentence: np.ndarray, companions: Sequence[np.ndarray], *, sizes: Sequence[int], n_draws: int = 64,
                seed: int = 0, eps: float = EPS) -> BatchNoise:
    """Draw batches of every size from `companions`, with replacement, and measure the spread.

    The running statistics are those after `n_draws` batches of the largest size.

    Args:
        sentence: (n_tokens, d_model) activations of the sentence that is watched.
        companions: of other sentences, each (n_tokens of it, d_model).
        sizes: sentences in a batch.
    """
    generator = np.random.default_rng(seed)
    counts = np.array([len(rows) for rows in companions])
    # Sums of a batch are sums of its sentences' sums: no draw touches the tokens again.
    sums = np.stack([np.asarray(rows, dtype=np.float64).sum(0) for rows in companions])
    squares = np.stack([(np.asarray(rows, dtype=np.float64) ** 2).sum(0) for rows in companions])
    spread = np.sqrt(_pooled(sums, squares, counts).variance + eps)

    def draw(size: int) -> np.ndarray:
        return generator.integers(len(companions), size=size)

    running = running_statistics(
        _pooled(sums[at], squares[at], counts[at]) for at in (draw(max(sizes)) for _ in range(n_draws)))
    own = np.asarray(sentence, dtype=np.float64)
    evaluated = batch_norm(own, statistics=running, eps=eps)
    noise, gap = [], []
    for size in sizes:
        means, differences = [], []
        for _ in range(n_draws):
            at = draw(size)
            means.append(_pooled(sums[at], squares[at], counts[at]).mean)
            at = at[1:]  # the sentence itself is one of the batch
            batch = _pooled(np.vstack([sums[at], own.sum(0)]), np.vstack([squares[at], (own**2).sum(0)]),
                            np.append(counts[at], len(own)))
            differences.append(((batch_norm(own, statistics=batch, eps=eps) - evaluated) ** 2).mean())
        noise.append(np.sqrt(((np.std(means, axis=0) / spread) ** 2).mean()))
        gap.append(np.sqrt(np.mean(differences)))
    return BatchNoise(np.array(sizes), np.array(noise), np.array(gap), np.zeros(len(sizes)))


def _pooled(sums: np.ndarray, squares: np.ndarray, counts: np.ndarray) -> BatchStatistics:
    """Statistics of sentences given by their sums (n, d_model), sums of squares and numbers of tokens (n,)."""
    total = int(counts.sum())
    mean = sums.sum(0) / total
    return BatchStatistics(mean, np.maximum(squares.sum(0) / total - mean**2, 0.0), total)


def _affine(x: np.ndarray, gamma: np.ndarray | None, beta: np.ndarray | None) -> np.ndarray:
    width = x.shape[-1:]
    if gamma is not None:
        x = x * array(gamma, what="gamma", shape=width)
    return x if beta is None else x + array(beta, what="beta", shape=width)
