"""How a softmax saturates: entropy, largest probability and Jacobian of scores, and scores as chance would make them.

For independent queries and keys of unit variance, q·k is a sum of d_head
products and has variance d_head (Vaswani et al. 2017, §3.2.1, footnote 4), so
unscaled scores spread like √d_head. A softmax over k_len scores of variance σ²
is Derrida's random energy model (Phys. Rev. B 24, 1981): its entropy is about
ln k_len − σ²/2 until σ² = 2 ln k_len, where it freezes onto a few keys.

The Jacobian's mean over rows says little: its tail is heavy, and a few rows
that are torn between two keys outweigh the rest. Take the median.

Numpy in, numpy out. It knows no model; `engine.scaling` asks one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine import errors
from engine.checks import amount, choice

Distribution = Literal["normal", "uniform", "sign", "laplace"]
#: What entries of queries and keys are drawn from; all have mean 0 and variance 1.
DISTRIBUTIONS: tuple[Distribution, ...] = ("normal", "uniform", "sign", "laplace")

#: Entries of keys drawn at most: within it every row gets keys of its own, beyond it a block of rows shares them.
KEY_DRAWS = 2**17
#: Blocks with keys of their own at least: from fewer keys, short of dimensions, the variance would be a guess.
LEAST_BLOCKS = 4
#: Scores, or entries of queries or keys, made at once at most: 2 GiB of scores, with and without the division.
MOST_NUMBERS = 2**27


@dataclass(frozen=True)
class SoftmaxStats:
    """What softmax makes of scores; each array has the scores' shape without its last axis, float64. Unpacks in order.

    Attributes:
        entropy: Shannon entropy −Σ p ln p, nats: 0 (one key takes all) … ln of the visible keys (uniform).
        max_probability: largest p.
        jacobian_norm: Frobenius norm of ∂p/∂scores = diag(p) − ppᵀ; 0 where p is frozen, ½√2 at most.
    """

    entropy: np.ndarray
    max_probability: np.ndarray
    jacobian_norm: np.ndarray

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.entropy, self.max_probability, self.jacobian_norm))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float64; −inf is a masked key; a row of nothing else gives NaN.

    Args:
        scores: (…, k_len) float.
    """
    shifted = np.array(scores, dtype=np.float64)
    largest = shifted.max(-1, keepdims=True)
    # −inf − −inf, in a row that sees no key; and what lies further below the largest than a float reaches is 0.
    with np.errstate(invalid="ignore", over="ignore"):
        shifted -= largest
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(-1, keepdims=True)
    return shifted


def softmax_stats(scores: np.ndarray) -> SoftmaxStats:
    """Entropy, largest probability and Jacobian norm of softmax over the last axis.

    ‖diag(p) − ppᵀ‖² = Σ pᵢ²(1 − pᵢ)² + Σ_{i≠j} pᵢ²pⱼ². What the largest p leaves
    is summed up rather than subtracted from 1, so that a nearly frozen row
    keeps its digits.

    Args:
        scores: (…, k_len) float; −inf where masked. A row that sees no key gives NaN.

    Raises:
        InvalidPrompt: no keys at all.
    """
    scores = np.asarray(scores)
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise errors.InvalidPrompt(
            "scores with at least one key on the last axis", got=f"shape {scores.shape}",
            next_step="Give an array (…, k_len).", code="no_scores", shape=str(scores.shape),
        )
    p = softmax(scores)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p == 0, 0.0, p * np.log(p)).sum(-1)
    at = p.argmax(-1)[..., None]
    top = np.take_along_axis(p, at, -1)
    np.put_along_axis(p, at, 0.0, -1)  # from here on: the other keys
    rest = p.sum(-1, keepdims=True)
    squares = p * p
    rest_squares = squares.sum(-1, keepdims=True)
    others = (squares * ((1 - p) ** 2 + top**2 + rest_squares - squares)).sum(-1)
    norm = np.sqrt(others + (top**2 * (rest**2 + rest_squares))[..., 0])
    return SoftmaxStats(np.maximum(entropy, 0.0), top[..., 0], norm)


