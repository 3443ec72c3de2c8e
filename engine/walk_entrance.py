"""What is summed where tokens enter a model: rows of tables for the token, its position, its segment.

Tables are recognised by what they return, never by a name. It does not know
positions that enter elsewhere (RoPE, relative biases).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.types import Head
from engine.walk_modules import SAME, multiple_of
from engine.walk_timeline import Event, Timeline
from engine.walk_types import Part


def entrance_parts(timeline: Timeline, head: Head, arguments: dict[str, Tensor],
                   residual: Tensor) -> tuple[tuple[Part, ...], float | None]:
    """The tables' rows for the tokens of the queries' stream.

    Args:
        timeline: of a pass that is over.
        head: whose layer the timeline watched.
        arguments: the pass's inputs.
        residual: (q_len, d_model), the layer's residual.

    Returns:
        The parts, and the largest |their sum − the model's own|; None where the layer's residual is not that sum
        (a later layer, cross-attention).
    """
    decodes = head.stream != "encoder" and "decoder_input_ids" in arguments
    ids = arguments["decoder_input_ids" if decodes else "input_ids"][0]
    events = [event for event in timeline.embeddings
              if event.y is not None and event.y.shape == (len(ids), residual.shape[1])]
    kinds = [_kind(event, ids) for event in events]
    scale, error = 1.0, None
    if head.layer == 0 and head.stream != "cross" and "token" in kinds:
        scale, error = _fit(timeline, [_wide(event.y) for event in events], kinds.index("token"), residual)
    return tuple(
        Part(kind, scale if kind == "token" else 1.0, _kept(event.y)) for kind, event in zip(kinds, events, strict=True)
    ), error


def _kind(event: Event, ids: Tensor) -> str:
    rows = event.module.weight[ids] if int(ids.max()) < len(event.module.weight) else None
    if rows is not None and rows.shape == event.y.shape and multiple_of(event.y, rows) is not None:
        return "token"
    return "type" if len(ids) > 1 and bool((event.y == event.y[:1]).all()) else "position"


def _fit(timeline: Timeline, parts: list[np.ndarray], token: int, residual: Tensor) -> tuple[float, float | None]:
    """The scale of the token's rows with which the sum is the residual, or what a norm made the residual of."""
    others = sum((part for at, part in enumerate(parts) if at != token), np.zeros_like(parts[token]))
    rows = parts[token]
    made_of = [event.x for event in timeline.before
               if event.x is not None and event.y is not None and event.x.shape == event.y.shape == residual.shape
               and torch.equal(event.y, residual)]
    for target in map(_wide, [residual, *made_of]):
        scale = float(((target - others) * rows).sum() / (rows * rows).sum())
        error = float(np.abs(scale * rows + others - target).max())
        if error <= SAME * float(np.abs(target).max()):
            return scale, error
    return 1.0, None


def _wide(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()


def _kept(tensor: Tensor) -> np.ndarray:
    array = tensor.detach().float().cpu().numpy().copy()
    array.setflags(write=False)
    return array
