"""Paged caches against transformers' own PagedAttentionCache: its blocks, and the numbers written into them.

The small ones run on the CPU: requests are admitted, their keys and values go
through the cache's own `update`, and what it then holds is read off its one
flat tensor. At full size only the object is made, on the meta device, and
asked. vLLM's blocks are held to its published log in test_kv_memory.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import ContinuousBatchingConfig, PretrainedConfig
from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.distributed import DistributedHelper
from transformers.generation.continuous_batching.requests import RequestState

from engine import kv_config, kv_memory
from engine.kv_memory import PRESETS, KVShape
from tests.engine import tiny

#: Lengths of the requests that are admitted: some blocks and one token, whole blocks, a single token.
LENGTHS = {"a": 33, "b": 20, "c": 1}
#: A number whose four bytes in float32 all differ from 0.
MARK = 1.1


def paged(config: PretrainedConfig, *, block_size: int, n_blocks: int, device: str = "cpu",
          dtype: torch.dtype = torch.float32) -> PagedAttentionCache:
    """An empty cache with room for `n_blocks` blocks of all layers."""
    settings = ContinuousBatchingConfig(page_size=block_size, num_blocks=n_blocks, max_batch_tokens=1,
                                        max_memory_percent=1.0, max_blocks_per_request=0, use_async_batching=False)
    return PagedAttentionCache(config, settings, device, DistributedHelper(None, None), dtype=dtype)


def taken(cache: PagedAttentionCache, shape: KVShape) -> np.ndarray:
    """Bytes of the pages that all requests have in each layer: (n_layers,) int64."""
    allocators = [cache.layer_to_allocator[layer] for layer in range(shape.n_layers)]
    return np.array([sum(map(len, allocator.block_table.values())) * allocator.bytes_per_page
                     for allocator in allocators], dtype=np.int64)


def write(cache: PagedAttentionCache, shape: KVShape, request: RequestState, n_tokens: int) -> None:
    """Admits `n_tokens` more and writes their keys and values, all of them MARK, into every layer."""
    assert cache.can_store_request_tokens(request, n_tokens)
    write_index: list[list[int]] = [[] for _ in cache.cache_allocators]
    cache.extend_read_and_write_indices(request.request_id, request.position_offset, n_tokens, None, write_index)
    arguments = {"cu_seq_lens_k": dict.fromkeys(cache.cache_allocators, torch.zeros(1)),
                 "max_length_k": dict.fromkeys(cache.cache_allocators, 0),
                 "read_index": [torch.tensor([], dtype=torch.long) for _ in write_index],
                 "write_index": [torch.tensor(places) for places in write_index]}
    for layer in range(shape.n_layers):
        cache.update(*torch.full((2, 1, shape.n_kv_heads, n_tokens, shape.d_head), MARK), layer, dict(arguments))
    request.position_offset += n_tokens


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mistral", "gemma2", "gpt_oss", "bloom"])
@pytest.mark.parametrize("block_size", [4, 5])
def test_blocks_and_the_numbers_in_them(kind, block_size):
    config = tiny.model(kind).config
    shape = kv_memory.shape_of(config)
    cache = paged(config, block_size=block_size, n_blocks=40)
    requests = {name: RequestState(request_id=name, initial_tokens=list(range(length)))
                for name, length in LENGTHS.items()}
    for name, length in LENGTHS.items():
        write(cache, shape, requests[name], length)
    for step in range(6):
        lengths = [length + step for length in LENGTHS.values()]
        blocks = sum(kv_memory.layer_bytes(shape, n, dtype_bytes=4, block_size=block_size) for n in lengths)
        numbers = sum(kv_memory.cache_bytes(shape, n, dtype_bytes=4) for n in lengths)
        np.testing.assert_array_equal(taken(cache, shape), blocks)
        whole = cache.num_sectors * cache.bytes_per_sector
        assert whole - cache.compute_free_capacity(relative=False) == blocks.sum()
        # Two sectors in front belong to nobody: padding, and what a window has already left, are written there.
        assert cache.cache_tensor[-whole:].count_nonzero() == numbers <= blocks.sum()
        assert cache.cache_tensor.nbytes == whole + 2 * cache.bytes_per_sector
        for request in requests.values():
            write(cache, shape, request, 1)


def pages_needed(cache: PagedAttentionCache, shape: KVShape, n_tokens: int) -> list[int]:
    """Bytes of the pages that a request of `n_tokens` would be given, layer by layer."""
    return [allocator.needs_new_blocks("", 0, n_tokens) * allocator.bytes_per_page
            for allocator in map(cache.layer_to_allocator.get, range(shape.n_layers))]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_at_full_size(name):
    shape = PRESETS[name]
    # Of a latent and a source transformers knows nothing, and cuts pages of a wrong size.
    fits = not kv_memory.calculated_only(shape, "paged")
    reserved = replace(shape, n_kv_heads=shape.paged_kv_heads or shape.stored_kv_heads or shape.n_kv_heads)
    for block_size in (16, 64):
        cache = paged(kv_config.of_config(name), block_size=block_size, n_blocks=1, device="meta",
                      dtype=torch.bfloat16)
        for n_tokens in (1, block_size, block_size + 1, 5003):
            formula = kv_memory.layer_bytes(reserved, n_tokens, block_size=block_size).tolist()
            assert (pages_needed(cache, shape, n_tokens) == formula) == fits
