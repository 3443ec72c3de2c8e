"""Memory that runs out in the middle of a run is told plainly, given back, and the next run works.

CUDA's own exhaustion is in the tests marked `gpu`; here the same errors are
raised where torch would raise them.
"""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine import Head, LocalEngine, Prompt, attention, capture, errors, run
from tests.engine import oracle
from tests.engine.bounds import BRIEF

TEXT = "我喜欢吃苹果, the apple."
ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return oracle.save_tiny(tmp_path_factory.mktemp("models"), ("gpt2", "marian", "bert"))


@pytest.fixture
def engine(folder):
    return LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu", bounds=BRIEF)


class Exhausted:
    """A function that holds a large tensor and then runs out of memory; `held` tells whether it still lives."""

    def __init__(self, error: Exception, *, after: int = 0) -> None:
        self.error, self.left, self.held = error, after, []

    def instead_of(self, real):
        def call(*args, **rest):
            result = real(*args, **rest)
            if self.left:
                self.left -= 1
                return result
            large = torch.zeros(1_000_000)
            self.held.append(weakref.ref(large))
            raise type(self.error)(*self.error.args)

        return call


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("place", ["run.forward", "run.write", "capture.Checks.add"])
@pytest.mark.parametrize("name", ["gpt2", "marian"])
def test_it_is_told_freed_and_the_next_run_works(engine, monkeypatch, name, place, error):
    exhausted = Exhausted(error, after=2 if place == "capture.Checks.add" else 0)
    owner = {"run": run, "capture": capture.Checks}[place.split(".")[0]]
    attribute = place.split(".")[-1]
    monkeypatch.setattr(owner, attribute, exhausted.instead_of(getattr(owner, attribute)))
    prompt = Prompt(name, TEXT)
    with pytest.raises(errors.OutOfMemory) as told:
        engine.trace(prompt)
    assert told.value.code == "out_of_memory" and told.value.numbers["device"] == "cpu"
    assert "Shorten" in told.value.next_step
    assert exhausted.held and all(tensor() is None for tensor in exhausted.held)  # while the error is still held
    assert told.value.__context__ is None and told.value.__cause__ is None
    monkeypatch.undo()
    assert engine.trace(prompt).provenance.output_error < 1e-5
    assert engine._running == {}


def test_the_captured_calls_of_a_failed_run_are_gone(engine, monkeypatch):
    kept = []
    real = capture.Recorder.__call__

    def watched(self, call, output):
        kept.append(weakref.ref(call))
        real(self, call, output)
        if len(kept) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(capture.Recorder, "__call__", watched)
    with pytest.raises(errors.OutOfMemory) as told:
        engine.trace(Prompt("gpt2", TEXT))
    assert len(kept) == 3 and all(call() is None for call in kept), told
    assert attention._session.get() is None


def test_the_error_does_not_hold_the_model(folder, monkeypatch):
    engine = LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu",
                         bounds=replace(BRIEF, model_cache_bytes=1))
    models = []
    real = run.forward

    def fail(live, arguments):
        models.append(weakref.ref(live.model))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(run, "forward", fail)
    with pytest.raises(errors.OutOfMemory) as told:
        engine.trace(Prompt("gpt2", TEXT))
    gc.collect()
    assert models[0]() is None, told
    monkeypatch.setattr(run, "forward", real)
    engine.trace(Prompt("gpt2", TEXT))


@pytest.mark.parametrize("ask", ["pattern", "scores"])
def test_memory_that_runs_out_over_a_kept_trace_is_told_the_same_way(engine, monkeypatch, ask):
    prompt, head = Prompt("gpt2", TEXT), Head("decoder", 1, 1)
    expected = getattr(engine, ask)(prompt, head)
    exhausted = Exhausted(ERRORS[0])
    monkeypatch.setattr(attention, ask, exhausted.instead_of(getattr(attention, ask)))
    with pytest.raises(errors.OutOfMemory):
        getattr(engine, ask)(prompt, head)
    assert all(tensor() is None for tensor in exhausted.held)
    monkeypatch.undo()
    np.testing.assert_array_equal(getattr(engine, ask)(prompt, head), expected)


def test_a_model_that_runs_out_while_it_loads_can_be_asked_for_again(engine, monkeypatch):
    from engine import loading

    real, tries = loading.load, []

    def fail_twice(*args, **rest):
        tries.append(1)
        if len(tries) <= 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(*args, **rest)

    monkeypatch.setattr(loading, "load", fail_twice)
    for _ in range(2):
        with pytest.raises(errors.OutOfMemory):
            engine.trace(Prompt("bert", TEXT))
    assert engine.trace(Prompt("bert", TEXT)).streams == ("encoder",)


def test_sessions_that_wait_behind_a_failing_one_are_served(engine, monkeypatch):
    real, calls = run.write, []

    def fail_first(*args, **rest):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(*args, **rest)

    monkeypatch.setattr(run, "write", fail_first)
    runs = [engine.start(Prompt("gpt2", text)) for text in "abcd"]
    with pytest.raises(errors.OutOfMemory):
        runs[0].result(30)
    assert [running.result(30).prompt.text for running in runs[1:]] == ["b", "c", "d"]
