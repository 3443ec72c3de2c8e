"""Work that streams its results, in a worker thread: read what is known, wait, or stop it.

An iterator is drained one value after the other; the newest is there for
anybody to read. It knows nothing of what is worked on, and touches no page.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from typing import Generic, TypeVar

from engine.slots import Slot

T = TypeVar("T")


class Streaming(Generic[T]):
    """Work under way. Every member may be used at any time from any thread."""

    def __init__(self) -> None:
        self.so_far: T | None = None
        self.future: Future[T | None] | None = None  # set before this is handed out
        self._stopped = threading.Event()

    @property
    def done(self) -> bool:
        """Whether it has ended: finished, stopped or failed."""
        return self.future is not None and self.future.done()

    @property
    def stopped(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Ask it to end after the value it works on; what is known so far stays."""
        self._stopped.set()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended; waits for that at most so long."""
        return bool(futures.wait([self.future], seconds).done)

    def result(self) -> T | None:
        """The last value; waits for it. Raises what the work raised."""
        return self.future.result()

    def drain(self, values: Callable[[], Iterator[T]]) -> T | None:
        """Called by the worker."""
        if not self.stopped:
            for value in values():
                self.so_far = value
                if self.stopped:
                    break
        return self.so_far


class Workbench:
    """One worker for everybody's streams; who comes while too many wait is told at once.

    Args:
        name: for messages.
        queue_length: streams that may wait besides the one that runs.
    """

    def __init__(self, name: str, *, queue_length: int = 4) -> None:
        self._slot = Slot(name, queue_length=queue_length)

    def start(self, values: Callable[[], Iterator[T]]) -> Streaming[T]:
        """Queue `values`, which is called and drained in the worker; returns at once.

        Raises:
            Busy: too many wait already.
        """
        streaming: Streaming[T] = Streaming()
        streaming.future = self._slot.submit(lambda: streaming.drain(values))
        return streaming

    def close(self) -> None:
        """End the worker once it is idle."""
        self._slot.close()
