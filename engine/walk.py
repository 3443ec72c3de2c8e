"""One attention head, step by step, on a real run: from a layer's input to the residual stream again.

    walk = walk(engine, Prompt("zh-en", "我喜欢吃苹果"), Head("encoder", 2, 1))

The prompt's captured pass runs once more with the modules around one layer
watched; the steps are then computed anew in float64 from the layer's input and
weights, and held against what the modules really gave (`Walk.checks`).

It does not know what the model was trained for, nor any model's names.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from engine import attention, errors, run, walk_modules
from engine.attention import Call
from engine.capture import Captured
from engine.run import Live
from engine.types import Head, Prompt
from engine.walk_entrance import entrance_parts
from engine.walk_modules import Source
from engine.walk_steps import attend, rotate
from engine.walk_timeline import Timeline, watching
from engine.walk_types import Projection, Rotation, Step, Terms, Walk

if TYPE_CHECKING:
    from engine.local import LocalEngine

#: Half-precision models round what ours does not; a rotation is recognised to this share of the largest number.
ROTATION_TOLERANCE = 2e-2


def walk(engine: LocalEngine, prompt: Prompt, head: Head) -> Walk:
    """Every intermediate of one head.

    Args:
        engine: runs the model, in its worker.
        prompt, head: as for `LocalEngine.pattern`.

    Raises:
        InvalidPrompt: no such stream, layer or head.
        TextTooLong: an axis is longer than `limits.detail`.
        ModelRefused: the layer's projections or its output projection cannot be told apart.
        EngineError: as for any run.
    """
    longest = max(engine.visible(prompt, head).shape)
    if longest > engine.limits.detail:
        raise errors.TextTooLong(
            f"at most {engine.limits.detail} tokens of text to walk through a head of {prompt.model}",
            got=f"{longest}", next_step="Shorten it.", code="too_many_tokens", limit=engine.limits.detail,
            length=longest, model=prompt.model, what="text",
        )
    captured = engine.start(prompt).future.result()
    return engine.submit(prompt.model, partial(_walk, captured, head)).result()


def _walk(captured: Captured, head: Head, live: Live) -> Walk:
    order = live.plan.order
    entrance = "encoder" if head.stream == "encoder" else "decoder"
    timeline = Timeline(order.index((head.stream, head.layer)), order.index((entrance, 0)))
    with torch.inference_mode(), watching(live.model, timeline), attention.session(timeline.on_call):
        run.forward(live, captured.arguments)
    with torch.inference_mode():
        return _compute(timeline, head, captured.arguments)


def _compute(timeline: Timeline, head: Head, arguments: dict[str, torch.Tensor]) -> Walk:
    call, index = timeline.call, head.head
    kv_head = call.kv_head(index)
    widths = tuple(t.shape[0] * t.shape[2] for t in (call.query, call.key, call.value))
    targets = (call.query, call.key, call.value)
    sources = [walk_modules.projection(timeline, t, groups=widths, what=i) for i, t in enumerate(targets)]
    rotation = _rotation(timeline, sources, targets)
    query, key, value = (
        _projection(source, at, rotation) for source, at in zip(sources, (index, kv_head, kv_head), strict=True))
    terms = _terms(call, index)
    steps = attend(query.after, key.after, value.after, terms)
    output = walk_modules.output_projection(timeline)
    read = sources[0].linear.x
    stream = walk_modules.residual(timeline, read, output)

    weight, bias = walk_modules.weight_of(output.module)
    weight, bias = _wide(weight), np.zeros(weight.shape[0]) if bias is None else _wide(bias)
    heads = _wide(timeline.output)
    ours = heads.copy()
    ours[index] = steps["mixed"]
    d_value = ours.shape[2]
    by_head = weight.reshape(len(weight), len(ours), d_value).transpose(1, 2, 0)  # (n_heads, d_value, d_model)
    made = ours @ by_head
    projected = made.sum(0) + bias
    normed = stream.addend.data_ptr() != output.y.data_ptr() and not walk_modules.same(stream.addend, output.y)
    addend = _wide(stream.addend) if normed else projected
    total = _wide(stream.residual) + addend
    after = None if stream.after is None else _norm(timeline, stream, total)
    parts, entering = entrance_parts(timeline, head, arguments, stream.residual)

    checks: list[tuple[Step, float]] = []
    if entering is not None:
        checks.append(("input", entering))
    checks += [
        ("projections", max(_off(p.after, t[at]) for p, t, at in zip(
            (query, key, value), targets, (index, kv_head, kv_head), strict=True))),
        ("mask", _off_finite(steps["scores"], attention.scores(call)[index])),
        ("softmax", _off(steps["weights"], attention.pattern(call)[index])),
        ("mix", _off(steps["mixed"], timeline.output[index])),
    ]
    seen = [_off(projected, output.y)] + ([_off(total, stream.total)] if stream.total is not None else []) + (
        [_off(after, stream.after)] if after is not None else [])
    checks.append(("output", max(seen)))
    n_kv_heads = call.key.shape[0]
    return Walk(
        head=head, n_heads=call.n_heads, n_kv_heads=n_kv_heads, d_model=len(weight),
        sharing=tuple(h for h in range(call.n_heads) if call.kv_head(h) == kv_head),
        parts=parts, residual=_kept(_wide(stream.residual)), input=_kept(_wide(read)), prenormed=stream.prenormed,
        query=query, key=key, value=value, rotation=rotation, terms=terms,
        heads=_kept(ours), own=_kept(made[index]), output_bias=_kept(bias),
        parts_out=_kept(np.linalg.norm(made, axis=-1)), output=_kept(projected), addend=_kept(addend),
        total=_kept(total), after=None if after is None else _kept(after), checks=tuple(checks),
        **{name: _kept(array) for name, array in steps.items()},
    )


def _projection(source: Source, head: int, rotation: Rotation | None) -> Projection:
    weight, bias = walk_modules.weight_of(source.linear.module)
    columns = source.columns[head].to(weight.device)
    x, w = _wide(source.linear.x), _wide(weight[columns])
    b = np.zeros(len(w)) if bias is None else _wide(bias[columns])
    projected = x @ w.T + b
    before = projected
    if source.norm is not None:
        before = _own_norm(source, head) if source.norm_width != len(w) else _wide(
            source.norm(torch.from_numpy(projected).to(source.before)))
    after = before * source.multiplier
    if source.rotated:
        after = rotate(before, rotation)
    return Projection(
        weight=_kept(w), bias=_kept(b), input=_kept(x), projected=_kept(projected), before=_kept(before),
        after=_kept(after), normed=source.norm is not None, rotated=source.rotated, multiplier=source.multiplier,
    )


def _own_norm(source: Source, head: int) -> np.ndarray:
    """A norm over all heads at once (OLMo 2) needs the others too: the model's own."""
    return _wide(source.before[head])


