"""Configurations from strangers: shapes read right, nonsense refused plainly; needs and what fits, against a search."""

from __future__ import annotations

import itertools
import json

import pytest

from engine import catalogue, errors, hub, kv_memory
from engine.kv_memory import CONFIGS, PRESETS, KVShape, Setting
from tests.engine import tiny
from tests.engine.fake_hub import FakeHub


@pytest.mark.parametrize(("text", "words"), [
    ("", "no JSON"), ("hello", "no JSON"), ("{", "no JSON"), ("[" * 50_000, "no JSON"), ("[1]", "no object"),
    ("null", "no object"), ("{}", "no model_type"), ('{"model_type": 3}', "model_type"),
    ('{"model_type": "nonsense"}', "does not know"),
    ('{"model_type": "llama", "num_hidden_layers": "many"}', "num_hidden_layers"),
    ('{"model_type": "llama", "num_hidden_layers": 1000000000}', "num_hidden_layers"),
    ('{"model_type": "llama", "num_attention_heads": -3}', "num_attention_heads"),
    ('{"model_type": "llama", "hidden_size": 1000000000000}', "hidden_size"),
    ('{"model_type": "llama", "num_attention_heads": 0, "head_dim": null}', "num_attention_heads = 0; expected"),
    ('{"model_type": "llama", "num_key_value_heads": 0}', "num_key_value_heads = 0; expected"),
    ('{"model_type": "llama", "num_key_value_heads": -1}', "num_key_value_heads = -1; expected"),
    ('{"model_type": "llama", "num_key_value_heads": 64}', "64 KV heads; expected KV heads that divide the 32"),
    ('{"model_type": "llama", "num_key_value_heads": 5}', "5 KV heads; expected KV heads that divide the 32"),
    ('{"model_type": "llama", "head_dim": 0}', "head_dim = 0; expected"),
    ('{"model_type": "llama", "head_dim": -1}', "head_dim = -1; expected"),
    ('{"model_type": "gpt2", "n_head": 0}', "= 0; expected"),
    ('{"model_type": "falcon", "new_decoder_architecture": true, "num_kv_heads": 0}', "num_kv_heads = 0; expected"),
    ('{"model_type": "mistral", "sliding_window": 0}', "sliding_window"),
    ('{"model_type": "mistral", "sliding_window": -1}', "sliding_window"),
    ('{"model_type": "gemma2", "sliding_window": 0}', "sliding_window"),
    ('{"model_type": "marian", "decoder_attention_heads": 0}', "decoder_attention_heads = 0; expected"),
    ('{"model_type": "t5", "num_layers": 0}', "= 0; expected"),
    *((f'{{"model_type": "{name}"}}', "without ") for name in ("t5gemma", "rwkv", "musicgen", "dia", "florence2")),
    *((f'{{"model_type": "{name}"}}', "does not know as a causal language model")
      for name in ("qwen2_vl", "qwen2_5_vl", "mllama", "kosmos-2", "chameleon", "vit")),
    ('{"model_type": "mixtral", "num_local_experts": 99999}', "num_local_experts"),
    (json.dumps({"model_type": "llama", "layer_types": ["full_attention"] * 5000}), "entries"),
    ('{"model_type": "llama", "layer_types": ["<script>"]}', ""),
])
def test_nonsense_is_refused_plainly(text, words):
    with pytest.raises(errors.ModelRefused) as caught:
        kv_memory.shape_of(kv_memory.parse(text))
    assert caught.value.code == "config_not_understood"
    assert words in caught.value.got
    assert len(caught.value.got) <= 300 and "ZeroDivision" not in caught.value.got


@pytest.mark.parametrize("config", [
    "nonsense", "", None, 5, [], {"model_type": "gpt2", "n_embd": 10, "n_head": 3},
    {"model_type": "marian", "d_model": 10, "decoder_attention_heads": 3},
])
def test_what_is_no_configuration_is_refused(config):
    for function in (kv_memory.shape_of, kv_memory.count_parameters, lambda config: kv_memory.measure(config, 5)):
        with pytest.raises(errors.ModelRefused) as caught:
            function(config)
        assert caught.value.code == "config_not_understood"


def test_a_width_that_heads_do_not_divide_is_read_where_the_head_has_its_own():
    assert kv_memory.shape_of({"model_type": "qwen3", "hidden_size": 10, "num_attention_heads": 3, "head_dim": 16,
                               "num_key_value_heads": 3}).d_head == 16


def test_what_is_null_is_not_refused():
    for name in ("num_key_value_heads", "head_dim"):
        assert kv_memory.shape_of({"model_type": "llama", name: None}).n_kv_heads == 32
    assert kv_memory.shape_of({"model_type": "mistral", "sliding_window": None}).windows == ()


def test_multi_query_needs_no_divisor():
    assert kv_memory.shape_of({"model_type": "falcon", "multi_query": True, "num_kv_heads": 71}).n_kv_heads == 1


def test_what_builds_tables_is_not_built():
    shape = kv_memory.shape_of({"model_type": "gpt2", "num_labels": 10**12, "id2label": {"0": 10**15}})
    assert shape == PRESETS["gpt2"]


def test_a_book_is_no_config():
    with pytest.raises(errors.TextTooLong):
        kv_memory.parse("x" * 1_000_001)


@pytest.mark.parametrize(("config", "code"), [
    ({"model_type": "bert"}, "no_cache"), ({"model_type": "esm"}, "no_cache"),
    ({"model_type": "mamba"}, "cache_not_keys_values"),
    ({"model_type": "qwen3_next", "num_hidden_layers": 4}, "cache_not_keys_values"),
])
def test_models_without_keys_and_values_are_refused(config, code):
    with pytest.raises(errors.ModelRefused) as caught:
        kv_memory.shape_of(config)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["llama-3-8b", "gpt-oss-20b", "deepseek-v3", "opus-mt"])
