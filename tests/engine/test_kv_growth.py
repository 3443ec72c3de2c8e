"""Watching a model write: bytes of the real cache, the same text without it, FLOPs counted, book-long texts.

FLOPs are held to torch's own count of the very steps that ran, exactly; bytes
to the cache's tensors, exactly. Seconds are only required to be there.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from engine import LocalEngine, Prompt, errors, kv_flops, kv_growth, kv_memory
from tests.engine import tiny

TEXT = "我喜欢吃苹果 every day"
KINDS = ("gpt2", "mistral", "gemma2", "gpt_oss", "opt", "marian", "t5", "bert", "bloom")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        tiny.save(kind, folder / kind)
    return LocalEngine(device="cpu", folder=folder)


def grow(engine, kind: str, *, n_steps: int, text: str = TEXT, reports=None):
    report = reports.append if reports is not None else (lambda growth: None)
    job = functools.partial(kv_growth.grow, text=text, n_steps=n_steps, limits=engine.limits, report=report)
    return engine.submit(kind, job).result()


@pytest.fixture(scope="module")
def grown(engine):
    """Kind → its growth over nine steps."""
    return functools.cache(lambda kind: grow(engine, kind, n_steps=9))


@pytest.mark.parametrize("kind", ["gpt2", "mistral", "gemma2", "gpt_oss", "opt", "marian", "t5"])
def test_bytes_of_every_step_are_the_formulas(grown, kind):
    growth = grown(kind)
    np.testing.assert_array_equal(growth.logical, growth.formula)
    assert (growth.storage >= growth.logical).all()
    assert np.diff(growth.lengths).tolist() == [1] * 8
    assert growth.same_output
    assert growth.complete
    assert growth.memory is None
    for seconds in (growth.seconds_cached, growth.seconds_uncached):
        assert seconds.shape == (9,) and (seconds > 0).all()
    step = np.diff(growth.logical.sum(axis=1))
    if kind == "mistral":  # a window of 4: nothing grows after it
        assert (step == 0).all()
    elif kind in ("gemma2", "gpt_oss"):  # every other layer of two has it
        assert (step == 2 * 2 * 16 * 4).all()
    else:
        assert (step == growth.shape.n_layers * growth.shape.numbers * 4).all()


def flops_of_the_run(engine, kind: str, growth) -> tuple[list[int], list[int]]:
    """torch's count of every step, on the loaded model itself, by its own route.

    In eager attention: torch does not count what the CPU's fused kernel multiplies.
    """
    def job(live):
        before = live.model.config._attn_implementation
        live.model.set_attn_implementation("eager")
        try:
            return counted(live)
        finally:
            live.model.set_attn_implementation(before)

    def counted(live):
        source = torch.tensor([kv_growth.run.encode(live, Prompt(kind, TEXT), limits=engine.limits).source])
        pairs = {True: [], False: []}
        for cached in (True, False):
            arguments, past, given = {}, None, source
            for step, length in enumerate(growth.lengths.tolist()):
                with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                    if growth.n_source:
                        if step == 0:
                            arguments = {"encoder_outputs": live.model.get_encoder()(source)}
                        given = torch.zeros((1, 1 if cached else length), dtype=torch.long)
                        arguments["decoder_input_ids"] = given
                    elif step:
                        given = torch.zeros((1, 1 if cached else length), dtype=torch.long)
                    main = {} if growth.n_source else {"input_ids": given}
                    accepted = kv_growth.inspect.signature(live.model.forward).parameters
                    if "logits_to_keep" in accepted and not growth.n_source:
                        main["logits_to_keep"] = 1
                    found = live.model(**main, **arguments, past_key_values=past, use_cache=cached)
                past = found.past_key_values if cached else None
                pairs[cached].append(counter.get_total_flops())
        return pairs[True], pairs[False]

    return engine.submit(kind, job).result()


@pytest.mark.parametrize("kind", ["gpt2", "opt", "marian", "gpt_oss", "mistral"])
def test_flops_are_those_of_the_steps_that_ran(engine, grown, kind):
    growth = grown(kind)
    cached, uncached = flops_of_the_run(engine, kind, growth)
    assert growth.flops_cached.tolist() == cached
    assert growth.flops_uncached.tolist() == uncached


def test_flops_of_lengths_between_are_those_of_each_counted_alone():
    """From below gemma2's window, here 20, to beyond it; two lengths are always counted, both."""
    config = tiny.model("gemma2").config
    config.sliding_window = 20
    lengths = np.arange(14, 30)
    found = kv_flops.per_step(config, lengths, n_source=0, extra={})
    for at in (3, 9, 14):
        alone = kv_flops.per_step(config, lengths[at - 1:at + 1], n_source=0, extra={})
        assert [ours[at] for ours in found] == [counts[1] for counts in alone]


