"""The plain values of `LocalEngine.emergence`: one question over the model's training.

Imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.evidence_types import Evidence


@dataclass(frozen=True)
class Moment:
    """A question's numbers at one snapshot of the model's training.

    Attributes:
        step, epoch: of the training, from the start; an epoch is a pass over the data.
        output: what the snapshot itself writes for the sentence.
        value: log-probability of the finished model's output that the evidence measures, teacher-forced, in nats; its
            margin where there is a contrast.
        cut: its change when the edge A→B is cut in all layers and heads.
        hide: its change when B is hidden from everyone but itself.
        control_deltas, hide_control_deltas: (word, Δ) of the same done to every other word.
        cut_counts, hide_counts: the effect counts by the evidence's thresholds, as for its verdict.
        attention: (n_layers, n_heads) float32, mass from A to B, mean over A's rows, sum over B's columns.
    """

    step: int
    epoch: float
    output: str
    value: float
    cut: float
    hide: float
    control_deltas: tuple[tuple[str, float], ...]
    hide_control_deltas: tuple[tuple[str, float], ...]
    cut_counts: bool
    hide_counts: bool
    attention: np.ndarray


@dataclass(frozen=True)
class Emergence:
    """When in its training the model came to depend on B.

    Attributes:
        evidence: the finished model's, whose question this is.
        moments: in the order of training; the last is the finished model.
        cut_since, hide_since: index of the first moment from which on the effect counts, up to the last; None where it
            does not count in the finished model.
    """

    evidence: Evidence
    moments: tuple[Moment, ...]
    cut_since: int | None
    hide_since: int | None
