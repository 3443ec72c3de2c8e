"""The arithmetic of one head, pure numpy: from queries, keys and values to what they mix; and RoPE's rotation.

It does not know where scores, cosines and sines come from.
"""

from __future__ import annotations

import numpy as np

from engine.walk_types import Rotation, Terms


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, terms: Terms) -> dict[str, np.ndarray]:
    """One head in float64: products, scaled, scores, weights (q_len, k_len), sink (q_len,), mixed (q_len, d_value).

    Args:
        q: (q_len, d_head).
        k: (k_len, d_head).
        v: (k_len, d_value).
        terms: of that many rows and columns.
    """
    q, k, v = (np.asarray(array, np.float64) for array in (q, k, v))
    products = q @ k.T
    scaled = products * terms.scaling
    if terms.softcap is not None:
        scaled = terms.softcap * np.tanh(scaled / terms.softcap)
    if terms.bias is not None:
        scaled = scaled + terms.bias
    scores = np.where(terms.visible, scaled if terms.additive is None else scaled + terms.additive, -np.inf)
    weights, sink = softmax(scores, sink=terms.sink)
    return {"products": products, "scaled": scaled, "scores": scores, "weights": weights, "sink": sink,
            "mixed": weights @ v}


def softmax(scores: np.ndarray, *, sink: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `scores` (q_len, k_len), −inf where masked, as weights; and the share (q_len,) of a learned sink.

    A row that sees no key is all zeros.
    """
    top = np.maximum(scores.max(axis=1, keepdims=True), -np.inf if sink is None else sink)
    top = np.where(np.isfinite(top), top, 0.0)
    grown = np.exp(scores - top)
    extra = np.zeros((len(scores), 1)) if sink is None else np.exp(sink - top)
    total = grown.sum(axis=1, keepdims=True) + extra
    total = np.where(total > 0, total, 1.0)
    return grown / total, (extra / total)[:, 0]


def rotate(vectors: np.ndarray, rotation: Rotation) -> np.ndarray:
    """RoPE of `vectors` (length, d_head); dimensions beyond the rotation's width stay (Su et al. 2021)."""
    cos, sin = (np.asarray(a, np.float64)[:len(vectors)] for a in (rotation.cos, rotation.sin))
    width = cos.shape[1]
    x = np.asarray(vectors, np.float64)
    turned, rest = x[:, :width], x[:, width:]
    other = np.empty_like(turned)
    if rotation.layout == "half":
        half = width // 2
        other[:, :half], other[:, half:] = -turned[:, half:], turned[:, :half]
    else:
        other[:, 0::2], other[:, 1::2] = -turned[:, 1::2], turned[:, 0::2]
    return np.concatenate([turned * cos + other * sin, rest], axis=1)
