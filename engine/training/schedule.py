"""Learning rate by step: warm-up, constant, linear decay to zero.

A pure function, so that a resumed run agrees with an uninterrupted one. Because the constant part does not
depend on the total, a run may be shortened or extended at any time before its decay begins.
"""

from __future__ import annotations

WARM_UP = 600  # steps
DECAY_SHARE = 0.3  # of the whole run


def decay_start(total: int) -> int:
    """The first step whose rate is below the peak."""
    return round(total * (1 - DECAY_SHARE))


def learning_rate(step: int, total: int, *, peak: float, warm_up: int = WARM_UP) -> float:
    """Rate at a step (0-based) of a run of `total` steps."""
    rise = min(1.0, (step + 1) / warm_up)
    start = decay_start(total)
    fall = 1.0 if step < start else max(0.0, (total - step) / max(1, total - start))
    return peak * rise * fall
