"""Captures what attention computed with, through transformers' own extension point.

A function registered with `AttentionInterface` computes each attention output
with SDPA, as fast and as lean as without us, and hands the queries, keys,
values, mask and scaling of the call to the session that asked for them. Maps
are recomputed from those on demand: by head, by rows, never all at once.

What it does not know: models whose attention does not go through the
interface never call it (`engine.probe` finds them out and refuses them), and
an argument it has not been taught is an error, never ignored, because it may
change the map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from engine import errors

NAME = "attention_microscope"

#: Arguments that reach attention functions and do not change the map: `sliding_window` is already in
#: the mask that we ask for (and is checked against it); the others are bookkeeping of caches and outputs.
HARMLESS = frozenset({
    "sliding_window", "output_attentions", "output_hidden_states", "return_dict", "use_cache", "position_ids",
    "cache_position", "deterministic", "layer_idx", "target_dtype", "num_items_in_batch", "is_decoder", "head_mask",
    "layer_head_mask", "attention_type",
})

#: Bytes of scores that a tile of rows may take while maps are reduced.
TILE_BYTES = 8 * 2**20


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an attention function: all that its map follows from.

    Attributes:
        query: (n_heads, q_len, d_head), after positions where the model rotates.
        key: (n_kv_heads, k_len, d_head).
        value: (n_kv_heads, k_len, d_value).
        mask: None, or (1 or n_heads, q_len, k_len): bool (True = visible) or additive.
        causal: with no mask, whether key j is visible to query i only for j ≤ i.
        scaling: multiplier of q·k.
        softcap: scores pass through softcap·tanh(scores / softcap) before the mask (Gemma 2).
        sinks: (n_heads,) learned scores of a virtual key that takes mass and has no value (GPT-OSS).
        bias: None, or (1 or n_heads, q_len, k_len) added to the scaled scores (T5).
        query_scaling: what the module says it multiplied its queries by before the call (OPT, Whisper); else 1.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    causal: bool
    scaling: float
    softcap: float | None = None
    sinks: Tensor | None = None
    bias: Tensor | None = None
    query_scaling: float = 1.0

    @property
    def n_heads(self) -> int:
        return self.query.shape[0]

    @property
    def q_len(self) -> int:
        return self.query.shape[1]

    @property
    def k_len(self) -> int:
        return self.key.shape[1]

    @property
    def bytes(self) -> int:
        """Bytes that keeping this call holds, shared masks and biases not counted."""
        return sum(t.numel() * t.element_size() for t in (self.query, self.key, self.value))

    def kv_head(self, head: int) -> int:
        """The KV head that query head `head` reads: h // (n_heads // n_kv_heads)."""
        return head // (self.n_heads // self.key.shape[0])


def compact(call: Call) -> Call:
    """`call` without what its tensors hold besides themselves: a view of fused projections keeps all of them alive."""
    tensors = {"query": call.query, "key": call.key, "value": call.value}
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values()}
    if sum(storages.values()) <= call.bytes:
        return call
    return replace(call, **{
        name: t.clone() for name, t in tensors.items() if t.untyped_storage().nbytes() > t.numel() * t.element_size()
    })


def scores(call: Call, *, heads: slice = slice(None), rows: slice = slice(None)) -> Tensor:
    """Scaled and masked scores before softmax, (heads, rows, k_len) float32, masked = −inf."""
    query = call.query[heads, rows].float()
    key = call.key.float()
    groups = call.n_heads // key.shape[0]
    if groups > 1:
        key = key.repeat_interleave(groups, dim=0)
    result = query @ key[heads].mT
    result *= call.scaling
    if call.softcap is not None:
        result = call.softcap * torch.tanh(result / call.softcap)
    if call.bias is not None:
        result += _rows_of(call.bias, heads, rows).float()
    if call.mask is None:
        if call.causal:
            q_pos = torch.arange(call.q_len, device=result.device)[rows]
            k_pos = torch.arange(call.k_len, device=result.device)
            result.masked_fill_(k_pos > q_pos[:, None], -math.inf)
    elif call.mask.dtype == torch.bool:
        result.masked_fill_(~_rows_of(call.mask, heads, rows), -math.inf)
    else:
        mask = _rows_of(call.mask, heads, rows).float()
        # Additive masks say "hidden" with the dtype's minimum, which is finite.
        hidden = mask <= torch.finfo(call.mask.dtype).min / 2
        result = torch.where(hidden, -math.inf, result + mask)
    return result


