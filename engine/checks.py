"""Checks of the plain values that a request is made of, for the functions at the engine's boundary.

Each hands the value back, or refuses it and says what was expected and what
came. It knows no model: what depends on one is checked where that is at hand.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any, TypeVar

import numpy as np

from engine import errors

#: Larger than any amount that means something here.
LARGEST = 10**12
#: Characters of a value that a message repeats.
_SHOWN = 60

T = TypeVar("T")


def is_whole(value: object) -> bool:
    """Whether `value` is an integer, Python's or numpy's; a bool is none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_positive(value: object) -> bool:
    """Whether `value` is a finite number above 0, Python's or numpy's; a bool is none."""
    number = value.item() if isinstance(value, np.generic) else value
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 < number <= sys.float_info.max


def amount(value: object, *, what: str, least: int = 0, most: int = LARGEST) -> int:
    """`value` as an integer within bounds. Raises InvalidPrompt (code "bad_amount") for anything else."""
    if not is_whole(value) or not least <= value <= most:
        raise errors.InvalidPrompt(
            f"{what} as a whole number from {least:,} to {most:,}", got=repr(value)[:_SHOWN],
            next_step="Change that number.", code="bad_amount", what=what, value=str(value)[:_SHOWN], least=least,
            most=most,
        )
    return int(value)


def positive(value: object, *, what: str) -> float:
    """`value` as a finite number above 0. Raises InvalidPrompt (code "bad_number") for anything else."""
    if not is_positive(value):
        raise errors.InvalidPrompt(
            f"{what} as a finite number above 0", got=repr(value)[:_SHOWN], next_step="Change that number.",
            code="bad_number", what=what, value=str(value)[:_SHOWN],
        )
    return float(value)


def choice(value: Any, *, what: str, choices: Collection[str]) -> str:
    """`value`, which is one of `choices`. Raises InvalidPrompt (code "bad_choice") for anything else."""
    if not isinstance(value, str) or value not in choices:
        raise errors.InvalidPrompt(
            f"{what} out of {', '.join(choices)}", got=repr(value)[:_SHOWN], next_step="Choose one of them.",
            code="bad_choice", what=what, value=str(value)[:_SHOWN], choices=", ".join(choices),
        )
    return value


def array(value: object, *, what: str, shape: tuple) -> np.ndarray:
    """`value` as float64 in a shape: an axis of None may have any length but 0, and `...` at first any axes before.

    Raises:
        InvalidPrompt: no numbers, or in another shape (code "bad_array").
    """
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        found = None
    first = shape[:1] == (...,)
    axes = shape[1:] if first else shape
    if found is None or not (found.ndim >= len(axes) if first else found.ndim == len(axes)) or 0 in found.shape or any(
            wanted not in (None, size) for wanted, size in zip(axes, found.shape[found.ndim - len(axes):])):
        wanted = ", ".join("…" if axis is ... else "n" if axis is None else str(axis) for axis in shape)
        got = type(value).__name__ if found is None else f"shape {found.shape}"
        raise errors.InvalidPrompt(
            f"{what} as an array of numbers of shape ({wanted}), none of its axes empty", got=got,
            next_step="Give an array of that shape.", code="bad_array", what=what, wanted=wanted, found=got,
        )
    return found


def of_type(value: T, type_: type[T]) -> T:
    """`value`, which is a `type_`. Raises InvalidPrompt (code "bad_type") for anything else."""
    if not isinstance(value, type_):
        raise errors.InvalidPrompt(
            f"a value of the type {type_.__name__}", got=f"one of {type(value).__name__}: {repr(value)[:_SHOWN]}",
            next_step="Pass one of that type.", code="bad_type", wanted=type_.__name__, found=type(value).__name__,
        )
    return value