def _terms(call: Call, index: int) -> Terms:
    seen = attention.visible(call)
    visible = seen[index if len(seen) > 1 else 0].cpu().numpy().copy()
    additive = None
    if call.mask is not None and call.mask.dtype != torch.bool:
        additive = _kept(np.where(visible, _wide(call.mask[min(index, len(call.mask) - 1)]), 0.0))
    return Terms(
        scaling=call.scaling, softcap=call.softcap,
        bias=None if call.bias is None else _kept(_wide(call.bias[min(index, len(call.bias) - 1)])),
        visible=_frozen(visible), additive=additive, sink=None if call.sinks is None else float(call.sinks[index]),
    )


def _rotation(timeline: Timeline, sources: list[Source], targets: tuple[torch.Tensor, ...]) -> Rotation | None:
    """The rotation that makes every rotated target of its source.

    Raises:
        ModelRefused: none of the pairs of cosines and sines met in the pass does.
    """
    rotated = [(s, t) for s, t in zip(sources, targets, strict=True) if s.rotated]
    if not rotated:
        return None
    for cos, sin in timeline.rotations:
        for found in _layouts(_wide(cos), _wide(sin), rotated[0][1].shape[2]):
            if all(len(cos) == t.shape[1]
                   and _off(rotate(_wide(s.before[0]), found), t[0]) <= ROTATION_TOLERANCE * float(t[0].abs().max())
                   for s, t in rotated):
                return found
    raise walk_modules.not_followed("RoPE")


def _layouts(cos: np.ndarray, sin: np.ndarray, d_head: int) -> Iterator[Rotation]:
    """The ways in which models read cosines and sines of (length, width)."""
    if cos.shape[1] <= d_head:
        yield Rotation(_kept(cos), _kept(sin), "half")
        yield Rotation(_kept(cos), _kept(sin), "pairs")
    if 2 * cos.shape[1] <= d_head:  # one number a pair
        yield Rotation(_kept(np.tile(cos, 2)), _kept(np.tile(sin, 2)), "half")
        yield Rotation(_kept(cos.repeat(2, axis=1)), _kept(sin.repeat(2, axis=1)), "pairs")


def _norm(timeline: Timeline, stream: walk_modules.Stream, total: np.ndarray) -> np.ndarray:
    """The layer's own norm module on our sum."""
    event = next(e for e in timeline.after if e.y is not None and e.y.data_ptr() == stream.after.data_ptr())
    return _wide(event.module(torch.from_numpy(total).to(stream.after))[None][0])


def _wide(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()


def _off(ours: np.ndarray, own: torch.Tensor) -> float:
    return float(np.abs(ours - _wide(own)).max())


def _off_finite(ours: np.ndarray, own: torch.Tensor) -> float:
    other = _wide(own)
    if not np.array_equal(np.isfinite(ours), np.isfinite(other)):
        return float("inf")
    seen = np.isfinite(ours)
    return float(np.abs(ours[seen] - other[seen]).max()) if seen.any() else 0.0


def _kept(array: np.ndarray) -> np.ndarray:
    return _frozen(array.astype(np.float32))


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
