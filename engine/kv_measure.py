"""Measures real cache objects: bytes by walking their layers, and full-size models built without any memory.

On torch's meta device tensors have shapes, types and storages but no data. A
model of any size is built there in a second, a real forward pass fills a real
cache object, and its bytes are read off, logical and storage. It believes no
formula; it compares with one and says why they differ.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import transformers
from torch.overrides import TorchFunctionMode
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache, StaticCache, StaticLayer

from engine.checks import amount, choice
from engine.kv_config import CONFIG_ERRORS, of_config, shape_of, unusable
from engine.kv_shape import KVShape, layer_bytes

#: Types a cache is measured in.
DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
}
#: The cache objects that are measured.
_KINDS = ("dynamic", "static")
#: Why a cache and the formula differ, as codes; `Measured.reasons` holds those that apply.
REASONS = ("window_minus_one", "expanded_kv", "preallocated", "pinned_prompt", "spare_slot", "unexplained")
#: One model at a time is built: transformers' construction keeps settings per process.
_BUILDING = threading.Lock()
#: Operations on tensors that building may take: some seconds. Each number of a configuration is bounded, but layers
#: times experts are not, and everybody waits for `_BUILDING`.
MOST_OPERATIONS = 60_000


@dataclass(frozen=True)
class Bytes:
    """What a cache object holds, layer by layer: (n_layers,) int64 each, self- and cross-attention together.

    Attributes:
        logical: elements times their size.
        storage: what the tensors' storages take, each counted once; a slice keeps all it was cut from.
    """

    logical: np.ndarray
    storage: np.ndarray


@dataclass(frozen=True)
class Measured:
    """One shape, built and filled, against the formula.

    Attributes:
        shape: as the configuration says.
        kind: "dynamic" or "static".
        prompt: bytes after the prompt of `n_tokens`.
        step: bytes after one token more.
        formula: (n_layers,) int64, `kv_shape.layer_bytes` after the prompt with whole windows.
        reasons: codes out of REASONS.
        n_params: parameters of the model that was built.
        seconds: how long building and filling took.
    """

    shape: KVShape
    kind: Literal["dynamic", "static"]
    n_tokens: int
    prompt: Bytes
    step: Bytes
    formula: np.ndarray
    reasons: tuple[str, ...]
    n_params: int
    seconds: float

    @property
    def difference(self) -> int:
        """Logical bytes after the prompt minus the formula's."""
        return int(self.prompt.logical.sum() - self.formula.sum())


def cache_bytes_of(cache: Cache) -> Bytes:
    """Bytes of a real cache object, by walking its layers; a layer without tensors counts 0."""
    if isinstance(cache, EncoderDecoderCache):
        own, cross = cache_bytes_of(cache.self_attention_cache), cache_bytes_of(cache.cross_attention_cache)
        n_layers = max(len(own.logical), len(cross.logical))
        return Bytes(_padded(own.logical, n_layers) + _padded(cross.logical, n_layers),
                     _padded(own.storage, n_layers) + _padded(cross.storage, n_layers))
    per_layer = [_tensor_bytes((layer.keys, layer.values)) for layer in cache.layers]
    both = np.array(per_layer, dtype=np.int64).reshape(-1, 2)
    return Bytes(both[:, 0], both[:, 1])


def _padded(values: np.ndarray, n_layers: int) -> np.ndarray:
    return np.concatenate([values, np.zeros(n_layers - len(values), dtype=np.int64)])


def _tensor_bytes(tensors: Iterable[torch.Tensor | None]) -> tuple[int, int]:
    held = [tensor for tensor in tensors if tensor is not None]
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in held}
    return sum(tensor.numel() * tensor.element_size() for tensor in held), sum(storages.values())


class _Bounded(TorchFunctionMode):
    """Ends a construction that has no end in sight, by counting its operations in this thread."""

    def __init__(self, model_type: str) -> None:
        super().__init__()
        self._model_type, self._n_operations = model_type, 0

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self._n_operations += 1
        if self._n_operations > MOST_OPERATIONS:
            raise unusable(f"{self._model_type} with so many modules, such as layers × experts, that building them "
                           f"takes over {MOST_OPERATIONS:,} operations")
        return func(*args, **(kwargs or {}))