def simulate(d_head: int, k_len: int, n_rows: int = 2000, seed: int = 0, *,
             distribution: Distribution = "normal") -> tuple[np.ndarray, np.ndarray]:
    """Scores of queries and keys drawn at random, without and with the division by √d_head.

    Args:
        d_head: entries of a query.
        k_len: keys a query sees.
        n_rows: queries.
        seed: the same seed gives the same scores.
        distribution: of the entries; mean 0, variance 1.

    Returns:
        (unscaled, scaled), each (n_rows, k_len) float64. Unscaled scores have variance d_head, scaled ones 1.

    Raises:
        InvalidPrompt: a size below 1 or a seed below 0 (code "bad_amount"), an unknown distribution (code
            "bad_choice"), or more than MOST_NUMBERS at once (code "large_simulation").
    """
    d_head, k_len, n_rows = (amount(size, what=what, least=1) for what, size in (
        ("d_head", d_head), ("k_len", k_len), ("n_rows", n_rows)))
    choice(distribution, what="distribution", choices=DISTRIBUTIONS)
    generator = np.random.default_rng(amount(seed, what="seed"))
    n_blocks = min(n_rows, max(LEAST_BLOCKS, KEY_DRAWS // (k_len * d_head)))
    rows = -(-n_rows // n_blocks)
    count = n_blocks * max(rows * k_len, k_len * d_head, rows * d_head)
    if count > MOST_NUMBERS:
        raise errors.InvalidPrompt(
            f"at most {MOST_NUMBERS:,} scores, and as many entries of queries and of keys", got=f"{count:,}",
            next_step="Choose smaller numbers.", code="large_simulation", limit=MOST_NUMBERS, count=count,
        )
    query = _draw(generator, (n_blocks, rows, d_head), distribution)
    key = _draw(generator, (n_blocks, k_len, d_head), distribution)
    unscaled = (query @ key.transpose(0, 2, 1)).reshape(-1, k_len)[:n_rows].astype(np.float64)
    return unscaled, unscaled / np.sqrt(d_head)


def freezing_d_head(k_len: int) -> float:
    """The d_head at which unscaled softmax over k_len keys freezes: 2 ln k_len, where the variance meets it."""
    return 2.0 * float(np.log(k_len))


def expected_entropy(variance: float | np.ndarray, k_len: int) -> np.ndarray:
    """Entropy (nats) of softmax over many Gaussian scores: ln k_len − variance/2, and 0 from the freezing point on.

    Derrida 1981; exact as k_len → ∞, and a lower line for few keys.
    """
    return np.maximum(np.log(k_len) - np.asarray(variance, dtype=np.float64) / 2, 0.0)


def _draw(generator: np.random.Generator, shape: tuple[int, ...], distribution: Distribution) -> np.ndarray:
    # float32: half the time, and the rounding is far below the sampling error.
    if distribution == "normal":
        return generator.standard_normal(shape, dtype=np.float32)
    if distribution == "uniform":
        return np.float32(np.sqrt(12)) * (generator.random(shape, dtype=np.float32) - np.float32(0.5))
    signs = np.float32(2) * generator.integers(0, 2, shape, dtype=np.int8) - np.float32(1)
    if distribution == "sign":
        return signs
    return signs * generator.standard_exponential(shape, dtype=np.float32) / np.float32(np.sqrt(2))


@dataclass(frozen=True)
class HeadSaturation:
    """How far each head of one stream is saturated, at several multipliers of its own scaling.

    Attributes:
        stream: "encoder", "decoder" or "cross".
        multipliers: (n_multipliers,) float64; 1 is the model's own scaling, the last is `divisor`.
        divisor: what the model divides q·k by (√d_head in most models, 1 in T5): with this multiplier it does not.
        entropy: (n_multipliers, n_layers, n_heads), mean over rows of the row's entropy, nats.
        max_probability: likewise, mean over rows of the largest weight.
        jacobian_norm: likewise, median of ‖diag(p) − ppᵀ‖_F over the rows that see two keys or more.
        product_variance: (n_layers, n_heads), variance of q·k over the cells in sight, without any scaling.
        uniform_entropy: mean over rows of ln(keys in sight), nats: the most that `entropy` can be.
        d_head: entries of a query.
        rows, q_len: rows that were measured, out of how many.
    """

    stream: str
    multipliers: np.ndarray
    divisor: float
    entropy: np.ndarray
    max_probability: np.ndarray
    jacobian_norm: np.ndarray
    product_variance: np.ndarray
    uniform_entropy: float
    d_head: int
    rows: int
    q_len: int


@dataclass(frozen=True)
class RescaledOutput:
    """What a model writes with its scaling multiplied, and what it then gives its own output.

    Attributes:
        multiplier: of the scaling, in every layer of every stream.
        output: what it writes now; for an encoder, the text with its masks filled.
        complete: whether it ended by itself.
        tokens: of the original output.
        logprobs: (n_tokens,) float64, natural log-probability of each of `tokens` after those before it.
    """

    multiplier: float
    output: str
    complete: bool
    tokens: tuple[str, ...]
    logprobs: np.ndarray

    @property
    def logprob(self) -> float:
        """Natural log-probability of the original output."""
        return float(self.logprobs.sum())


@dataclass(frozen=True)
class HeadGradients:
    """What comes through each attention layer backwards, at several multipliers of its scaling.

    The same gradient arrives from above at every multiplier: that of −ln p of the
    model's output, in the model as it is.

    Attributes:
        stream, multipliers: as in `HeadSaturation`.
        at_scores: (n_multipliers, n_layers, n_heads), ‖∂L/∂scores‖_F of a head.
        at_queries: likewise ‖∂L/∂q‖_F, where the scaling itself is a factor once more.
    """

    stream: str
    multipliers: np.ndarray
    at_scores: np.ndarray
    at_queries: np.ndarray
