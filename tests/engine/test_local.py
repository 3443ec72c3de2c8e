"""The engine under many sessions: no wrong answer, no wedge, no leak, and what it says of itself is measured.

Every concurrent answer is compared with the same question asked alone.
"""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine import Head, LocalEngine, Prompt, attention, capture, errors, run, source
from engine.limits import Limits
from tests.engine import oracle, tiny
from tests.engine.bounds import BRIEF

WAIT = 60.0
KINDS = ("gpt2", "mistral", "gemma2", "gpt_oss", "bert", "t5", "marian")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return oracle.save_tiny(tmp_path_factory.mktemp("models"), KINDS)


def make(folder, bounds: Limits = BRIEF) -> LocalEngine:
    return LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu", bounds=bounds)


@pytest.fixture(scope="module")
def shared(folder):
    return make(folder)


def in_threads(jobs):
    """Results of all jobs, begun at the same moment in as many threads; an exception is a result."""
    barrier = threading.Barrier(len(jobs))

    def begin(job):
        barrier.wait(WAIT)
        try:
            return job()
        except Exception as error:  # noqa: BLE001 - handed back to the test, which looks at it
            return error

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(begin, jobs))


# --- many at once ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeps", [BRIEF.capture_bytes, 1], ids=["kept", "captured again"])
@pytest.mark.parametrize("name", ["zh-en", "gpt2"])
def test_twenty_sessions_get_the_answers_they_would_get_alone(folder, shared, name, keeps):
    engine = make(folder, replace(BRIEF, capture_bytes=keeps))
    prompts = [Prompt(name, "苹果" * (1 + n % 3) + chr(ord("a") + n)) for n in range(20)]
    stream = "decoder"

    def ask(who, prompt):
        trace = who.trace(prompt)
        return (trace.axes, trace.output, who.pattern(prompt, Head(stream, 1, 2)), who.pictures(prompt, stream).cells,
                who.summaries(prompt, stream).entropy)

    answers = in_threads([lambda p=p: ask(engine, p) for p in prompts])
    for prompt, answer in zip(prompts, answers, strict=True):
        assert not isinstance(answer, BaseException), answer
        alone = ask(shared, prompt)
        assert answer[:2] == alone[:2]
        for ours, theirs in zip(answer[2:], alone[2:], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert engine._running == {}


def test_what_was_asked_first_does_not_change_the_rest(folder, shared):
    """Looking at one layer must not move it to another place in the grid."""
    engine, prompt = make(folder), Prompt("gpt2", "the apple every day")
    for layer in (1, 0):
        engine.pattern(prompt, Head("decoder", layer, 0))
    maps = engine.patterns(prompt, "decoder")
    cells = engine.pictures(prompt, "decoder").cells
    np.testing.assert_array_equal(np.nan_to_num(cells), maps)
    entropy = -(maps * np.log(np.where(maps > 0, maps, 1))).sum(-1).mean(-1)
    np.testing.assert_allclose(engine.summaries(prompt, "decoder").entropy, entropy, atol=1e-5)


def test_models_run_side_by_side(folder, shared):
    engine = make(folder)
    prompts = [Prompt(name, f"apple{n}") for n in range(2) for name in ("gpt2", "gemma2", "bert", "t5")]
    answers = in_threads([lambda p=p: engine.summaries(p, engine.trace(p).streams[0]).entropy for p in prompts])
    for prompt, answer in zip(prompts, answers, strict=True):
        alone = shared.summaries(prompt, shared.trace(prompt).streams[0]).entropy
        np.testing.assert_allclose(answer, alone, atol=1e-6)


class Gate:
    """Holds every run of an engine until it is opened, and counts them."""

    def __init__(self, engine: LocalEngine, monkeypatch) -> None:
        self.begun, self.open, self.runs = threading.Event(), threading.Event(), []
        real = engine._trace

        def held(prompt, report, live):
            self.runs.append(prompt)
            self.begun.set()
            assert self.open.wait(WAIT)
            return real(prompt, report, live)

        monkeypatch.setattr(engine, "_trace", held)


def test_the_same_prompt_asked_twice_runs_once(folder, monkeypatch):
    engine = make(folder)
    gate = Gate(engine, monkeypatch)
    prompt = Prompt("gpt2", "apple")
    runs = [engine.start(prompt) for _ in range(20)]
    assert all(running is runs[0] for running in runs)
    gate.open.set()
    assert len({id(running.result(WAIT)) for running in runs}) == 1
    engine.pattern(prompt, Head("decoder", 0, 0))
    assert gate.runs == [prompt]


def test_a_full_queue_says_busy_at_once_and_then_goes_on(folder, monkeypatch):
    engine = make(folder, replace(BRIEF, queue_length=2))
    gate = Gate(engine, monkeypatch)
    first = engine.start(Prompt("gpt2", "a"))
    assert gate.begun.wait(WAIT)
    waiting = [engine.start(Prompt("gpt2", text)) for text in ("b", "c")]
    with pytest.raises(errors.Busy) as busy:
        engine.start(Prompt("gpt2", "d"))
    assert busy.value.numbers["model"] == "gpt2" and busy.value.numbers["limit"] == 2
    assert engine.start(Prompt("gpt2", "b")) is waiting[0]  # who asks for what waits already, joins it
    assert not first.done
    gate.open.set()
    for running in (first, *waiting):
        running.result(WAIT)
    assert engine.trace(Prompt("gpt2", "d")).prompt.text == "d"


def test_progress_is_told_in_order(folder, monkeypatch):
    engine = make(folder)
    stages = []
    real = run.write

    def write(live, encoded, *, report, limits):
        def keep(progress):
            stages.append(progress)
            report(progress)
        return real(live, encoded, report=keep, limits=limits)

    monkeypatch.setattr(run, "write", write)
    running = engine.start(Prompt("marian", "apple"))
    trace = running.result(WAIT)
    assert running.progress.stage == "done" and running.done
    assert [p.stage for p in stages] == ["writing"] * len(stages)
    assert [p.done for p in stages] == list(range(1, len(stages) + 1))
    assert all(p.total == BRIEF.new_tokens_target for p in stages)
    assert stages[-1].output == trace.output


def test_a_session_is_seen_by_its_own_thread_only():
    seen = {}

    def session(number: int) -> None:
        calls = seen.setdefault(number, [])
        with attention.session(lambda call, output: calls.append(int(call.query[0, 0, 0]))):
            for _ in range(50):
                q = torch.full((1, 1, 2, 4), float(number))
                attention._attention(torch.nn.Module(), q, q, q, None)

    in_threads([lambda n=n: session(n) for n in range(8)])
    assert all(set(calls) == {number} and len(calls) == 50 for number, calls in seen.items())
    assert attention._session.get() is None


def test_a_session_ends_though_its_run_failed():
    with pytest.raises(ValueError), attention.session(lambda call, output: None):
        raise ValueError
    assert attention._session.get() is None


def test_a_batch_is_never_taken_for_one_sequence():
    q = torch.zeros(2, 1, 2, 4)
    with pytest.raises(ValueError, match="batch of 2"), attention.session(lambda call, output: None):
        attention._attention(torch.nn.Module(), q, q, q, None)


# --- caches ----------------------------------------------------------------------------------------------------------


def test_a_model_put_out_and_loaded_again_answers_the_same(folder, monkeypatch):
    engine = make(folder, replace(BRIEF, model_cache_bytes=1, trace_cache_bytes=1))
    loads = []
    real = engine._load
    monkeypatch.setattr(engine, "_load", lambda name, report: loads.append(name) or real(name, report))
    prompt, other = Prompt("gpt2", "apple"), Prompt("bert", "apple")
    first = engine.trace(prompt), engine.pattern(prompt, Head("decoder", 2, 3))
    assert engine._models.entries() == ()  # larger than the budget: gone as soon as it is idle
    engine.trace(other)
    again = engine.trace(prompt), engine.pattern(prompt, Head("decoder", 2, 3))
    assert loads == ["gpt2", "bert", "gpt2"]
    assert replace(first[0].provenance, seconds=0) == replace(again[0].provenance, seconds=0)
    assert (first[0].axes, first[0].output) == (again[0].axes, again[0].output)
    np.testing.assert_array_equal(first[1], again[1])


def test_the_least_recently_asked_trace_goes_first(folder, monkeypatch):
    engine = make(folder)
    prompts = [Prompt("gpt2", text * 30) for text in "abcd"]
    engine.trace(prompts[0])
    one = engine._captured[prompts[0]].bytes
    engine.limits = replace(BRIEF, trace_cache_bytes=3 * one + one // 2)
    for prompt in (prompts[1], prompts[2], prompts[0], prompts[3]):
        engine.trace(prompt)
    assert set(engine._captured) == {prompts[2], prompts[0], prompts[3]}
    np.testing.assert_allclose(engine.patterns(prompts[1], "decoder").sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("keeps", [BRIEF.capture_bytes, 1], ids=["kept", "captured again"])
def test_no_trace_is_held_for_nothing(folder, keeps):
    """Also a run too long to keep has labels and pictures; uncounted, they would pile up for ever."""
    engine = make(folder, replace(BRIEF, capture_bytes=keeps, trace_cache_bytes=300_000))
    for n in range(8):
        prompt = Prompt("gpt2", "a" * 100 + chr(ord("a") + n))
        engine.pictures(prompt, "decoder")
    assert 1 <= len(engine._captured) <= 4
    held = sum(captured.bytes for captured in list(engine._captured.values())[:-1])
    assert held <= 300_000


def test_names_that_lead_nowhere_leave_no_thread_behind(folder, monkeypatch):
    engine = make(folder)
    engine.trace(Prompt("gpt2", "apple"))

    def nowhere(found, **rest):
        raise errors.ModelNotFound("a model", got=found.name, next_step="Check it.", code="c")

    monkeypatch.setattr(source, "fetch", nowhere)
    before = threading.active_count()
    for n in range(20):
        with pytest.raises(errors.ModelNotFound):
            engine.trace(Prompt(f"nobody/model-{n}", "apple"))
    deadline = time.monotonic() + 10
    while threading.active_count() > before + 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before + 1  # the last one may wait for the next sweep
    assert "gpt2" in engine._slots and len(engine._slots) <= 2  # a loaded model keeps its worker


# --- what it says of itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, masks", [
    ("gpt2", {"decoder": {"causal"}}), ("mistral", {"decoder": {"windowed"}}),
    ("gemma2", {"decoder": {"causal", "windowed"}}), ("gpt_oss", {"decoder": {"causal", "windowed"}}),
    ("bert", {"encoder": {"bidirectional"}}),
    ("t5", {"encoder": {"bidirectional"}, "decoder": {"causal"}, "cross": {"bidirectional"}}),
    ("zh-en", {"encoder": {"bidirectional"}, "decoder": {"causal"}, "cross": {"bidirectional"}}),
])
def test_masks_of_each_stream(shared, name, masks):
    trace = shared.trace(Prompt(name, "我喜欢吃苹果, the apple.", target="I eat." if len(masks) == 3 else None))
    assert {stream: set(kinds.split(" + ")) for stream, kinds in trace.provenance.masks} == masks


@pytest.mark.parametrize("name", ["zh-en", *KINDS])
def test_errors_are_measured_and_small(shared, name):
    found = shared.trace(Prompt(name, "我喜欢吃苹果, the apple every day.")).provenance
    for error in (found.probe_error, found.row_sum_error, found.output_error):
        assert 0 <= error <= 1e-5
    assert found.row_sum_error > 0  # sums of float32 softmax over so many rows are never all exact
    assert (found.device, found.dtype, found.model) == ("cpu", "float32", name)
    assert found.revision.startswith("sha256:") and found.seconds > 0
    assert dict(found.versions).keys() == {"torch", "transformers"}


def test_the_row_sum_error_is_that_of_the_rows(folder, shared, monkeypatch):
    prompt = Prompt("gpt2", "apple")
    sums = np.stack([shared.pattern(prompt, Head("decoder", layer, head)).sum(-1, dtype=np.float64)
                     for layer in range(3) for head in range(4)])
    told = shared.trace(prompt).provenance.row_sum_error
    assert abs(told - abs(sums - 1).max()) < 3e-7  # float32 sums against float64 ones
    real = attention.pattern
    monkeypatch.setattr(capture.attention, "pattern", lambda call, **rest: real(call, **rest) * 1.25)
    engine = make(folder)
    engine._models = shared._models  # loaded and probed before
    worse = engine.trace(prompt).provenance
    assert worse.row_sum_error == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "t5", "zh-en"])
