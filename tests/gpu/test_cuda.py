"""What only CUDA can show: parity there, half precision, memory that really runs out, predictions that hold.

Run by `make test-gpu` with whichever Python is active; needs torch,
transformers, numpy and pytest alone. Without CUDA,
ATTENTION_TEST_DEVICE=second:0 runs what needs no CUDA memory (`-k "not memory"`)
on a device that only keeps its tensors apart; test_second_device.py does so.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
import transformers

from engine import Head, LocalEngine, Prompt, budget, errors, loading
from engine.evidence import reference as evidence_reference
from engine.limits import DEFAULT
from tests.engine import oracle, tiny
from tests.engine.operations import OPERATIONS
from tests.gpu import second_device

pytestmark = pytest.mark.gpu

DEVICE = os.environ.get("ATTENTION_TEST_DEVICE", "cuda")
TEXT = "我喜欢吃苹果, the apple every day."
TARGET = "I eat."
MODELS = ("zh-en", *oracle.SHOWN)
MiB = 2**20
#: What may differ between two devices.
OF_THE_DEVICE = {"device", "provenance", "memory", "seconds", "seconds_cached", "seconds_uncached"}

if DEVICE.startswith(second_device.NAME):
    second_device.install()


@pytest.fixture(scope="module", autouse=True)
def full_float32():
    """No TF32: its ten bits of mantissa would pass for wrong maps."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module", autouse=True)
