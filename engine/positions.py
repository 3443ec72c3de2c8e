"""Positions: the closed formulas, and what a loaded model really uses.

    from engine import positions
    positions.sinusoidal(64, 128)                         # (64, 128) float64
    positions.rope_frequencies(64, scaling={"rope_type": "linear", "factor": 4.0})
    positions.of_model(model, n_positions=64)             # read from the model's modules

Formulas are numpy in, numpy out (`engine.position_formulas`). What runs a model
of the engine's, under its slot, is in `engine.positions_lab`.
"""

from engine.position_formulas import (
    alibi_slopes,
    rope_attention_factor,
    rope_bound,
    rope_frequencies,
    rope_rotate,
    rope_scores,
    similarity,
    sinusoidal,
    t5_bucket,
    wavelengths,
)
from engine.position_types import (
    LinearBias,
    ModelPositions,
    OrderComparison,
    OrderRun,
    PositionTable,
    RelativeBias,
    Rotation,
)
from engine.positions_of_model import of_model

__all__ = [
    "LinearBias", "ModelPositions", "OrderComparison", "OrderRun", "PositionTable", "RelativeBias", "Rotation",
    "alibi_slopes", "of_model", "rope_attention_factor", "rope_bound", "rope_frequencies", "rope_rotate",
    "rope_scores", "similarity", "sinusoidal", "t5_bucket", "wavelengths",
]
