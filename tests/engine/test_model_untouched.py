"""Whatever is asked of a loaded model, it is afterwards as it was: sessions share it, and the next run reads it."""

from __future__ import annotations

import hashlib

import pytest
import torch

from engine import LocalEngine, Prompt, kv_growth
from tests.engine import tiny
from tests.engine.bounds import BRIEF
from tests.engine.operations import OPERATIONS, TEXT, held

KINDS = ("marian", "gpt2", "mistral")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        tiny.save(kind, folder / kind)
    return LocalEngine(device="cpu", folder=folder, bounds=BRIEF)


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
