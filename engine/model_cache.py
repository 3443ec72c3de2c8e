"""Keeps loaded models in memory within a byte budget, least recently used out first.

It does not know how a model is loaded or run: it is handed a `load` function
and counts the bytes of what that returns. Any object with a `bytes` attribute
will do.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from engine import errors


class Sized(Protocol):
    """What the cache needs to know of a model."""

    @property
    def bytes(self) -> int:
        """Bytes of memory it holds."""


T = TypeVar("T", bound=Sized)

#: Freezing and collecting belong together; another thread's freeze in between would keep the garbage for good.
_COLLECTING = threading.Lock()


@dataclass(frozen=True)
class Entry:
    """One cached model, for inspection: its name, bytes, and how many leases are open on it."""

    name: str
    bytes: int
    leases: int


@dataclass(eq=False)
class _Slot(Generic[T]):
    loading: threading.Lock = field(default_factory=threading.Lock)
    loaded: T | None = None
    leases: int = 0


class ModelCache(Generic[T]):
    """Loaded models by name, thread-safe.

    A model under lease is never evicted, so the sum may pass the budget while
    several are in use, or when one alone is larger than the budget: it is kept
    while it is in use and dropped when the last lease on it ends.

    Args:
        budget_bytes: what all kept models may hold together.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._slots: dict[str, _Slot[T]] = {}  # least recently used first
        self._lock = threading.Lock()

    @contextmanager
    def lease(self, name: str, load: Callable[[], T]) -> Iterator[T]:
        """The model called `name`, loaded by `load` on first use; it stays in memory while the block runs.

        Sessions that ask at once for a model that is not loaded wait for one
        load and share it. When `load` finds too little memory, the idle models
        are dropped and it is called once more. When it raises, nothing is
        kept, the error goes to its caller, and a session that waited tries for
        itself.
        """
        slot = self._enter(name)
        try:
            with slot.loading:
                if slot.loaded is None:
                    slot.loaded = self._load(load)
                    if self._drop_idle(down_to=self._budget):
                        _collect()
                    _freeze()
            yield slot.loaded
        finally:
            self._leave(name, slot)

    def _load(self, load: Callable[[], T]) -> T:
        try:
            return load()
        except (errors.OverBudget, errors.OutOfMemory):
            if not self._drop_idle(down_to=0):
                raise
        _collect()
        return load()

    def _enter(self, name: str) -> _Slot[T]:
        with self._lock:
            slot = self._slots.pop(name, None) or _Slot()
            self._slots[name] = slot
            slot.leases += 1
            return slot

    def _leave(self, name: str, slot: _Slot[T]) -> None:
        with self._lock:
            slot.leases -= 1
            if slot.loaded is None and slot.leases == 0:
                del self._slots[name]
        if self._drop_idle(down_to=self._budget):
            _collect()

    def _drop_idle(self, *, down_to: int) -> int:
        """Drop idle models, oldest use first, until the rest holds at most `down_to` bytes; returns how many went."""
        dropped = 0
        with self._lock:
            held = sum(slot.loaded.bytes for slot in self._slots.values() if slot.loaded is not None)
            for name, slot in list(self._slots.items()):
                if held <= down_to:
                    break
                if slot.leases == 0 and slot.loaded is not None:
                    held -= slot.loaded.bytes
                    del self._slots[name]
                    dropped += 1
        return dropped

    def entries(self) -> tuple[Entry, ...]:
        """What is loaded now, least recently used first."""
        with self._lock:
            return tuple(
                Entry(name, slot.loaded.bytes, slot.leases)
                for name, slot in self._slots.items() if slot.loaded is not None
            )


def _freeze() -> None:
    """Take what there is out of the collector's sight, but for the garbage since the last time.

    The page server collects garbage after every run, which would walk every
    loaded model each time. What lies out of sight is walked when a model goes.
    """
    with _COLLECTING:
        gc.collect()
        gc.freeze()


def _collect() -> None:
    """Free what is gone: a model is full of cycles, and frozen cycles are never freed.

    Nothing is frozen again here, for the caller may still hold the model that
    has just been dropped; the next load freezes.
    """
    with _COLLECTING:
        gc.unfreeze()
        gc.collect()
