"""What a KV cache holds, in closed form: slots per layer, bytes per slot, and what else fills a GPU beside it.

Pure arithmetic on integers. It knows the four ways in which layers differ:
how many KV heads they store (MHA, GQA, MQA), a latent in their place (MLA), a
sliding window, and a cross-attention part. It runs no model and knows no
configuration: `engine.kv_config` reads one, `engine.kv_measure` checks this
arithmetic against transformers' own cache objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from engine import errors
from engine.checks import amount, choice

#: How many slots a sliding layer keeps: its whole window, or what transformers' DynamicCache does, one less.
WindowSlots = Literal["full", "hf"]
_WINDOW_SLOTS: tuple[WindowSlots, ...] = ("full", "hf")
#: How the cache is stored. "dynamic" grows by concatenation, "static" is reserved whole, "paged" grows by blocks,
#: "int8" and "int4" hold codes with a scale and a zero point for each group.
CacheKind = Literal["dynamic", "static", "paged", "int8", "int4"]
KINDS: tuple[CacheKind, ...] = ("dynamic", "static", "paged", "int8", "int4")

#: Numbers that share one scale and one zero point in a quantised cache, and new tokens at whose number it codes all
#: anew: the defaults of transformers' QuantizedCache, after KIVI (Liu et al. 2024).
GROUP_SIZE, RESIDUAL_TOKENS = 64, 128
#: Tokens in a block of a paged cache: vLLM's default (Kwon et al. 2023, §4).
BLOCK_SIZE = 16
#: DeepSeek's latent and rotary key, in numbers a token and layer (DeepSeek-AI 2024, table 1).
MLA_LATENT = 512 + 64
#: Mistral's window (Jiang et al. 2023, table 1).
USUAL_WINDOW = 4096
#: What still fits into int64.
_MOST_BYTES = 2**63 - 1


@dataclass(frozen=True)
class KVShape:
    """What one model's attention keeps of each token.

    Attributes:
        n_layers: layers that keep keys and values (of an encoder–decoder: the decoder's).
        n_kv_heads, d_head: heads stored and the width of a key.
        n_heads: query heads; 0 while unknown.
        d_value: width of a value; 0 means as wide as a key.
        windows: for each layer the most tokens a query sees, or None; () means none anywhere.
        latent: numbers kept for a token in place of keys and values (MLA); 0 means keys and values.
        cross: whether each layer also keeps keys and values of the source, once.
        stored_kv_heads: heads that transformers stores where it expands them first (Falcon-40B); 0 means n_kv_heads.
        paged_kv_heads: heads for which its paged cache makes room where it does not find how few are stored
            (Falcon-7B); 0 means those stored.
        d_model, d_vocab, n_ctx: width, vocabulary, trained length; 0 while unknown.
        n_params: parameters; 0 while unknown.
        name: for people.
    """

    n_layers: int
    n_kv_heads: int
    d_head: int
    n_heads: int = 0
    d_value: int = 0
    windows: tuple[int | None, ...] = ()
    latent: int = 0
    cross: bool = False
    stored_kv_heads: int = 0
    paged_kv_heads: int = 0
    d_model: int = 0
    d_vocab: int = 0
    n_ctx: int = 0
    n_params: int = field(default=0, compare=False)
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for what in ("n_layers", "n_kv_heads", "d_head"):
            amount(getattr(self, what), what=what, least=1)
        if self.n_heads and self.n_heads % self.n_kv_heads:
            raise errors.InvalidPrompt(
                f"KV heads that divide the {self.n_heads} query heads", got=f"{self.n_kv_heads} KV heads",
                next_step="Change that number.", code="bad_amount",
                what=f"KV heads, a divisor of {self.n_heads} query heads", value=str(self.n_kv_heads), least=1,
                most=self.n_heads,
            )
        for size in self.windows:
            if size is not None:
                amount(size, what="sliding_window", least=1)
        if self.windows and len(self.windows) != self.n_layers:
            raise errors.InvalidPrompt(
                f"a window, or None, for each of {self.n_layers} layers", got=f"{len(self.windows)}",
                next_step="Give one for each layer, or none at all.", code="bad_amount", what="windows",
                value=len(self.windows), least=self.n_layers, most=self.n_layers,
            )

    @property
    def numbers(self) -> int:
        """Numbers that one layer keeps of one token, whatever the window."""
        return self.latent or self.n_kv_heads * (self.d_head + (self.d_value or self.d_head))

    def window(self, layer: int) -> int | None:
        """The window of `layer`, or None."""
        return self.windows[layer] if self.windows else None


def layer_slots(shape: KVShape, n_tokens: int, *, block_size: int | None = None,
                window_slots: WindowSlots = "full") -> np.ndarray:
    """Tokens for which each layer has room once `n_tokens` have passed: (n_layers,) int64.

    Args:
        block_size: slots come in blocks of so many tokens; None means one by one.
        window_slots: "full": a layer with window W keeps min(n, W); "hf": min(n, W − 1), as DynamicCache does,
            which adds the newest token before it attends.
    """
    kept = [
        n_tokens if (window := shape.window(layer)) is None else min(n_tokens, window - (window_slots == "hf"))
        for layer in range(shape.n_layers)
    ]
    if block_size is not None:
        kept = [-(-slots // block_size) * block_size for slots in kept]
    return np.array(kept, dtype=np.int64)


def layer_bytes(shape: KVShape, n_tokens: int, *, dtype_bytes: int = 2, batch: int = 1, block_size: int | None = None,
                window_slots: WindowSlots = "full", source_tokens: int | None = None) -> np.ndarray:
    """Bytes that each layer's cache holds, the cross part included: (n_layers,) int64. Arguments as `cache_bytes`.

    Raises:
        InvalidPrompt: as `cache_bytes`, or more bytes in a layer than int64 counts.
    """
    amount(n_tokens, what="n_tokens")
    amount(dtype_bytes, what="dtype_bytes", least=1, most=8)
    amount(batch, what="batch", least=1)
    if block_size is not None:
        amount(block_size, what="block_size", least=1)
    choice(window_slots, what="window_slots", choices=_WINDOW_SLOTS)
    slots = layer_slots(shape, n_tokens, block_size=block_size, window_slots=window_slots)
    if shape.cross:
        source = n_tokens if source_tokens is None else amount(source_tokens, what="source_tokens")
        slots = slots + layer_slots(replace(shape, windows=()), source, block_size=block_size)
    each = shape.numbers * dtype_bytes * batch
    amount(int(slots.max()) * each, what="bytes of a layer", most=_MOST_BYTES)
    return slots * each


def cache_bytes(shape: KVShape, n_tokens: int, *, dtype_bytes: int = 2, batch: int = 1, block_size: int | None = None,
                window_slots: WindowSlots = "full", source_tokens: int | None = None) -> int:
    """Bytes of the KV cache after `n_tokens`: Σ over layers of slots · numbers a token · bytes · sequences.

    A layer keeps n_kv_heads·(d_head + d_value) numbers of each token, twice
    n_kv_heads·d_head where both are as wide (Kwon et al. 2023, §3), or the
    latent of MLA (DeepSeek-AI 2024, §2.1.4).

    Args:
        shape: of the model.
        n_tokens: of each sequence: prompt and what was written.
        dtype_bytes: of one number.
        batch: sequences, each beam counted.
        block_size: of a paged cache: each sequence's slots are rounded up to whole blocks.
        window_slots: as `layer_slots`.
        source_tokens: of an encoder–decoder's source; by default as many as `n_tokens`.

    Raises:
        InvalidPrompt: a negative or absurd number (code "bad_amount"), or unknown `window_slots` (code "bad_choice").
    """
    amount(batch, what="batch", least=1)
    one = layer_bytes(shape, n_tokens, dtype_bytes=dtype_bytes, block_size=block_size, window_slots=window_slots,
                      source_tokens=source_tokens)
    return batch * sum(one.tolist())  # Python's integers, which do not overflow


def whole_tokens(shape: KVShape, n_tokens: int, *, residual_tokens: int = RESIDUAL_TOKENS) -> np.ndarray:
    """The most of `n_tokens` tokens that each layer of a quantised cache holds at full width: (n_layers,) int64.

    transformers' QuantizedLayer codes what it is first given at once, be it a
    single token. Later tokens stay whole until they are `residual_tokens`;
    that one is coded with all before it and none is left whole.
    """
    return np.clip(layer_slots(shape, n_tokens) - 1, 0, residual_tokens - 1)


def quantised_layer_bytes(shape: KVShape, n_tokens: int, *, bits: Literal[8, 4], dtype_bytes: int = 2, batch: int = 1,
                          group_size: int = GROUP_SIZE, residual_tokens: int = RESIDUAL_TOKENS,
                          source_tokens: int | None = None) -> np.ndarray:
    """Bytes that each layer of a quantised cache holds at most between two steps: (n_layers,) int64.

    Codes of `bits` bits; one scale and one zero point, each of `dtype_bytes`,
    for every `group_size` numbers of a sequence; `whole_tokens` at full width.
    That is what transformers' QuantizedCache holds with HQQ (8 and 4 bits) and
    with Quanto (4 bits; an odd number of groups there takes `group_size`/2
    bytes more). Both refuse numbers that do not divide into groups; here the
    last group is short. A step also unpacks each layer in turn to full width,
    which is not counted.

    Args:
        source_tokens: of an encoder–decoder's source, which is coded at once; by default as many as `n_tokens`.

    The others as `cache_bytes`. Raises InvalidPrompt for more bytes in a layer than int64 counts.
    """
    whole = whole_tokens(shape, n_tokens, residual_tokens=residual_tokens)
    coded = layer_slots(shape, n_tokens) - whole
    if shape.cross:
        coded = coded + (n_tokens if source_tokens is None else source_tokens)
    coded = coded * shape.numbers
    groups = -(-coded // group_size)
    each = -(-coded * bits // 8) + groups * (2 * dtype_bytes) + whole * (shape.numbers * dtype_bytes)
    amount(int(each.max()) * batch, what="bytes of a layer", most=_MOST_BYTES)
    return each * batch


def calculated_only(shape: KVShape, kind: CacheKind) -> bool:
    """Whether transformers makes no cache of this `kind` for such a model, so that no real one bears the formula out.

    Its quantised caches refuse sliding windows, its paged one stores no latent, and neither takes a source.
    """
    if kind in ("int8", "int4"):
        return bool(shape.windows) or shape.cross
    return kind == "paged" and (bool(shape.latent) or shape.cross)


def kind_layer_bytes(shape: KVShape, n_tokens: int, *, kind: CacheKind, dtype_bytes: int = 2, batch: int = 1,
                     block_size: int = BLOCK_SIZE, capacity: int = 0, source_tokens: int | None = None) -> np.ndarray:
    """Bytes that each layer holds under one `kind` of cache: (n_layers,) int64.

    Args:
        capacity: tokens that a static cache reserves; fewer than `n_tokens` means just `n_tokens`.
        block_size: of a paged cache.
    """
    common = {"dtype_bytes": dtype_bytes, "batch": batch, "source_tokens": source_tokens}
    if kind in ("int8", "int4"):
        return quantised_layer_bytes(shape, n_tokens, bits=8 if kind == "int8" else 4, **common)
    if kind == "static":
        source = n_tokens if source_tokens is None else source_tokens
        return layer_bytes(shape, max(n_tokens, capacity), **common | {"source_tokens": source})
    if kind == "paged":
        return layer_bytes(shape, n_tokens, block_size=block_size, **common)
    return layer_bytes(shape, n_tokens, window_slots="hf", **common)