def build(config: str | Mapping[str, Any] | transformers.PretrainedConfig, *,
          dtype: str = "bfloat16") -> transformers.PreTrainedModel:
    """The model that `config` describes, at full size on the meta device, in eval mode; nothing is allocated.

    Raises:
        ModelRefused: transformers cannot build it, or not in MOST_OPERATIONS (code "config_not_understood").
        InvalidPrompt: not one of DTYPES (code "bad_choice").
    """
    choice(dtype, what="dtype", choices=DTYPES)
    # A copy: transformers writes type and attention into the configuration, which a loaded model may be reading.
    made = copy.deepcopy(of_config(config))
    kind = transformers.AutoModelForSeq2SeqLM if made.is_encoder_decoder else transformers.AutoModelForCausalLM
    with _BUILDING:
        try:
            # Eager: SDPA's mask looks at values, which meta tensors lack. In float32 first: another type here would
            # become the whole process's default while the model is built.
            with torch.device("meta"), _Bounded(made.model_type):
                model = kind.from_config(made, dtype=torch.float32, attn_implementation="eager")
        except CONFIG_ERRORS as error:
            raise unusable(f"{type(error).__name__}: {error}") from error
    return model.to(DTYPES[dtype]).eval()


def count_parameters(config: str | Mapping[str, Any] | transformers.PretrainedConfig) -> int:
    """Parameters of the model that `config` describes, tied ones once. Raises as `build`."""
    return sum(parameter.numel() for parameter in build(config).parameters())


def empty_cache(model: transformers.PreTrainedModel) -> Cache:
    """The cache that grows with `model`: transformers' own, with windows where its layers have them."""
    if model.config.is_encoder_decoder:
        return EncoderDecoderCache(DynamicCache(), DynamicCache())
    return DynamicCache(config=model.config)


def measure(config: str | Mapping[str, Any] | transformers.PretrainedConfig, n_tokens: int, *, batch: int = 1,
            kind: Literal["dynamic", "static"] = "dynamic", dtype: str = "bfloat16",
            capacity: int = 0, source_tokens: int | None = None) -> Measured:
    """Build the model at full size without memory, run a prompt and one step through it, and weigh its cache.

    Args:
        config: a preset's name, a parsed config.json, or transformers' configuration.
        n_tokens: of the prompt (of an encoder–decoder: written so far).
        batch: sequences.
        kind: the cache object: transformers' DynamicCache, or StaticCache filled through its own `update`.
        dtype: one of DTYPES.
        capacity: tokens a static cache is made for; by default one more than the prompt.
        source_tokens: of an encoder–decoder's source; by default `n_tokens`.

    Raises:
        ModelRefused: as `shape_of` and `build`.
        InvalidPrompt: a number out of bounds (code "bad_amount"), an unknown `kind` or `dtype` (code "bad_choice").
    """
    amount(n_tokens, what="n_tokens", least=1, most=10**9)
    amount(batch, what="batch", least=1, most=10**6)
    amount(capacity, what="capacity", most=10**9)
    choice(kind, what="kind", choices=_KINDS)
    started = time.perf_counter()
    shape = shape_of(config)
    model = build(config, dtype=dtype)
    source = n_tokens if source_tokens is None else amount(source_tokens, what="source_tokens", least=1, most=10**9)
    capacity = max(capacity, n_tokens + 1)
    try:
        cache = empty_cache(model)
        prompt, step = _fill(model, cache, n_tokens, batch=batch, source_tokens=source)
        if kind == "static":
            prompt, step = _fill_static(model, cache, n_tokens, batch=batch, capacity=capacity, source_tokens=source,
                                        dtype=DTYPES[dtype])
    except CONFIG_ERRORS as error:
        raise unusable(f"a model that does not run: {type(error).__name__}: {error}") from error
    sizes = {"dtype_bytes": DTYPES[dtype].itemsize, "batch": batch, "source_tokens": source}
    formula = layer_bytes(shape, n_tokens, **sizes)
    return Measured(
        shape=shape, kind=kind, n_tokens=n_tokens, prompt=prompt, step=step, formula=formula,
        reasons=_reasons(shape, kind, n_tokens, prompt, step, formula, capacity=capacity, sizes=sizes),
        n_params=sum(parameter.numel() for parameter in model.parameters()), seconds=time.perf_counter() - started,
    )