def test_a_wrong_recomputation_shows_in_the_output_error(folder, shared, monkeypatch, name):
    prompt = Prompt(name, "我喜欢吃苹果, the apple.")
    right = shared.trace(prompt).provenance.output_error
    real = attention.pattern
    monkeypatch.setattr(capture.attention, "pattern",
                        lambda call, **rest: real(replace(call, scaling=call.scaling * 1.05), **rest))
    engine = make(folder)
    engine._models = shared._models
    wrong = engine.trace(prompt).provenance
    assert wrong.output_error > max(1e-3, 100 * right)
    assert wrong.row_sum_error < 1e-5  # rows still sum to one: only the output can tell


def test_numbers_that_are_not_finite_stop_a_run(folder, shared, monkeypatch):
    engine = make(folder)
    engine._models = shared._models
    prompt = Prompt("mistral", "我喜欢吃苹果, the apple.")
    shared.trace(Prompt("mistral", "a"))
    real = run.forward

    def poisoned(live, arguments):
        layer = live.model.model.layers[1].self_attn.v_proj
        hook = layer.register_forward_hook(lambda module, args, output: output * float("nan"))
        try:
            return real(live, arguments)
        finally:
            hook.remove()

    monkeypatch.setattr(run, "forward", poisoned)
    with pytest.raises(errors.ModelRefused) as refusal:
        engine.trace(prompt)
    assert refusal.value.code == "not_finite"
    assert (refusal.value.numbers["stream"], refusal.value.numbers["layer"]) == ("decoder", 1)
    monkeypatch.setattr(run, "forward", real)
    assert engine.trace(prompt).provenance.output_error < 1e-5


