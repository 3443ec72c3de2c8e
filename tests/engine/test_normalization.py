"""Norms against torch's own, activations against the model's own, four experiments, depth and training.

Tolerances: float64 references against torch's float32 modules, 1e-5; equal
inputs must give equal outputs, exactly.
"""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from engine import LocalEngine, Prompt, errors, norm_activations, norm_sites, normalization
from engine import norm_experiments as experiments
from engine.norm_depth import DEPTHS, Design, gradient_norms, sweep
from engine.norm_training import D_VOCAB, Recipe, train_comparison
from engine.streaming import Workbench
from tests.engine import tiny

TEXT = "我喜欢吃苹果 every day"
COMPANIONS = ("他每天买手机", "the apple", "我吃了一个苹果 today", "你喜欢新的手机", "buy it", "发布 the news")
KINDS = ("gpt2", "llama", "gemma2", "bert", "t5", "marian", "opt", "qwen3")
ALLOWED = 1e-5


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        tiny.save(kind, folder / kind)
    return LocalEngine(device="cpu", folder=folder)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(3).normal(2.0, 3.0, (5, 7, 12)).astype(np.float32)


def sites(engine, kind: str):
    return engine.submit(kind, partial(norm_sites.sites, text=TEXT, limits=engine.limits)).result()


def read(engine, kind: str, texts=(TEXT, *COMPANIONS), *, at: int = -1, padding: int = 0):
    stack = "decoder" if kind in ("gpt2", "llama", "gemma2", "opt", "qwen3") else "encoder"
    site = [site for site in sites(engine, kind) if site.stack == stack][at]
    return engine.submit(kind, partial(norm_activations.read_batch, texts=texts, site=site, limits=engine.limits,
                                       padding=padding)).result()


def later(engine, kind: str, *, position: int = -1):
    site = [site for site in sites(engine, kind) if site.stack == "decoder"][-1]
    trace = engine.trace(Prompt(kind, TEXT))
    return engine.submit(kind, partial(norm_activations.change_future, trace=trace, site=site,
                                       position=position)).result()


# --- the functions ---------------------------------------------------------------------------------------------------


def test_layer_and_rms_norm_are_torchs(x):
    gamma, beta = np.random.default_rng(4).normal(size=(2, 12)).astype(np.float32)
    given = torch.from_numpy(x)
    expected = functional.layer_norm(given, (12,), torch.from_numpy(gamma), torch.from_numpy(beta), 1e-5).numpy()
    np.testing.assert_allclose(normalization.layer_norm(x, gamma, beta), expected, atol=ALLOWED)
    np.testing.assert_allclose(normalization.layer_norm(x), functional.layer_norm(given, (12,)).numpy(), atol=ALLOWED)
    expected = functional.rms_norm(given, (12,), torch.from_numpy(gamma), 1e-5).numpy()
    np.testing.assert_allclose(normalization.rms_norm(x, gamma), expected, atol=ALLOWED)


def test_batch_norm_is_torchs_in_both_modes(x):
    module = nn.BatchNorm1d(12)
    batches = np.random.default_rng(5).normal(1.0, 2.0, (4, 35, 12)).astype(np.float32)
    with torch.no_grad():
        for batch in batches:
            module(torch.from_numpy(batch))
        trained = module(torch.from_numpy(x.reshape(-1, 12))).numpy().reshape(x.shape)
        evaluated = module.eval()(torch.from_numpy(x.reshape(-1, 12))).numpy().reshape(x.shape)
    np.testing.assert_allclose(normalization.batch_norm(x), trained, atol=ALLOWED)
    running = normalization.running_statistics(map(normalization.batch_statistics, [*batches, x]))
    np.testing.assert_allclose(running.mean, module.running_mean.numpy(), atol=ALLOWED)
    np.testing.assert_allclose(running.variance, module.running_var.numpy(), atol=ALLOWED)
    np.testing.assert_allclose(normalization.batch_norm(x, statistics=running), evaluated, atol=ALLOWED)


def test_a_mask_takes_padding_out_of_the_statistics(x):
    mask = np.random.default_rng(6).random((5, 7)) < 0.6
    masked = normalization.batch_statistics(x, mask=mask)
    np.testing.assert_allclose(masked.mean, x[mask].mean(0), atol=ALLOWED)
    assert masked.count == mask.sum()
    assert not np.allclose(masked.mean, normalization.batch_statistics(x).mean)


