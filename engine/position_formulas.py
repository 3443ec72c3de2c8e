"""The ways to write a position down, as closed formulas: numpy in, numpy out, float64.

Sinusoids (Vaswani et al. 2017, §3.5), rotations (Su et al. 2021) with the
scalings that lengthen them, linear biases (Press et al. 2022, with BLOOM's rule
for other head counts) and T5's buckets (Raffel et al. 2020). Conventions are
those of the models people load: rotations pair dimension j with j + d/2 (half
split), as in transformers, while the paper pairs neighbours.

It knows no model: what a loaded one really uses is read by `engine.positions.of_model`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from engine import errors
from engine.checks import array, is_positive, is_whole

ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "llama3")
#: YaRN's turns within the trained length from which a pair is left alone, and up to which it is stretched in full.
BETA_FAST, BETA_SLOW = 32.0, 1.0


def sinusoidal(n_positions: int, d_model: int, *, base: float = 10_000.0) -> np.ndarray:
    """The paper's table, (n_positions, d_model) float64, sine and cosine interleaved.

    Column 2i holds sin(p · base^(−2i/d_model)), column 2i + 1 the cosine of the
    same angle (Vaswani et al. 2017, §3.5).

    Raises:
        InvalidPrompt: a size that is no whole number from 1, or a base that is not above 1 (code "position_size").
    """
    _check_whole(1, n_positions=n_positions, d_model=d_model)
    _check_base(base)
    angles = np.arange(n_positions)[:, None] * base ** (-np.arange(0, d_model, 2) / d_model)
    table = np.empty((n_positions, d_model))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : d_model // 2])
    return table


def rope_frequencies(d_head: int, base: float = 10_000.0, scaling: Mapping | None = None, *,
                     n_positions: int | None = None) -> np.ndarray:
    """What each pair of dimensions turns by from one position to the next, radians, (d_head/2,) float64.

    Args:
        d_head: dimensions of a head, even.
        base: base^(−2i/d_head) is pair i's unscaled frequency; a `rope_theta` in `scaling` counts instead.
        scaling: transformers' `rope_parameters`: `rope_type` out of ROPE_TYPES and that type's keys. For
            "dynamic" the trained length is its `original_max_position_embeddings` (or
            `max_position_embeddings`). With `partial_rotary_factor` only that share of d_head turns.
        n_positions: the length of the run, which "dynamic" scaling depends on; None: no longer than trained.

    Raises:
        InvalidPrompt: an odd or empty d_head, a base that is not above 1 (code "position_size"), an unknown
            `rope_type`, or a key that is missing or no finite number above 0 (code "rope_scaling").
    """
    scaling = _parameters(scaling)
    base = _number_or(scaling, "rope_theta", base)
    _check_base(base)
    _check_whole(1, d_head=d_head)
    if n_positions is not None:
        _check_whole(0, n_positions=n_positions)
    share = _number_or(scaling, "partial_rotary_factor", 1.0)
    if share > 1:
        raise _bad_scaling("partial_rotary_factor, a share up to 1", got=str(share), key="partial_rotary_factor")
    d_rotary = int(d_head * share)
    if d_rotary < 2 or d_rotary % 2:
        raise _bad_size("an even number of dimensions that turn, from 2", name="d_head", value=d_rotary)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ROPE_TYPES:
        raise _bad_scaling(f"rope_type out of {', '.join(ROPE_TYPES)}", got=repr(kind), key="rope_type")
    if kind == "default":
        return _unscaled(d_rotary, base)
    factor = _number(scaling, "factor")
    if kind == "linear":
        return _unscaled(d_rotary, base) / factor
    if kind == "dynamic":
        return _dynamic(d_rotary, base, scaling, n_positions)
    if kind == "yarn":
        return _yarn(d_rotary, base, scaling)
    return _llama3(d_rotary, base, scaling)


def rope_attention_factor(scaling: Mapping | None) -> float:
    """What cosine and sine are multiplied by besides: 1, or YaRN's temperature (Peng et al. 2023, §3.4).

    Raises:
        InvalidPrompt: a key that is no finite number above 0 (code "rope_scaling").
    """
    scaling = _parameters(scaling)
    if scaling.get("rope_type", scaling.get("type")) != "yarn":
        return 1.0
    if scaling.get("attention_factor") is not None:
        return _number(scaling, "attention_factor")
    factor = _number(scaling, "factor")

    def temperature(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return temperature(_number(scaling, "mscale")) / temperature(_number(scaling, "mscale_all_dim"))
    return temperature(1.0)


def rope_rotate(x: np.ndarray, positions: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """`x` turned to its positions, half split: dimension j turns with dimension j + len(frequencies).

    Args:
        x: (…, n, d_head); dimensions beyond 2·len(frequencies) stay as they are.
        positions: (n,), or a number for an x of (…, d_head).
        frequencies: (d_head/2,) radians a position.

    Returns:
        As `x`, float64.

    Raises:
        InvalidPrompt: more frequencies than pairs (code "position_size"), or arrays that do not belong together (code
            "bad_array").
    """
    x = array(x, what="x", shape=(..., None))
    frequencies = array(frequencies, what="frequencies", shape=(None,))
    half = len(frequencies)
    if x.shape[-1] < 2 * half:
        raise _bad_size(f"{2 * half} dimensions for {half} frequencies", name="d_head", value=x.shape[-1])
    positions = array(positions, what="positions", shape=(...,))
    try:
        np.broadcast_shapes(positions.shape, x.shape[:-1])
    except ValueError:
        array(positions, what="positions", shape=x.shape[:-1])  # which it has not
    angles = positions[..., None] * frequencies
    cos, sin = np.cos(angles), np.sin(angles)
    first, second, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    turned = [first * cos - second * sin, second * cos + first * sin]
    return np.concatenate([*turned, np.broadcast_to(rest, (*turned[0].shape[:-1], rest.shape[-1]))], axis=-1)


def alibi_slopes(n_heads: int) -> np.ndarray:
    """ALiBi's slope of each head, (n_heads,) float64; the bias is −slope · distance.

    A power of two m has 2^(−8h/m), h = 1 … m (Press et al. 2022, §3). Any other
    count takes those of the power below it, then every other one of the power
    above it: the rule BLOOM and the paper's own code follow.

    Raises:
        InvalidPrompt: no whole number from 1 (code "position_size").
    """
    _check_whole(1, n_heads=n_heads)
    below = 2 ** int(math.log2(n_heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, below + 1) / below)
    more = 2.0 ** (-8.0 * np.arange(1, 2 * below + 1, 2) / (2 * below))
    return np.concatenate([slopes, more[: n_heads - below]])


def t5_bucket(relative_position: np.ndarray, *, bidirectional: bool, n_buckets: int = 32,
              max_distance: int = 128) -> np.ndarray:
    """The bucket of each relative position, int64, in [0, n_buckets), shaped as `relative_position`.

    Half of the buckets of a direction hold one distance each, the rest grow
    logarithmically up to `max_distance`; beyond it everything shares the last
    (Raffel et al. 2020, §2.1). One direction's buckets come first: key at or before query.

    Args:
        relative_position: key − query, integers.
        bidirectional: keys after the query have buckets of their own (encoder); else they count as distance 0.
        n_buckets: of both directions together.
        max_distance: from which on there is one bucket.

    Raises:
        InvalidPrompt: fewer than 2 buckets a direction, or a `max_distance` not above the exact
            distances, or no whole numbers (code "position_size").
    """
    relative_position = np.asarray(relative_position)
    directions = 2 if bidirectional else 1
    _check_whole(2 * directions, n_buckets=n_buckets)
    per_direction = n_buckets // directions
    exact = per_direction // 2
    _check_whole(exact + 1, max_distance=max_distance)
    after = np.zeros(relative_position.shape, np.int64)
    if bidirectional:
        after = (relative_position > 0) * per_direction
        distance = np.abs(relative_position)
    else:
        distance = np.maximum(-relative_position, 0)
    # In float32, as the models compute it: at a bucket's edge rounding decides.
    share = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(max_distance / exact))
    far = exact + (share * np.float32(per_direction - exact)).astype(np.int64)
    return after + np.where(distance < exact, distance, np.minimum(far, per_direction - 1))


def wavelengths(frequencies: np.ndarray) -> np.ndarray:
    """Positions that a full turn takes, 2π/frequency; shaped as `frequencies`."""
    return 2 * np.pi / np.asarray(frequencies, dtype=np.float64)


def similarity(table: np.ndarray, position: int) -> np.ndarray:
    """Cosine of one row of a table with every row, (n_positions,) float64; 0 for rows of zeros."""
    table = np.asarray(table, dtype=np.float64)
    lengths = np.linalg.norm(table, axis=1)
    products = lengths * lengths[position]
    return np.divide(table @ table[position], products, out=np.zeros(len(table)), where=products > 0)


def rope_scores(q: np.ndarray, k: np.ndarray, offsets: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Score of a query at 0 with keys that lie `offsets` before it, (…, len(offsets)) float64.

    Args:
        q, k: (…, d_head).
        offsets: (m,) positions.
        frequencies: (d_head/2,).
    """
    turned = rope_rotate(np.asarray(k)[..., None, :], -np.asarray(offsets), frequencies)
    return np.einsum("...d,...md->...m", np.asarray(q, dtype=np.float64), turned)


