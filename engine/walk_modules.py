"""Finds, in one forward pass, the modules around one attention call: projections, norms, rotation, residual.

No names are needed. Which columns of a Linear's output a query is follows from
the memory both share; where a rotation or a norm made a new tensor, from the
values: a rotation keeps every vector's length. The output projection is the
next Linear whose input is the attention output; the residual is the vector
that, added to it, is the next module's input.

It knows Linear and Conv1D, fused or apart, and refuses what it cannot match
(latent attention, as in DeepSeek). It computes nothing of attention itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from engine import errors
from engine.walk_timeline import Event, Timeline

#: Two float tensors are the same vectors if they differ by this share of the larger's largest number.
SAME = 1e-3


@dataclass(frozen=True, eq=False)
class Source:
    """Where the queries, keys or values of all heads came from.

    Attributes:
        linear: the projection's event.
        columns: (heads, d) int, the columns of its output that are each head's vector.
        before: (heads, length, d), before any rotation.
        normed: a norm stands between the projection's output and `before`.
        norm: that norm's module, or None; it reads vectors of (…, d) or of (…, heads·d).
        norm_width: last axis of what the norm reads.
        multiplier: what `before` was multiplied by to give what attention took.
        rotated: a rotation did.
    """

    linear: Event
    columns: Tensor
    before: Tensor
    norm: nn.Module | None
    norm_width: int
    multiplier: float
    rotated: bool


def projection(timeline: Timeline, target: Tensor, *, groups: tuple[int, int, int], what: int) -> Source:
    """The source of `target`.

    Args:
        target: (heads, length, d), the call's query, key or value.
        groups: widths of all queries, all keys, all values: how a fused projection may be laid out.
        what: 0 for the query, 1 the key, 2 the value.

    Raises:
        ModelRefused: no Linear's output could be it.
    """
    linears = [event for event in timeline.before if event.linear and event.y is not None
               and event.y.shape[0] == target.shape[1]]
    for event in reversed(linears):
        columns = _shared_columns(target, event.y)
        if columns is not None:
            return Source(event, columns, target, None, 0, 1.0, False)
    for event in reversed(linears):
        for columns in _layouts(event.y.shape[-1], target.shape, groups, what):
            before = event.y[:, columns].movedim(1, 0)
            if (made := _made_of(target, before)) is not None:
                return Source(event, columns, before, None, 0, *made)
    for event in reversed([event for event in timeline.before if not event.linear]):
        if event.y is None or event.x is None or event.y.numel() != target.numel():
            continue
        for before in _arranged(event.y, target.shape):
            if (made := _made_of(target, before)) is None:
                continue
            read = _arranged(event.x, target.shape)[0]
            for linear in linears:
                if (columns := _shared_columns(read, linear.y)) is not None:
                    return Source(linear, columns, before, event.module, event.x.shape[-1], *made)
    raise not_followed("qkv"[what])


def weight_of(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """(outputs, inputs) weight and (outputs,) bias of a Linear or Conv1D, float32."""
    weight = module.weight.T if isinstance(module, Conv1D) else module.weight
    return weight.float(), None if module.bias is None else module.bias.float()


def output_projection(timeline: Timeline) -> Event:
    """The next Linear whose input is the attention output.

    Raises:
        ModelRefused: something stands between the two (gates, norms).
    """
    address = timeline.output.data_ptr()
    for event in timeline.after:
        if event.linear and event.x is not None and event.x.data_ptr() == address:
            return event
    raise not_followed("W_O")


@dataclass(frozen=True, eq=False)
class Stream:
    """The residual stream around the call, each (q_len, d_model).

    Attributes:
        residual: what is added to.
        addend: what is added: the projection's output, or its norm.
        total: their sum as the next module reads it, or None where no module reads it (parallel attention and MLP).
        after: the norm of the sum, for post-LN layers, else None.
        prenormed: attention reads a norm of the residual.
    """

    residual: Tensor
    addend: Tensor
    total: Tensor | None
    after: Tensor | None
    prenormed: bool


def residual(timeline: Timeline, read: Tensor, projected: Event) -> Stream:
    """Finds the residual.

    Args:
        read: (q_len, d_model), what the query's projection read.
        projected: the output projection.
    """
    made = next((event for event in reversed(timeline.before) if event.y is not None and event.x is not None
                 and event.y.data_ptr() == read.data_ptr() and event.x.shape == read.shape
                 and event.x.data_ptr() != read.data_ptr()), None)
    candidates = [(read, False)] + ([(made.x, True)] if made is not None and not made.linear else [])
    addends = [projected.y]
    later = timeline.after[timeline.after.index(projected) + 1:]
    for event in later:
        if event.x is None or event.x.shape != read.shape:
            continue
        if event.x.data_ptr() == addends[-1].data_ptr() and not event.linear and event.y is not None:
            addends.append(event.y)  # dropout, or a norm of the output
            continue
        for addend in addends:
            for candidate, prenormed in candidates:
                if same(event.x, candidate + addend):
                    normed = not prenormed and not event.linear and not _goes_on(event, later)
                    return Stream(candidate, addend, event.x, event.y if normed else None, prenormed)
    return Stream(candidates[-1][0], projected.y, None, None, len(candidates) > 1)


def _goes_on(norm: Event, later: list[Event]) -> bool:
    """The layer's second half is added to what `norm` read, not to what it made (ModernBERT's first layer)."""
    rest = later[later.index(norm) + 1:]
    made = [event.y for event in rest if event.linear and event.y is not None and event.y.shape == norm.x.shape]
    return any(event.x is not None and event.x.shape == norm.x.shape and same(event.x, norm.x + y)
               for event in rest for y in made)


def not_followed(part: str) -> errors.ModelRefused:
    """The refusal of a model of which one part of a head cannot be made out."""
    return errors.ModelRefused(
        "a head whose projections, rotation and output projection can be made out", got=f"one whose {part} cannot",
        next_step="The steps of this model's heads cannot be shown; its maps can. Choose another model here.",
        code="walk_not_followed", part=part,
    )


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors of one shape hold the same numbers, rounding aside."""
    return float((first.float() - second.float()).abs().max()) <= SAME * float(first.abs().max())


