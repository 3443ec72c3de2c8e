"""FLOPs of each step of writing, counted by torch while a copy of the model runs on the meta device.

Counted, not derived: whatever the architecture multiplies is in the number (2
for a multiplication and an addition). It times nothing and knows no text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from engine.kv_config import CONFIG_ERRORS, shape_of
from engine.kv_measure import build, empty_cache


def per_step(config: transformers.PretrainedConfig, lengths: np.ndarray, *, n_source: int,
             extra: Mapping[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """FLOPs of each step with and without a cache, (n_steps,) float64 each; None where the copy does not run.

    A step's work is a polynomial in the length, of degree 1 with a cache and 2
    without, from one window's length to the next: three lengths then give all of
    those between exactly, however many they are.

    Args:
        config: of the model.
        lengths: (n_steps,) tokens in the cache after each step; step 0 reads the prompt and, if any, the source.
        n_source: tokens of an encoder–decoder's source, else 0.
        extra: arguments of every call.
    """
    parts = _between(lengths[1:], windows=shape_of(config).windows)
    anchors = [part if len(part) <= 3 else part[[0, (len(part) - 1) // 2, -1]] for part in parts]
    try:
        model = build(config)
        with torch.inference_mode():
            encoded, first = _encoded(model, n_source)
            first += _counted(model, encoded, extra, new=int(lengths[0]), past=0)
            cached = [[_counted(model, encoded, extra, new=1, past=int(length) - 1) for length in some]
                      for some in anchors]
            uncached = [[_counted(model, encoded, extra, new=int(length), past=0) for length in some]
                        for some in anchors]
    except CONFIG_ERRORS:
        return None, None
    return tuple(
        np.concatenate([[first], *(_through(some, np.array(counts), at=part)
                                   for some, counts, part in zip(anchors, by_part, parts, strict=True))])
        for by_part in (cached, uncached))


def _between(lengths: np.ndarray, *, windows: tuple[int | None, ...]) -> list[np.ndarray]:
    """The rising `lengths`, split wherever a window fills; the length that fills it and the one before stand alone."""
    edges = sorted({edge for window in windows if window for edge in (window - 1, window, window + 1)})
    return [part for part in np.split(lengths, np.searchsorted(lengths, edges)) if len(part)]


def _through(anchors: np.ndarray, counts: np.ndarray, *, at: np.ndarray) -> np.ndarray:
    """Values of the parabola through three anchors, (len(at),); the counts themselves where every length is one."""
    if len(anchors) == len(at):
        return counts.astype(np.float64)
    total = np.zeros(len(at))
    for this in range(3):
        others = [other for other in range(3) if other != this]
        total += counts[this] * np.prod([(at - anchors[o]) / (anchors[this] - anchors[o]) for o in others], axis=0)
    return np.round(total)


def _ids(length: int) -> torch.Tensor:
    return torch.zeros((1, length), dtype=torch.long, device="meta")


def _encoded(model: torch.nn.Module, n_source: int) -> tuple[dict[str, Any], int]:
    """The encoder's output as an argument, and its FLOPs; nothing for a decoder alone."""
    if not n_source:
        return {}, 0
    with FlopCounterMode(display=False) as counter:
        states = model.get_encoder()(_ids(n_source)).last_hidden_state
    return {"encoder_outputs": (states,)}, counter.get_total_flops()


def _counted(model: torch.nn.Module, encoded: Mapping[str, Any], extra: Mapping[str, Any], *, new: int,
             past: int) -> int:
    """FLOPs of reading `new` tokens after `past` cached ones."""
    name = "decoder_input_ids" if encoded else "input_ids"
    # An empty cache is passed where none is used, too: storing takes no FLOPs, and without one some models look at
    # the values of positions, which meta tensors lack.
    arguments = {**encoded, **extra, "past_key_values": empty_cache(model), "use_cache": True}
    if past:
        model(**{name: _ids(past)}, **arguments)
    with FlopCounterMode(display=False) as counter:
        model(**{name: _ids(new)}, **arguments)
    return counter.get_total_flops()