def rope_bound(q: np.ndarray, k: np.ndarray, offsets: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Su et al.'s upper bound on |score| by offset, in the scores' own unit, (…, len(offsets)) float64.

    Σ_j |h_{j+1} − h_j| · |S_{j+1}|, where h_j is pair j's product q·k̄ as complex numbers, h beyond the last pair is 0,
    and S_j = Σ_{i<j} e^{i·offset·θ_i} (§3.4.3). The paper's next step puts the largest |h_{j+1} − h_j| in place of
    each; what it then draws has lost the scores' unit. The bound falls, the scores need not: for independent q and k
    their mean is 0 everywhere.

    Args:
        q, k: (…, d_head), d_head = 2·len(frequencies).
        offsets: (m,) positions.
        frequencies: (d_head/2,).
    """
    half = len(frequencies)
    q, k = (np.asarray(x)[..., :half] + 1j * np.asarray(x)[..., half:] for x in (q, k))
    steps = np.abs(np.diff(q * k.conj(), append=0))
    turns = np.exp(1j * np.multiply.outer(np.asarray(offsets, dtype=np.float64), frequencies))
    return steps @ np.abs(turns.cumsum(axis=-1)).T


# --- scalings --------------------------------------------------------------------------------------------------------


def _unscaled(d: int, base: float) -> np.ndarray:
    return base ** (-np.arange(0, d, 2) / d)


def _dynamic(d: int, base: float, scaling: Mapping, n_positions: int | None) -> np.ndarray:
    """NTK-aware: the base grows with the run's length, so that fast pairs keep their speed."""
    factor = _number(scaling, "factor")
    trained = _number_or(scaling, "original_max_position_embeddings",
                         _number_or(scaling, "max_position_embeddings", None))
    if trained is None and n_positions is not None:
        raise _bad_scaling("original_max_position_embeddings, the trained length, for dynamic scaling at a length",
                           got="none", key="original_max_position_embeddings")
    longer = max(n_positions or 0, trained or 0) / trained if trained else 1.0
    return _unscaled(d, base * (factor * longer - (factor - 1)) ** (d / (d - 2)) if d > 2 else base)


def _yarn(d: int, base: float, scaling: Mapping) -> np.ndarray:
    """YaRN (Peng et al. 2023): fast pairs as they are, slow ones stretched, a ramp between."""
    factor, trained = _number(scaling, "factor"), _number(scaling, "original_max_position_embeddings")

    def pair_that_turns(times: float) -> float:
        return d * math.log(trained / (times * 2 * math.pi)) / (2 * math.log(base))

    low = pair_that_turns(_number_or(scaling, "beta_fast", BETA_FAST))
    high = pair_that_turns(_number_or(scaling, "beta_slow", BETA_SLOW))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, d - 1)
    stretched = np.clip((np.arange(d // 2) - low) / ((high - low) or 0.001), 0.0, 1.0)
    frequencies = _unscaled(d, base)
    return frequencies / factor * stretched + frequencies * (1 - stretched)


def _llama3(d: int, base: float, scaling: Mapping) -> np.ndarray:
    """Llama 3.1: by wavelength, long ones divided by the factor, short ones left, those between mixed."""
    factor, trained = _number(scaling, "factor"), _number(scaling, "original_max_position_embeddings")
    low, high = _number(scaling, "low_freq_factor"), _number(scaling, "high_freq_factor")
    frequencies = _unscaled(d, base)
    turns = trained / wavelengths(frequencies)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0) if high > low else (turns >= low) * 1.0
    return (1 - kept) * frequencies / factor + kept * frequencies


def _parameters(scaling: Mapping | None) -> Mapping:
    if not isinstance(scaling, Mapping | None):
        raise _bad_scaling("rope_parameters as a mapping", got=repr(scaling)[:60], key="rope_type")
    return scaling or {}


def _number(scaling: Mapping, key: str) -> float:
    value = scaling.get(key)
    if not is_positive(value):
        raise _bad_scaling(f"{key}, a finite number above 0", got=repr(value)[:60], key=key)
    return float(value)


def _number_or(scaling: Mapping, key: str, default: float | None) -> float | None:
    """The number under `key`; the default where there is none, or 0."""
    return _number(scaling, key) if scaling.get(key) else default


def _bad_scaling(expected: str, *, got: str, key: str) -> errors.InvalidPrompt:
    return errors.InvalidPrompt(
        expected, got=got, next_step="Give the rope_parameters as the model's config.json has them.",
        code="rope_scaling", key=key, value=got,
    )


def _check_whole(least: int, **sizes: object) -> None:
    for name, size in sizes.items():
        if not is_whole(size) or size < least:
            raise _bad_size(f"{name} as a whole number from {least}", name=name, value=size)


def _check_base(base: object) -> None:
    if not is_positive(base) or base <= 1:
        raise _bad_size("base as a finite number above 1", name="base", value=base)


def _bad_size(expected: str, *, name: str, value: object) -> errors.InvalidPrompt:
    return errors.InvalidPrompt(
        expected, got=f"{name} = {repr(value)[:60]}", next_step="Choose another number.", code="position_size",
        name=name, value=str(value)[:60],
    )