# --- the model's own activations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_form_is_what_the_models_own_norm_computes(engine, kind):
    found = sites(engine, kind)
    forms = {"gpt2": "layer", "bert": "layer", "marian": "layer", "opt": "layer"}
    assert {site.form for site in found} == {forms.get(kind, "rms")}
    for at in (0, -1):
        activations = read(engine, kind, at=at)
        assert activations.values.shape == activations.outputs.shape == (7, activations.mask.shape[1], 32)
        assert activations.error < ALLOWED * max(1.0, np.abs(activations.outputs).max())
        if activations.site.form == "layer":
            own = normalization.layer_norm(activations.sentence(1), activations.gamma, activations.beta,
                                           eps=activations.eps)
            np.testing.assert_allclose(own, activations.outputs[1][activations.mask[1]], atol=1e-4)
    assert len(activations.tokens[0]) == activations.mask[0].sum()


def test_norms_over_heads_are_no_norms_over_the_stream(engine):
    assert not [site for site in sites(engine, "qwen3") if "q_norm" in site.name or "k_norm" in site.name]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "marian"])
def test_a_sentence_is_the_same_alone_among_others_and_padded(engine, kind):
    alone = read(engine, kind, (TEXT,)).sentence(0)
    for batch in (read(engine, kind), read(engine, kind, padding=9)):
        np.testing.assert_allclose(batch.sentence(0), alone, atol=1e-4)
        np.testing.assert_allclose(normalization.layer_norm(batch.sentence(0)), normalization.layer_norm(alone),
                                   atol=1e-4)


# --- the experiments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "bert", "marian"])
def test_another_sentence_moves_batch_norm_alone(engine, kind):
    batch = read(engine, kind)
    own, rest = batch.sentence(0), [batch.sentence(i) for i in range(1, 7)]
    change = experiments.change_companions(own, rest[:3], [rest[4], *rest[1:3]], eps=batch.eps)
    assert change.input == change.layer == change.rms == 0
    assert change.batch > 1e-2 and change.batch == change.batch_rows.max()
    evaluating = torch.nn.BatchNorm1d(own.shape[1]).eval()
    evaluating.running_mean += 0.3
    among = [evaluating(torch.from_numpy(np.concatenate([own, *company])))[:len(own)]
             for company in (rest[:3], rest[3:])]
    torch.testing.assert_close(*among, rtol=0, atol=0, msg="running statistics do not know the batch")
    same = experiments.change_companions(own, rest[:3], rest[2::-1], eps=batch.eps)
    assert same.batch < 1e-9, "the order of a batch says nothing"


@pytest.mark.parametrize("kind", ["llama", "bert", "marian"])
def test_padding_moves_batch_norm_alone(engine, kind):
    batch = read(engine, kind, padding=12)
    change = experiments.pad_more(batch.values, batch.mask, 12, eps=batch.eps)
    assert change.layer == change.rms == 0 < 1e-2 < change.batch
    assert experiments.pad_more(batch.values, batch.mask, 0, eps=batch.eps).batch == 0
    shorter = read(engine, kind, padding=5)  # what was read with 12 and cut to 5 is what 5 give
    assert experiments.pad_more(batch.values, batch.mask, 5, eps=batch.eps).batch == pytest.approx(
        experiments.pad_more(shorter.values, shorter.mask, 5, eps=batch.eps).batch, rel=1e-2)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "marian"])
def test_batch_norm_leaks_the_future_and_layer_norm_does_not(engine, kind):
    pair = later(engine, kind)
    before, after = pair.before.values[0], pair.after.values[0]
    assert pair.before.tokens[0][:pair.position] == pair.after.tokens[0][:pair.position]
    assert pair.before.tokens[0][pair.position] != pair.after.tokens[0][pair.position]
    assert np.abs(before[pair.position] - after[pair.position]).max() > 1e-2
    change = experiments.change_later(before, after, pair.position, eps=pair.before.eps)
    assert change.layer_rows.shape == (pair.position,)
    assert change.input < ALLOWED and change.layer < ALLOWED and change.rms < ALLOWED
    assert (change.batch_rows > 100 * ALLOWED).all()


