"""The names of head measures and labels in the interface's language, and heads sorted and filtered by them.

It knows `HeadSummary`; it computes no statistics.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from engine import HeadSummary
from engine.types import LABELS
from pages.widgets.language import Translate


def measure_names(_: Translate) -> dict[str, str]:
    """Measure → its name, unit included."""
    return {
        "entropy": _("entropy (nats)"), "mean_distance": _("mean distance (tokens)"), "max": _("largest weight"),
        "first_token_mass": _("mass on the first token"), "previous_token_mass": _("mass on the previous token"),
        "self_mass": _("mass on itself"), "sink_mass": _("mass on the sink"),
    }


def label_names(_: Translate) -> dict[str, str]:
    """Label → its name."""
    return {
        "sink": _("first token / sink"), "previous": _("previous token"), "next": _("next token"), "self": _("self"),
        "local": _("local"), "broad": _("broad"), "none": _("no simple rule"),
    }


def label_grid(summary: HeadSummary, _: Translate) -> np.ndarray:
    """(n_layers, n_heads) str: each head's label with the score that earned it; no rule, no score."""
    names = label_names(_)
    texts = [names["none"] if LABELS[label] == "none" else f"{names[LABELS[label]]} {score:.2f}"
             for label, score in zip(summary.label.flat, summary.label_score.flat, strict=True)]
    return np.array(texts, dtype=object).reshape(summary.label.shape)


def order(summary: HeadSummary, *, sort: str | None, labels: Collection[str],
          bounds: tuple[float, float] | None) -> list[tuple[int, int]]:
    """Heads to show as (layer, head), in their order.

    Args:
        sort: a measure, largest first, NaN last; None for layer by layer.
        labels: labels to show.
        bounds: smallest and largest value of `sort` to show, with rounding to spare; None for all.
    """
    n_layers, n_heads = summary.label.shape
    heads = [(layer, head) for layer in range(n_layers) for head in range(n_heads)
             if LABELS[summary.label[layer, head]] in labels]
    if sort is None:
        return heads
    values = getattr(summary, sort)
    if bounds is not None:
        heads = [at for at in heads if np.isnan(values[at]) or bounds[0] <= values[at] <= bounds[1]]
    return sorted(heads, key=lambda at: (np.isnan(values[at]), -values[at] if not np.isnan(values[at]) else 0.0))
