"""Runs one model on many edited copies of a sentence at once: cuts, patches, and what the output then gives.

An `Item` is a sequence with edits and with what to read off: log-probabilities
of given ids at given rows. Items of the same lengths go through the model as
one batch, as large as a byte budget allows; every layer's cuts are folded into
the batch's masks (score −∞ before softmax, the rest renormalised), so a pass
with sixty cuts costs one pass of sixty sentences.

It does not know what an edit is for, nor words: positions only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine import attention, budget
from engine.attention import Call
from engine.capture import Key
from engine.limits import Limits
from engine.probe import Plan
from engine.run import Live
from engine.types import Stream

#: What one batch of edited sequences may take.
BATCH_BYTES = 128 * 2**20
#: Rows of logits that are normalised at once, which bounds their copy in float64.
ROWS_AT_ONCE = 8


@dataclass(frozen=True)
class Cut:
    """Hides `columns` (keys) from `rows` (queries) of one stream.

    Attributes:
        stream: "encoder", "decoder" or "cross".
        rows, columns: positions.
        layer, head: one layer, one head; None means all of them.
    """

    stream: Stream
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    layer: int | None = None
    head: int | None = None


@dataclass(frozen=True, eq=False)
class Patch:
    """Replaces what attention brought to `rows` of one stream, in every layer.

    Attributes:
        rows: positions.
        outputs: of each layer, (len(rows), n_heads, d_value).
    """

    stream: Stream
    rows: tuple[int, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Read:
    """Which log-probabilities to read: of `ids[i]` at logits row `rows[i]`."""

    rows: tuple[int, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Item:
    """One sequence to run.

    Attributes:
        source: input ids; for decoder-only models the whole sequence.
        consumed: ids that the decoder reads; () without one.
        edits: cuts and patches.
        reads: what to read off.
    """

    source: tuple[int, ...]
    consumed: tuple[int, ...] = ()
    edits: tuple[Cut | Patch, ...] = ()
    reads: tuple[Read, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What one item gave.

    Attributes:
        logprobs: for each read, (len(rows),) float64, natural log.
        likeliest: for each read, the likeliest id of each row.
    """

    logprobs: tuple[np.ndarray, ...]
    likeliest: tuple[tuple[int, ...], ...]


#: Receives the item's index, (stream, layer), the call as edited, and its output (q_len, n_heads, d_value).
Observer = Callable[[int, Key, Call, Tensor], None]


