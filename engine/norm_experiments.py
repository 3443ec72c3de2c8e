"""Four changes to what surrounds a sentence, and how much its normalised activations feel of each.

Every experiment compares the same tokens before and after something else was
changed: LayerNorm and RMSNorm read those tokens alone, BatchNorm everything in
the batch. γ and β are left out: they scale all three alike. Values are real
activations (`engine.norm_activations`); it knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.normalization import batch_norm, batch_statistics, layer_norm, rms_norm


@dataclass(frozen=True)
class Change:
    """The largest change of any normalised value of the tokens compared, by method.

    Attributes:
        input: of the activations themselves; 0 where nothing about the tokens changed.
        layer, rms, batch: after each norm.
        layer_rows, batch_rows: (n_tokens,) float64, the largest change within each token's features.
    """

    input: float
    layer: float
    rms: float
    batch: float
    layer_rows: np.ndarray
    batch_rows: np.ndarray


def change_companions(sentence: np.ndarray, companions: Sequence[np.ndarray], others: Sequence[np.ndarray], *,
                      eps: float) -> Change:
    """The sentence among `companions`, and among `others`; padding does not count.

    Args:
        sentence: (n_tokens, d_model) activations.
        companions, others: of the rest of the batch, each (n_tokens of it, d_model).
    """
    def batch(rest: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([sentence, *rest])

    return _compare(sentence, sentence, batch(companions), batch(others), eps=eps)


def pad_more(values: np.ndarray, mask: np.ndarray, padding: int, *, eps: float) -> Change:
    """The first sentence of a batch cut to its longest sentence, and with `padding` tokens more.

    Args:
        values: (n_sentences, seq_len, d_model) activations, with at least so much padding to spare.
        mask: (n_sentences, seq_len) bool, False where padded.
        padding: tokens of padding added to every sentence; BatchNorm by itself counts them as tokens.
    """
    longest = int(mask.sum(1).max())
    sentence = values[0][mask[0]]
    plain, padded = (values[:, : longest + more].reshape(-1, values.shape[-1]) for more in (0, padding))
    return _compare(sentence, sentence, plain, padded, eps=eps)


def change_later(before: np.ndarray, after: np.ndarray, position: int, *, eps: float) -> Change:
    """The tokens before `position` of a sequence whose token there was changed; BatchNorm averages over all tokens.

    Args:
        before, after: (seq_len, d_model) activations of a causal stack.
    """
    return _compare(before[:position], after[:position], before, after, eps=eps)


def _compare(before: np.ndarray, after: np.ndarray, batch_before: np.ndarray, batch_after: np.ndarray, *,
             eps: float) -> Change:
    def largest(norm: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return np.abs(norm(before) - norm(after)).max(-1)

    layer, rms = largest(lambda x: layer_norm(x, eps=eps)), largest(lambda x: rms_norm(x, eps=eps))
    batch = np.abs(batch_norm(before, statistics=batch_statistics(batch_before), eps=eps)
                   - batch_norm(after, statistics=batch_statistics(batch_after), eps=eps)).max(-1)
    return Change(input=float(np.abs(before - after).max()), layer=float(layer.max()), rms=float(rms.max()),
                  batch=float(batch.max()), layer_rows=layer, batch_rows=batch)
