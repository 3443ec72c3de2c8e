"""Snapshots of the model during its training, at four bits a weight.

Each group of GROUP weights of a matrix row shares one float16 scale; a weight is the nearest of sixteen
levels that are best for normally distributed values (Lloyd 1982, Max 1960). Vectors (biases, norms) stay
float16. The error is about a tenth of a weight's standard deviation: good enough to see an attention
pattern emerge, not to compare numbers to the third digit. It knows tensors and files, not what they mean.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

GROUP = 256
LEVELS = (
    -2.7326,
    -2.0690,
    -1.6181,
    -1.2562,
    -0.9424,
    -0.6568,
    -0.3881,
    -0.1284,
    0.1284,
    0.3881,
    0.6568,
    0.9424,
    1.2562,
    1.6181,
    2.0690,
    2.7326,
)
SEARCH = torch.linspace(0.7, 1.5, 33)  # scales tried, in units of a group's root mean square
FOLDER = Path(__file__).parents[2] / "assets" / "models" / "zh-en"


def quantise(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales of a matrix.

    Args:
        matrix: (rows, columns), columns a multiple of GROUP or below it and even.

    Returns:
        codes (rows, columns // 2) uint8, two levels a byte, the first in the low half;
        scales (rows, groups) float16.
    """
    rows, columns = matrix.shape
    groups = matrix.float().reshape(rows, -1, min(GROUP, columns))
    levels = torch.tensor(LEVELS)
    edges = (levels[1:] + levels[:-1]) / 2
    rms = groups.pow(2).mean(-1, keepdim=True).sqrt().clamp_min(1e-7)
    best = torch.full(rms.shape, float("inf"))
    scales = rms.clone()
    for factor in SEARCH:
        scale = (rms * factor).half().float()
        error = (levels[torch.bucketize(groups / scale, edges)] * scale - groups).pow(2).sum(-1, keepdim=True)
        better = error < best
        best, scales = torch.where(better, error, best), torch.where(better, scale, scales)
    codes = torch.bucketize(groups / scales, edges).reshape(rows, columns).to(torch.uint8)
    return codes[:, ::2] | codes[:, 1::2] << 4, scales.squeeze(-1).half()


def restore(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The float32 matrix (rows, columns) that codes and scales stand for."""
    rows, half = codes.shape
    indices = torch.stack([codes & 15, codes >> 4], dim=-1).reshape(rows, half * 2).long()
    values = torch.tensor(LEVELS)[indices].reshape(rows, scales.shape[1], -1)
    return (values * scales.float().unsqueeze(-1)).reshape(rows, half * 2)


def save_snapshot(path: Path | str, state: dict[str, torch.Tensor]) -> None:
    """Write a state dict; matrices become NAME.codes and NAME.scales. The output bias is left out."""
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if name == "final_logits_bias":
            continue
        if tensor.ndim == 2:
            tensors[name + ".codes"], tensors[name + ".scales"] = (t.contiguous() for t in quantise(tensor))
        else:
            tensors[name] = tensor.half().contiguous()
    path = Path(path)
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"format": "pt", "quantisation": f"4-bit, groups of {GROUP}"})
    os.replace(part, path)


def read_index(folder: Path | str = FOLDER) -> list[dict]:
    """The snapshots in order of steps: {"step", "epoch", "file", …numbers measured at that step}."""
    return json.loads((Path(folder) / "snapshots" / "index.json").read_text(encoding="utf-8"))["snapshots"]


def read_snapshot(path: Path) -> dict[str, torch.Tensor]:
    """The weights that a file holds, restored to float32; a snapshot at four bits lacks the output bias."""
    tensors = load_file(path)
    state: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(".codes"):
            matrix = name.removesuffix(".codes")
            state[matrix] = restore(tensor, tensors[matrix + ".scales"])
        elif not name.endswith(".scales"):
            state[name] = tensor.float()
    return state


def load_snapshot(step: int, folder: Path | str = FOLDER) -> dict[str, torch.Tensor]:
    """The weights at a step, float32, under the names of model.safetensors.

    Load them with `model.load_state_dict(state, strict=False)`: position tables and tied copies are not stored.

    Raises:
        KeyError: there is no snapshot at that step.
    """
    folder = Path(folder)
    files = {entry["step"]: entry["file"] for entry in read_index(folder)}
    if step not in files:
        raise KeyError(f"expected a step among {sorted(files)}, got {step}")
    state = read_snapshot(folder / "snapshots" / files[step])
    if "final_logits_bias" not in state:
        with safe_open(folder / "model.safetensors", framework="pt") as final:
            state["final_logits_bias"] = final.get_tensor("final_logits_bias").float()
    return state
