"""Checkpoints: right ones load whole, wrong ones are refused with the reason, and no code of theirs ever runs."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers

from engine import errors, loading, memory, weights
from tests.engine import tiny


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    for kind in tiny.KINDS:
        tiny.save(kind, root / kind)
    return root


@pytest.fixture
def gpt2(checkpoints, tmp_path) -> Path:
    """A checkpoint of this test's own, to be spoilt."""
    return Path(shutil.copytree(checkpoints / "gpt2", tmp_path / "gpt2"))


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def rewrite(folder: Path, state: dict[str, torch.Tensor]) -> None:
    safetensors.torch.save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields), encoding="utf-8")


def refusal(folder: Path) -> errors.ModelRefused:
    with pytest.raises(errors.ModelRefused) as caught:
        loading.load(folder, device="cpu")
    return caught.value


def predicted_bytes(folder: Path, *, device: str) -> int:
    return loading._plan(weights.headers(folder), device, memory.free_bytes(device))[1]


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_loads_the_very_weights(checkpoints, kind):
    loaded = loading.load(checkpoints / kind, device="cpu")
    original = tiny.model(kind)
    assert type(loaded.model) is type(original)
    state, expected = loaded.model.state_dict(), original.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    assert not any(module.training for module in loaded.model.modules())
    assert loaded.tokenizer.is_fast and loaded.dtype == "float32" and loaded.device == "cpu"
    assert loaded.revision == weights.digest(checkpoints / kind) and loaded.revision.startswith("sha256:")
    with torch.random.fork_rng():  # two runs agree: no dropout
        ids = torch.tensor([[20, 30, 40]])
        given = {"decoder_input_ids": ids} if loaded.family == "encoder-decoder" else {}
        first, second = (loaded.model(input_ids=ids, **given).logits for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_loading_asks_nobody(checkpoints, kind, monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a connection was opened")  # no error that a library would swallow as "offline"

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    loading.load(checkpoints / kind, device="cpu")


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_prediction_bounds_what_is_held(checkpoints, kind):
    loaded = loading.load(checkpoints / kind, device="cpu")
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in loaded.model.parameters()}
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in loaded.model.buffers())
    fixed = sum(p.numel() * 4 for name, p in loaded.model.named_parameters() if "embed_positions" in name)
    predicted = predicted_bytes(checkpoints / kind, device="cpu")
    assert sum(storages.values()) - fixed <= predicted <= loaded.bytes
    assert loaded.bytes <= sum(storages.values()) + buffers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_checkpoints_are_held_in_float32_on_the_cpu(gpt2, dtype):
    tiny.model("gpt2").to(dtype).save_pretrained(gpt2)
    loaded = loading.load(gpt2, device="cpu")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert loaded.dtype == "float32" and loaded.bytes == predicted_bytes(gpt2, device="cpu")
    assert weights.stored_dtype(weights.headers(gpt2)) == str(dtype).removeprefix("torch.")


def test_plan_keeps_the_checkpoints_type_where_float32_would_crowd_a_gpu():
    half = {"w": weights.Tensor("BF16", (1000, 10)), "steps": weights.Tensor("I64", (3,))}
    assert loading._plan(half, "cuda", 80_048) == ("float32", 40_024)
    assert loading._plan(half, "cuda", 80_046) == ("bfloat16", 20_024)
    assert loading._plan(half, "cpu", 1) == ("float32", 40_024)
    full = {"w": weights.Tensor("F32", (1000,)), "d": weights.Tensor("F64", (10,))}
    assert loading._plan(full, "cuda", 1) == ("float32", 4040)


