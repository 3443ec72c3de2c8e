"""A device beside the CPU that every machine has: `install()`, then ask torch for `second:0`.

Its tensors lie in main memory and are computed on the CPU, but they are held
apart as CUDA's are: an operation on tensors of two devices raises, as do a
view as numpy and a random generator of the other device; only numbers (0-d
tensors), indices into a tensor of the device and copies may come from the
CPU. So a tensor that the engine forgets to move is found without CUDA. What
it cannot show is what CUDA computes and how much memory that takes.

torch's Python backends (torch.utils.backend_registration) are experimental
and stay for the life of the process: install it in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "second"
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
#: Not to be left to the smaller operations that torch makes them of, which a wrapper cannot follow.
WHOLE = ("_to_copy", "arange", "arange.start", "arange.start_step")
MATH = 0  # torch.nn.attention.SDPBackend.MATH, made of operations that every device has

_libraries = []  # torch forgets what a collected library registered


class Apart(torch.Tensor):
    """A tensor of the second device; `near` is the CPU tensor that holds its numbers."""

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> Apart:
        return torch.Tensor._make_wrapper_subclass(
            cls, near.size(), strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            device=f"{NAME}:0")

    def __init__(self, near: torch.Tensor) -> None:
        self.near = near

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, *args, **(kwargs or {}))

    # A device's tensor can be listed, copied, and told from another by its storage; a wrapper cannot by itself.
    def tolist(self):
        return self.near.tolist()

    def data_ptr(self):
        return self.near.data_ptr()

    def untyped_storage(self):
        return self.near.untyped_storage()

    def __deepcopy__(self, memo):
        copied = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, requires_grad=self.requires_grad)
        return memo.setdefault(id(self), copied)

    def __repr__(self, **_):
        return f"{NAME}:0 {self.near!r}"


def _run(operation, *args, **kwargs):
    """One of torch's operations on the CPU, once its tensors are known to be of one device."""
    name = operation.overloadpacket.__name__
    if name == "_fused_sdp_choice":
        return MATH
    tensors = [*_tensors(args), *_tensors([*kwargs.values()])]
    apart = [tensor for tensor in tensors if isinstance(tensor, Apart)]
    asked = kwargs.get("device")
    to_second = bool(apart) if asked is None else torch.device(asked).type == NAME
    if asked is not None:
        kwargs["device"] = "cpu"
    generator = kwargs.get("generator")
    if generator is not None and to_second:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found '{generator.device.type}'")
    strangers = [tuple(tensor.shape) for tensor in tensors if not isinstance(tensor, Apart) and tensor.ndim]
    may_mix = name in ("copy_", "_copy_from") or (name in INDEXING and isinstance(args[0], Apart))
    if apart and strangers and not may_mix:
        raise RuntimeError(f"Expected all tensors to be on the same device, {NAME}:0: {operation} got {strangers} of "
                           "the CPU")
    near_args = _changed(_near, args)
    if name == "histc":  # whole numbers are counted on CUDA alone
        near_args = (near_args[0].double(), *near_args[1:])
    result = operation(*near_args, **{name: _changed(_near, value) for name, value in kwargs.items()})
    known = {id(getattr(tensor, "near", tensor)): tensor for tensor in tensors}  # changed in place: the same tensor
    grown = [tensor for tensor in apart if tensor.shape != tensor.near.shape]
    if grown:  # a wrapper cannot grow; what makes an empty tensor grow is listed in WHOLE
        raise NotImplementedError(f"{operation} changed the size of a tensor of {NAME}:0")

    def placed(tensor: torch.Tensor) -> torch.Tensor:
        own = known.get(id(tensor))
        return own if own is not None else Apart(tensor) if to_second else tensor

    return _changed(placed, result)


def _tensors(values: tuple | list) -> Iterator[torch.Tensor]:
    """Those among an operation's arguments, which are single values and lists of them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


def _changed(change: Callable[[torch.Tensor], torch.Tensor], value: object) -> object:
    """`value` with each of its tensors changed. By hand: torch's `_pytree` takes longer than what is computed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)([_changed(change, part) for part in value])
    return value


def _near(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.near if isinstance(tensor, Apart) else tensor


def install() -> None:
    """Let torch know the second device, for the life of this process; once is enough."""
    if _libraries:
        return
    _setup_privateuseone_for_python_backend(NAME)
    everything, whole = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    everything.fallback(_run, "PrivateUse1")
    for name in WHOLE:
        packet, _, overload = name.partition(".")
        whole.impl(name, partial(_run, getattr(getattr(torch.ops.aten, packet), overload or "default")), "PrivateUse1")
    _libraries.extend([everything, whole])
    torch.inference_mode = torch.no_grad  # a wrapper has no version counter to leave out
