"""The plain values that cross the engine's boundary: requests in, numpy arrays out.

Nothing here imports torch, transformers or streamlit. Arrays in results are
read-only; every dataclass is frozen. Axis names: `n_layers`, `n_heads`,
`q_len` (rows, queries), `k_len` (columns, keys), `d_head`, `d_value`.
Layers, heads and positions count from zero, here and on screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine import checks, errors

Stream = Literal["encoder", "decoder", "cross"]
STREAMS: tuple[Stream, ...] = ("encoder", "decoder", "cross")


@dataclass(frozen=True)
class Prompt:
    """One request, by value: hashable, serialisable, what a permalink holds.

    Args:
        model: name of an embedded model, of a folder under the models folder,
            or a hub id `org/name[@revision]`.
        text: what the person typed (the source, for an encoder–decoder).
        target: for encoder–decoders, the output to look at; None means the
            model's own output.
    """

    model: str
    text: str
    target: str | None = None


@dataclass(frozen=True)
class Head:
    """One attention head: its stream, layer and index, zero-based. Which ones there are, the model knows.

    Raises:
        InvalidPrompt: no such stream (code "unknown_stream"), or no whole numbers (code "bad_amount").
    """

    stream: Stream
    layer: int
    head: int

    def __post_init__(self) -> None:
        if self.stream not in STREAMS:
            raise errors.InvalidPrompt(
                f"a stream out of {', '.join(STREAMS)}", got=repr(self.stream),
                next_step="Choose one of the trace's streams.", code="unknown_stream", stream=str(self.stream),
            )
        for name in ("layer", "head"):
            value = getattr(self, name)
            object.__setattr__(self, name, int(value) if checks.is_whole(value) else checks.amount(value, what=name))


@dataclass(frozen=True)
class Token:
    """One token as the model sees it, with where it stands in the text.

    Attributes:
        text: what to show: the characters it covers with invisible ones made
            visible, the special token's own name, or, for one of several
            byte fragments of a character, that character with `·1/3`.
        id: the vocabulary id.
        span: (start, end) in characters of the text it came from (end
            exclusive); None for tokens that stand for no characters.
        special: added by the tokenizer, not typed.
        flag: "unknown" when the model's vocabulary lacks it, "fallback" when
            the word was broken down to single characters for want of an
            entry, else "".
    """

    text: str
    id: int
    span: tuple[int, int] | None
    special: bool
    flag: Literal["", "unknown", "fallback"] = ""


@dataclass(frozen=True)
class Word:
    """A run of tokens [start, end) shown as one label; see `engine.words` for the rule."""

    text: str
    start: int
    end: int
    special: bool
    flag: Literal["", "unknown", "fallback"] = ""


@dataclass(frozen=True)
class StreamTokens:
    """Which token each axis of a stream's maps carries.

    Attributes:
        query: rows. In `decoder` and `cross` the token that the row *predicts*;
            in `encoder` the token itself.
        key: columns, the tokens attended to.
        consumed: rows again, the token that the row *reads*; equal to `query`
            in `encoder`, one step earlier than `query` in `decoder` and `cross`.
        query_words, key_words: the same axes as words (`Word` ranges over them).
    """

    query: tuple[Token, ...]
    key: tuple[Token, ...]
    consumed: tuple[Token, ...]
    query_words: tuple[Word, ...]
    key_words: tuple[Word, ...]


@dataclass(frozen=True)
class Provenance:
    """How a trace came to be, as it stands on the page's badge.

    Attributes:
        model, revision: the name asked for and the pinned revision or weights' hash.
        device, dtype: e.g. "cpu", "float32".
        backend: how the maps were captured, e.g. "attention interface (SDPA)".
        masks: (stream, kind) pairs, kind in bidirectional, causal, windowed, additive.
        probe_error: largest |captured − eager| over the probe's maps.
        row_sum_error: largest |row sum − 1| over the sampled rows of this run
            (a learned sink's share, as in GPT-OSS, counted in).
        output_error: largest |pattern·v − the model's own attention output|
            over the sampled rows of this run.
        seconds: time of the captured forward pass.
        versions: (library, version) pairs.
    """

    model: str
    revision: str
    device: str
    dtype: str
    backend: str
    masks: tuple[tuple[str, str], ...]
    probe_error: float
    row_sum_error: float
    output_error: float
    seconds: float
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Trace:
    """One real run of a model on one prompt, without its n×n maps.

    Attributes:
        prompt: the request.
        family: "encoder-decoder", "decoder-only" or "encoder-only".
        streams: the streams this model has.
        axes: the token axes of each stream, in the order of `streams`.
        source_text: the text as it was tokenised (lone surrogates replaced).
        output: the model's own output: the translation, the continuation, or
            the sentence with its mask tokens filled; "" where there is none.
        output_is_given: the target was typed, so `output` is that target.
        output_complete: False when the output stopped at its length limit.
        shape: (n_layers, n_heads) of each stream, in the order of `streams`.
        notes: language-neutral codes of what the person should know, e.g.
            "surrogates_replaced", "special_tokens_as_text", "layers_without_attention".
        provenance: how it was captured.
    """

    prompt: Prompt
    family: Literal["encoder-decoder", "decoder-only", "encoder-only"]
    streams: tuple[Stream, ...]
    axes: tuple[StreamTokens, ...]
    source_text: str
    output: str
    output_is_given: bool
    output_complete: bool
    shape: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]
    provenance: Provenance

    def _index(self, stream: str) -> int:
        if stream not in self.streams:
            raise errors.InvalidPrompt(
                f"one of this model's streams ({', '.join(self.streams)})", got=repr(stream),
                next_step="Choose one of the trace's streams.", code="unknown_stream", stream=str(stream),
            )
        return self.streams.index(stream)

    def tokens(self, stream: str) -> StreamTokens:
        """The token axes of `stream`. Raises InvalidPrompt if the model has no such stream."""
        return self.axes[self._index(stream)]

    def layers_heads(self, stream: str) -> tuple[int, int]:
        """(n_layers, n_heads) of `stream`. Raises InvalidPrompt if the model has no such stream."""
        return self.shape[self._index(stream)]

    @property
    def n_layers(self) -> int:
        """Layers of the first stream."""
        return self.shape[0][0]

    @property
    def n_heads(self) -> int:
        """Heads a layer of the first stream."""
        return self.shape[0][1]


@dataclass(frozen=True)
class QueryKeyValue:
    """What one head computed with. Unpacks as `q, k, v, scaling`.

    Attributes:
        q: (q_len, d_head) float32, after positions (RoPE) where the model rotates.
        k: (k_len, d_head) float32, likewise; the KV head that this head reads.
        v: (k_len, d_value) float32.
        scaling: what q·k is multiplied by (1/√d_head in most models; 1.0 in
            those that scale q beforehand or never).
    """

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    scaling: float

    def __iter__(self):
        return iter((self.q, self.k, self.v, self.scaling))


#: Labels a head can carry, in the order in which the rules are tried (`engine.summaries`).
LABELS = ("sink", "previous", "next", "self", "local", "broad", "none")

#: The measures of HeadSummary, in the order in which the interface lists them.
MEASURES = (
    "entropy", "mean_distance", "max", "first_token_mass", "previous_token_mass", "self_mass", "sink_mass",
)


@dataclass(frozen=True)
class HeadSummary:
    """Per-head statistics of one stream. Every array is (n_layers, n_heads).

    Attributes:
        entropy: mean over rows of the row's Shannon entropy, nats.
        mean_distance: mean over rows of Σ_j p_ij |i − j|, tokens; NaN in `cross`, where positions do not compare.
        max: mean over rows of the row's largest weight.
        first_token_mass: mean over rows of the weight on key 0.
        previous_token_mass: mean over rows i ≥ 1 of the weight on key i − 1; NaN in `cross`.
        self_mass: mean over rows of the weight on key i; NaN in `cross`.
        sink_mass: mean over rows of the weight on the sink keys (`engine.summaries`).
        label: index into LABELS, int8.
        label_score: the score that earned the label, in [0, 1].
    """

    stream: Stream
    entropy: np.ndarray
    mean_distance: np.ndarray
    max: np.ndarray
    first_token_mass: np.ndarray
    previous_token_mass: np.ndarray
    self_mass: np.ndarray
    sink_mass: np.ndarray
    label: np.ndarray
    label_score: np.ndarray


@dataclass(frozen=True)
class Pooled:
    """A pattern reduced to a picture, never through an n×n array.

    Attributes:
        mean, max: (rows, columns) float32, rows ≤ size, columns ≤ size: mean and
            largest weight of each block of the pattern; masked cells count as 0.
        visible: (rows, columns) bool, False where a block holds masked cells alone.
        q_edges: (rows + 1,) int: block r covers query positions [q_edges[r], q_edges[r + 1]).
        k_edges: (columns + 1,) int, likewise for keys.
    """

    mean: np.ndarray
    max: np.ndarray
    visible: np.ndarray
    q_edges: np.ndarray
    k_edges: np.ndarray


@dataclass(frozen=True)
class Pictures:
    """Small pictures of all heads of a stream, for the grid.

    Attributes:
        cells: (n_layers, n_heads, rows, columns) float32: the largest weight in
            the block, NaN where no key is visible; exact, one cell a block,
            while an axis is no longer than the picture.
        q_edges: (rows + 1,) int: row r covers query positions [q_edges[r], q_edges[r + 1]).
        k_edges: (columns + 1,) int, likewise for keys.
    """

    cells: np.ndarray
    q_edges: np.ndarray
    k_edges: np.ndarray


@dataclass(frozen=True)
class ModelCard:
    """A model one can pick.

    Attributes:
        name: what `Prompt.model` takes.
        source: "embedded", "folder" or "hub".
        family: "encoder-decoder", "decoder-only", "encoder-only", or "" while unknown.
        model_type: transformers' model_type, e.g. "marian".
        bytes: size of the weights on disk.
        license: as its model card says, or "" when it says nothing.
        n_layers, n_heads: of the first stream; 0 while unknown.
        description: one line from its card, or "".
        revision: pinned revision (hub) or "".
    """

    name: str
    source: Literal["embedded", "folder", "hub"]
    family: str
    model_type: str
    bytes: int
    license: str
    n_layers: int
    n_heads: int
    description: str = ""
    revision: str = ""


@dataclass(frozen=True)
class Progress:
    """Where a running request stands.

    Attributes:
        stage: "queued", "downloading", "loading", "probing", "writing" (the
            model produces its output), "capturing", or "done"; of evidence also
            "reference" (sentences measured), "cutting" (edited runs) and "replacing";
            of emergence "snapshots" (snapshots).
        done, total: bytes while downloading, tokens written, or what the stage counts; total 0 when unknown.
        output: the output so far, while writing.
    """

    stage: str
    done: int = 0
    total: int = 0
    output: str = ""
