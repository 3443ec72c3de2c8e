"""What happens around one attention call of a forward pass: the modules called before it and after it.

It keeps tensors, by reference, of the calls between the attention call before
and the one after; nothing else of the pass. It does not know what they mean:
`engine.walk_modules` finds that out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from engine.attention import Call


@dataclass(frozen=True, eq=False)
class Event:
    """One call of a module without children: its tensors in, and what came out."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: object

    @property
    def x(self) -> Tensor | None:
        """The first float tensor it was given, without its batch axis."""
        given = next((t for t in self.inputs if t.is_floating_point()), None)
        return given[0] if given is not None and given.ndim > 2 else given

    @property
    def y(self) -> Tensor | None:
        """Its output without the batch axis, if it is one float tensor."""
        out = self.output
        if not isinstance(out, Tensor) or not out.is_floating_point():
            return None
        return out[0] if out.ndim > 2 else out

    @property
    def linear(self) -> bool:
        return isinstance(self.module, nn.Linear | Conv1D)


@dataclass(eq=False)
class Timeline:
    """What happened around one attention call.

    Attributes:
        wanted: index of the call among all of the pass.
        entrance: index of the first call of its queries' stream.
        count: calls so far.
        before, after: events since the call before, and until the next one.
        embeddings: table lookups before the `entrance` call and after the one before it.
        rotations: (cos, sin) pairs that any module returned.
        call, output: the wanted call, and its output (n_heads, q_len, d_value).
    """

    wanted: int
    entrance: int
    count: int = 0
    before: list[Event] = field(default_factory=list)
    after: list[Event] = field(default_factory=list)
    embeddings: list[Event] = field(default_factory=list)
    rotations: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    call: Call | None = None
    output: Tensor | None = None

    def on_module(self, event: Event) -> None:
        """Keep the event if it stands beside the wanted call."""
        if self.count == self.wanted:
            self.before.append(event)
        elif self.count == self.wanted + 1:
            self.after.append(event)
        if isinstance(event.module, nn.Embedding) and self.count == self.entrance:
            self.embeddings.append(event)
        out = event.output
        if isinstance(out, tuple) and len(out) == 2 and all(isinstance(t, Tensor) for t in out) and (
                out[0].shape == out[1].shape):
            self.rotations.append((out[0].reshape(-1, out[0].shape[-1]), out[1].reshape(-1, out[1].shape[-1])))

    def on_call(self, call: Call, output: Tensor) -> None:
        """Count an attention call; keep the wanted one."""
        if self.count == self.wanted:
            self.call, self.output = call, output
        self.count += 1


@contextmanager
def watching(model: nn.Module, timeline: Timeline) -> Iterator[None]:
    """While inside, every call of a module without children goes to `timeline`."""
    def after(module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        given = tuple(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        timeline.on_module(Event(module, given, output))

    handles = [
        module.register_forward_hook(after, with_kwargs=True) for module in model.modules()
        if not any(True for _ in module.children())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