def pattern(call: Call, *, heads: slice = slice(None), rows: slice = slice(None)) -> Tensor:
    """Attention weights, (heads, rows, k_len) float32.

    Rows sum to 1, less the share of a learned sink where the model has one. A
    row that sees no key is all zeros: it attends to nothing.
    """
    return softmax(call, scores(call, heads=heads, rows=rows), heads=heads)


def softmax(call: Call, of: Tensor, *, heads: slice = slice(None)) -> Tensor:
    """The pattern that scores `of` (heads, rows, k_len) of `call` give: its sinks take part, rows of −inf become 0."""
    if call.sinks is not None:
        sink = call.sinks.float()[heads, None, None].expand(-1, of.shape[1], 1)
        return torch.cat([of, sink], dim=-1).softmax(dim=-1)[..., :-1]
    weights = of.softmax(dim=-1)
    if call.mask is not None:
        # Only a row that sees nothing: any other NaN is the model's, and must show.
        empty = of.amax(-1, keepdim=True) == -math.inf
        # In place but under autograd, whose softmax needs its result back.
        weights = weights.masked_fill(empty, 0.0) if weights.requires_grad else weights.masked_fill_(empty, 0.0)
    return weights


def tiles(call: Call) -> Iterator[tuple[int, Tensor]]:
    """The pattern of all heads in row tiles: (first row, (n_heads, rows, k_len) float32)."""
    rows = max(1, TILE_BYTES // (4 * call.n_heads * call.k_len))
    for start in range(0, call.q_len, rows):
        yield start, pattern(call, rows=slice(start, min(start + rows, call.q_len)))


def visible(call: Call, *, rows: slice = slice(None)) -> Tensor:
    """Which keys a query may see at all, (1 or n_heads, rows, k_len) bool."""
    if call.mask is None:
        seen = torch.ones(call.q_len, call.k_len, dtype=torch.bool, device=call.query.device)
        return (seen.tril() if call.causal else seen)[None, rows]
    if call.mask.dtype == torch.bool:
        return call.mask[:, rows]
    return call.mask[:, rows] > torch.finfo(call.mask.dtype).min / 2


def mask_kind(call: Call) -> str:
    """What the mask does: "bidirectional", "causal", "windowed" (some other visibility) or "additive"."""
    if call.mask is None:
        return "causal" if call.causal else "bidirectional"
    if call.mask.dtype != torch.bool:
        return "additive"
    mask = call.mask[0]
    if bool(mask.all()):
        return "bidirectional"
    causal = torch.ones_like(mask).tril()
    return "causal" if mask.shape[0] == mask.shape[1] and torch.equal(mask, causal) else "windowed"


@contextmanager
def session(on_call: Callable[[Call, Tensor], None]) -> Iterator[None]:
    """Hands every attention call made inside, in this thread, to `on_call`.

    Args:
        on_call: receives the call and the output that the model went on with,
            (n_heads, q_len, d_value). It decides what is kept.
    """
    token = _session.set(on_call)
    try:
        yield
    finally:
        _session.reset(token)


class Editor(Protocol):
    """Changes a forward pass of one or more sequences, call by call."""

    def hidden(self, shape: tuple[int, int, int, int], device: torch.device) -> Tensor | None:
        """What the call about to run must not see, beyond its own mask.

        Args:
            shape: (batch, n_heads, q_len, k_len) of the call.
            device: where it runs.

        Returns:
            (batch, 1 or n_heads, q_len, k_len) bool, True = score −∞; or None: the call runs as if unedited.
        """

    def finish(self, call_of: Callable[[int], Call], output: Tensor) -> Tensor:
        """What the model goes on with.

        Args:
            call_of: makes the `Call` of one sequence of the batch, with what was hidden in its mask.
            output: (batch, q_len, n_heads, d_value). Not to be written to: return another one instead.
        """


@contextmanager
def editing(editor: Editor) -> Iterator[None]:
    """Passes every attention call made inside, in this thread, through `editor`.

    A query left with no key at all gets the output 0.
    """
    token = _editor.set(editor)
    try:
        yield
    finally:
        _editor.reset(token)


@contextmanager
def rescaling(multiplier: float) -> Iterator[None]:
    """Multiplies q·k of every attention call made inside, in this thread, by `multiplier`, besides its own scaling.

    A multiplier, not a scaling: some models scale their queries beforehand (OPT, Whisper) or never (T5). Position
    biases, masks and learned sinks stay as they are.
    """
    token = _multiplier.set(multiplier)
    try:
        yield
    finally:
        _multiplier.reset(token)


# Context variables, not globals: Streamlit's sessions are threads of one process.
_session: ContextVar[Callable[[Call, Tensor], None] | None] = ContextVar("attention session", default=None)
_editor: ContextVar[Editor | None] = ContextVar("attention editor", default=None)
_multiplier: ContextVar[float] = ContextVar("attention scaling multiplier", default=1.0)


def _rows_of(tensor: Tensor, heads: slice, rows: slice) -> Tensor:
    return tensor[:, rows] if tensor.shape[0] == 1 else tensor[heads, rows]


def _call(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *,
          scaling: float | None, is_causal: bool | None, extra: dict) -> Call:
    unknown = sorted(
        name for name, given in extra.items()
        if name not in HARMLESS | {"softcap", "s_aux", "sinks", "position_bias"} and given is not None
        and given is not False
    )
    if unknown:
        raise errors.ModelRefused(
            "attention whose every argument is known", got=f"the argument(s) {', '.join(unknown)}",
            next_step="This model's maps can't be trusted here; choose another model.",
            code="attention_argument", argument=", ".join(unknown), module=type(module).__name__,
        )
    window = extra.get("sliding_window")
    if window is not None and mask is None and query.shape[2] > 1 and key.shape[2] > window:
        raise errors.ModelRefused(
            f"a mask that carries the sliding window of {window} tokens", got="no mask",
            next_step="This model's maps can't be trusted here; choose another model.",
            code="window_without_mask", window=window, module=type(module).__name__,
        )
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    sinks = extra.get("s_aux") if extra.get("s_aux") is not None else extra.get("sinks")
    bias = extra.get("position_bias")
    return Call(
        # Not detached: under autograd, what `_exact` computes must reach the layers below.
        query=query[0], key=key[0], value=value[0],
        mask=None if mask is None else _whole(mask, query, key),
        causal=bool(causal) and query.shape[2] > 1,
        scaling=float(scaling) if scaling is not None else query.shape[-1] ** -0.5,
        softcap=extra.get("softcap"),
        sinks=None if sinks is None else sinks.detach().reshape(-1),
        bias=None if bias is None else _whole(bias, query, key),
        query_scaling=_query_scaling(module, scaling),
    )


def _whole(tensor: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """The first item of (batch, heads, q_len, k_len) with axes that some models leave at 1 expanded, as a view."""
    return tensor[0].detach().expand(-1, query.shape[2], key.shape[2])


def _query_scaling(module: nn.Module, scaling: float | None) -> float:
    """A module that has a scaling of its own and passes 1 has used it on its queries."""
    own = getattr(module, "scaling", None)
    # Inside `rescaling`, 1 arrives as the multiplier.
    return float(own) if scaling == _multiplier.get() and isinstance(own, float) else 1.0


def _exact(call: Call) -> Tensor:
    """The output by our own arithmetic, (n_heads, q_len, d_value), for what SDPA has no argument for."""
    value = call.value.repeat_interleave(call.n_heads // call.value.shape[0], dim=0)
    return torch.cat([weights.to(value.dtype) @ value for _, weights in tiles(call)], dim=1)


def _bias_and_mask(bias: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """The position bias with the mask folded in, as SDPA's additive mask, (batch, n_heads, q_len, k_len)."""
    if mask is None and causal:
        mask = torch.ones(bias.shape[-2:], dtype=torch.bool, device=bias.device).tril()
    if mask is None:
        folded = bias
    elif mask.dtype == torch.bool:
        folded = bias.masked_fill(~mask, torch.finfo(bias.dtype).min)
    else:
        folded = bias + mask
    # T5's heads lie innermost, a stride that CUDA's lean kernels do not take.
    return folded.contiguous()


def _hide(hidden: Tensor, mask: Tensor | None, *, causal: bool) -> tuple[Tensor, Tensor]:
    """The mask with `hidden` folded in, and which queries see nothing, (batch, 1 or n_heads, q_len) bool."""
    if mask is None and causal:
        mask = torch.ones(hidden.shape[-2:], dtype=torch.bool, device=hidden.device).tril()[None, None]
    if mask is None:
        mask = ~hidden
    elif mask.dtype == torch.bool:
        mask = mask & ~hidden
    else:
        mask = torch.where(hidden, torch.finfo(mask.dtype).min, mask)
        return mask, (mask <= torch.finfo(mask.dtype).min / 2).all(-1)
    return mask, ~mask.any(-1)


def _from(tensor: Tensor | None, item: int) -> Tensor | None:
    """`tensor` from the batch's `item` on; what is the same for all items has a batch of one."""
    return None if tensor is None else tensor[min(item, len(tensor) - 1):]


def _attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
               dropout: float = 0.0, scaling: float | None = None, is_causal: bool | None = None,
               **extra) -> tuple[Tensor, None]:
    """The registered attention function: (batch, heads, length, d) in, (batch, q_len, n_heads, d_value) out."""
    observer, editor = _session.get(), _editor.get()
    if (multiplier := _multiplier.get()) != 1.0:
        scaling = multiplier * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    alone = None
    if editor is not None:
        hidden = editor.hidden((*query.shape[:3], key.shape[2]), query.device)
        if hidden is not None:
            causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
            attention_mask, alone = _hide(hidden, attention_mask, causal=bool(causal) and query.shape[2] > 1)

    def call_of(item: int) -> Call:
        bias = extra.get("position_bias")
        return _call(
            module, query[item:], key[item:], value[item:], _from(attention_mask, item), scaling=scaling,
            is_causal=is_causal, extra={**extra, "position_bias": _from(bias, item)} if bias is not None else extra)

    ours = extra.get("softcap") is not None or extra.get("s_aux") is not None or extra.get("sinks") is not None
    call = call_of(0) if observer is not None or ours else None
    if ours:
        parts = [call] + [call_of(item) for item in range(1, query.shape[0])]
        output = torch.stack([_exact(part) for part in parts]).transpose(1, 2).contiguous()
    else:
        mask = attention_mask
        if (bias := extra.get("position_bias")) is not None:
            causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
            mask = _bias_and_mask(bias, mask, causal=bool(causal) and query.shape[2] > 1)
            is_causal = False
        output, _ = sdpa_attention_forward(
            module, query, key, value, mask, dropout=dropout, scaling=scaling, is_causal=is_causal,
        )
    if alone is not None:
        # Where an additive mask hides by its dtype's minimum, softmax over nothing would be uniform.
        output = output.masked_fill(alone.transpose(1, 2)[..., None], 0.0)
    if editor is not None:
        output = editor.finish(call_of, output)
    if observer is not None:
        if query.shape[0] != 1:
            raise ValueError(f"A session captures one sequence at a time; got a batch of {query.shape[0]}.")
        observer(call, output[0].transpose(0, 1))
    return output, None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