def test_an_encoder_has_no_future_to_leak(engine):
    site, trace = sites(engine, "bert")[-1], engine.trace(Prompt("bert", TEXT))
    with pytest.raises(errors.InvalidPrompt, match="streams"):
        engine.submit("bert", partial(norm_activations.change_future, trace=trace, site=site)).result()
    with pytest.raises(errors.InvalidPrompt, match="position"):
        later(engine, "gpt2", position=0)


def test_small_batches_are_noisy_and_train_differs_from_eval(engine):
    batch = read(engine, "marian")
    noise = normalization.batch_noise(batch.sentence(0), [batch.sentence(i) for i in range(1, 7)], sizes=(1, 4, 16),
                                      n_draws=400, eps=batch.eps)
    assert noise.noise[0] > noise.noise[1] > noise.noise[2] > 0
    assert noise.noise[0] / noise.noise[2] == pytest.approx(4, rel=0.15), "falls as 1/√size"
    assert noise.gap[0] > noise.gap[1] > noise.gap[2] > 0
    assert (noise.gap_layer == 0).all()


# --- depth -----------------------------------------------------------------------------------------------------------


def test_the_last_gradient_falls_with_depth_under_pre_norm_alone():
    last = {(placement, n): gradient_norms(n, 32, design=Design(placement)).ffn[-1]
            for placement in ("post", "pre") for n in (2, 8, 24)}
    for n in (8, 24):
        assert last["post", n] / last["post", 2] == pytest.approx(1, abs=0.35)
        assert last["pre", n] / last["pre", 2] == pytest.approx(np.sqrt(2 / n), rel=0.35)


def test_the_stream_grows_as_its_norms_let_it():
    streams = {placement: gradient_norms(24, 32, design=Design(placement)).stream
               for placement in ("post", "pre", "none")}
    np.testing.assert_allclose(streams["post"][1:], 1, atol=1e-3)
    assert streams["pre"][24] / streams["pre"][6] == pytest.approx(2, rel=0.2), "as √depth"
    assert streams["none"][24] > 100 * streams["pre"][24]
    cut = gradient_norms(24, 32, design=Design("none", residuals=False))
    assert cut.stream[-1] < 1e-6 > cut.ffn[0], "without norms and residuals nothing arrives"
    assert streams["post"].shape == (25,)


def test_a_seed_says_everything_and_the_loss_starts_at_chance():
    same = gradient_norms(3, 32, design=Design("pre"), seed=5)
    again = gradient_norms(3, 32, design=Design("pre"), seed=5)
    np.testing.assert_array_equal(same.ffn, again.ffn)
    assert not np.array_equal(same.ffn, gradient_norms(3, 32, design=Design("pre"), seed=6).ffn)
    assert same.loss == pytest.approx(np.log(32), rel=0.05)


def test_the_sweep_hands_out_what_it_knows():
    parts = list(sweep(16, depths=(2, 3), placements=("post", "pre")))
    assert [len(part) for part in parts] == [1, 2, 3, 4]
    assert [(one.n_layers, one.design.placement) for one in parts[-1]] == [
        (2, "post"), (2, "pre"), (3, "post"), (3, "pre")]
    assert DEPTHS[0] == 2 and DEPTHS[-1] == 24


@pytest.mark.parametrize("ask", [
    lambda: normalization.layer_norm(1.0), lambda: normalization.rms_norm(np.zeros((0, 0))),
    lambda: normalization.layer_norm(np.zeros((0, 3))), lambda: normalization.batch_norm(np.zeros((3, 0))),
    lambda: normalization.layer_norm("x"), lambda: normalization.layer_norm([[1.0], [1.0, 2.0]]),
    lambda: normalization.layer_norm(np.ones((2, 4)), np.ones(3)), lambda: normalization.rms_norm(np.ones((2, 4)), 2.0),
    lambda: normalization.rms_norm(np.ones((2, 4)), np.ones((2, 4))),
    lambda: normalization.batch_norm(np.ones((2, 4)), np.ones(4), np.ones(5)),
    lambda: normalization.batch_statistics(np.ones((2, 3, 4)), mask=np.ones((3, 2), bool)),
    lambda: normalization.batch_statistics(np.ones(4), mask=np.ones(4, bool)),
])
def test_arrays_that_do_not_belong_together_are_refused(ask):
    with pytest.raises(errors.InvalidPrompt) as caught:
        ask()
    assert caught.value.code == "bad_array" and caught.value.got.startswith(("shape", "str", "list"))