def test_over_budget_is_refused_before_anything_is_loaded(gpt2, monkeypatch):
    needed = predicted_bytes(gpt2, device="cpu")
    monkeypatch.setattr(memory, "free_bytes", lambda device: needed)
    monkeypatch.setattr(loading, "_model", lambda *args: pytest.fail("loaded"))
    with pytest.raises(errors.OverBudget) as caught:
        loading.load(gpt2, device="cpu")
    assert caught.value.numbers.items() >= {"needed_bytes": needed, "allowed_bytes": int(0.8 * needed)}.items()
    monkeypatch.undo()
    assert loading.load(gpt2, device="cpu", headroom=1.0).bytes == needed


# What does not fit


def test_missing_weights_are_named(gpt2):
    state = tensors(gpt2)
    gone = next(name for name in state if name.endswith("h.1.attn.c_attn.weight"))
    del state[gone]
    rewrite(gpt2, state)
    error = refusal(gpt2)
    assert error.code == "weights_mismatch" and error.numbers["missing"] == 1 and "h.1.attn.c_attn" in str(error)


def test_unexpected_weights_are_named(gpt2):
    rewrite(gpt2, tensors(gpt2) | {"transformer.h.9.attn.c_attn.weight": torch.zeros(2)})
    error = refusal(gpt2)
    assert error.numbers["unexpected"] == 1 and "h.9.attn" in str(error)


def test_weights_of_another_shape_are_named(gpt2):
    state = tensors(gpt2)
    name = next(name for name in state if name.endswith("ln_f.weight"))
    rewrite(gpt2, state | {name: torch.ones(7)})
    error = refusal(gpt2)
    assert error.code == "weights_mismatch" and error.numbers["mismatched"] == 1 and "ln_f" in str(error)


def test_config_of_another_size_is_refused(gpt2):
    change_config(gpt2, n_layer=4)
    assert refusal(gpt2).code == "weights_mismatch"


def test_tied_weights_are_not_missing(gpt2):
    assert not any(name.startswith("lm_head") for name in tensors(gpt2))
    assert loading.load(gpt2, device="cpu").model.lm_head.weight.shape[0] == tiny.D_VOCAB


def test_untied_head_without_its_weights_is_missing(gpt2):
    change_config(gpt2, tie_word_embeddings=False)
    assert "lm_head" in str(refusal(gpt2))


def test_heads_over_whole_sentences_may_be_absent_or_extra(checkpoints, tmp_path):
    folder = Path(shutil.copytree(checkpoints / "bert", tmp_path / "bert"))
    rewrite(folder, tensors(folder) | {
        "bert.pooler.dense.weight": torch.zeros(32, 32), "bert.pooler.dense.bias": torch.zeros(32),
        "cls.seq_relationship.weight": torch.zeros(2, 32), "cls.seq_relationship.bias": torch.zeros(2),
    })
    assert isinstance(loading.load(folder, device="cpu").model, transformers.BertForMaskedLM)
    change_config(folder, architectures=["BertForSequenceClassification"])
    kept = {name: tensor for name, tensor in tensors(folder).items() if name.startswith("bert.embeddings")
            or name.startswith("bert.encoder")}
    rewrite(folder, kept | {"classifier.weight": torch.zeros(2, 32), "classifier.bias": torch.zeros(2)})
    assert isinstance(loading.load(folder, device="cpu").model, transformers.BertModel)


@pytest.mark.parametrize(
    ("kind", "name", "shape"),
    [
        ("gpt2", "transformer.h.0.attn.bias", (1, 1, 256, 256)), ("gpt2", "transformer.h.0.attn.masked_bias", ()),
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq", (4,)),
        ("bert", "bert.embeddings.position_ids", (1, 256)),
    ],
)
def test_constants_that_older_versions_saved_are_no_weights(checkpoints, tmp_path, kind, name, shape):
    folder = Path(shutil.copytree(checkpoints / kind, tmp_path / kind))
    rewrite(folder, tensors(folder) | {name: torch.zeros(shape)})
    loaded, expected = loading.load(folder, device="cpu").model.state_dict(), tiny.model(kind).state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_weights_without_the_class_prefix_are_found(gpt2):
    rewrite(gpt2, {name.removeprefix("transformer."): tensor for name, tensor in tensors(gpt2).items()})
    loaded, expected = loading.load(gpt2, device="cpu").model.state_dict(), tiny.model("gpt2").state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_classifier_over_a_decoder_has_no_language_head(checkpoints, tmp_path):
    folder = tmp_path / "classifier"
    config = transformers.AutoConfig.from_pretrained(checkpoints / "llama")
    transformers.LlamaForSequenceClassification(config).save_pretrained(folder)
    tiny.tokenizer("$A").save_pretrained(folder)
    assert "lm_head.weight" in str(refusal(folder))


