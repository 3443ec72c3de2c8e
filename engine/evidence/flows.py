"""Where information could flow: rollout through all layers, and what values add, beside what weights say.

Rollout (Abnar & Zuidema 2020) mixes each layer's mean pattern with the
identity, half and half, for the residual stream, and multiplies through the
layers. Value-weighted norms (Kobayashi et al. 2020) measure ‖Σ_j α_ij f(x_j)‖,
f the value after the head's slice of the output projection: a heavy weight on
a small value moves little. Both describe one run; neither shows use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from engine import attention
from engine.attention import Call
from engine.capture import Key


class Observed:
    """What one unedited run left behind, by stream.

    Attributes:
        patterns: stream → (n_layers, n_heads, q_len, k_len) float32.
        visible: stream → (n_layers, n_heads or 1, q_len, k_len) bool.
        norms: (n_layers, n_heads, len(rows), n_groups) float32, of the stream asked for.
        projected: every layer's output projection was found.
    """

    def __init__(self, *, stream: str, rows: Sequence[int], groups: Sequence[Sequence[int]], projections) -> None:
        self._stream, self._rows, self._groups = stream, list(rows), groups
        self._projections = projections
        self._patterns: dict[str, list[np.ndarray]] = {}
        self._visible: dict[str, list[np.ndarray]] = {}
        self._calls: list[tuple[Key, Call]] = []

    def add(self, key: Key, call: Call, output: Tensor) -> None:
        """Take in one call and its output (q_len, n_heads, d_value)."""
        self._patterns.setdefault(key[0], []).append(attention.pattern(call).cpu().numpy())
        self._visible.setdefault(key[0], []).append(attention.visible(call).cpu().numpy())
        self._projections.expect(key, output)
        if key[0] == self._stream:
            self._calls.append((key, call))

    def finish(self) -> None:
        """Compute what the attributes hold; call it once the run is over."""
        self.patterns = {stream: np.stack(layers) for stream, layers in self._patterns.items()}
        self.visible = {stream: np.stack(layers) for stream, layers in self._visible.items()}
        found = [self._projections.found.get(key) for key, _ in self._calls]
        self.projected = all(weight is not None for weight in found)
        self.norms = np.stack([
            norms(call, weight if self.projected else None, rows=self._rows, groups=self._groups)
            for (_, call), weight in zip(self._calls, found, strict=True)
        ])
        self._calls.clear()


def norms(call: Call, projection: Tensor | None, *, rows: Sequence[int], groups: Sequence[Sequence[int]]) -> np.ndarray:
    """‖Σ_{j in group} α_ij f(x_j)‖ for each head, row and group of keys (Kobayashi et al. 2020, eq. 5).

    Args:
        call: of one layer.
        projection: (d_model, n_heads · d_value) weight of the output projection; None measures the values themselves.
        rows: query positions.
        groups: key positions, a group a word.

    Returns:
        (n_heads, len(rows), len(groups)) float32.
    """
    weights = attention.pattern(call)[:, list(rows)]
    value = call.value.float().repeat_interleave(call.n_heads // call.value.shape[0], dim=0)
    member = torch.zeros(len(groups), call.k_len, device=value.device)
    for index, group in enumerate(groups):
        member[index, list(group)] = 1.0
    added = torch.einsum("hrk,gk,hkd->hrgd", weights, member, value)
    if projection is not None:
        by_head = projection.float().unflatten(1, (call.n_heads, -1))
        added = torch.einsum("hrgd,mhd->hrgm", added, by_head)
    return added.norm(dim=-1).cpu().numpy()


class Projections:
    """Finds each layer's output projection: the next Linear or Conv1D that reads the attention's output.

    Attributes:
        found: (stream, layer) → weight (d_model, n_heads · d_value).
    """

    def __init__(self) -> None:
        self.found: dict[Key, Tensor] = {}
        self._expected: tuple[Key, int] | None = None

    def expect(self, key: Key, output: Tensor) -> None:
        """The output of the call `key` is about to be projected."""
        self._expected = key, output.data_ptr()

    def hook(self, module: nn.Module, inputs: tuple) -> None:
        """A forward pre-hook."""
        if self._expected is None or not inputs or not isinstance(inputs[0], Tensor):
            return
        key, pointer = self._expected
        if inputs[0].data_ptr() == pointer:
            self.found[key] = module.weight.detach().T if isinstance(module, Conv1D) else module.weight.detach()
            self._expected = None


@contextmanager
def projections(model: nn.Module) -> Iterator[Projections]:
    """Watches the linear layers of `model` inside, for `Projections`."""
    watching = Projections()
    handles = [
        module.register_forward_pre_hook(watching.hook)
        for module in model.modules() if isinstance(module, nn.Linear | Conv1D)
    ]
    try:
        yield watching
    finally:
        for handle in handles:
            handle.remove()


def rollout(patterns: dict[str, np.ndarray], *, stream: str, rows: Sequence[int]) -> np.ndarray:
    """Attention rollout from `rows` of `stream` to every key position of the text.

    A layer's mean pattern over heads, its rows normalised, is mixed half and
    half with the identity and multiplied on. For `cross` the decoder's rows
    start as themselves, and in each layer take half of what its self-attention
    and then half of what its cross-attention brings, the latter already rolled
    out through the encoder.

    Args:
        patterns: stream → (n_layers, n_heads, q_len, k_len), all streams of the model.
        stream: "encoder", "decoder" (decoder-only) or "cross".
        rows: query positions of A; the result is their mean.

    Returns:
        (k_len,) float64, sums to at most 1 (in `cross` the rest stays in the output).
    """
    if stream != "cross":
        rolled = np.eye(patterns[stream].shape[-1])
        for layer in patterns[stream]:
            rolled = _half(layer) @ rolled
        return rolled[list(rows)].mean(0)
    source = np.eye(patterns["encoder"].shape[-1])
    for layer in patterns["encoder"]:
        source = _half(layer) @ source
    n_rows = patterns["decoder"].shape[-1]
    output, text = np.eye(n_rows), np.zeros((n_rows, len(source)))
    for own, cross in zip(patterns["decoder"], patterns["cross"], strict=True):
        mixed = _half(own)
        output, text = mixed @ output, mixed @ text
        output, text = output / 2, text / 2 + _mean(cross) @ source / 2
    return text[list(rows)].mean(0)


def uniform(visible: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The patterns of heads that look at every visible key alike; shapes as in `rollout`, with one head."""
    return {
        stream: _over_keys(layers.astype(np.float64)).mean(1, keepdims=True) for stream, layers in visible.items()
    }


def _over_keys(weights: np.ndarray) -> np.ndarray:
    total = weights.sum(-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def _mean(layer: np.ndarray) -> np.ndarray:
    """Mean pattern over heads, (q_len, k_len), rows sum to 1 (a learned sink's share is spread over the rest)."""
    return _over_keys(layer.mean(0, dtype=np.float64))


def _half(layer: np.ndarray) -> np.ndarray:
    return (_mean(layer) + np.eye(layer.shape[-1])) / 2