def run(live: Live, items: Sequence[Item], *, limits: Limits, observe: Observer | None = None,
        on_done: Callable[[int], None] | None = None) -> list[Outcome]:
    """The outcome of every item, in order.

    Args:
        live: a model that passed the probe, held by the caller.
        items: of any lengths.
        limits: carries the share of free memory that a batch may take.
        observe: sees every attention call of every item, if given.
        on_done: receives how many items are done, after each batch.

    Raises:
        OverBudget: not even one sequence fits.
    """
    outcomes: list[Outcome | None] = [None] * len(items)
    groups: dict[tuple[int, int], list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault((len(item.source), len(item.consumed)), []).append(index)
    done = 0
    for indices in groups.values():
        size = _batch_size(live, items[indices[0]], limits=limits)
        for start in range(0, len(indices), size):
            batch = indices[start:start + size]
            for index, outcome in zip(batch, _batch(live, items, batch, observe), strict=True):
                outcomes[index] = outcome
            done += len(batch)
            if on_done is not None:
                on_done(done)
    return outcomes


def _batch_size(live: Live, item: Item, *, limits: Limits) -> int:
    shape = dict(zip(live.plan.streams, live.plan.shape, strict=True))
    lengths = {"encoder": len(item.source), "decoder": len(item.consumed) or len(item.source)}
    rows = len({row for read in item.reads for row in read.rows})
    one = budget.run_bytes(
        live.model.config, lengths=lengths, shape=shape, element_bytes=live.model.dtype.itemsize, logit_rows=rows,
        beams=0, new_tokens=0, device=live.device,
    ) - 4 * attention.TILE_BYTES
    heads = max(heads for _, heads in live.plan.shape)
    one += 6 * heads * max(lengths.values()) ** 2  # this layer's cuts and scores
    size = max(1, BATCH_BYTES // one)
    budget.check(one * size, device=live.device, limits=limits)
    return size


def _batch(live: Live, items: Sequence[Item], batch: list[int], observe: Observer | None) -> list[Outcome]:
    chosen = [items[index] for index in batch]
    editor = BatchEditor(live.plan, [item.edits for item in chosen], observe=observe, names=batch)
    device = live.model.device
    ids = torch.tensor([item.source for item in chosen], device=device)
    arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if live.family == "encoder-decoder":
        arguments["decoder_input_ids"] = torch.tensor([item.consumed for item in chosen], device=device)
    accepted = inspect.signature(live.model.forward).parameters
    if "use_cache" in accepted:
        arguments["use_cache"] = False
    rows = sorted({row for item in chosen for read in item.reads for row in read.rows}) or [0]
    with torch.inference_mode(), attention.editing(editor), _only(live, rows):
        output = live.model(**arguments)
    editor.check()
    logits = output.logits if getattr(output, "logits", None) is not None else output[0]
    place_of = {row: place for place, row in enumerate(rows)}
    return _outcomes(logits, [item.reads for item in chosen], place_of)


@contextmanager
def _only(live: Live, rows: Sequence[int]) -> Iterator[None]:
    """Inside, the model makes logits of these rows alone: the vocabulary times rows that nobody reads costs most."""
    head = live.model.get_output_embeddings()
    if head is None:
        raise ValueError(f"{live.name} has no output over a vocabulary to read.")
    handle = head.register_forward_pre_hook(lambda module, inputs: (inputs[0][:, list(rows)],))
    try:
        yield
    finally:
        handle.remove()


def _outcomes(logits: Tensor, reads: Sequence[tuple[Read, ...]], place_of: dict[int, int]) -> list[Outcome]:
    """What a batch's logits (batch, rows, d_vocab) give; each row that an item reads is normalised once."""
    wanted = sorted({(item, place_of[row]) for item, of_item in enumerate(reads) for read in of_item
                     for row in read.rows})
    if not wanted:
        return [Outcome((), ()) for _ in reads]
    items, places = torch.tensor(wanted, device=logits.device).T
    picked = logits[items, places]
    totals = torch.cat([part.double().logsumexp(-1) for part in picked.split(ROWS_AT_ONCE)]).cpu().numpy()
    best = picked.argmax(-1).cpu().numpy()
    at = {pair: index for index, pair in enumerate(wanted)}
    # Every (row, id) that is read, fetched at once: one copy from the device a batch.
    flat = [(at[item, place_of[row]], id_) for item, of_item in enumerate(reads) for read in of_item
            for row, id_ in zip(read.rows, read.ids, strict=True)]
    indices, ids = torch.tensor(flat, device=logits.device).T
    logprobs = picked[indices, ids].double().cpu().numpy() - totals[indices.cpu().numpy()]
    outcomes, start = [], 0
    for item, of_item in enumerate(reads):
        parts, likeliest = [], []
        for read in of_item:
            parts.append(logprobs[start:start + len(read.rows)])
            start += len(read.rows)
            likeliest.append(tuple(int(best[at[item, place_of[row]]]) for row in read.rows))
        outcomes.append(Outcome(tuple(parts), tuple(likeliest)))
    return outcomes


class BatchEditor:
    """An `attention.Editor`: the edits of each sequence of a batch, by stream and layer.

    Args:
        plan: gives the order of the calls.
        edits: of each sequence.
        observe: sees every call, if given.
        names: what `observe` is told a sequence is called.
    """

    def __init__(self, plan: Plan, edits: Sequence[tuple[Cut | Patch, ...]], *, observe: Observer | None = None,
                 names: Sequence[int] = ()) -> None:
        self._order = plan.order
        self._observe, self._names = observe, names
        self._count = 0
        self._cuts: dict[Stream, list[tuple[int, Cut]]] = {}
        self._patches: dict[Stream, list[tuple[int, Patch]]] = {}
        for place, of_item in enumerate(edits):
            for edit in of_item:
                kept = self._cuts if isinstance(edit, Cut) else self._patches
                kept.setdefault(edit.stream, []).append((place, edit))

    def hidden(self, shape: tuple[int, int, int, int], device: torch.device) -> Tensor | None:
        """What the cuts of the call about to run hide; None where there are none."""
        if self._count >= len(self._order):
            return None
        stream, layer = self._order[self._count]
        cuts = [(place, cut) for place, cut in self._cuts.get(stream, ()) if cut.layer in (None, layer)]
        cuts = [(place, cut) for place, cut in cuts if cut.rows and cut.columns]
        if not cuts:
            return None
        batch, n_heads, q_len, k_len = shape
        by_head = any(cut.head is not None for _, cut in cuts)
        hidden = np.zeros((batch, n_heads if by_head else 1, q_len, k_len), bool)
        for place, cut in cuts:
            heads = slice(None) if cut.head is None else slice(cut.head, cut.head + 1)
            hidden[place, heads, np.array(cut.rows)[:, None], np.array(cut.columns)] = True
        return torch.from_numpy(hidden).to(device)

    def finish(self, call_of: Callable[[int], Call], output: Tensor) -> Tensor:
        """Apply the patches of this call, and show it to the observer."""
        if self._count >= len(self._order):
            self._count += 1
            return output
        key = stream, layer = self._order[self._count]
        self._count += 1
        patches = self._patches.get(stream, ())
        if patches:
            output = output.clone()
            for place, patch in patches:
                output[place, list(patch.rows)] = patch.outputs[layer]
        if self._observe is not None:
            for place, name in enumerate(self._names):
                self._observe(name, key, call_of(place), output[place])
        return output

    def check(self) -> None:
        """Raise RuntimeError unless the pass made exactly the calls that the probe saw."""
        if self._count != len(self._order):
            raise RuntimeError(f"The model made {self._count} attention calls; the probe saw {len(self._order)}.")