@pytest.mark.parametrize(("n_layers", "d_model"), [
    (0, 32), (25, 32), (2, 8), (2, 257), (2, 24), ("x", 32), (2, "x"), (2.0, 32), (2, 32.0), (True, 32), (2, None),
])
def test_networks_out_of_bounds_are_refused(n_layers, d_model):
    with pytest.raises(errors.InvalidPrompt) as caught:
        gradient_norms(n_layers, d_model, design=Design("post"))
    assert caught.value.code == "bad_amount"


# --- training --------------------------------------------------------------------------------------------------------


def test_a_copy_is_learnt_and_streams():
    recipes = (Recipe(Design("pre")), Recipe(Design("post"), warmup=10))
    parts = list(train_comparison(recipes, n_layers=1, d_model=32, task="copy", learning_rate=1e-2, n_steps=42))
    assert [part.n_done for part in parts] == [5, 10, 15, 20, 25, 30, 35, 40, 42]
    last = parts[-1]
    assert last.loss.shape == (2, 42)
    np.testing.assert_allclose(last.loss[:, 0], np.log(D_VOCAB), rtol=0.05)
    assert (last.loss[:, -1] < 0.3).all() and (last.accuracy > 0.95).all()
    np.testing.assert_array_equal(parts[0].loss, last.loss[:, :5])


PRE = (Recipe(Design("pre")),)


@pytest.mark.parametrize(("ask", "code"), [
    (lambda: Design("foo"), "bad_choice"), (lambda: Recipe("pre"), "bad_type"),
    (lambda: Recipe(Design("pre"), warmup=-1), "bad_amount"), (lambda: Recipe(Design("pre"), 1.5), "bad_amount"),
    (lambda: gradient_norms(2, 32, design="pre"), "bad_type"),
    (lambda: gradient_norms(2, 32, design=Design("pre"), seed="x"), "bad_amount"),
    *((partial(train_comparison, n_layers=1, d_model=32, **{"recipes": PRE} | asked), code) for asked, code in (
        ({"task": "foo"}, "bad_choice"), ({"learning_rate": -1.0}, "bad_number"),
        ({"learning_rate": float("nan")}, "bad_number"), ({"recipes": ()}, "bad_amount"),
        ({"recipes": PRE * 17}, "bad_amount"), ({"recipes": ("pre",)}, "bad_type"),
        ({"n_steps": 1001}, "bad_amount"), ({"seed": -1}, "bad_amount"),
    )),
])
def test_runs_that_mean_nothing_are_refused(ask, code):
    with pytest.raises(errors.InvalidPrompt) as caught:
        list(ask())
    assert caught.value.code == code


def test_without_warm_up_a_deep_post_norm_network_does_not_learn():
    recipes = (Recipe(Design("post")), Recipe(Design("pre")))
    last = list(train_comparison(recipes, n_layers=8, d_model=64, learning_rate=3e-3, n_steps=50))[-1]
    assert last.loss[0, -1] > 0.9 * np.log(D_VOCAB) > 1.0 > last.loss[1, -1]


def test_work_streams_and_stops():
    bench, go = Workbench("test", queue_length=1), threading.Event()

    def count():
        for number in range(1000):
            yield number
            go.wait(10)

    streaming = bench.start(count)
    waiting = bench.start(count)
    with pytest.raises(errors.Busy):
        bench.start(count)
    waiting.stop()
    streaming.stop()
    go.set()
    assert streaming.wait(10) and streaming.done and streaming.stopped
    assert streaming.result() == streaming.so_far < 999
    assert waiting.wait(10) and waiting.result() is None, "stopped before its turn"

    def fail():
        yield 1
        raise errors.InvalidPrompt("x", got="y", next_step="z", code="bad_amount")

    failing = bench.start(fail)
    with pytest.raises(errors.InvalidPrompt):
        failing.result()
    assert failing.so_far == 1
    bench.close()
