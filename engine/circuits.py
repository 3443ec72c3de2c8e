"""What queries, keys and values do and where they fall short, computed from one walk: pure numpy.

Rank of W_Qᵀ W_K, roles swapped, one of the three silenced, the mask lifted,
costs; and how far apart heads' patterns are. It runs no model: `engine.knockouts`
does, to see what a change does to the output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from engine.walk_steps import attend, rotate
from engine.walk_types import Projection, Walk

Silenced = Literal["query", "key", "value"]
SILENCED: tuple[Silenced, ...] = ("query", "key", "value")
Role = Literal["query·key", "key·key", "input·input"]
ROLES: tuple[Role, ...] = ("query·key", "key·key", "input·input")

#: Singular values below this share of the largest are float32 noise.
NOISE = 1e-5


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values of one head's W_Qᵀ W_K, a (d_in, d_in) matrix.

    Attributes:
        values: (min(d_head, d_in),) float64, falling; the matrix has no others but zeros.
        rank: how many are above noise.
        effective: exp of the entropy of their squares' shares: how many directions carry it.
        width: d_in, the rank that a matrix of that size could have.
    """

    values: np.ndarray
    rank: int
    effective: float
    width: int


@dataclass(frozen=True, eq=False)
class Swapped:
    """A head's scores with other roles.

    Attributes:
        role: what is multiplied with what.
        scores: (n, n) float64, scaled, without mask.
        weights: (n, n) float64, after the model's mask and softmax.
        asymmetry: share of the scores that is antisymmetric, ‖(S − Sᵀ)/2‖ / ‖S‖; 0 for a symmetric matrix.
    """

    role: Role
    scores: np.ndarray
    weights: np.ndarray
    asymmetry: float


@dataclass(frozen=True)
class Cost:
    """Multiplications and memory of one self-attention layer at `n` tokens.

    Attributes:
        cells: numbers in all heads' score matrices, n_heads · n².
        scores: multiplications for QKᵀ and for weights·V, 2 · n² · n_heads · d_head (if d_value is as wide).
        projections: multiplications of the four projections of n tokens.
        bytes: of the score matrices in float32, if they are kept whole.
    """

    n: int
    cells: int
    scores: int
    projections: int
    bytes: int


def spectrum(query: Projection, key: Projection) -> Spectrum:
    """Singular values of W_Qᵀ W_K, through two thin QRs; rank ≤ d_head, whatever the training."""
    q_right = np.linalg.qr(query.weight.astype(np.float64).T, mode="r")
    k_right = np.linalg.qr(key.weight.astype(np.float64).T, mode="r")
    values = np.linalg.svd(q_right @ k_right.T, compute_uv=False)
    shares = values**2 / max(float((values**2).sum()), np.finfo(float).tiny)
    positive = shares[shares > 0]
    return Spectrum(values=values, rank=int((values > NOISE * values[0]).sum()), width=query.weight.shape[1],
                    effective=float(np.exp(-(positive * np.log(positive)).sum())))


def asymmetry(scores: np.ndarray) -> float:
    """‖(S − Sᵀ)/2‖ / ‖S‖ of a square matrix, in [0, 1]; 0 for S = 0."""
    size = float(np.linalg.norm(scores))
    return float(np.linalg.norm(scores - scores.T)) / (2 * size) if size else 0.0


def swap_roles(walk: Walk) -> tuple[Swapped, ...]:
    """The head as it is, with its keys for queries, and with its input for both, without projections.

    Rotated models rotate the keys alike, so K·Kᵀ stays symmetric. X·Xᵀ is scaled by 1/√d_in.

    Raises:
        ValueError: rows and columns are different tokens (cross-attention).
    """
    if not walk.self_attention:
        raise ValueError("Expected self-attention, whose rows and columns are the same tokens; got cross-attention.")
    keys, plain = walk.key.after, np.asarray(walk.input, np.float64)
    pairs = ((walk.query.after, keys, walk.terms.scaling),
             (keys / walk.key.multiplier, keys, walk.terms.scaling * walk.query.multiplier),
             (plain, plain, plain.shape[1] ** -0.5))
    found = []
    for role, (left, right, scaling) in zip(ROLES, pairs, strict=True):
        terms = walk.terms if role == "query·key" else replace(walk.terms, scaling=scaling, bias=None, sink=None)
        made = attend(left, right, walk.value.after, terms)
        scores = made["products"] * scaling
        found.append(Swapped(role, scores, made["weights"], asymmetry(scores)))
    return tuple(found)