def _shared_columns(target: Tensor, y: Tensor) -> Tensor | None:
    """Columns (heads, d) of `y` (length, width) at which `target` (heads, length, d) lies in the same memory."""
    if target.untyped_storage().data_ptr() != y.untyped_storage().data_ptr() or (
            target.shape[1] > 1 and target.stride(1) != y.stride(0)):
        return None
    first = (target.data_ptr() - y.data_ptr()) // target.element_size()
    heads, _, d = target.shape
    columns = first + torch.arange(heads)[:, None] * target.stride(0) + torch.arange(d) * target.stride(2)
    return columns if int(columns.min()) >= 0 and int(columns.max()) < y.shape[-1] else None


def _layouts(width: int, shape: torch.Size, groups: tuple[int, int, int], what: int) -> Iterator[Tensor]:
    heads, _, d = shape
    within = torch.arange(heads)[:, None] * d + torch.arange(d)
    if width == heads * d:
        yield within
    if width == sum(groups):
        yield sum(groups[:what]) + within
    if width == 3 * heads * d:  # query, key and value of each head side by side (GPT-NeoX)
        yield torch.arange(heads)[:, None] * 3 * d + what * d + torch.arange(d)


def _arranged(tensor: Tensor, shape: torch.Size) -> list[Tensor]:
    """(heads, length, d) views of a norm's tensor without batch, in the orders models use."""
    heads, length, d = shape
    flat = [tensor.reshape(length, heads, d).transpose(0, 1)]
    if tensor.shape == shape:
        flat.insert(0, tensor)
    return flat


def multiple_of(target: Tensor, before: Tensor) -> float | None:
    """The positive number that makes `target` of `before`, 1 if it is about 1; None if there is none."""
    a, b = target.float(), before.float()
    size = float((b * b).sum())
    multiplier = float((a * b).sum()) / size if size else 0.0
    if multiplier <= 0 or not same(a, multiplier * b):
        return None
    return 1.0 if abs(multiplier - 1) < SAME else multiplier


def _made_of(target: Tensor, before: Tensor) -> tuple[float, bool] | None:
    """(multiplier, rotated) if `target` is a multiple or a rotation of `before`, else None."""
    multiplier = multiple_of(target, before)
    if multiplier is not None:
        return multiplier, False
    return (1.0, True) if same(target.float().norm(dim=-1), before.float().norm(dim=-1)) else None
