"""What a model needs on a GPU at a given length, part by part, and how long it may get before it no longer fits.

Weights, KV cache, one layer's score matrix if it is materialised, and the
logits of the full prompt. The sum is a lower bound: activations, the
allocator's reserve and the driver come on top. Arithmetic only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engine.kv_shape import BLOCK_SIZE, MLA_LATENT, USUAL_WINDOW, CacheKind, KVShape, kind_layer_bytes

#: Parts of a need, in the order in which they are stacked.
PARTS = ("weights", "cache", "logits", "scores")
#: Groups of query heads that share a KV head in the "gqa" variant, tried in this order: most models take 8 or 4.
_GROUPS = (8, 4, 2)
_LONGEST = 10**9


@dataclass(frozen=True)
class Setting:
    """How a model is run.

    Attributes:
        batch, beams: sequences at once, and beams of each.
        dtype_bytes: of weights, cache and activations alike.
        kind, block_size, capacity: of the cache, as `kv_shape.kind_layer_bytes`.
    """

    batch: int = 1
    beams: int = 1
    dtype_bytes: int = 2
    kind: CacheKind = "dynamic"
    block_size: int = BLOCK_SIZE
    capacity: int = 0


@dataclass(frozen=True)
class Need:
    """Bytes, part by part."""

    weights: int
    cache: int
    logits: int
    scores: int

    def total(self, parts: tuple[str, ...] = PARTS) -> int:
        """The sum of `parts`."""
        return sum(getattr(self, part) for part in parts)


def need(shape: KVShape, n_tokens: int, setting: Setting) -> Need:
    """What `n_tokens` a sequence need: the prompt's length for scores and logits, everything for the cache.

    Scores: n_heads·n² numbers a sequence, for one layer at a time, and only
    where the implementation writes them out (eager attention does; SDPA,
    FlashAttention and paged attention do not). Logits: n·d_vocab numbers, where
    all positions' are computed.
    """
    sequences = setting.batch * setting.beams
    return Need(
        weights=shape.n_params * setting.dtype_bytes,
        # One sequence's, times the sequences in Python's integers, which do not overflow.
        cache=sequences * sum(cache_of(shape, n_tokens, replace(setting, batch=1, beams=1)).tolist()),
        logits=sequences * n_tokens * shape.d_vocab * setting.dtype_bytes,
        scores=sequences * shape.n_heads * n_tokens * n_tokens * setting.dtype_bytes,
    )


def cache_of(shape: KVShape, n_tokens: int, setting: Setting) -> np.ndarray:
    """Bytes of each layer's cache, (n_layers,) int64."""
    return kind_layer_bytes(shape, n_tokens, kind=setting.kind, dtype_bytes=setting.dtype_bytes,
                            batch=setting.batch * setting.beams, block_size=setting.block_size,
                            capacity=setting.capacity)


def tokens_kept(shape: KVShape, n_tokens: int, setting: Setting) -> np.ndarray:
    """Tokens for which each layer holds numbers, the source's included: (n_layers,) int64."""
    plain = replace(setting, batch=1, beams=1, dtype_bytes=1,
                    kind="static" if setting.kind in ("int8", "int4") else setting.kind,
                    capacity=setting.capacity if setting.kind == "static" else 0)
    return cache_of(shape, n_tokens, plain) // shape.numbers


def longest(shape: KVShape, setting: Setting, *, gpu_bytes: int, parts: tuple[str, ...] = PARTS) -> int | None:
    """The most tokens a sequence may have so that `parts` fit into `gpu_bytes`; −1 when none do, None without bound.

    Every part grows, or stays, with the length, so bisection finds the edge exactly.
    """
    def fits(n_tokens: int) -> bool:
        return need(shape, n_tokens, setting).total(parts) <= gpu_bytes

    if not fits(0):
        return -1
    if fits(_LONGEST):
        return None
    least, most = 0, _LONGEST
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fits(middle) else (least, middle)
    return least


def variants(shape: KVShape) -> dict[str, KVShape]:
    """The same model with its attention exchanged: "own", "mha", "gqa", "mqa", "mla" and "window".

    "gqa" is the model's own grouping where it has one, and left out where groups of 8, 4 or 2 heads leave one KV head,
    which is "mqa"; "mla" DeepSeek's latent; "window" the model's own heads with its own smallest window, else
    Mistral's, in every layer.
    """
    n_heads = shape.n_heads or shape.n_kv_heads
    bare = replace(shape, windows=(), latent=0, stored_kv_heads=0, paged_kv_heads=0)
    grouped = shape.n_kv_heads
    if not 1 < grouped < n_heads or shape.latent:
        grouped = next((n_heads // group for group in _GROUPS if n_heads % group == 0), 1)
    window = min((size for size in shape.windows if size is not None), default=USUAL_WINDOW)
    return {
        "own": shape,
        "mha": replace(bare, n_kv_heads=n_heads),
        **({"gqa": replace(bare, n_kv_heads=grouped)} if grouped > 1 else {}),
        "mqa": replace(bare, n_kv_heads=1),
        "mla": replace(bare, latent=MLA_LATENT),
        "window": replace(shape, windows=(window,) * shape.n_layers),
    }
