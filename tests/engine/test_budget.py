"""The prediction is above what a run really keeps, and what does not fit is refused before anything runs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from engine import LocalEngine, Prompt, budget, errors, memory
from engine.limits import DEFAULT
from tests.engine import oracle

TEXT = "我喜欢吃苹果, the apple every day."
MiB = 2**20


def storages(captured) -> int:
    """Bytes of the distinct storages that a trace keeps alive: the truth, whatever views say."""
    tensors = [t for call in captured.calls.values() for t in (call.query, call.key, call.value, call.mask, call.bias)]
    held = [t.untyped_storage() for t in tensors if t is not None]
    return sum({storage.data_ptr(): storage.nbytes() for storage in held}.values())


@pytest.mark.parametrize("text", [TEXT, TEXT * 6], ids=["short", "long"])
@pytest.mark.parametrize("name", ["zh-en", *oracle.SHOWN])
def test_what_is_predicted_to_be_kept_is_no_less_than_what_is_kept(engine, name, text):
    prompt = Prompt(name, text[:100] if name == "zh-en" else text)
    trace = engine.trace(prompt)
    captured = engine._captured[prompt]
    assert captured.complete
    lengths = {"encoder": len(trace.tokens(trace.streams[0]).key),
               "decoder": len(trace.tokens(trace.streams[-1]).query)}
    with engine._models.lease(name, lambda: pytest.fail("it is loaded")) as live:
        shape = dict(zip(trace.streams, trace.shape, strict=True))
        predicted = budget.kept_bytes(live.model.config, lengths=lengths, shape=shape, element_bytes=4)
    truth = storages(captured)
    assert truth <= predicted <= 3 * truth  # above, and not by so much that small texts were refused
    assert truth <= captured.bytes <= 2 * truth + 200_000


def test_a_run_counts_more_than_what_it_keeps(engine):
    engine.trace(Prompt("t5", TEXT))
    with engine._models.lease("t5", lambda: pytest.fail("it is loaded")) as live:
        shape = dict(zip(live.plan.streams, live.plan.shape, strict=True))

        def predicted(n, **change):
            settings = {"logit_rows": n, "beams": 1, "new_tokens": 8, "element_bytes": 4,
                        "device": "cpu"} | change
            return budget.run_bytes(live.model.config, lengths={"encoder": n, "decoder": 8}, shape=shape, **settings)

        assert predicted(1_000) < predicted(2_000) < predicted(4_000)
        # A position bias of 4 heads is n² numbers, several at once: doubling n must quadruple that part.
        assert predicted(4_000) - 2 * predicted(2_000) > 4 * 4 * 2_000**2
        assert predicted(100, beams=4) > predicted(100)
        assert predicted(100, new_tokens=96) > predicted(100)


def test_grouped_heads_in_float32_are_written_out_on_cuda_alone():
    def predicted(n_kv_heads, device, element_bytes):
        config = SimpleNamespace(hidden_size=64, intermediate_size=256, vocab_size=100, num_key_value_heads=n_kv_heads)
        return budget.run_bytes(config, lengths={"encoder": 100, "decoder": 100}, shape={"decoder": (2, 8)}, beams=1,
                                logit_rows=1, new_tokens=8, device=device, element_bytes=element_bytes)

    written_out = 3 * 8 * 100**2 * 4
    for device, n_kv_heads, element_bytes, more in (
            ("cuda:0", 2, 4, written_out), ("cuda", 2, 4, written_out), ("cuda", 8, 4, 0), ("cuda", 2, 2, 0),
            ("cpu", 2, 4, 0)):
        assert predicted(n_kv_heads, device, element_bytes) - predicted(8, "cpu", element_bytes) == more


class Spy:
    """Fails where anything runs."""

    def __init__(self, monkeypatch) -> None:
        for place in ("engine.run.write", "engine.run.forward"):
            monkeypatch.setattr(place, lambda *args, **rest: pytest.fail(f"something ran: {args}"))


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5", "zh-en"])
def test_too_much_is_refused_with_the_numbers_and_nothing_runs(folder, monkeypatch, name):
    engine = LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu")
    engine.trace(Prompt(name, "a"))
    Spy(monkeypatch)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10 * MiB)
    with pytest.raises(errors.OverBudget) as refusal:
        engine.trace(Prompt(name, TEXT))
    numbers = refusal.value.numbers
    assert numbers["free_bytes"] == 10 * MiB
    assert numbers["allowed_bytes"] == int(10 * MiB * DEFAULT.memory_headroom) < numbers["needed_bytes"]
    assert f"{numbers['needed_bytes'] / MiB:,.0f} MiB" in str(refusal.value)
    assert numbers["device"] == "cpu" and Prompt(name, TEXT) not in engine._captured
    monkeypatch.undo()
    assert engine.trace(Prompt(name, TEXT)).shape  # memory came back, and so does the run


def test_the_headroom_decides_to_the_byte(monkeypatch):
    limits = replace(DEFAULT, memory_headroom=0.5)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000)
    budget.check(500, device="cpu", limits=limits)
    with pytest.raises(errors.OverBudget):
        budget.check(501, device="cpu", limits=limits)


def test_weights_that_do_not_fit_are_refused_too(folder, monkeypatch):
    engine = LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000)
    with pytest.raises(errors.OverBudget) as refusal:
        engine.trace(Prompt("gpt2", TEXT))
    assert refusal.value.code == "weights_over_budget"


@pytest.mark.parametrize("config, places", [
    ({"model_type": "gpt2", "n_positions": 1024}, 1024),
    ({"model_type": "bert", "max_position_embeddings": 512}, 512),
    ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
    ({"model_type": "xlm-roberta", "max_position_embeddings": 8194, "pad_token_id": 1}, 8192),
    ({"model_type": "opt", "max_position_embeddings": 2048, "pad_token_id": 1}, 2048),
    ({"model_type": "t5", "n_positions": 512}, 0),
    ({"model_type": "mt5"}, 0),
    ({"model_type": "x", "max_position_embeddings": True}, 0),
    ({"model_type": "x", "max_position_embeddings": -1, "n_ctx": 77}, 77),
])
def test_how_far_a_models_positions_reach(config, places):
    assert budget.n_ctx(SimpleNamespace(**config)) == places


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), torch.OutOfMemoryError(),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    RuntimeError("CUDA error: out of memory"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
], ids=repr)
def test_every_way_of_running_out_is_told_as_one(error):
    def fail():
        raise error

    with pytest.raises(errors.OutOfMemory) as told:
        budget.within_memory(fail, device="cuda:0")
    assert told.value.numbers["device"] == "cuda:0" and told.value.__context__ is None
    assert "\n" not in str(told.value)


def test_other_errors_pass_unchanged():
    for error in (RuntimeError("shapes do not fit"), ValueError("out of memory"), KeyError("x")):
        def fail(error=error):
            raise error

        with pytest.raises(type(error)) as passed:
            budget.within_memory(fail, device="cpu")
        assert passed.value is error
    assert budget.within_memory(lambda: 7, device="cpu") == 7
