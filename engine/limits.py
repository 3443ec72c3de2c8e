"""The numbers someone may want to change, in one place.

They are bounds on what one request may ask for, not tuning knobs: raising one
makes the app accept more, and slower, requests.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one engine.

    Attributes:
        text_characters: longest text or target accepted, in characters; checked before tokenising.
        word_characters: longest contrast, and longest replacement, accepted as evidence's other words, in characters.
        replacements: most words that evidence puts in B's place by request; each is some runs of its own.
        tokens: longest sequence of any stream, in tokens (the model's own n_ctx may be shorter).
        new_tokens_decoder: tokens a decoder-only model continues the text by.
        new_tokens_target: tokens an encoder–decoder may write.
        exact_grid: largest q_len and k_len at which the grid shows every cell of every head.
        thumbnail: side of a pooled head picture in the grid, in cells.
        detail: largest q_len and k_len at which one head is shown cell by cell.
        capture_bytes: queries, keys and values one trace may keep; above it a
            layer's are captured again when they are asked for.
        trace_cache_bytes: what all kept traces may hold together.
        model_cache_bytes: what all loaded models may hold together.
        queue_length: requests that may wait for one model before "busy" is the answer.
        memory_headroom: share of the free memory that a run may be predicted to need.
        probe_tolerance: largest difference between captured and eager maps that the probe accepts, float32.
        probe_tolerance_half: the same for float16 and bfloat16 models.
    """

    text_characters: int = 8_000
    word_characters: int = 200
    replacements: int = 32
    tokens: int = 4_096
    new_tokens_decoder: int = 24
    new_tokens_target: int = 96
    exact_grid: int = 64
    thumbnail: int = 64
    detail: int = 256
    capture_bytes: int = 64 * 2**20
    trace_cache_bytes: int = 512 * 2**20
    model_cache_bytes: int = 8 * 2**30
    queue_length: int = 32
    memory_headroom: float = 0.8
    probe_tolerance: float = 1e-5
    probe_tolerance_half: float = 2e-2


DEFAULT = Limits()
