"""Quantised caches against transformers' own objects, weighed tensor by tensor.

Quanto and HQQ, the packers behind transformers' QuantizedCache, are no
dependency: the one compiles C++ when it is first used, the other has no wheel.
In their place stands `_Codes`, a packer of a dozen lines below transformers'
own QuantizedLayer, whose residual window, shapes and times of coding anew run
for real. That it weighs what Quanto and HQQ weigh is held to `WEIGHED`, their
bytes read off once; it does not prove that a later release of either packs so
too, nor anything about how well the codes describe the numbers.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.cache_utils import Cache, QuantizedCache, QuantizedLayer

from engine import kv_config, kv_memory
from engine.kv_memory import PRESETS, KVShape
from tests.engine import tiny

SHAPE = KVShape(n_layers=1, n_kv_heads=4, d_head=64)
#: (bits, type, tokens at once, tokens one by one after them) → bytes that one layer of transformers 5.23's
#: QuantoQuantizedLayer (optimum-quanto 0.2.7, 4 bits) and HQQQuantizedLayer (hqq 0.2.8.post1, both) held on a CPU:
#: two sequences, 4 heads of 64, defaults else. Both packers held the same; codes, scales, zero points and the window.
WEIGHED = {
    (4, torch.bfloat16, 200, 0): 115_200, (4, torch.bfloat16, 200, 127): 375_296,
    (4, torch.bfloat16, 200, 128): 188_928, (4, torch.bfloat16, 1, 127): 260_672,
    (4, torch.float32, 200, 0): 128_000, (4, torch.float32, 200, 127): 648_192,
    (4, torch.float32, 1, 255): 602_752,
    (8, torch.bfloat16, 200, 0): 217_600, (8, torch.bfloat16, 200, 127): 477_696,
    (8, torch.bfloat16, 200, 128): 356_864, (8, torch.bfloat16, 1, 127): 261_184,
    (8, torch.float32, 200, 0): 230_400, (8, torch.float32, 1, 255): 668_800,
}


class _Codes(QuantizedLayer):
    """Group-wise codes in uint8, at 4 bits two in a byte; a scale and a least value of the numbers' type a group."""

    def _quantize(self, tensor, axis):
        groups = tensor.reshape(-1, self.q_group_size)
        low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
        scale = ((high - low) / (2**self.nbits - 1)).clamp(min=1e-6)
        codes = ((groups - low) / scale).round().to(torch.uint8).flatten()
        if self.nbits == 4:
            codes = codes[::2] * 16 + codes[1::2]
        return codes, scale, low, tensor.shape

    def _dequantize(self, packed):
        codes, scale, low, shape = packed
        if self.nbits == 4:
            codes = torch.stack([codes // 16, codes % 16], 1).flatten()
        return (codes.reshape(-1, self.q_group_size) * scale + low).reshape(shape)


def held(layer: QuantizedLayer) -> int:
    """Bytes of all tensors that the layer keeps between two steps."""
    parts = (*layer._quantized_keys, *layer._quantized_values, layer.keys, layer.values)
    return sum(part.numel() * part.element_size() for part in parts if isinstance(part, torch.Tensor))


def add(layer: QuantizedLayer, n_tokens: int, *, dtype: torch.dtype) -> None:
    """Gives the layer `n_tokens` at once, of two sequences."""
    layer.update(*torch.randn(2, 2, SHAPE.n_kv_heads, n_tokens, SHAPE.d_head).to(dtype))


@pytest.mark.parametrize(("bits", "dtype", "at_once", "one_by_one"), WEIGHED)
def test_the_stand_in_weighs_what_quanto_and_hqq_weighed(bits, dtype, at_once, one_by_one):
    layer = _Codes(nbits=bits)
    add(layer, at_once, dtype=dtype)
    for _ in range(one_by_one):
        add(layer, 1, dtype=dtype)
    assert held(layer) == WEIGHED[bits, dtype, at_once, one_by_one]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_formula_is_the_most_that_is_held(bits, dtype):
    """Over every length from 1 to 300, met by prompts of each length and by writing on."""
    most = np.zeros(300, dtype=np.int64)
    for start in (1, 3, 100, 200):
        layer = _Codes(nbits=bits)
        add(layer, start, dtype=dtype)
        for length in range(start, 301):
            most[length - 1] = max(most[length - 1], held(layer))
            add(layer, 1, dtype=dtype)
    formula = np.array([kv_memory.quantised_layer_bytes(SHAPE, length, bits=bits, dtype_bytes=dtype.itemsize, batch=2)
                        for length in range(1, 301)]).ravel()
    assert (most <= formula).all()
    reached = np.flatnonzero(most == formula) + 1
    # From one token on until the window is full, and where a full window meets the most that was coded.
    assert set(range(1, 129)) | {227, 256} <= set(reached.tolist())


@pytest.mark.parametrize("bits", [8, 4])
def test_a_model_fills_it_as_the_formula_says(bits):
    model = tiny.model("llama")
    shape = kv_memory.shape_of(model.config)
    cache = Cache(layers=[_Codes(nbits=bits, q_group_size=16, residual_length=6) for _ in range(shape.n_layers)])
    sizes = {"bits": bits, "dtype_bytes": 4, "batch": 2, "group_size": 16}
    with torch.inference_mode():
        model(torch.arange(9).repeat(2, 1) + 5, past_key_values=cache, use_cache=True)
        for whole in (0, 1, 2, 3, 4, 5, 0, 1):
            length = cache.get_seq_length()
            expected = kv_memory.quantised_layer_bytes(shape, length, residual_tokens=whole + 1, **sizes)
            assert [held(layer) for layer in cache.layers] == expected.tolist()
            model(torch.tensor([[5], [6]]), past_key_values=cache, use_cache=True)


def test_nothing_is_left_whole_of_one_token_or_none():
    assert kv_memory.whole_tokens(SHAPE, 0).tolist() == kv_memory.whole_tokens(SHAPE, 1).tolist() == [0]
    assert kv_memory.quantised_layer_bytes(SHAPE, 0, bits=8).tolist() == [0]


def test_a_source_is_coded_at_once():
    shape = KVShape(n_layers=1, n_kv_heads=4, d_head=64, cross=True)
    own = kv_memory.quantised_layer_bytes(SHAPE, 200, bits=8)
    source = kv_memory.quantised_layer_bytes(SHAPE, 900, bits=8, residual_tokens=1)
    assert kv_memory.quantised_layer_bytes(shape, 200, bits=8, source_tokens=900) == own + source


def test_eight_bit_floats_are_numbers_of_one_byte():
    """transformers' own FP8 cache: no groups and nothing left whole; beside the numbers a float32 scale each for keys
    and values, 8 bytes in a layer, which the formula leaves out."""
    model = tiny.model("llama")
    cache = QuantizedCache("fp8", model.config)
    with torch.inference_mode():
        model(torch.arange(9).repeat(2, 1) + 5, past_key_values=cache, use_cache=True)
        model(torch.tensor([[5], [6]]), past_key_values=cache, use_cache=True)
    expected = kv_memory.layer_bytes(kv_memory.shape_of(model.config), 10, dtype_bytes=1, batch=2)
    assert [held(layer) - 8 for layer in cache.layers] == expected.tolist()


@pytest.mark.parametrize("name", PRESETS)
def test_transformers_quantises_no_windows(name):
    shape, config = PRESETS[name], kv_config.of_config(name)
    if kv_memory.calculated_only(shape, "int4") and not shape.cross:
        with pytest.raises(ValueError, match="only full attention layers"):
            QuantizedCache("fp8", config)
    else:
        assert len(QuantizedCache("fp8", config).layers) == config.num_hidden_layers


@pytest.mark.parametrize("kind", ["t5", "marian"])
def test_transformers_quantises_no_encoder_decoder(kind):
    model = tiny.model(kind)
    assert kv_memory.calculated_only(kv_memory.shape_of(model.config), "int4")
    with pytest.raises(ValueError, match="does not support the quantized cache"):
        model.generate(torch.arange(5)[None] + 5, cache_implementation="quantized", max_new_tokens=2)
