"""Every error that crosses the engine's boundary.

    EngineError
    ├── InvalidPrompt          the request itself is wrong (unknown stream, empty text, bad head …)
    │   └── TextTooLong        more characters or tokens than the limits allow
    ├── ModelError
    │   ├── ModelNotFound      no embedded model, folder or hub repository of that name
    │   ├── ModelRefused       found, but not safe or not showable (pickle, remote code, failed probe …)
    │   └── HubUnavailable     the hub did not answer, or answered with an error
    ├── OverBudget             the run would need more memory than is free; nothing was attempted
    ├── OutOfMemory            the device ran out of memory; it has been freed again
    └── Busy                   the model's queue is full

Each carries what was expected, what came, and what to do next, as plain text
in English; the pages translate by `code` and format with `numbers`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

_LINE_LIMIT = 300


class EngineError(Exception):
    """An error a person can act on.

    Args:
        expected: what the engine needed.
        got: what it met instead.
        next_step: what the person can do about it.
        code: a stable, language-neutral identifier of the case (snake_case),
            by which an interface finds its translation.
        numbers: the values inside the texts, by name, for that translation.
    """

    def __init__(self, expected: str, *, got: str, next_step: str, code: str, **numbers: Any) -> None:
        super().__init__(f"Expected {expected}; got {got}. {next_step}")
        self.expected = expected
        self.got = got
        self.next_step = next_step
        self.code = code
        self.numbers = numbers

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made as this one was: Exception's own way would hand over the message alone."""
        build = partial(type(self), got=self.got, next_step=self.next_step, code=self.code, **self.numbers)
        return build, (self.expected,), self.__dict__


class InvalidPrompt(EngineError):
    """The request is wrong in itself; no model was run."""


class TextTooLong(InvalidPrompt):
    """More characters or tokens than `engine.limits` allows."""


class ModelError(EngineError):
    """The model cannot be had or cannot be shown."""


class ModelNotFound(ModelError):
    """No embedded model, folder or hub repository goes by that name."""


class ModelRefused(ModelError):
    """The model was found, but opening or showing it would be unsafe or wrong."""


class HubUnavailable(ModelError):
    """The model hub did not answer, or answered with an error."""


class OverBudget(EngineError):
    """The predicted bytes exceed what is free; nothing was attempted."""


class OutOfMemory(EngineError):
    """The device ran out of memory during a run; what the run held is freed."""


class Busy(EngineError):
    """The model's queue is full; the request was turned away at once."""


def first_line(error: BaseException, *, folder: Path | None = None) -> str:
    """What another library said of a fault: one line of at most 300 characters, its type where it said nothing.

    Args:
        error: as it was raised.
        folder: written by its name alone, since the text goes to people who need not know where it lies.
    """
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if folder is not None:
        for place in {str(folder), str(folder.resolve())}:
            text = text.replace(place, folder.name)
    return text[:_LINE_LIMIT]