def test_a_row_that_sees_no_key_is_zero_and_a_broken_one_is_not():
    q = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[[True, True, False], [False, False, False], [True, True, True]]])
    call = attention.Call(query=q, key=q, value=q, mask=mask, causal=False, scaling=0.5)
    rows = attention.pattern(call)
    torch.testing.assert_close(rows.sum(-1), torch.tensor([[1.0, 0.0, 1.0]] * 2))
    assert bool((rows[:, 1] == 0).all())
    broken = attention.pattern(replace(call, query=q * float("nan")))
    assert bool(broken[:, 0].isnan().all()) and bool(broken[:, 2].isnan().all())


# --- errors end where they began -------------------------------------------------------------------------------------


def test_an_error_in_a_worker_reaches_its_asker_and_wedges_nothing(folder, monkeypatch):
    engine = make(folder)
    real = engine._trace
    failures = iter([RuntimeError("odd"), KeyError("odd"), errors.InvalidPrompt("x", got="y", next_step="z", code="c")])
    monkeypatch.setattr(engine, "_trace", lambda *args: (_ for _ in ()).throw(next(failures)))
    for expected in (RuntimeError, KeyError, errors.InvalidPrompt):
        with pytest.raises(expected):
            engine.trace(Prompt("gpt2", "apple"))
    monkeypatch.setattr(engine, "_trace", real)
    assert engine.trace(Prompt("gpt2", "apple")).shape == ((3, 4),)
    assert [entry.leases for entry in engine._models.entries()] == [0]
    assert engine._running == {}


def test_nothing_but_the_arguments_decides_what_comes_back(shared):
    prompt = Prompt("gpt2", "apple")
    first = shared.pattern(prompt, Head("decoder", 0, 1))
    with pytest.raises(ValueError):
        first[0, 0] = 7
    np.testing.assert_array_equal(first, shared.pattern(Prompt("gpt2", "apple"), Head("decoder", 0, 1)))
    assert shared.trace(prompt) is shared.trace(Prompt("gpt2", "apple"))


def test_a_put_out_model_is_really_gone(folder):
    engine = make(folder, replace(BRIEF, model_cache_bytes=1))
    kept = []
    real = engine._load

    def load(name, report):
        live = real(name, report)
        kept.append(weakref.ref(live.model))
        return live

    engine._load = load
    prompt = Prompt("gpt2", "apple")
    engine.trace(prompt)
    gc.collect()
    assert kept[0]() is None
    assert engine.pattern(prompt, Head("decoder", 0, 0)).shape == (len(tiny.tokenizer("$A")("apple").input_ids),) * 2
