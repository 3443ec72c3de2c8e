"""Finds the modules through which positions enter a model, and switches them off.

A pass over one token repeated has no order but the positions': whatever a
lookup then returns unevenly along the sequence is a position. So they are
found by what modules do, never by a model's or a module's name. Switching off
means: a table gives zeros, a rotation gives cos = its own magnitude and sin = 0,
a relative bias gives zeros, an ALiBi argument becomes zeros. `position_ids = 0`
would not do: without a mask it is read as packed sequences.

It does not know positions that enter elsewhere (DeBERTa's, XLNet's), nor the
order that a causal or windowed mask tells by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["table", "rotation", "relative bias", "linear bias"]
#: Shortest sequence on which an order can be told from a constant.
PROBE_LENGTH = 6
#: Rows that differ by less than this share of the largest number are the same: half precision rounds to 2⁻⁸.
ROUNDING = 0.02


@dataclass(frozen=True, eq=False)
class Site:
    """One module through which positions entered a pass.

    Attributes:
        kind: what it does.
        name: its path in the model.
        module: itself.
        label: a text it was called with (the kind of layer), or "".
        argument: for "linear bias", the argument's name.
        given: its first integer tensor argument, or None.
        output: what it returned, or for "linear bias" the argument: one tensor, or cosines and sines.
    """

    kind: Kind
    name: str
    module: nn.Module
    label: str
    argument: str
    given: Tensor | None
    output: tuple[Tensor, ...]


def find(model: nn.Module, *, n_positions: int = PROBE_LENGTH) -> tuple[Site, ...]:
    """Every place where positions enter `model`, in the order of the calls, each once.

    Args:
        model: a transformers text model in eval mode; it runs once.
        n_positions: length of that run, at least 2.
    """
    sites: dict[tuple[str, str], Site] = {}

    def before(name: str, module: nn.Module, kwargs: dict) -> None:
        for argument in ("alibi", "position_bias"):
            given = kwargs.get(argument)
            # T5 hands a position_bias of (1, heads, q, k) along, which comes from its own table; MPT's has 3 axes.
            if isinstance(given, Tensor) and given.is_floating_point() and given.ndim == 3 and given.shape[-1] > 1:
                sites.setdefault((name, argument), Site("linear bias", name, module, "", argument, None, (given,)))

    def after(name: str, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        values = [*args, *kwargs.values()]
        label = next((value for value in values if isinstance(value, str)), "")
        integers = next((v for v in values if isinstance(v, Tensor) and not v.is_floating_point()), None)
        if (turned := _rotation(output, n_positions)) is not None:
            turned = _precise(module, args, kwargs) or turned
            sites.setdefault((name, label), Site("rotation", name, module, label, "", integers, turned))
        elif isinstance(output, Tensor) and all(_even(value, n_positions) for value in values):
            kind = _lookup(output, n_positions)
            if kind is not None:
                sites.setdefault((name, label), Site(kind, name, module, label, "", integers, (output,)))

    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(
                lambda module, args, kwargs, name=name: before(name, module, kwargs), with_kwargs=True))
            if not any(True for _ in module.children()):
                handles.append(module.register_forward_hook(
                    lambda module, args, kwargs, output, name=name: after(name, module, args, kwargs, output),
                    with_kwargs=True))
        with torch.inference_mode():
            model(**_one_token_repeated(model, n_positions))
    finally:
        for handle in handles:
            handle.remove()
    names = list(dict.fromkeys(site.name for site in sites.values()))
    # Some models call one rotation for each kind of layer in the order of a set.
    return tuple(sorted(sites.values(), key=lambda site: (names.index(site.name), site.label)))


@contextmanager
def switched_off(sites: tuple[Site, ...]) -> Iterator[None]:
    """While inside, none of `sites` tells a position. The model must be held by the caller alone."""
    handles = []
    try:
        for module, kind, argument in {(site.module, site.kind, site.argument) for site in sites}:
            if kind == "linear bias":
                handles.append(module.register_forward_pre_hook(
                    lambda module, args, kwargs, argument=argument:
                        (args, {**kwargs, argument: torch.zeros_like(kwargs[argument])}), with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(lambda module, args, output: _without(output)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _without(output: object) -> object:
    if isinstance(output, Tensor):
        return output.abs().to(output.dtype) if output.is_complex() else torch.zeros_like(output)
    cos, sin = output
    return torch.sqrt(cos * cos + sin * sin), torch.zeros_like(sin)


def _one_token_repeated(model: nn.Module, n_positions: int) -> dict[str, object]:
    config = model.config
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "mask_token_id", "sep_token_id")
    special: set[int] = set()
    for value in (getattr(config, name, None) for name in names):
        special |= {value} if isinstance(value, int) else set(value or ())
    token = next(id_ for id_ in range(len(special) + 1) if id_ not in special)
    ids = torch.full((1, n_positions), token, device=model.device)
    arguments: dict[str, object] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(config, "is_encoder_decoder", False):
        arguments["decoder_input_ids"] = ids
    accepted = inspect.signature(model.forward).parameters
    if "use_cache" in accepted:
        arguments["use_cache"] = False
    if "logits_to_keep" in accepted and not getattr(config, "is_encoder_decoder", False):
        arguments["logits_to_keep"] = 1
    return arguments


def _rotation(output: object, n_positions: int) -> tuple[Tensor, Tensor] | None:
    """Cosines and sines, (n_positions, pairs or 2·pairs) each, if `output` is such; else None."""
    if isinstance(output, Tensor) and output.is_complex():
        output = (output.real, output.imag)
    if not (isinstance(output, tuple | list) and len(output) == 2 and all(isinstance(o, Tensor) for o in output)):
        return None
    cos, sin = output
    if cos.shape != sin.shape or cos.ndim < 2 or not cos.is_floating_point() or cos.shape[-2] != n_positions or (
            cos.numel() != n_positions * cos.shape[-1]):
        return None
    cos, sin = cos.reshape(n_positions, -1).float(), sin.reshape(n_positions, -1).float()
    size = torch.sqrt(cos * cos + sin * sin)
    # Half precision rounds each of the two by up to 2⁻⁸.
    if not bool((sin[0] == 0).all()) or float((size - size[0, 0]).abs().max()) > 0.02 * float(size[0, 0]):
        return None
    return cos, sin


def _precise(module: nn.Module, args: tuple, kwargs: dict) -> tuple[Tensor, Tensor] | None:
    """The same rotation asked in float32: a half-precision model rounds its cosines."""
    def wide(value: object) -> object:
        return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value

    output = module.forward(*(wide(value) for value in args), **{name: wide(v) for name, v in kwargs.items()})
    lengths = [v.shape[-1] for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and not v.is_floating_point()]
    return _rotation(output, lengths[0]) if lengths else None


def _even(value: object, n_positions: int) -> bool:
    """Whether an argument tells no position by its numbers: no float tensor that changes along the sequence."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return True
    # The last of three axes is one of features, though it may happen to be as long.
    axes = [axis for axis in range(min(value.ndim, 2)) if value.shape[axis] == n_positions]
    return not any(bool((value != value.narrow(axis, 0, 1)).any()) for axis in axes)


def _varies(value: Tensor, first: Tensor) -> bool:
    return float((value - first).abs().max()) > ROUNDING * float(value.abs().max())


def _lookup(output: Tensor, n_positions: int) -> Kind | None:
    """What a lookup's float output says: a table's rows, biases of pairs of positions, or no position at all."""
    if not output.is_floating_point() or output.ndim < 2:
        return None
    if output.ndim == 3 and output.shape[:2] == (n_positions, n_positions):
        return "relative bias" if _varies(output, output[:1, :1]) else None
    if output.shape[-2] != n_positions or output.numel() != n_positions * output.shape[-1]:
        return None
    rows = output.reshape(n_positions, -1)
    return "table" if _varies(rows, rows[:1]) else None