def test_a_whole_config_file_reads_the_same(name):
    import transformers

    fields = dict(CONFIGS[name])
    made = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
    assert kv_memory.shape_of(kv_memory.parse(made.to_json_string(use_diff=False))) == PRESETS[name]
    assert kv_memory.shape_of(made) == PRESETS[name]


def test_head_width_is_not_width_by_heads():
    assert kv_memory.shape_of({"model_type": "qwen3", "hidden_size": 5120, "num_attention_heads": 64,
                               "num_key_value_heads": 8, "head_dim": 128}).d_head == 128  # Qwen3-32B: 5120 / 64 = 80


def test_parameters_are_counted_on_the_built_model():
    assert kv_memory.count_parameters(CONFIGS["gpt2"]) == 124_439_808  # Radford et al. 2019: 124M


def test_of_a_hub_model_only_the_config_is_downloaded(tmp_path):
    folder = tiny.save("mistral", tmp_path / "mistral")
    with FakeHub() as server:
        commit = server.put("some-org/tiny", folder)
        found = hub.config_folder("some-org/tiny", endpoint=server.address, cache=tmp_path / "cache")
        assert found.name == commit
        assert kv_memory.shape_of(catalogue.read_config(found)).windows == (4, 4)
        assert [path.name for path in found.iterdir()] == ["config.json"]
        (folder / "config.json").unlink()
        server.put("some-org/bare", folder)
        with pytest.raises(errors.ModelRefused) as caught:
            hub.config_folder("some-org/bare", endpoint=server.address, cache=tmp_path / "cache")
    assert caught.value.code == "hub_no_config"


# --- needs -----------------------------------------------------------------------------------------------------------


def test_needs_part_by_part():
    shape = PRESETS["llama-3-8b"]
    found = kv_memory.need(shape, 1000, Setting(batch=2, beams=3))
    assert found.weights == 8_030_261_248 * 2
    assert found.cache == 6 * 1000 * 131_072
    assert found.scores == 6 * 32 * 1000 * 1000 * 2
    assert found.logits == 6 * 1000 * 128_256 * 2
    assert found.total(("weights", "cache")) == found.weights + found.cache


def test_kinds_of_cache():
    shape = KVShape(2, 1, 64, windows=(10, None))
    token = 2 * 64 * 2

    def held(kind, n_tokens=17, **rest):
        return kv_memory.need(shape, n_tokens, Setting(kind=kind, **rest)).cache

    assert held("dynamic") == token * (9 + 17)
    assert held("static", capacity=30) == token * (10 + 30)
    assert held("static", capacity=3) == token * (10 + 17)
    assert held("paged", block_size=8) == token * (16 + 24)
    # 300 tokens: 173 in codes, 127 as they are; of the windowed layer's 10, one and 9.
    codes = 174 * 128 + 174 * 128 // 64 * 4
    assert held("int8", 300) == codes + (127 + 9) * token
    assert held("int4", 300) == codes - 174 * 128 // 2 + (127 + 9) * token


@pytest.mark.parametrize("kind", kv_memory.KINDS)
@pytest.mark.parametrize("parts", [("weights", "cache"), kv_memory.PARTS])
def test_the_longest_that_fits_fits_and_one_more_does_not(kind, parts):
    shape, setting, gpu = PRESETS["gemma-2-9b"], Setting(batch=2, kind=kind), 48 * 2**30
    found = kv_memory.longest(shape, setting, gpu_bytes=gpu, parts=parts)
    assert kv_memory.need(shape, found, setting).total(parts) <= gpu
    assert kv_memory.need(shape, found + 1, setting).total(parts) > gpu


def test_many_sequences_do_not_wrap_around():
    shape, setting = PRESETS["gpt3-175b"], Setting(batch=4096, beams=64, dtype_bytes=4)
    found = kv_memory.longest(shape, setting, gpu_bytes=10**15, parts=("cache",))
    assert kv_memory.need(shape, found, setting).cache <= 10**15 < kv_memory.need(shape, found + 1, setting).cache


def test_what_never_fits_and_what_always_does():
    setting = Setting()
    assert kv_memory.longest(PRESETS["gpt3-175b"], setting, gpu_bytes=80 * 2**30) == -1
    parts = ("weights", "cache")
    assert kv_memory.longest(PRESETS["mistral-7b-v0.1"], setting, gpu_bytes=24 * 2**30, parts=parts) is None


def test_variants_keep_all_else():
    for name, shape in PRESETS.items():
        changed = kv_memory.variants(shape)
        assert changed["own"] is shape
        assert {variant.n_layers for variant in changed.values()} == {shape.n_layers}, name
        assert {variant.n_params for variant in changed.values()} == {shape.n_params}, name
        assert changed["mha"].n_kv_heads == shape.n_heads, name
        kinds = [kind for kind in ("mha", "gqa", "mqa") if kind in changed]
        held = [kv_memory.cache_bytes(changed[kind], 100) for kind in kinds]
        assert all(more > less for more, less in itertools.pairwise(held)), f"{name}: {dict(zip(kinds, held))}"
        assert "gqa" not in changed or shape.n_heads % changed["gqa"].n_kv_heads == 0, name
    without = {name for name, shape in PRESETS.items() if "gqa" not in kv_memory.variants(shape)}
    assert without == {"opus-mt", "gpt2-xl", "falcon-7b"}, "8 heads are one group; 25 and 71 are odd"
