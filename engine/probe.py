"""Decides, by trying, whether a model's maps can be captured, and learns the order of its calls.

A short input runs twice: under transformers' eager attention, which returns
its maps, and under ours. The model is accepted only if the outputs agree and
every captured map equals the eager one. Which call belongs to which stream is
read from the shapes (source and target have different lengths), never from a
module's name, so models that reuse one module for all layers come out right.

What it does not know: whether eager itself is right. And a window or a bias
that begins to act beyond the probe's length is not exercised.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine import attention, budget, errors
from engine.limits import Limits
from engine.types import STREAMS, Stream

SOURCE_LENGTH, TARGET_LENGTH = 11, 7
#: Longest probe: sliding windows up to about this many tokens are exercised, larger ones rely on the mask check.
LONGEST = 256
#: Outputs may differ by this share of their variation over positions between two orders of the same float32 sums.
OUTPUT_TOLERANCE = 1e-4
#: What a forward pass raises whose config.json transformers took, but whose sizes don't fit together.
_BROKEN = (RuntimeError, ValueError, LookupError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Plan:
    """What the probe learnt about a model.

    Attributes:
        streams: the model's streams.
        shape: (n_layers, n_heads) of each.
        order: (stream, layer) of every attention call of a forward pass, in order.
        error: largest |captured − eager| over all maps.
    """

    streams: tuple[Stream, ...]
    shape: tuple[tuple[int, int], ...]
    order: tuple[tuple[Stream, int], ...]
    error: float


def probe(model: nn.Module, *, family: str, vocab: int, special_ids: frozenset[int], limits: Limits) -> Plan:
    """Try the capture on `model`, switch it to our attention, and return the plan.

    Args:
        model: a loaded transformers model in eval mode.
        family: "encoder-decoder", "decoder-only" or "encoder-only".
        vocab: ids are drawn from [0, vocab).
        special_ids: ids not to draw (padding would change the mask).
        limits: carries the tolerances.

    Raises:
        ModelRefused: no attention, attention that does not go through the
            interface, or maps that differ from eager's.
    """
    inputs = _inputs(model, family=family, vocab=vocab, special_ids=special_ids)
    reference, eager = _eager(model, inputs, family=family)
    _switch(model, attention.NAME)
    calls: list[attention.Call] = []
    try:
        with torch.inference_mode(), attention.session(lambda call, output: calls.append(call)):
            output = model(**inputs, use_cache=False) if "use_cache" in _arguments(model) else model(**inputs)
    except _BROKEN as error:
        if _is_the_machines(error):
            raise
        raise _refused("the capture to run wherever eager does",
                       f"{type(error).__name__}: {errors.first_line(error)}",
                       "call_unmatched", model) from error
    total = sum(len(maps) for maps in eager.values())
    if len(calls) != total:
        raise _refused(
            f"all {total} attention maps of this model to pass through transformers' attention interface",
            f"{len(calls)} of them", "attention_not_interfaced", model, found=len(calls), wanted=total,
        )
    _check_output(model, reference, _head_output(output), limits=limits)
    order, error = _match(model, calls, eager, limits=limits)
    streams = tuple(stream for stream in STREAMS if stream in eager)
    shape = tuple((len(eager[stream]), eager[stream][0].shape[1]) for stream in streams)
    return Plan(streams=streams, shape=shape, order=order, error=error)


def tolerance(dtype: torch.dtype, limits: Limits) -> float:
    """The largest difference between captured and eager maps accepted at `dtype`."""
    return limits.probe_tolerance if dtype == torch.float32 else limits.probe_tolerance_half


def _arguments(model: nn.Module) -> set[str]:
    return set(inspect.signature(model.forward).parameters)


def _inputs(model: nn.Module, *, family: str, vocab: int, special_ids: frozenset[int]) -> dict[str, Tensor]:
    config = model.config
    windows = [getattr(config, name, None) or 0 for name in ("sliding_window", "local_attention")]
    window = max((w for w in windows if isinstance(w, int)), default=0)
    n_ctx = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or LONGEST
    length = min(window + 6 if SOURCE_LENGTH - 6 < window <= LONGEST - 6 else SOURCE_LENGTH, max(2, n_ctx - 4))
    ids = torch.tensor([i for i in range(min(vocab, 4096)) if i not in special_ids] or [0])
    generator = torch.Generator().manual_seed(0)

    def draw(n: int) -> Tensor:
        return ids[torch.randint(len(ids), (1, n), generator=generator)].to(model.device)

    inputs = {"input_ids": draw(length)}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if family == "encoder-decoder":
        inputs["decoder_input_ids"] = draw(TARGET_LENGTH if length != TARGET_LENGTH else TARGET_LENGTH - 1)
    return inputs


def _eager(model: nn.Module, inputs: dict[str, Tensor], *,
           family: str) -> tuple[Tensor, dict[Stream, tuple[Tensor, ...]]]:
    """The reference output and maps, (1, n_heads, q_len, k_len) each, by stream."""
    before = model.config._attn_implementation
    _switch(model, "eager")
    if model.config._attn_implementation != "eager":
        raise _refused("a model that runs with eager attention, to check the maps against",
                       f"one that insists on {before}", "no_eager", model)
    if "output_attentions" not in _arguments(model) and "kwargs" not in _arguments(model):
        raise _refused("a model with attention", "one that has no attention maps", "no_attention", model)
    with torch.inference_mode():
        try:
            extra = {"use_cache": False} if "use_cache" in _arguments(model) else {}
            output = model(**inputs, output_attentions=True, return_dict=True, **extra)
        except TypeError as error:
            raise _refused("a model with attention", "one that has no attention maps", "no_attention",
                           model) from error
        except _BROKEN as error:
            if _is_the_machines(error):
                raise
            raise _refused("a config.json with which the model runs",
                           f"{type(error).__name__}: {errors.first_line(error)}",
                           "config_unusable", model, detail=errors.first_line(error)) from error
    if family == "encoder-decoder":
        names = {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}
    else:
        names = {"decoder" if family == "decoder-only" else "encoder": "attentions"}
    maps = {stream: getattr(output, name, None) for stream, name in names.items()}
    if not any(maps.values()):
        raise _refused("a model with attention", "one that has no attention maps", "no_attention", model)
    for stream, layers in maps.items():
        if not layers or any(not isinstance(layer, Tensor) or layer.ndim != 4 for layer in layers):
            raise _refused("softmax attention in every layer", f"layers without a map in stream {stream}",
                           "attention_not_everywhere", model, stream=stream)
    return _head_output(output), maps


def _switch(model: nn.Module, name: str) -> None:
    """Sets the attention of `model` and of the stacks in it, whose own configs transformers before 5.20 leaves out."""
    model.set_attn_implementation(name)
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation != name:
            module.set_attn_implementation(name)


def _is_the_machines(error: Exception) -> bool:
    """Whether the machine failed, not the model: memory ran out, or the device broke."""
    return budget.exhausted(error) or isinstance(error, torch.AcceleratorError)


def _head_output(output) -> Tensor:
    return output.logits if getattr(output, "logits", None) is not None else output[0]


def _check_output(model: nn.Module, reference: Tensor, ours: Tensor, *, limits: Limits) -> None:
    allowed = OUTPUT_TOLERANCE if ours.dtype == torch.float32 else limits.probe_tolerance_half
    same = reference.isinf() & (reference == ours)  # ids that a model forbids with −inf
    rounding = 4 * torch.finfo(ours.dtype).eps * reference.float().abs().masked_fill(same, 0.0)
    reference, ours = reference.float().masked_fill(same, 0.0), ours.float().masked_fill(same, 0.0)
    # What is the same at every position, such as a bias of −10,000 that forbids an id, is no measure of scale.
    scale = max(1.0, float((reference - reference.mean(-2, keepdim=True)).abs().max()))
    difference = float(((reference - ours).abs() - rounding).max()) / scale
    if not difference <= allowed:  # NaN must not pass
        raise _refused(
            f"the same output with and without the capture (within {allowed:.0e} of its scale)",
            f"a difference of {difference:.1e}", "output_changed", model, difference=difference, allowed=allowed,
        )


def _match(model: nn.Module, calls: list[attention.Call], eager: dict[Stream, tuple[Tensor, ...]], *,
           limits: Limits) -> tuple[tuple[tuple[Stream, int], ...], float]:
    allowed = tolerance(calls[0].query.dtype, limits)
    stream_of = {tuple(layers[0].shape[-2:]): stream for stream, layers in eager.items()}
    seen = dict.fromkeys(eager, 0)
    order, worst = [], 0.0
    for call in calls:
        stream = stream_of.get((call.q_len, call.k_len))
        if stream is None or seen[stream] >= len(eager[stream]):
            raise _refused("calls in the shapes of eager's maps", f"one of {call.q_len}×{call.k_len}",
                           "call_unmatched", model)
        expected = eager[stream][seen[stream]][0].float()
        captured = attention.pattern(call)
        difference = float("nan")
        if captured.shape == expected.shape:
            difference = float((captured - expected).abs().max())
        if not difference <= allowed:
            raise _refused(
                f"captured maps equal to eager's within {allowed:.0e}",
                f"a difference of {difference:.1e} in {stream} layer {seen[stream]}", "map_differs", model,
                stream=stream, layer=seen[stream], difference=difference, allowed=allowed,
            )
        worst = max(worst, difference)
        order.append((stream, seen[stream]))
        seen[stream] += 1
    return tuple(order), worst


def _refused(expected: str, got: str, code: str, model: nn.Module, **numbers) -> errors.ModelRefused:
    return errors.ModelRefused(
        expected, got=f"{got} ({type(model).__name__})",
        next_step="A wrong map is worse than none, so this model is not shown. Choose another model.",
        code=code, module=type(model).__name__, **numbers,
    )
