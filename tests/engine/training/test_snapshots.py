"""Snapshots: the four-bit round trip, its error, its size."""

import json

import pytest
import torch
from safetensors.torch import save_file

from engine.training.snapshots import GROUP, LEVELS, load_snapshot, quantise, restore, save_snapshot


@pytest.fixture
def matrix():
    scale = torch.logspace(-3, 1, 96).unsqueeze(1)
    return torch.randn(96, 2 * GROUP, generator=torch.Generator().manual_seed(0)) * scale


def test_error_is_a_tenth_of_the_spread_in_every_row(matrix):
    codes, scales = quantise(matrix)
    error = (restore(codes, scales) - matrix).pow(2).mean(1).sqrt() / matrix.std(1)
    assert error.max() < 0.12, error.max()


def test_every_value_is_one_of_sixteen_levels(matrix):
    codes, scales = quantise(matrix)
    unit = restore(codes, scales).reshape(96, 2, GROUP) / scales.float().unsqueeze(-1)
    assert torch.isclose(unit.unsqueeze(-1), torch.tensor(LEVELS), atol=1e-4).any(-1).all()


def test_levels_are_the_optimum_for_normal_values():
    """Lloyd's condition: every level is the mean of the values nearest to it."""
    values = torch.randn(2_000_000, generator=torch.Generator().manual_seed(1))
    levels = torch.tensor(LEVELS)
    near = torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)
    means = torch.zeros(16).scatter_add_(0, near, values) / torch.bincount(near, minlength=16)
    assert torch.allclose(means, levels, atol=0.02)


def test_zero_rows_and_narrow_matrices_survive():
    codes, scales = quantise(torch.zeros(3, 32))
    assert restore(codes, scales).abs().max() < 1e-5 and codes.shape == (3, 16) and scales.shape == (3, 1)


def test_snapshot_file_round_trip_and_size(tmp_path, matrix):
    folder = tmp_path / "zh-en"
    (folder / "snapshots").mkdir(parents=True)
    bias = torch.tensor([[0.0, -10_000.0]])
    save_file({"final_logits_bias": bias, "w": matrix}, folder / "model.safetensors")
    vector = torch.randn(7)
    save_snapshot(folder / "snapshots" / "step-100.safetensors", {"w": matrix, "b": vector, "final_logits_bias": bias})
    index = {
        "snapshots": [{"step": 100, "file": "step-100.safetensors"}, {"step": 200, "file": "../model.safetensors"}]
    }
    (folder / "snapshots" / "index.json").write_text(json.dumps(index))
    state = load_snapshot(100, folder)
    assert set(state) == {"w", "b", "final_logits_bias"} and torch.equal(state["final_logits_bias"], bias)
    assert torch.allclose(state["b"], vector, atol=2e-3) and torch.equal(state["w"], restore(*quantise(matrix)))
    assert torch.equal(load_snapshot(200, folder)["w"], matrix)
    assert (folder / "snapshots" / "step-100.safetensors").stat().st_size < matrix.numel() * 0.53 + 2000
    with pytest.raises(KeyError, match="expected a step among"):
        load_snapshot(300, folder)