# What is unsafe


def test_pickled_weights_are_never_opened(gpt2, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *args, **options: pytest.fail("unpickled"))
    torch.save(tensors(gpt2), gpt2 / "pytorch_model.bin")
    loading.load(gpt2, device="cpu")  # safetensors beside them: those are taken
    (gpt2 / "model.safetensors").unlink()
    error = refusal(gpt2)
    assert error.code == "weights_pickle" and "pytorch_model.bin" in str(error)


@pytest.mark.parametrize("place", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_never_run(gpt2, tmp_path, place):
    witness = tmp_path / "ran"
    (gpt2 / "evil.py").write_text(f"open({str(witness)!r}, 'w')\nclass Evil: pass\n", encoding="utf-8")
    path = gpt2 / place
    fields = json.loads(path.read_text())
    fields["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil",
                          "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    path.write_text(json.dumps(fields), encoding="utf-8")
    assert refusal(gpt2).code == "remote_code"
    assert not witness.exists()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model_type": "never-heard-of"}, "not_a_text_model"),
        ({"model_type": "vit"}, "not_a_text_model"),
        ({"vision_config": {}}, "not_a_text_model"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
        ({"n_head": 5}, "config_unusable"),
        ({"n_embd": "wide"}, "config_unusable"),
        ({"activation_function": "nonsense"}, "config_unusable"),
    ],
)
def test_configs_that_cannot_be_used_are_refused(gpt2, fields, code):
    change_config(gpt2, **fields)
    assert refusal(gpt2).code == code


def test_code_under_an_escaped_name_is_found_too(gpt2):
    path = gpt2 / "tokenizer_config.json"
    fields = path.read_text().strip().removesuffix("}")
    path.write_text(fields + ', "auto\\u005fmap": {"AutoTokenizer": "evil.Evil"}}', encoding="utf-8")
    assert refusal(gpt2).code == "remote_code"


def test_adapter_is_no_model(gpt2):
    (gpt2 / "adapter_config.json").write_text('{"base_model_name_or_path": "org/name"}', encoding="utf-8")
    assert refusal(gpt2).code == "adapter"


# Tokenizers


def test_model_without_tokenizer_is_refused(gpt2):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (gpt2 / name).unlink(missing_ok=True)
    assert refusal(gpt2).code == "tokenizer_missing"


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"model": {"type": "Nonsense"}}', "\x00"])
def test_tokenizer_that_cannot_be_read_is_refused(gpt2, text):
    (gpt2 / "tokenizer.json").write_text(text, encoding="utf-8")
    assert refusal(gpt2).code == "tokenizer_unreadable"


def test_tokenizer_of_a_larger_model_is_refused(gpt2):
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["更多"])
    tokenizer.save_pretrained(gpt2)
    error = refusal(gpt2)
    assert error.code == "tokenizer_too_large"
    assert (error.numbers["rows"], error.numbers["highest"]) == (tiny.D_VOCAB, tiny.D_VOCAB)


def test_slow_tokenizer_is_refused(gpt2, monkeypatch):
    class Slow:
        is_fast = False

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *args, **options: Slow())
    assert refusal(gpt2).code == "tokenizer_slow"


# Manners