def _fill(model: transformers.PreTrainedModel, cache: Cache, n_tokens: int, *, batch: int,
          source_tokens: int) -> tuple[Bytes, Bytes]:
    """Bytes after a prompt of `n_tokens`, and after one more."""
    def ids(length: int) -> torch.Tensor:
        return torch.zeros((batch, length), dtype=torch.long, device="meta")

    arguments: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
    with torch.inference_mode():
        if model.config.is_encoder_decoder:
            states = model.get_encoder()(ids(source_tokens)).last_hidden_state
            arguments["encoder_outputs"] = (states,)
            model(decoder_input_ids=ids(n_tokens), **arguments)
            prompt = cache_bytes_of(cache)
            model(decoder_input_ids=ids(1), **arguments)
        else:
            model(ids(n_tokens), **arguments)
            prompt = cache_bytes_of(cache)
            model(ids(1), **arguments)
    return prompt, cache_bytes_of(cache)


def _fill_static(model: transformers.PreTrainedModel, filled: Cache, n_tokens: int, *, batch: int, capacity: int,
                 source_tokens: int, dtype: torch.dtype) -> tuple[Bytes, Bytes]:
    """The same for a static cache, updated with keys and values of the shapes that the forward pass has stored."""
    pairs: list[tuple[Cache, Cache, int]] = []
    if isinstance(filled, EncoderDecoderCache):
        own, cross = (Cache(layers=[StaticLayer(max_cache_len=length) for _ in part.layers])
                      for part, length in ((filled.self_attention_cache, capacity),
                                           (filled.cross_attention_cache, source_tokens)))
        pairs = [(filled.self_attention_cache, own, n_tokens), (filled.cross_attention_cache, cross, source_tokens)]
        static: Cache = EncoderDecoderCache(own, cross)
    else:
        static = StaticCache(config=model.config, max_cache_len=capacity)
        pairs = [(filled, static, n_tokens)]

    def update(like: Cache, into: Cache, length: int) -> None:
        for index, layer in enumerate(like.layers):
            keys, values = (torch.empty((batch, part.shape[1], length, part.shape[3]), dtype=dtype, device="meta")
                            for part in (layer.keys, layer.values))
            into.update(keys, values, index)

    for like, into, length in pairs:
        update(like, into, length)
    prompt = cache_bytes_of(static)
    update(pairs[0][0], pairs[0][1], 1)
    return prompt, cache_bytes_of(static)


def _reasons(shape: KVShape, kind: str, n_tokens: int, prompt: Bytes, step: Bytes, formula: np.ndarray, *,
             capacity: int, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Which known reasons apply; whatever they leave over is "unexplained"."""
    found = []
    slots = capacity if kind == "static" else n_tokens
    expected = layer_bytes(shape, slots, window_slots="full" if kind == "static" else "hf", **sizes)
    if kind == "static" and (expected != formula).any():
        found.append("preallocated")
    if kind == "dynamic" and (expected != formula).any():
        found.append("window_minus_one")
    if shape.stored_kv_heads:
        expected = expected // shape.n_kv_heads * shape.stored_kv_heads
        found.append("expanded_kv")
    if (prompt.storage > prompt.logical).any():
        found.append("pinned_prompt")
    if (step.storage > step.logical).any():
        found.append("spare_slot")
    if (prompt.logical != expected).any():
        found.append("unexplained")
    return tuple(found)
