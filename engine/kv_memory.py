"""The KV cache in numbers, all of it in one place: the formula, known models, configurations, and the measurement.

    from engine import kv_memory
    kv_memory.cache_bytes(kv_memory.PRESETS["llama-3-8b"], 2048)     # 256 MiB
    kv_memory.measure("llama-3-8b", 2048).prompt.logical.sum()        # the same, from a real cache object

Memory grows in proportion to the number of tokens until a window is full. The
work of a step grows so too, with a cache and without, so that a whole text
costs in proportion to its square; the cache lowers the factor. Only a score
matrix that is written out takes memory in proportion to the square.
"""

from engine.kv_budget import PARTS, Need, Setting, longest, need, variants
from engine.kv_config import parse, shape_of
from engine.kv_measure import REASONS, Bytes, Measured, cache_bytes_of, count_parameters, measure
from engine.kv_presets import CONFIGS, PRESETS
from engine.kv_shape import (
    BLOCK_SIZE,
    GROUP_SIZE,
    KINDS,
    RESIDUAL_TOKENS,
    CacheKind,
    KVShape,
    cache_bytes,
    calculated_only,
    layer_bytes,
    quantised_layer_bytes,
    whole_tokens,
)

__all__ = [
    "BLOCK_SIZE", "CONFIGS", "GROUP_SIZE", "KINDS", "PARTS", "PRESETS", "REASONS", "RESIDUAL_TOKENS", "Bytes",
    "CacheKind", "KVShape", "Measured", "Need", "Setting", "cache_bytes", "cache_bytes_of", "calculated_only",
    "count_parameters", "layer_bytes", "longest", "measure", "need", "parse", "quantised_layer_bytes", "shape_of",
    "variants", "whole_tokens",
]
