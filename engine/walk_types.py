"""What a walk through one attention head carries: every intermediate of one layer, as plain arrays.

Nothing here imports torch. Axes as in `engine.types`; `d_in` is the width of
what a projection reads, which is d_model but for encoder–decoders of two widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.types import Head

#: The seven steps, in order.
Step = Literal["input", "projections", "dot", "mask", "softmax", "mix", "output"]
STEPS: tuple[Step, ...] = ("input", "projections", "dot", "mask", "softmax", "mix", "output")


@dataclass(frozen=True, eq=False)
class Part:
    """One of the vectors whose sum enters the first layer.

    Attributes:
        kind: "token", "position", or "type" (the same for every token, as BERT's segment).
        scale: what the model multiplies the table's rows by.
        vectors: (q_len, d_model) float32, the table's rows.
    """

    kind: Literal["token", "position", "type"]
    scale: float
    vectors: np.ndarray


@dataclass(frozen=True, eq=False)
class Projection:
    """One of a head's three projections: y = W x + b, then what the model does to y.

    Attributes:
        weight: (d, d_in) float32, d being d_head or d_value.
        bias: (d,) float32, zeros where there is none.
        input: (length, d_in) float32, x.
        projected: (length, d) float32, W x + b.
        before: (length, d) float32, after the head's own norm (Qwen3) and before the rotation; else as `projected`.
        after: (length, d) float32, what attention computed with.
        normed: `before` differs from `projected` by a norm.
        rotated: `after` differs from `before` by a rotation (RoPE).
        multiplier: what the model scaled the vector by, itself (OPT scales its queries so), else 1.
    """

    weight: np.ndarray
    bias: np.ndarray
    input: np.ndarray
    projected: np.ndarray
    before: np.ndarray
    after: np.ndarray
    normed: bool
    rotated: bool
    multiplier: float


@dataclass(frozen=True, eq=False)
class Rotation:
    """RoPE as the model applied it to the first `2·pairs` dimensions of q and k.

    Attributes:
        cos, sin: (length, width) float32, width ≤ d_head.
        layout: "half" (dimension i turns with i + width/2) or "pairs" (2i with 2i + 1).
    """

    cos: np.ndarray
    sin: np.ndarray
    layout: Literal["half", "pairs"]


@dataclass(frozen=True, eq=False)
class Terms:
    """What turns q·k into weights.

    Attributes:
        scaling: multiplier of q·k.
        softcap: scaled scores pass through softcap·tanh(scores / softcap) (Gemma 2), or None.
        bias: (q_len, k_len) float32 added to the scaled scores (T5), or None.
        visible: (q_len, k_len) bool, what the mask leaves.
        additive: (q_len, k_len) float32 that an additive mask adds where it hides nothing, or None.
        sink: learned score of a virtual key without a value (GPT-OSS), or None.
    """

    scaling: float
    softcap: float | None
    bias: np.ndarray | None
    visible: np.ndarray
    additive: np.ndarray | None
    sink: float | None


@dataclass(frozen=True, eq=False)
class Walk:
    """One head of one layer, step by step. Arrays are float32 and read-only.

    Every array is this program's own arithmetic from the layer's input on; the
    model's own tensors enter `checks` alone (and the other heads' `heads`).

    Attributes:
        head: which.
        n_heads, n_kv_heads, d_model: of the layer.
        sharing: the query heads that read the same key and value, this one among them.
        parts: what is summed at the model's entrance for the rows' tokens.
        residual: (q_len, d_model), what the layer's output is added to.
        input: (q_len, d_model), what the queries are made of: the residual, or its norm.
        prenormed: `input` is a norm of `residual`.
        query, key, value: the three projections.
        rotation: RoPE, or None.
        terms: what turns q·k into weights.
        products: (q_len, k_len), q·k.
        scaled: (q_len, k_len), products × scaling, with softcap and position bias where the model has them.
        scores: (q_len, k_len), `scaled` with −inf where masked (and an additive mask added).
        weights: (q_len, k_len), the pattern.
        sink: (q_len,) share of a learned sink (GPT-OSS), else zeros.
        mixed: (q_len, d_value), weights · v.
        heads: (n_heads, q_len, d_value), every head's `mixed`.
        own: (q_len, d_model), this head's part of the output projection, without bias.
        parts_out: (n_heads, q_len) length of every head's part.
        output_bias: (d_model,), the output projection's bias, zeros where there is none.
        output: (q_len, d_model), the output projection of all heads.
        addend: (q_len, d_model), what is added to the residual: `output`, or its norm (Gemma 2).
        total: (q_len, d_model), residual + addend.
        after: (q_len, d_model) the norm of `total`, where the layer puts one there (post-LN), else None.
        checks: (step, largest |ours − the model's own|), for each step that the model's modules let see.
    """

    head: Head
    n_heads: int
    n_kv_heads: int
    d_model: int
    sharing: tuple[int, ...]
    parts: tuple[Part, ...]
    residual: np.ndarray
    input: np.ndarray
    prenormed: bool
    query: Projection
    key: Projection
    value: Projection
    rotation: Rotation | None
    terms: Terms
    products: np.ndarray
    scaled: np.ndarray
    scores: np.ndarray
    weights: np.ndarray
    sink: np.ndarray
    mixed: np.ndarray
    heads: np.ndarray
    own: np.ndarray
    parts_out: np.ndarray
    output_bias: np.ndarray
    output: np.ndarray
    addend: np.ndarray
    total: np.ndarray
    after: np.ndarray | None
    checks: tuple[tuple[Step, float], ...]

    @property
    def self_attention(self) -> bool:
        """Rows and columns are the same tokens."""
        return self.head.stream != "cross"

    def error(self, step: str) -> float | None:
        """The check of `step`, or None where the model shows nothing to hold it against."""
        return dict(self.checks).get(step)
