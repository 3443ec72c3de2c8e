"""What is known about a model's positions, as plain values: what it uses, and what it does without them.

Arrays are read-only. Knows neither torch nor how the values were found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.types import Stream, Token


@dataclass(frozen=True, eq=False)
class PositionTable:
    """Vectors that are added to the token embeddings.

    Attributes:
        module: the module's path in the model.
        values: (n_positions, d_model) float32, what the module gave for positions 0 … n_positions − 1.
        rows: rows its table has; 0 where it makes them as needed.
        layout: "interleaved", "concatenated" ([sin | cos]) or "tensor2tensor" ([sin | cos], steps of
            1/(d/2 − 1)) where the values are sinusoids, else "learned".
        error: largest |value − that formula|; for "learned", that of the nearest one.
    """

    module: str
    values: np.ndarray
    rows: int
    layout: str
    error: float


@dataclass(frozen=True, eq=False)
class Rotation:
    """Queries and keys turned by an angle that grows with the position.

    Attributes:
        module: the module's path in the model.
        layers: which kind of layer it was called for, where the model has several; else "".
        frequencies: (pairs,) float64, radians a position, read off the angles of a call at this length.
        attention_factor: what cosine and sine are multiplied by.
        layout: "half split" or "interleaved" where cosines are given twice, else "one a pair".
        parameters: the rope_parameters it was set up with, as (name, value) pairs; () where it shows none.
        error: largest |frequency · position − angle| over all positions, as a chord, 0 … 2.
        formula_error: largest relative difference to `rope_frequencies` of those parameters; NaN where unknown.
    """

    module: str
    layers: str
    frequencies: np.ndarray
    attention_factor: float
    layout: str
    parameters: tuple[tuple[str, object], ...]
    error: float
    formula_error: float


@dataclass(frozen=True, eq=False)
class RelativeBias:
    """A learned number added to the scores by bucket of the relative position (T5).

    Attributes:
        module: the module's path in the model.
        offsets: (2·n_positions − 1,) int64, key − query.
        buckets: the bucket of each offset, int64.
        bias: (n_heads, 2·n_positions − 1) float32.
        n_buckets: rows of the table.
        bidirectional: keys after the query have buckets of their own.
        error: largest |bias at (q, k) − bias at its offset|: 0 when it depends on the offset alone.
    """

    module: str
    offsets: np.ndarray
    buckets: np.ndarray
    bias: np.ndarray
    n_buckets: int
    bidirectional: bool
    error: float


@dataclass(frozen=True, eq=False)
class LinearBias:
    """ALiBi: a penalty that grows with the distance.

    Attributes:
        module: the first module that was handed it.
        slopes: (n_heads,) float64, read off the argument that the attention got.
        error: largest |slope − `alibi_slopes`|.
    """

    module: str
    slopes: np.ndarray
    error: float


PositionSource = PositionTable | Rotation | RelativeBias | LinearBias


@dataclass(frozen=True, eq=False)
class ModelPositions:
    """Everything through which positions enter a model, read from its modules.

    Attributes:
        n_positions: the length at which the modules were called.
        n_ctx: the longest text its config allows, or 0 where it names none.
        sources: in the order of the calls; () for a model that knows order by its masks alone, or not at all.
    """

    n_positions: int
    n_ctx: int
    sources: tuple[PositionSource, ...]


@dataclass(frozen=True, eq=False)
class OrderRun:
    """One run of one order of the tokens.

    Attributes:
        tokens: as the model read them.
        output: what it wrote: translation, continuation, or filled masks.
        patterns: (n_layers, n_heads, n, n) float32, NaN where masked.
        vectors: (n, d_model) float32, the last layer's output at every token.
    """

    tokens: tuple[Token, ...]
    output: str
    patterns: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True, eq=False)
class OrderComparison:
    """The same tokens in two orders, with the model's positions and without.

    Attributes:
        stream: whose patterns and vectors are compared: "encoder", or a decoder-only model's "decoder".
        permutation: place i of the other order holds token permutation[i] of the sentence.
        on, off: (the sentence, the other order) with positions and without.
        vector_residual_on, vector_residual_off: largest |vector of the other order − the sentence's vector of
            the same token|, as a share of the largest |vector|.
        pattern_residual_on, pattern_residual_off: likewise for weights between the same two tokens, absolute.
        rounding: share of the largest |vector| below which a difference is rounding at the model's number format.
        removed: (kind, module) of what was switched off; kind "table", "rotation", "relative bias", "linear bias".
        mask_tells_order: some map hides keys (causal, windowed), which tells the order without any positions.
        by_character: the tokenizer has the sentence as a single token, so it was read character by character.
    """

    stream: Stream
    permutation: tuple[int, ...]
    on: tuple[OrderRun, OrderRun]
    off: tuple[OrderRun, OrderRun]
    vector_residual_on: float
    vector_residual_off: float
    pattern_residual_on: float
    pattern_residual_off: float
    rounding: float
    removed: tuple[tuple[str, str], ...]
    mask_tells_order: bool
    by_character: bool

    @property
    def same_text(self) -> bool:
        """Whether the other order reads as the sentence does, as with 我我我: then nothing can tell them apart."""
        sentence, other = ([token.id for token in run.tokens] for run in self.on)
        return sentence == other