def silence(walk: Walk, part: Silenced) -> tuple[np.ndarray, np.ndarray]:
    """The head with one of the three replaced by its mean over the words: as large, but the same for every word.

    The mean is taken before RoPE, so positions still count where the model has them there.

    Returns:
        weights (q_len, k_len) and mixed (q_len, d_value), float64.
    """
    vectors = {name: getattr(walk, name).after for name in SILENCED}
    own: Projection = getattr(walk, part)
    same = np.broadcast_to(own.before.mean(axis=0, dtype=np.float64) * own.multiplier, own.before.shape)
    vectors[part] = rotate(same, walk.rotation) if own.rotated else same
    made = attend(vectors["query"], vectors["key"], vectors["value"], walk.terms)
    return made["weights"], made["mixed"]


def lift_mask(walk: Walk) -> tuple[np.ndarray, float]:
    """The pattern (q_len, k_len) without the mask, and the share of its weight that falls on keys it hid."""
    terms = replace(walk.terms, visible=np.ones_like(walk.terms.visible), additive=None)
    weights = attend(walk.query.after, walk.key.after, walk.value.after, terms)["weights"]
    return weights, float(np.where(walk.terms.visible, 0.0, weights).sum() / max(weights.sum(), 1e-300))


def cost(n: int, *, d_model: int, n_heads: int, n_kv_heads: int, d_head: int) -> Cost:
    """What a self-attention layer costs at `n` tokens."""
    projections = n * d_model * d_head * (2 * n_heads + 2 * n_kv_heads)
    return Cost(n=n, cells=n_heads * n * n, scores=2 * n * n * n_heads * d_head, projections=projections,
                bytes=4 * n_heads * n * n)


def head_distances(patterns: np.ndarray) -> np.ndarray:
    """How far apart heads' patterns are, (m, m) float64 in [0, 1].

    Mean over rows of the Jensen–Shannon distance, the root of the divergence in bits (Lin 1991; Endres & Schindelin
    2003): a metric between rows, 1 where two heads look at no key in common.

    Args:
        patterns: (m, q_len, k_len), rows that sum to 1 (or to 0).
    """
    p = np.asarray(patterns, np.float64)
    own = _entropy(p)
    distances = np.zeros((len(p), len(p)))
    for at, one in enumerate(p):
        divergence = _entropy((one + p) / 2) - (own[at] + own) / 2
        distances[at] = np.sqrt(np.clip(divergence, 0.0, 1.0)).mean(axis=1)
    return (distances + distances.T) / 2


def flatten(distances: np.ndarray) -> tuple[np.ndarray, float]:
    """Points (m, 2) whose distances are as near to `distances` as a plane allows, and the share that it holds.

    Classical scaling (Torgerson 1952): eigenvectors of the doubly centred squares; the share is that of the two
    largest eigenvalues in the sum of the positive ones. The largest coordinate of each axis is positive.
    """
    m = len(distances)
    centre = np.eye(m) - 1 / m
    values, vectors = np.linalg.eigh(-0.5 * centre @ distances**2 @ centre)
    values, vectors = np.clip(values[::-1], 0.0, None), vectors[:, ::-1]
    points = np.zeros((m, 2))
    kept = min(2, m)
    points[:, :kept] = vectors[:, :kept] * np.sqrt(values[:kept])
    signs = np.sign(points[np.abs(points).argmax(axis=0), np.arange(2)])
    return points * np.where(signs == 0, 1, signs), float(values[:2].sum() / max(values.sum(), 1e-300))


def _entropy(rows: np.ndarray) -> np.ndarray:
    """Shannon entropy of the last axis, bits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.where(rows > 0, rows * np.log2(rows), 0.0).sum(axis=-1)
