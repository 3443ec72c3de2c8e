"""What one forward pass leaves behind: kept calls, reductions made on the way, and its checks.

A short run keeps every layer's queries, keys and values; a long one keeps none
and reduces every map while it passes (summaries, thumbnails), so that no n×n
array of more than a tile ever exists. Which of the two is `limits.capture_bytes`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from engine import attention, errors, pooled, summaries
from engine.attention import Call
from engine.probe import Plan
from engine.types import HeadSummary, Pictures, Stream, Trace

#: Rows of every head on which each run is checked against the model's own attention output.
CHECKED_ROWS = 16
#: What one label of an axis takes in Python objects, roughly.
LABEL_BYTES = 512

Key = tuple[Stream, int]


@dataclass(eq=False)
class Captured:
    """A trace with what later questions about it need. Lives inside the engine.

    Attributes:
        trace: the plain value.
        arguments: the forward pass's inputs, to run it again.
        calls: kept calls by (stream, layer); all of them, or those asked for last.
        complete: every layer is kept.
        summaries, pictures: by stream, once made.
        lock: guards the mutable parts.
    """

    trace: Trace
    arguments: dict[str, Tensor]
    calls: OrderedDict[Key, Call]
    complete: bool
    summaries: dict[Stream, HeadSummary] = field(default_factory=dict)
    pictures: dict[Stream, Pictures] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def bytes(self) -> int:
        """Bytes held; masks and biases that layers share are counted once, token labels by estimate."""
        # Without the lock, which a reduction holds for long: copying a dictionary's values is one step.
        calls, pictures = list(self.calls.values()), list(self.pictures.values())
        # By storage: a mask may be an expanded view, far smaller than its shape says.
        views = [t.untyped_storage() for call in calls for t in (call.mask, call.bias) if t is not None]
        shared = {storage.data_ptr(): storage.nbytes() for storage in views}
        labels = sum(len(axis) for tokens in self.trace.axes for axis in (tokens.query, tokens.key, tokens.consumed))
        return (
            sum(call.bytes for call in calls) + sum(shared.values())
            + sum(picture.cells.nbytes for picture in pictures) + labels * LABEL_BYTES
        )


class Recorder:
    """Observes one forward pass: names each call, and hands it on.

    Args:
        plan: gives the order of the calls.
        handle: receives (stream, layer), the call, and the model's output (n_heads, q_len, d_value).
    """

    def __init__(self, plan: Plan, handle: Callable[[Key, Call, Tensor], None]) -> None:
        self._order = plan.order
        self._handle = handle
        self.count = 0

    def __call__(self, call: Call, output: Tensor) -> None:
        key = self._order[self.count] if self.count < len(self._order) else None
        self.count += 1
        if key is not None:
            self._handle(key, call, output)

    def check(self) -> None:
        """Raise RuntimeError unless the pass made exactly the calls that the probe saw."""
        if self.count != len(self._order):
            raise RuntimeError(f"The model made {self.count} attention calls; the probe saw {len(self._order)}.")


class Checks:
    """Measures, on a few rows of every head, how true the recomputed maps are.

    Attributes:
        row_sum_error: largest |Σ_j p_ij − 1|, the learned sink's share counted in.
        output_error: largest |pattern·v − the model's own attention output|.
        masks: stream → the kinds of mask met, in order.
    """

    def __init__(self) -> None:
        self.row_sum_error = 0.0
        self.output_error = 0.0
        self.masks: dict[Stream, list[str]] = {}

    def add(self, key: Key, call: Call, output: Tensor) -> None:
        """Take in one call and the output that the model went on with.

        Raises:
            ModelRefused: the output holds numbers that are not finite; no map of this run means anything.
        """
        if not bool(output.isfinite().all()):
            raise errors.ModelRefused(
                "finite numbers in the model's attention", got=f"others in {key[0]} layer {key[1]}",
                next_step="In half precision long texts can overflow: shorten the text, or choose another model.",
                code="not_finite", stream=key[0], layer=key[1],
            )
        step = max(1, call.q_len // CHECKED_ROWS)
        rows = slice(None, None, step)
        weights = attention.pattern(call, rows=rows)
        sums = weights.sum(-1)
        if call.sinks is not None:
            sink = call.sinks.float()[:, None]
            sums += (sink - torch.logaddexp(attention.scores(call, rows=rows).logsumexp(-1), sink)).exp()
        # A row that sees no key is all zeros, and right.
        self.row_sum_error = max(self.row_sum_error, float(((sums - 1).abs() * (sums > 0)).max()))
        value = call.value.float()
        value = value.repeat_interleave(call.n_heads // value.shape[0], dim=0)
        difference = (weights @ value - output[:, rows].float()).abs().max()
        self.output_error = max(self.output_error, float(difference))
        kind = attention.mask_kind(call)
        kinds = self.masks.setdefault(key[0], [])
        if kind not in kinds:
            kinds.append(kind)


class Reducer:
    """Makes summaries and pictures of every head while the calls pass, in row tiles.

    Args:
        trace: gives the shapes and the sink keys.
        size: side of a picture, in cells.
    """

    def __init__(self, trace: Trace, *, size: int) -> None:
        self._size = size
        self._sinks = {s: summaries.sink_keys(trace.tokens(s).key, stream=s) for s in trace.streams}
        self._summaries: dict[Stream, list[dict]] = {s: [] for s in trace.streams}
        self._pictures: dict[Stream, list[np.ndarray]] = {s: [] for s in trace.streams}
        self._edges: dict[Stream, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, key: Key, call: Call) -> None:
        """Reduce one call's maps. Calls of a stream must come in the order of its layers."""
        stream = key[0]
        sink = torch.from_numpy(self._sinks[stream]).to(call.query.device)
        shape = (call.n_heads, call.q_len, call.k_len)
        accumulator = summaries.Accumulator(*shape, stream=stream, sink_keys=sink)
        pooler = pooled.Pooler(*shape, size=self._size)
        seen = pooled.Pooler(1, call.q_len, call.k_len, size=self._size)
        for start, tile in attention.tiles(call):
            visible = attention.visible(call, rows=slice(start, start + tile.shape[1]))
            accumulator.add(tile, start, visible=visible[0])
            pooler.add(tile, start)
            seen.add(visible[:1], start)
        self._summaries[stream].append(accumulator.result())
        self._pictures[stream].append(np.where(seen.result()[1] > 0, pooler.result()[1], np.nan))
        self._edges[stream] = pooler.q_edges, pooler.k_edges

    def result(self, stream: Stream) -> tuple[HeadSummary, Pictures]:
        """The summary and the pictures of `stream`."""
        cells = np.stack(self._pictures[stream]).astype(np.float32)
        cells.setflags(write=False)
        q_edges, k_edges = self._edges[stream]
        return (
            summaries.assemble(stream, self._summaries[stream]),
            Pictures(cells=cells, q_edges=q_edges, k_edges=k_edges),
        )