def test_work_grows_with_the_length_with_a_cache_and_without(engine):
    growth = grow(engine, "gpt2", n_steps=40)
    assert (np.diff(growth.flops_cached[1:]) > 0).all()  # not constant: attention reads the whole cache
    assert (np.diff(growth.flops_cached[1:], n=2) == 0).all()
    assert (np.diff(growth.flops_uncached[1:], n=3) == 0).all() and (np.diff(growth.flops_uncached[1:], n=2) > 0).all()
    assert (growth.flops_uncached[1:] > growth.flops_cached[1:]).all()


def test_reports_come_step_by_step(engine):
    reports = []
    growth = grow(engine, "gpt2", n_steps=5, reports=reports)
    assert [len(report.lengths) for report in reports] == [1, 2, 3, 4, *[5] * 7]
    assert [len(report.seconds_uncached) for report in reports] == [*[0] * 5, 1, 2, 3, 4, 5, 5]
    assert [report.complete for report in reports] == [False] * 10 + [True]
    assert reports[-1] is growth


def test_the_end_is_forbidden(engine):
    growth = grow(engine, "marian", n_steps=30)
    assert len(growth.lengths) == 30 and growth.output


@pytest.mark.parametrize(("kind", "n_steps", "text", "code"), [
    ("bert", 5, TEXT, "no_cache"), ("gpt2", 1, TEXT, "bad_amount"), ("gpt2", 10_000, TEXT, "bad_amount"),
    ("gpt2", 5, " ", "empty_text"), ("gpt2", 5, "苹果" * 5_000, "too_many_characters"),
])
def test_what_cannot_grow_is_refused(engine, kind, n_steps, text, code):
    with pytest.raises(errors.EngineError) as caught:
        grow(engine, kind, n_steps=n_steps, text=text)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["nothing", "../etc", "no such/model/here"])
def test_unknown_models_are_refused_at_once(engine, name):
    with pytest.raises(errors.EngineError):
        engine.submit(name, lambda live: None)


def test_configs_by_name(engine):
    assert kv_memory.shape_of(engine.config("mistral")).windows == (4, 4)
    with pytest.raises(errors.ModelNotFound):
        engine.config("nothing")


def test_a_book_is_counted_as_the_tokenizer_does(engine):
    lines = ["我喜欢吃苹果", "", "the apple </s> <unk> the", "苹果发布了新手机。" * 30]
    text = "\n".join(lines)

    def job(live):
        alone = [len(live.tokenizer(line, add_special_tokens=False, split_special_tokens=True).input_ids)
                 for line in text.splitlines(keepends=True)]
        return kv_growth.count_tokens(live, text), sum(alone), kv_growth.count_tokens(live, "")

    found, expected, nothing = engine.submit("marian", job).result()
    assert (found, nothing) == (expected, 0)


def test_a_text_too_long_to_count_is_refused(engine):
    with pytest.raises(errors.TextTooLong):
        engine.submit("marian", lambda live: kv_growth.count_tokens(live, "x" * 10_000_001)).result()


def test_what_a_gpu_reports_is_kept_step_by_step(engine, monkeypatch):
    """Without CUDA: the driver's and the allocator's answers are made up, one for each step."""
    step, total = iter(range(100)), 10**12

    def driver(device):
        return total - 7_000 * next(step), total

    monkeypatch.setattr(torch.cuda, "mem_get_info", driver)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 11)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 13)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)

    def job(live):
        return kv_growth.grow(replace(live, device="cuda:0"), text=TEXT, n_steps=5, limits=engine.limits)

    memory = engine.submit("gpt2", job).result().memory
    assert (memory.live == 11).all() and (memory.reserved == 13).all() and memory.live.shape == (5,)
    assert np.diff(memory.device).tolist() == [7_000] * 4


@pytest.mark.gpu
def test_live_reserved_and_device_bytes_are_three_numbers(tmp_path):
    tiny.save("gpt2", tmp_path / "gpt2")
    growth = grow(LocalEngine(device="cuda", folder=tmp_path), "gpt2", n_steps=6)
    memory = growth.memory
    assert (memory.live < memory.reserved).all() and (memory.reserved < memory.device).all()
    assert (growth.logical == growth.formula).all()
