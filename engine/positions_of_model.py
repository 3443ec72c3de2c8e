"""Reads what a loaded model really uses for positions, from its modules called at a given length.

Names are never trusted: a table that holds sinusoids is called sinusoidal
because its numbers are, a rotation's frequencies are read off the angles it
returned (`inv_freq` changes with the length under dynamic scaling), ALiBi's
slopes off the argument that the attention got. Each is compared with the closed
formula, and the difference is part of the answer.

It does not know positions that `engine.position_modules` does not find.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from engine import budget, position_modules
from engine import position_formulas as formulas
from engine.position_modules import Site
from engine.position_types import (
    LinearBias,
    ModelPositions,
    PositionSource,
    PositionTable,
    RelativeBias,
    Rotation,
)

#: A table within this of the sinusoids is sinusoidal: half precision stores a sine to 5e-4.
SINUSOID_TOLERANCE = 2e-3
#: Rows that some tables leave out before position 0.
MOST_OFFSET = 4


def of_model(model: nn.Module, *, n_positions: int = 64) -> ModelPositions:
    """What `model` uses for positions at a length of `n_positions` tokens.

    Args:
        model: a transformers text model in eval mode, held by the caller alone; it runs once or twice.
        n_positions: at least `position_modules.PROBE_LENGTH`; where a table ends earlier, the length is the table's.
    """
    bound = budget.n_ctx(model.config)
    sites = position_modules.find(model, n_positions=min(n_positions, bound) if bound else n_positions)
    if bound and n_positions > bound and all(site.kind != "table" for site in sites):
        sites = position_modules.find(model, n_positions=n_positions)
    elif bound:
        n_positions = min(n_positions, bound)
    linear = [site for site in sites if site.kind == "linear bias"]
    read: list[PositionSource] = []
    for site in sites:
        if site.kind == "table":
            read.append(_table(site))
        elif site.kind == "rotation":
            read.append(_rotary(site, model, n_positions))
        elif site.kind == "relative bias":
            read.append(_relative(site))
        elif site is linear[0]:  # every layer gets the same
            read.append(_linear(site))
    return ModelPositions(n_positions=n_positions, n_ctx=bound, sources=tuple(read))


def _table(site: Site) -> PositionTable:
    values = _array(site.output[0].reshape(-1, site.output[0].shape[-1]))
    layout, error = _nearest_sinusoid(values)
    weight = getattr(site.module, "weight", None)
    return PositionTable(
        module=site.name, values=values, rows=len(weight) if weight is not None else 0,
        layout=layout if error <= SINUSOID_TOLERANCE else "learned", error=error,
    )


def _nearest_sinusoid(values: np.ndarray) -> tuple[str, float]:
    """The layout of sinusoids that comes nearest, over a few first positions, and its largest difference."""
    n, d = values.shape
    tables = {"interleaved": formulas.sinusoidal(n + MOST_OFFSET, d)}
    tables["concatenated"] = np.concatenate([tables["interleaved"][:, 0::2], tables["interleaved"][:, 1::2]], axis=1)
    if d > 2 and d % 2 == 0:
        angles = np.arange(n + MOST_OFFSET)[:, None] * 10_000.0 ** (-np.arange(d // 2) / (d // 2 - 1))
        tables["tensor2tensor"] = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    found = ((layout, float(np.abs(table[offset:offset + n] - values).max()))
             for layout, table in tables.items() for offset in range(MOST_OFFSET))
    return min(found, key=lambda pair: pair[1])


def _rotary(site: Site, model: nn.Module, n_positions: int) -> Rotation:
    cos, sin = (part.double().cpu().numpy() for part in site.output)
    factor = float(np.hypot(cos[0], sin[0]).mean())
    width, layout = cos.shape[1], "one a pair"
    if width % 2 == 0 and np.array_equal(cos[:, : width // 2], cos[:, width // 2:]):
        cos, sin, layout = cos[:, : width // 2], sin[:, : width // 2], "half split"
    elif width % 2 == 0 and np.array_equal(cos[:, 0::2], cos[:, 1::2]):
        cos, sin, layout = cos[:, 0::2], sin[:, 0::2], "interleaved"
    frequencies = np.arctan2(sin[1], cos[1])
    angles = np.arange(len(cos))[:, None] * frequencies
    chord = np.hypot(cos / factor - np.cos(angles), sin / factor - np.sin(angles))
    parameters = _parameters(site, model)
    return Rotation(
        module=site.name, layers=site.label, frequencies=_read_only(frequencies), attention_factor=factor,
        layout=layout, parameters=tuple(parameters.items()), error=float(chord.max()),
        formula_error=_formula_error(frequencies, parameters, n_positions),
    )


def _parameters(site: Site, model: nn.Module) -> dict[str, object]:
    config = getattr(site.module, "config", model.config)
    found = getattr(config, "rope_parameters", None) or {}
    if isinstance(found.get(site.label), dict):
        found = found[site.label]
    parameters = {name: value for name, value in found.items() if isinstance(value, str | int | float | bool)}
    if parameters.get("rope_type") == "dynamic":
        parameters.setdefault("max_position_embeddings", config.max_position_embeddings)
    return parameters


def _formula_error(frequencies: np.ndarray, parameters: dict[str, object], n_positions: int) -> float:
    if parameters.get("rope_type") not in formulas.ROPE_TYPES:
        return float("nan")
    # What turns is here already: the share of the head that does was taken out of the width.
    scaling = {name: value for name, value in parameters.items() if name != "partial_rotary_factor"}
    expected = formulas.rope_frequencies(2 * len(frequencies), scaling=scaling, n_positions=n_positions)
    return float(np.abs(frequencies / expected - 1).max())


def _relative(site: Site) -> RelativeBias:
    values = _array(site.output[0])  # (q_len, k_len, n_heads)
    n = len(values)
    buckets = site.given.reshape(n, n).cpu().numpy()
    offsets = np.arange(1 - n, n)
    # The last query sees the offsets up to 0, the first one those from 0 on.
    bias = np.concatenate([values[-1], values[0, 1:]]).T
    at = np.arange(n)[None, :] - np.arange(n)[:, None] + n - 1
    along = np.concatenate([buckets[-1], buckets[0, 1:]])
    return RelativeBias(
        module=site.name, offsets=_read_only(offsets), buckets=_read_only(along.astype(np.int64)),
        bias=_read_only(bias.astype(np.float32)), n_buckets=len(site.module.weight),
        bidirectional=bool(len(set(along[n:].tolist()) - set(along[:n].tolist()))),
        error=float(np.abs(values - bias.T[at]).max()),
    )


def _linear(site: Site) -> LinearBias:
    values = site.output[0].double().cpu().numpy()
    rows = values.reshape(-1, values.shape[-1])
    slopes = rows[:, 1] - rows[:, 0]
    return LinearBias(module=site.name, slopes=_read_only(slopes),
                      error=float(np.abs(slopes - formulas.alibi_slopes(len(slopes))).max()))


def _array(tensor: torch.Tensor) -> np.ndarray:
    return _read_only(tensor.float().cpu().numpy().copy())


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