def test_loading_is_silent(gpt2):
    rewrite(gpt2, tensors(gpt2) | {"extra": torch.zeros(2)})  # transformers reports it, with a table, on stderr
    script = (
        "import sys, pathlib\nfrom engine import errors, loading\n"
        "try:\n    loading.load(pathlib.Path(sys.argv[1]), device='cpu')\n"
        "except errors.ModelRefused as error:\n    print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(gpt2)], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("weights_mismatch\n", "")


@pytest.mark.parametrize("bars", [True, False])
@pytest.mark.parametrize("spoilt", [True, False])
def test_loading_leaves_the_settings_as_they_were(gpt2, bars, spoilt):
    settings = transformers.utils.logging
    before = settings.get_verbosity(), settings.is_progress_bar_enabled()
    if spoilt:
        change_config(gpt2, n_layer=4)
    try:
        settings.set_verbosity(settings.INFO)
        (settings.enable_progress_bar if bars else settings.disable_progress_bar)()
        seen = []
        if spoilt:
            refusal(gpt2)
        else:
            loading.load(gpt2, device="cpu", on_progress=seen.append)
            assert [step.stage for step in seen] == ["loading"]
        assert (settings.get_verbosity(), settings.is_progress_bar_enabled()) == (settings.INFO, bars)
    finally:
        settings.set_verbosity(before[0])
        (settings.enable_progress_bar if before[1] else settings.disable_progress_bar)()


def test_damaged_weights_are_refused_before_any_are_loaded(gpt2, monkeypatch):
    path = gpt2 / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(loading, "_model", lambda *args: pytest.fail("loaded"))
    assert refusal(gpt2).code == "weights_damaged"


def test_absent_directory_is_refused(tmp_path):
    assert refusal(tmp_path / "absent").code == "config_unreadable"


def test_device_that_runs_out_is_reported_and_the_next_load_works(gpt2, monkeypatch):
    moves = []

    def crowded(model, device):
        moves.append(device)
        if len(moves) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model

    monkeypatch.setattr(transformers.GPT2LMHeadModel, "to", crowded)
    with pytest.raises(errors.OutOfMemory) as caught:
        loading.load(gpt2, device="cpu")
    assert caught.value.code == "weights_out_of_memory" and moves == ["cpu", "cpu"]
    assert loading.load(gpt2, device="cpu").dtype == "float32"


@pytest.mark.gpu
def test_cuda_holds_float32_and_gives_back_what_did_not_fit(checkpoints, monkeypatch):
    loaded = loading.load(checkpoints / "llama", device="cuda")
    assert loaded.dtype == "float32" and {p.device.type for p in loaded.model.parameters()} == {"cuda"}
    del loaded
    torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated()

    def out_of_memory(model, device):
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model

    with monkeypatch.context() as patch:
        patch.setattr(transformers.LlamaForCausalLM, "to", out_of_memory)
        with pytest.raises(errors.OutOfMemory):
            loading.load(checkpoints / "llama", device="cuda")
    assert torch.cuda.memory_allocated() <= held
    assert loading.load(checkpoints / "llama", device="cuda").dtype == "float32"


@pytest.mark.gpu
def test_cuda_keeps_half_precision_when_float32_would_crowd_it(checkpoints, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(checkpoints / "llama", tmp_path / "llama"))
    tiny.model("llama").to(torch.bfloat16).save_pretrained(folder)
    as_float32 = predicted_bytes(folder, device="cuda")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2 * as_float32 - 2)
    loaded = loading.load(folder, device="cuda")
    assert loaded.dtype == "bfloat16" and {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}


def test_what_a_library_says_of_a_fault_does_not_tell_where_the_folder_lies(gpt2, monkeypatch):
    def fail(path, **options):
        raise OSError(f"Can't load {path}, or {path.resolve()}/config.json.\nTry something else.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", fail)
    error = refusal(gpt2)
    assert error.got == f"Can't load {gpt2.name}, or {gpt2.name}/config.json."
    assert error.numbers["detail"] == error.got
