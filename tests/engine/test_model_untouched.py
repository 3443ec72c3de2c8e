"""Whatever is asked of a loaded model, it is afterwards as it was: sessions share it, and the next run reads it."""

from __future__ import annotations

import hashlib
from functools import partial

import pytest
import torch

from engine import Head, LocalEngine, Prompt, knockouts, kv_growth, norm_activations, norm_sites, positions_lab, scaling
from engine import walk as walking
from tests.engine import tiny

TEXT = "我喜欢吃苹果 the apple"
KINDS = ("marian", "gpt2", "mistral")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        tiny.save(kind, folder / kind)
    return LocalEngine(device="cpu", folder=folder)


def state(engine, kind: str) -> dict[str, object]:
    """Everything of the model that a run could leave changed."""
    def read(live):
        model = live.model
        weights = hashlib.sha256()
        for tensor in model.state_dict().values():
            weights.update(tensor.cpu().numpy().tobytes())
        return {
            "weights": weights.hexdigest(),
            "configurations": [(repr(one.config.to_dict()), one.config._attn_implementation)
                               for one in model.modules() if hasattr(one, "config")],
            "generation": repr(model.generation_config.to_dict()),
            "training": [one.training for one in model.modules()],
            "gradients": [(one.requires_grad, one.grad is None) for one in model.parameters()],
            "hooks": [(len(one._forward_hooks), len(one._forward_pre_hooks), "forward" in vars(one))
                      for one in model.modules()],
            "torch": (torch.get_default_dtype(), torch.is_grad_enabled()),
        }

    return engine.submit(kind, read).result()


def held(engine, kind: str, job, **arguments):
    return engine.submit(kind, partial(job, limits=engine.limits, **arguments)).result()


def norms(engine, kind: str, stream: str) -> None:
    first, *_, last = held(engine, kind, norm_sites.sites, text=TEXT)
    held(engine, kind, norm_activations.read_batch, texts=(TEXT, "the apple"), site=first)
    trace = engine.trace(Prompt(kind, TEXT))
    engine.submit(kind, partial(norm_activations.change_future, trace=trace, site=last)).result()


OPERATIONS = {
    "trace": lambda engine, kind, stream: engine.trace(Prompt(kind, TEXT)),
    "growth": lambda engine, kind, stream: held(engine, kind, kv_growth.grow, text=TEXT, n_steps=4),
    "scaling": lambda engine, kind, stream: [
        scaling.heads(engine, Prompt(kind, TEXT)), scaling.outputs(engine, Prompt(kind, TEXT), (0.5,)),
        scaling.gradients(engine, Prompt(kind, TEXT))],
    "positions": lambda engine, kind, stream: [
        positions_lab.read(engine, kind, n_positions=12), positions_lab.compare_orders(engine, Prompt(kind, TEXT))],
    "walk": lambda engine, kind, stream: walking.walk(engine, Prompt(kind, TEXT), Head(stream, 0, 1)),
    "knockouts": lambda engine, kind, stream: [
        knockouts.leak(engine, Prompt(kind, TEXT)), knockouts.pad(engine, Prompt(kind, TEXT), Head(stream, 0, 1))],
    "evidence": lambda engine, kind, stream: engine.evidence(Prompt(kind, TEXT), "苹果", "吃"),
    "norms": norms,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_model_is_as_it_was(engine, operation, kind):
    before = state(engine, kind)
    OPERATIONS[operation](engine, kind, "encoder" if kind == "marian" else "decoder")
    after = state(engine, kind)
    assert {name for name in before if before[name] != after[name]} == set()


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_text_runs_after_a_growth(engine, kind):
    held(engine, kind, kv_growth.grow, text=TEXT, n_steps=4)
    assert engine.trace(Prompt(kind, "the apple 苹果")).provenance.row_sum_error < 1e-5
