"""What asks for more than any model needs is refused before transformers sees it; real models pass."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import transformers

from engine import errors, kv_presets, load_bounds
from tests.engine import tiny
from tests.engine.test_loading import change_config, refusal


@pytest.fixture
def gpt2(tmp_path, monkeypatch) -> Path:
    """A checkpoint to be spoilt; transformers must not see it."""
    folder = tiny.save("gpt2", tmp_path / "gpt2")
    for auto in (transformers.AutoConfig, transformers.AutoTokenizer, transformers.AutoModelForCausalLM):
        monkeypatch.setattr(auto, "from_pretrained", lambda *args, **options: pytest.fail("opened by transformers"))
    return folder


@pytest.mark.parametrize(
    "fields",
    [{"n_layer": 1_000_000}, {"n_layer": 10**4000}, {"num_local_experts": 513}, {"text_config": {"num_layers": 10**5}},
     {"parts": [{"decoder_layers": 257}]}, {"block_sizes": [4, 10**5]}],
)
def test_more_layers_or_experts_than_weights_are_refused(gpt2, fields):
    change_config(gpt2, **fields)
    error = refusal(gpt2)
    assert error.code == "weights_mismatch" and error.numbers["missing"] > 0
    assert "tensors in the weights" in error.numbers["detail"] and len(str(error)) < 400


@pytest.mark.parametrize(
    "fields", [{"n_positions": 10**9}, {"vocab_size": -(10**9)}, {"x": {"y": [10**4000]}}, {"rope_theta": 10**100}])
def test_numbers_that_no_model_has_are_refused(gpt2, fields):
    change_config(gpt2, **fields)
    error = refusal(gpt2)
    assert error.code == "config_unusable" and next(iter(fields.keys() - {"x"}), "y") in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize("fields", [{"vocab_size": 10**8}, {"n_inner": 10**7}, {"n_embd": 10**5, "n_head": 10}])
def test_sides_that_ask_for_far_more_numbers_than_the_weights_hold_are_refused_unbuilt(tmp_path, fields, monkeypatch):
    folder = tiny.save("gpt2", tmp_path / "gpt2")
    change_config(folder, **fields)
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM, "from_pretrained", lambda *args, **options: pytest.fail("it was built"))
    error = refusal(folder)
    assert error.code == "config_unusable" and "in the weights" in str(error)
    asked = int(error.numbers["detail"].split()[2].replace(",", ""))
    wide = next(iter(fields.values()))
    assert asked > wide * 10


def test_no_weights_fill_thousands_of_layers():
    with pytest.raises(errors.ModelRefused, match="2,049") as caught:
        load_bounds.check_numbers({"num_layers": 2049}, 10**6)
    assert caught.value.code == "config_unusable"


@pytest.mark.parametrize(
    ("config", "n_tensors"),
    [
        ({"model_type": "albert", "num_hidden_layers": 12, "num_hidden_groups": 1, "inner_group_num": 1}, 25),
        ({"num_experts": 60, "shared_expert_intermediate_size": 20480, "vocab_size_per_layer_input": 262144}, 300),
        ({"model_type": "doge", "num_experts": 16384, "num_hidden_layers": 8}, 100),
        ({"model_type": "qwen3_next", "num_experts": 512, "num_hidden_layers": 2}, 40),
        ({"n_routed_experts": 384, "num_hidden_layers": 61, "num_experts_per_tok": 8}, 900),
        ({"pad_token_id": -1, "vocab_size": 262144, "max_position_embeddings": 10_485_760, "seed": 2**40}, 9),
        ({"rope_theta": 45_840_416_000, "total_params": 671 * 10**9, "expert_capacity": 10**6, "use_cache": True}, 9),
        ({"id2label": {"0": 10**12}, "model_max_length": 1000000000000000019884624838656}, 9),
    ],
)
def test_real_models_pass(config, n_tensors):
    load_bounds.check_numbers(config, n_tensors)


def test_presets_pass():
    for config in kv_presets.CONFIGS.values():
        load_bounds.check_numbers(config, 1)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_every_default_config_passes(kind):
    load_bounds.check_numbers(tiny.model(kind).config.to_dict(), 1)
    load_bounds.check_numbers(type(tiny.model(kind).config)().to_dict(), 1)


@pytest.mark.parametrize(
    ("name", "size", "code"),
    [("tokenizer.json", 2**31, "tokenizer_unreadable"), ("vocab.json", 2**28 + 1, "tokenizer_unreadable"),
     ("merges.txt", 2**31, "tokenizer_unreadable"), ("tokenizer_config.json", 2**31, "tokenizer_unreadable"),
     ("generation_config.json", 2**23 + 1, "config_unusable"),
     ("special_tokens_map.json", 2**31, "tokenizer_unreadable")],
)
def test_files_too_large_to_be_read_whole_are_refused(gpt2, name, size, code):
    with (gpt2 / name).open("ab") as stream:
        stream.truncate(size)
    error = refusal(gpt2)
    assert error.code == code and f"{name} of {size:,} bytes" in error.numbers["detail"]


def test_pipes_are_not_opened(gpt2):
    os.mkfifo(gpt2 / "merges.txt")
    assert refusal(gpt2).code == "tokenizer_unreadable"


def test_large_tokenizers_and_links_pass(tmp_path):
    with (tmp_path / "blob").open("ab") as stream:
        stream.truncate(2**28)
    (tmp_path / "tokenizer.json").symlink_to(tmp_path / "blob")
    load_bounds.check_files(tmp_path)
