"""The cache formula against published numbers, against a plain double loop, and against transformers' real caches.

Bytes are integers, so every comparison is exact. Full-size models are built on
the meta device; small ones run for real.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import transformers
from transformers.cache_utils import DynamicCache, EncoderDecoderCache, StaticCache

from engine import errors, kv_measure, kv_memory
from engine.kv_memory import CONFIGS, PRESETS, KVShape, cache_bytes
from tests.engine import tiny

#: Layers × KV heads × d_head, layers with a window, the window: as the models' makers publish them.
PUBLISHED = {
    "gpt2": (12, 12, 64, 0, None), "gpt2-xl": (48, 25, 64, 0, None), "gpt3-175b": (96, 96, 128, 0, None),
    "opt-13b": (40, 40, 128, 0, None), "llama-2-7b": (32, 32, 128, 0, None), "llama-2-70b": (80, 8, 128, 0, None),
    "llama-3-8b": (32, 8, 128, 0, None), "llama-3.1-405b": (126, 8, 128, 0, None),
    "mistral-7b-v0.1": (32, 8, 128, 32, 4096), "mixtral-8x7b": (32, 8, 128, 0, None),
    "qwen2.5-7b": (28, 4, 128, 0, None), "qwen3-8b": (36, 8, 128, 0, None), "qwen3-235b-a22b": (94, 4, 128, 0, None),
    "gemma-2-9b": (42, 8, 256, 21, 4096), "gemma-3-27b": (62, 16, 128, 52, 1024),
    "phi-3-mini-4k": (32, 32, 96, 32, 2047), "gpt-oss-20b": (24, 8, 64, 12, 128),
    "gpt-oss-120b": (36, 8, 64, 18, 128), "falcon-7b": (32, 1, 64, 0, None), "falcon-40b": (60, 8, 64, 0, None),
    "t5-11b": (24, 128, 128, 0, None), "opus-mt": (6, 8, 64, 0, None),
}
MLA = {"deepseek-v2": 60, "deepseek-v3": 61}
#: Windows short enough for small runs, as tiny.py has them.
WINDOWED = ("mistral", "gemma2", "gpt_oss")
DECODERS = ("gpt2", "llama", "mistral", "qwen3", "gemma2", "gpt_oss", "opt", "bloom")


# --- published numbers -----------------------------------------------------------------------------------------------


def test_every_preset_has_its_published_shape():
    assert set(PRESETS) == set(PUBLISHED) | set(MLA) == set(CONFIGS)
    for name, (n_layers, n_kv_heads, d_head, n_windowed, window) in PUBLISHED.items():
        shape = PRESETS[name]
        assert (shape.n_layers, shape.n_kv_heads, shape.d_head) == (n_layers, n_kv_heads, d_head), name
        sizes = [size for size in shape.windows if size is not None]
        assert sizes == [window] * n_windowed, name
        assert shape.cross == (name in ("t5-11b", "opus-mt"))
    for name, n_layers in MLA.items():
        assert (PRESETS[name].n_layers, PRESETS[name].latent) == (n_layers, 512 + 64)


@pytest.mark.parametrize(("name", "bytes_per_token"), [
    ("opt-13b", 800 * 1024),  # Kwon et al. 2023 (vLLM), §3: "800 KB", 2 × 5120 × 40 × 2
    ("deepseek-v3", 70_272),  # DeepSeek-AI 2025, "Insights into DeepSeek-V3", table 1: 70.272 KB
    ("llama-3.1-405b", 516_096),  # the same table: 516.096 KB
])
def test_published_bytes_per_token(name, bytes_per_token):
    assert cache_bytes(PRESETS[name], 1) == bytes_per_token


def test_llama_cpp_log():
    # llama.cpp's log for Llama-3-8B at n_ctx 2048, f16: KV self size = 256.00 MiB, K 128.00, V 128.00.
    assert cache_bytes(PRESETS["llama-3-8b"], 2048) == 256 * 2**20


def test_vllm_log():
    # vLLM's log for Llama-3-8B: 1,952 GPU blocks of 16 tokens.
    n_tokens = 1952 * 16
    assert n_tokens == 31_232
    for length in (n_tokens, n_tokens - 15):  # the last block is taken whole
        assert cache_bytes(PRESETS["llama-3-8b"], length, block_size=16) == 3.8125 * 2**30
    assert cache_bytes(PRESETS["llama-3-8b"], n_tokens - 16, block_size=16) < 3.8125 * 2**30


def test_kv_heads_are_not_query_heads():
    # Ainslie et al. 2023: grouping by 8 divides the cache by 8. Shazeer 2019: one head, by all of them.
    own = PRESETS["llama-2-70b"]
    changed = kv_memory.variants(own)
    assert cache_bytes(changed["mha"], 100) == 8 * cache_bytes(own, 100) == 64 * cache_bytes(changed["mqa"], 100)
    assert changed["gqa"] == own
    assert cache_bytes(changed["mla"], 1) == 80 * 576 * 2


# --- the formula against a loop --------------------------------------------------------------------------------------


def counted(shape: KVShape, n_tokens: int, *, dtype_bytes: int, batch: int, block_size: int | None, slots: str) -> int:
    """Bytes by walking sequences, layers and slots one by one."""
    total = 0
    for _ in range(batch):
        for layer in range(shape.n_layers):
            held = 0
            window = shape.windows[layer] if shape.windows else None
            for _ in range(n_tokens):
                held += 1
                if window is not None and held > (window - 1 if slots == "hf" else window):
                    held -= 1  # the oldest goes
            while block_size and held % block_size:
                held += 1
            numbers = shape.latent or sum(2 * shape.d_head for _ in range(shape.n_kv_heads))
            total += held * numbers * dtype_bytes
    return total


@pytest.mark.parametrize("shape", [
    KVShape(3, 2, 8), KVShape(4, 1, 8, windows=(5, None, 5, 7)), KVShape(2, 4, 8, latent=12), KVShape(1, 4, 8),
], ids=str)
@pytest.mark.parametrize("slots", ["full", "hf"])
def test_formula_against_a_loop(shape, slots):
    cases = itertools.product((0, 1, 4, 5, 6, 33), (1, 2, 4), (1, 3), (None, 4))
    for n_tokens, dtype_bytes, batch, block_size in cases:
        expected = counted(shape, n_tokens, dtype_bytes=dtype_bytes, batch=batch, block_size=block_size, slots=slots)
        assert cache_bytes(shape, n_tokens, dtype_bytes=dtype_bytes, batch=batch, block_size=block_size,
                           window_slots=slots) == expected


def test_cross_part_does_not_grow_with_what_is_written():
    shape = PRESETS["opus-mt"]
    held = [cache_bytes(shape, n, source_tokens=30) for n in (1, 2, 3)]
    assert held[0] == 6 * 2 * 8 * 64 * 2 * (1 + 30)
    assert np.diff(held).tolist() == [6 * 2 * 8 * 64 * 2] * 2


@pytest.mark.parametrize(("arguments", "what"), [
    ({"n_tokens": -1}, "n_tokens"), ({"n_tokens": 1.5}, "n_tokens"), ({"n_tokens": True}, "n_tokens"),
    ({"n_tokens": 10**13}, "n_tokens"), ({"n_tokens": 1, "dtype_bytes": 0}, "dtype_bytes"),
    ({"n_tokens": 1, "batch": 0}, "batch"), ({"n_tokens": 1, "block_size": 0}, "block_size"),
])
def test_absurd_numbers_are_refused(arguments, what):
    with pytest.raises(errors.InvalidPrompt) as caught:
        cache_bytes(PRESETS["gpt2"], **arguments)
    assert (caught.value.code, caught.value.numbers["what"]) == ("bad_amount", what)


@pytest.mark.parametrize("ask", [
    lambda: cache_bytes(PRESETS["gpt2"], 5, window_slots="x"),
    lambda: cache_bytes(PRESETS["gpt2"], 5, window_slots=None),
    lambda: kv_memory.measure("gpt2", 5, kind="x"), lambda: kv_memory.measure("gpt2", 5, dtype="x"),
    lambda: kv_memory.measure("gpt2", 5, dtype=["float32"]),
])
def test_unknown_names_are_refused_with_the_known_ones(ask):
    with pytest.raises(errors.InvalidPrompt) as caught:
        ask()
    assert caught.value.code == "bad_choice" and len(caught.value.numbers["choices"].split(", ")) in (2, 3)


def test_large_numbers_do_not_wrap_around():
    shape = PRESETS["gpt3-175b"]
    assert cache_bytes(shape, 10**9, dtype_bytes=4, batch=10**9) == 96 * 2 * 96 * 128 * 4 * 10**18
    with pytest.raises(errors.InvalidPrompt, match="bytes of a layer"):
        kv_memory.layer_bytes(shape, 10**9, dtype_bytes=4, batch=10**9)


def test_a_shape_needs_a_window_for_each_layer():
    with pytest.raises(errors.InvalidPrompt, match="for each of 2 layers"):
        KVShape(2, 1, 8, windows=(4,))


# --- the formula against real caches ---------------------------------------------------------------------------------


def decoder(kind: str) -> transformers.PreTrainedModel:
    """A small decoder that runs, float32: those of tiny.py, and the layouts that it lacks."""
    small = {"vocab_size": tiny.D_VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    extra = {
        "mqa": transformers.FalconConfig(**small, multi_query=True, alibi=False),
        "expanded": transformers.FalconConfig(**small, num_kv_heads=2, new_decoder_architecture=True, alibi=False),
        "mla": transformers.DeepseekV3Config(
            **small, intermediate_size=48, moe_intermediate_size=16, first_k_dense_replace=1, n_routed_experts=4,
            num_experts_per_tok=2, n_group=1, topk_group=1, kv_lora_rank=10, q_lora_rank=8, qk_rope_head_dim=4,
            qk_nope_head_dim=6, v_head_dim=5, num_key_value_heads=4),
        "gemma3": transformers.Gemma3TextConfig(
            **small | {"num_hidden_layers": 6}, intermediate_size=48, num_key_value_heads=2, head_dim=16,
            sliding_window=5),
    }
    if kind in extra:
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(extra[kind]).eval()
    return tiny.model(kind)


@pytest.mark.parametrize("kind", [*DECODERS, "mqa", "mla", "gemma3"])
def test_growing_caches_hold_the_formulas_bytes(kind):
    model = decoder(kind)
    shape, cache = kv_memory.shape_of(model.config), DynamicCache(config=model.config)
    ids = torch.arange(6).repeat(2, 1) + 5
    with torch.inference_mode():
        for length in (6, 7, 8, 9):
            model(ids, past_key_values=cache, use_cache=True)
            held = kv_memory.cache_bytes_of(cache)
            expected = kv_memory.layer_bytes(shape, length, dtype_bytes=4, batch=2, window_slots="hf")
            np.testing.assert_array_equal(held.logical, expected)
            ids = ids[:, :1]
    full = cache_bytes(shape, 9, dtype_bytes=4, batch=2)
    assert (full > held.logical.sum()) == (kind in WINDOWED or kind == "gemma3")


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "mla"])
def test_static_caches_hold_whole_windows(kind):
    model = decoder(kind)
    shape, cache = kv_memory.shape_of(model.config), StaticCache(config=model.config, max_cache_len=20)
    with torch.inference_mode():
        model(torch.arange(6)[None] + 5, past_key_values=cache, use_cache=True)
    expected = kv_memory.layer_bytes(shape, 20, dtype_bytes=4, window_slots="full")
    np.testing.assert_array_equal(kv_memory.cache_bytes_of(cache).logical, expected)


@pytest.mark.parametrize("kind", ["t5", "bart", "marian"])
def test_encoder_decoders_hold_a_cross_part(kind):
    model = tiny.model(kind)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    ids = torch.arange(7)[None] + 5
    with torch.inference_mode():
        model(input_ids=ids, decoder_input_ids=ids[:, :3], past_key_values=cache, use_cache=True)
    expected = kv_memory.layer_bytes(kv_memory.shape_of(model.config), 3, dtype_bytes=4, source_tokens=7)
    np.testing.assert_array_equal(kv_memory.cache_bytes_of(cache).logical, expected)


def test_expanded_heads_are_stored_expanded():
    model = decoder("expanded")
    shape, cache = kv_memory.shape_of(model.config), DynamicCache()
    with torch.inference_mode():
        model(torch.arange(5)[None] + 5, past_key_values=cache, use_cache=True)
    assert (shape.n_kv_heads, shape.stored_kv_heads) == (2, 4)
    assert kv_memory.cache_bytes_of(cache).logical.sum() == 2 * cache_bytes(shape, 5, dtype_bytes=4)


def test_a_slice_pins_the_prompt_until_the_next_step():
    model, cache = tiny.model("mistral"), None
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(torch.arange(9)[None] + 5, past_key_values=cache, use_cache=True)
        prompt = kv_memory.cache_bytes_of(cache)
        model(torch.tensor([[5]]), past_key_values=cache, use_cache=True)
    step, token = kv_memory.cache_bytes_of(cache), 2 * 2 * 8 * 4
    assert (prompt.logical == 3 * token).all() and (prompt.storage == 9 * token).all()
    assert (step.logical == 3 * token).all() and (step.storage == 4 * token).all()


# --- full size, on the meta device -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_presets_at_full_size(name):
    shape = PRESETS[name]
    assert kv_memory.shape_of(CONFIGS[name]) == shape
    measured = kv_memory.measure(name, 5000)
    assert measured.n_params == shape.n_params
    expected = kv_memory.layer_bytes(shape, 5000, window_slots="hf") // shape.n_kv_heads * (
        shape.stored_kv_heads or shape.n_kv_heads)
    np.testing.assert_array_equal(measured.prompt.logical, expected)
    windowed = {"window_minus_one", "pinned_prompt", "spare_slot"} if shape.windows else set()
    assert set(measured.reasons) == windowed | ({"expanded_kv"} if name == "falcon-40b" else set())
    assert (measured.difference == 0) == (not measured.reasons)
    n_windowed = sum(window is not None for window in shape.windows)
    if n_windowed:
        assert measured.difference == -n_windowed * shape.numbers * 2
    assert (measured.step.logical - measured.prompt.logical).sum() == (
        (shape.n_layers - n_windowed) * shape.numbers * 2 // shape.n_kv_heads
        * (shape.stored_kv_heads or shape.n_kv_heads))


@pytest.mark.parametrize(("name", "kind"), [("gemma-2-9b", "static"), ("opus-mt", "static"), ("opus-mt", "dynamic")])
def test_static_and_cross_at_full_size(name, kind):
    measured = kv_memory.measure(name, 5000, kind=kind, capacity=6000, source_tokens=700, batch=3)
    expected = cache_bytes(PRESETS[name], 6000 if kind == "static" else 5000, batch=3, source_tokens=700)
    assert measured.prompt.logical.sum() == expected
    assert measured.reasons == (("preallocated",) if kind == "static" else ())
    assert (measured.step.logical.sum() == expected) == (kind == "static")


def test_measuring_takes_no_memory():
    from tests.benchmarks.measure import peak_bytes

    kv_memory.measure("llama-2-7b", 10)
    before = peak_bytes()
    if before is None:
        pytest.skip("Peak memory is read from /proc, which this system lacks.")
    kv_memory.measure("llama-2-7b", 100_000)  # 13 GiB of weights, 50 GiB of cache, 640 GiB of scores
    assert peak_bytes() - before < 200 * 2**20


def test_a_model_without_end_is_not_built(monkeypatch):
    """Each of its numbers is one that some model has; together they are millions of modules."""
    sizes = ("num_layers", "num_decoder_layers", "num_sparse_encoder_layers", "num_sparse_decoder_layers")
    config = {"model_type": "switch_transformers", **dict.fromkeys(sizes, 64), "num_experts": 64}
    monkeypatch.setattr(kv_measure, "MOST_OPERATIONS", 2_000)
    with pytest.raises(errors.ModelRefused) as caught:
        kv_memory.count_parameters(config)
    assert caught.value.code == "config_not_understood" and "layers × experts" in caught.value.got
    assert kv_memory.count_parameters("opus-mt") > 0  # the next is built
