"""Predicts the bytes of a run before it starts, refuses what would not fit, and clears up where it did not after all.

The prediction is an upper estimate from the configuration: activations of the
widest layer, masks, position biases, logits, the KV cache while writing, and
what the trace keeps. It does not know a model's own scratch space; the
headroom in `limits` covers that.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from engine import errors, memory
from engine.attention import TILE_BYTES
from engine.limits import Limits

#: Copies of the hidden state and of the widest layer's activation that are alive at once.
HIDDEN_COPIES, WIDE_COPIES = 8, 3
#: How torch, CUDA and cuBLAS say in a plain RuntimeError that there is no memory left.
_EXHAUSTED = ("allocate memory", "out of memory", "ALLOC_FAILED")
_HEAD_WIDTHS = ("head_dim", "d_kv", "qk_head_dim", "v_head_dim")

T = TypeVar("T")


def first_of(config, *names: str) -> int:
    """The first of the configuration's `names` that is a positive integer, else 0."""
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


#: Model types that count positions from pad_token_id + 1, so that their table ends that much earlier.
_POSITIONS_AFTER_PAD = frozenset({
    "camembert", "data2vec-text", "esm", "ibert", "luke", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
    "xlm-roberta-xl", "xmod",
})


def n_ctx(config) -> int:
    """The longest sequence the model was made for, in tokens; 0 where positions are relative and unbounded."""
    model_type = getattr(config, "model_type", "")
    if model_type == "t5":  # n_positions is T5's training length, not a bound
        return 0
    places = first_of(config, "max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")
    return places - (config.pad_token_id or 0) - 1 if model_type in _POSITIONS_AFTER_PAD else places


def kept_bytes(config, *, lengths: dict[str, int], shape: dict[str, tuple[int, int]], element_bytes: int) -> int:
    """Bytes of queries, keys, values, masks and position biases if every layer of every stream is kept.

    Args:
        config: transformers' configuration.
        lengths: sequence length of each side, "encoder" and "decoder".
        shape: stream → (n_layers, n_heads).
        element_bytes: of the model's dtype.
    """
    d_model = first_of(config, "hidden_size", "d_model", "n_embd")
    total = 0
    for stream, (n_layers, n_heads) in shape.items():
        # The widest of them: where keys and values differ (MLA), head_dim may be the rotated part alone.
        d_head = max(first_of(config, name) for name in _HEAD_WIDTHS) or d_model // n_heads
        q_len = lengths["encoder" if stream == "encoder" else "decoder"]
        k_len = lengths["decoder" if stream == "decoder" else "encoder"]
        total += n_layers * n_heads * d_head * (q_len + 2 * k_len) * element_bytes
        # A mask of each kind, full and windowed, and one bias are shared by a stream's layers.
        total += 2 * q_len * k_len
        if hasattr(config, "relative_attention_num_buckets"):
            total += n_heads * q_len * k_len * element_bytes
    return total


def run_bytes(config, *, lengths: dict[str, int], shape: dict[str, tuple[int, int]], element_bytes: int,
              logit_rows: int, beams: int, new_tokens: int, device: str) -> int:
    """Predicted peak bytes of writing and one captured forward pass, without the weights and what is kept.

    Args:
        config, lengths, shape, element_bytes: as in `kept_bytes`.
        logit_rows: positions whose logits are computed.
        beams: sequences written at once.
        new_tokens: tokens that may be written.
        device: where it runs.
    """
    d_model = first_of(config, "hidden_size", "d_model", "n_embd")
    d_mlp = first_of(config, "intermediate_size", "encoder_ffn_dim", "ffn_dim", "d_ff", "n_inner") or 4 * d_model
    longest = max(lengths.values())
    n_layers = sum(layers for layers, _ in shape.values())
    n_heads = max(heads for _, heads in shape.values())
    activations = longest * (HIDDEN_COPIES * d_model + WIDE_COPIES * d_mlp) * element_bytes
    masks = 2 * longest * longest
    bias = 3 * n_heads * longest * longest * element_bytes if hasattr(config, "relative_attention_num_buckets") else 0
    # On CUDA no lean kernel of SDPA takes grouped heads in float32: it writes scores and weights out.
    grouped = 0 < first_of(config, "num_key_value_heads") < n_heads
    written = 3 * n_heads * longest * longest * 4 if device.startswith("cuda") and grouped and element_bytes == 4 else 0
    logits = (logit_rows + beams) * first_of(config, "vocab_size") * (element_bytes + 4)
    cache = 2 * n_layers * d_model * (longest + new_tokens) * beams * element_bytes
    return activations + masks + bias + written + logits + cache + 4 * TILE_BYTES


def check(needed: int, *, device: str, limits: Limits) -> None:
    """Refuse a run that is predicted not to fit.

    Args:
        needed: predicted bytes.
        device: where it would run.

    Raises:
        OverBudget: more than the headroom's share of the free bytes.
    """
    free = memory.free_bytes(device)
    allowed = int(free * limits.memory_headroom)
    if needed > allowed:
        raise errors.OverBudget(
            f"a run that fits into {allowed / 2**20:,.0f} MiB ({limits.memory_headroom:.0%} of what {device} has free)",
            got=f"a predicted {needed / 2**20:,.0f} MiB",
            next_step="Shorten the text, choose a smaller model, or free memory.", code="over_budget",
            needed_bytes=needed, allowed_bytes=allowed, free_bytes=free, device=device,
        )


def exhausted(error: Exception) -> bool:
    """Whether `error` says that memory ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _EXHAUSTED))


def within_memory(job: Callable[[], T], *, device: str) -> T:
    """The result of `job`; where memory runs out, what it held is freed before the error leaves.

    Raises:
        OutOfMemory: on the device, or in main memory.
    """
    try:
        return job()
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not exhausted(error):
            raise
        failed = str(error).partition("\n")[0] or type(error).__name__
    # Outside the except block: the exception's frames held the tensors.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise errors.OutOfMemory(
        f"the run to fit on {device}", got=f"out of memory ({failed})",
        next_step="What it held is free again. Shorten the text or choose a smaller model.",
        code="out_of_memory", device=device,
    )