def own_references(tmp_path_factory):
    """Reference patterns measured here and now: the user's own may be an earlier run's, of another device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTENTION_CACHE", str(tmp_path_factory.mktemp("references")))
        if DEVICE.startswith(second_device.NAME):  # slow, every operation being a call of Python
            patch.setattr(evidence_reference, "REFERENCE_RUNS", 200)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return oracle.save_tiny(tmp_path_factory.mktemp("models"), oracle.SHOWN)


def make(folder, bounds=DEFAULT) -> LocalEngine:
    return LocalEngine(assets=oracle.ASSETS, folder=folder, device=DEVICE, bounds=bounds)


@pytest.fixture(scope="module")
def engine(folder):
    return make(folder)


def prompt_of(name: str, text: str = TEXT) -> Prompt:
    """With a given target where one is taken: what near ties write is no matter of parity."""
    return Prompt(name, text, target=TARGET if name in ("zh-en", *oracle.ENCODER_DECODERS) else None)


def reference(path, text: str = TEXT, dtype: torch.dtype = torch.float32) -> oracle.Reference:
    of = oracle.Oracle(path, device=DEVICE, dtype=dtype)
    written = None
    if of.family == "encoder-decoder":
        written = [of.model.config.decoder_start_token_id, *of.tokenizer(TARGET).input_ids]
    return of.maps(text, written=written)


def assert_equal_maps(engine: LocalEngine, prompt: Prompt, maps: dict, *, tolerance: float) -> None:
    trace = engine.trace(prompt)
    assert set(trace.streams) == maps.keys()
    for stream, expected in maps.items():
        assert trace.layers_heads(stream) == expected.shape[:2]
        for layer in range(expected.shape[0]):
            for head in range(expected.shape[1]):
                got = engine.pattern(prompt, Head(stream, layer, head))
                np.testing.assert_allclose(got, expected[layer, head], atol=tolerance, rtol=0,
                                           err_msg=f"{stream} layer {layer} head {head}")


# --- parity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_head_equals_eager_in_float32(engine, folder, name):
    expected = reference((oracle.ASSETS if name == "zh-en" else folder) / name)
    assert_equal_maps(engine, prompt_of(name), expected.maps, tolerance=1e-5)
    found = engine.trace(prompt_of(name)).provenance
    assert (found.device, found.dtype) == (DEVICE, "float32")
    assert max(found.probe_error, found.row_sum_error, found.output_error) <= 1e-5


@pytest.mark.parametrize("name", ["gpt2", "mistral", "gemma2", "t5"])
def test_a_run_too_long_to_keep_answers_the_same(engine, folder, name):
    forgetful, prompt = make(folder, replace(DEFAULT, capture_bytes=1)), prompt_of(name, TEXT * 6)
    for stream in engine.trace(prompt).streams:
        head = Head(stream, 1, 3)
        np.testing.assert_allclose(forgetful.pattern(prompt, head), engine.pattern(prompt, head), atol=1e-5)
        ours, theirs = (who.pictures(prompt, stream).cells for who in (forgetful, engine))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        ours, theirs = (who.summaries(prompt, stream).entropy for who in (forgetful, engine))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert engine.query_key_value(prompt, head).q.dtype == np.float32
        assert np.isfinite(engine.pooled(prompt, head, size=7).mean).all()
        assert engine.scores(prompt, head).shape == engine.visible(prompt, head).shape


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "marian"])
def test_half_precision_is_within_its_tolerance_and_said(tmp_path, monkeypatch, name, dtype):
    """Maps are recomputed in float32 from half-precision queries and keys; eager rounds its scores."""
    path = tmp_path / name
    tiny.save(name, path)
    model = tiny.model(name)
    for parameter in model.parameters():  # weights as wide as tiny's amplify rounding from layer to layer
        parameter.data.mul_(0.4 if parameter.ndim > 1 else 1)
    model.to(getattr(torch, dtype)).save_pretrained(path)
    monkeypatch.setattr(loading, "_plan", lambda tensors, device, free: (dtype, 1))
    engine, prompt = make(tmp_path), prompt_of(name)
    found = engine.trace(prompt).provenance
    assert found.dtype == dtype and found.probe_error <= DEFAULT.probe_tolerance_half
    assert found.row_sum_error <= 1e-5  # the recomputation itself is float32
    expected = reference(path, dtype=getattr(torch, dtype))
    assert_equal_maps(engine, prompt, expected.maps, tolerance=2 * DEFAULT.probe_tolerance_half)


def test_twenty_sessions_at_once_get_the_answers_they_would_get_alone(engine, folder):
    crowd = make(folder)
    prompts = [Prompt("gpt2", "apple" * (1 + n % 3) + chr(ord("a") + n)) for n in range(20)]
    with ThreadPoolExecutor(len(prompts)) as pool:
        maps = list(pool.map(lambda p: crowd.pattern(p, Head("decoder", 2, 1)), prompts))
    for prompt, got in zip(prompts, maps, strict=True):
        np.testing.assert_allclose(got, engine.pattern(prompt, Head("decoder", 2, 1)), atol=1e-6)


# --- the labs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_cpu(folder):
    return LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu")


def assert_alike(got: object, expected: object, where: str) -> None:
    """Equal but for rounding, field by field; `where` names the place in a failure."""
    assert type(got) is type(expected), where
    if is_dataclass(expected):
        for name in (field.name for field in fields(expected) if field.name not in OF_THE_DEVICE):
            assert_alike(getattr(got, name), getattr(expected, name), f"{where}.{name}")
    elif isinstance(expected, dict):
        assert got.keys() == expected.keys(), where
        for key in expected:
            assert_alike(got[key], expected[key], f"{where}[{key}]")
    elif isinstance(expected, (tuple, list)):
        assert len(got) == len(expected), where
        for n, pair in enumerate(zip(got, expected, strict=True)):
            assert_alike(*pair, f"{where}[{n}]")
    elif isinstance(expected, (float, np.ndarray)) and np.asarray(expected).dtype.kind == "f":
        # A p-value counts windows of the reference: rounding moves it by whole ones, of 1e-4 each.
        counted = any(name in where for name in ("carriers_p", "p_values", ".reasons"))
        np.testing.assert_allclose(got, expected, atol=1e-3 if counted else 1e-4, rtol=1e-3, err_msg=where)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(got, expected, err_msg=where)
    else:
        assert got == expected, where


@pytest.mark.parametrize("name, stream", [("zh-en", "cross"), ("gpt2", "decoder"), ("mistral", "decoder")])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_lab_answers_as_on_the_cpu(engine, on_cpu, operation, name, stream):
    got, expected = (OPERATIONS[operation](who, name, stream) for who in (engine, on_cpu))
    assert_alike(got, expected, operation)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fraction():
    """Bounds this process's share of the device's memory to what is held now and `spare` bytes; undone afterwards."""

    def bound(spare: int) -> None:
        torch.cuda.empty_cache()
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + spare) / total)

    yield bound
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def test_memory_that_runs_out_is_given_back_and_the_next_run_works(folder, fraction):
    engine = make(folder)
    short, long = prompt_of("t5"), prompt_of("t5", "a" * 4_000)  # T5's bias: 4 heads of n², 256 MB, several at once
    engine.trace(short)
    before = torch.cuda.memory_allocated()
    fraction(128 * MiB)
    for _ in range(3):  # nothing may pile up
        with pytest.raises(errors.OutOfMemory) as told:
            engine.trace(long)
        assert told.value.numbers["device"] == "cuda" and told.value.__context__ is None
        assert torch.cuda.memory_allocated() <= before + MiB
    other = prompt_of("t5", "the apple")
    assert engine.trace(other).provenance.output_error <= 1e-5
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.trace(long).tokens("encoder").key  # the same run, with room


def test_memory_that_a_run_would_lack_is_told_in_numbers_and_not_tried(folder):
    engine = make(folder)
    engine.trace(prompt_of("t5"))
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    engine.limits = replace(DEFAULT, memory_headroom=100 * MiB / free)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with pytest.raises(errors.OverBudget) as refusal:
        engine.trace(prompt_of("t5", "a" * 4_000))
    numbers = refusal.value.numbers
    assert numbers["needed_bytes"] > 4 * 4 * 4_000**2 > numbers["allowed_bytes"]
    assert abs(numbers["free_bytes"] - free) < 1024 * MiB  # others may use the device meanwhile
    assert torch.cuda.max_memory_allocated() == before
    engine.limits = DEFAULT
    assert engine.trace(prompt_of("t5", "the apple")).shape


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A GPT-2 and a BERT of a real model's proportions, random weights."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    models = {
        "gpt2": transformers.GPT2LMHeadModel(transformers.GPT2Config(
            vocab_size=tiny.D_VOCAB, n_embd=512, n_layer=6, n_head=8, n_positions=2_048, bos_token_id=tiny.BOS,
            eos_token_id=tiny.EOS)),
        "bert": transformers.BertForMaskedLM(transformers.BertConfig(
            vocab_size=30_000, hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2_048,
            max_position_embeddings=2_048, pad_token_id=tiny.PAD)),
    }
    for name, model in models.items():
        model.save_pretrained(folder / f"wide-{name}")
        tiny.tokenizer("$A").save_pretrained(folder / f"wide-{name}")
    return folder


@pytest.mark.parametrize("name, length", [
    ("gpt2", 200), ("llama", 200), ("gemma2", 200), ("gpt_oss", 200), ("bert", 200), ("t5", 1_500), ("marian", 200),
    ("zh-en", 100), ("wide-gpt2", 1_500), ("wide-bert", 1_500),
])
def test_memory_used_is_no_more_than_predicted(folder, wide, monkeypatch, name, length):
    engine = make(wide if name.startswith("wide") else folder)
    engine.trace(prompt_of(name, "apple"))  # loads, and lets cuBLAS take its workspace
    predicted, real = [], budget.check
    monkeypatch.setattr(budget, "check", lambda needed, **rest: predicted.append(needed) or real(needed, **rest))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    engine.trace(prompt_of(name, "a" * length))
    torch.cuda.synchronize()
    used = torch.cuda.max_memory_allocated() - before
    assert used <= predicted[0], f"{name}: {used / MiB:.1f} MiB used, {predicted[0] / MiB:.1f} MiB predicted"


def test_memory_of_a_put_out_model_is_given_back(folder):
    torch.cuda.empty_cache()
    engine = make(folder, replace(DEFAULT, model_cache_bytes=1))
    for text in ("a", "aa", TEXT):  # each in a thread of its own; two at a time may take cuBLAS a second workspace
        engine.trace(prompt_of("bert", text))
    before = torch.cuda.memory_allocated()
    for n in range(5):
        engine.trace(prompt_of("bert", "apple" + "a" * n))
    kept = sum(captured.bytes for captured in engine._captured.values())
    assert torch.cuda.memory_allocated() <= before + kept + MiB
