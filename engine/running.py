"""A trace under way, as a page waits for it.

It only carries what the worker reports and how the run ends; it runs nothing.
"""

from __future__ import annotations

from concurrent import futures
from concurrent.futures import Future

from engine.capture import Captured
from engine.types import Progress, Trace


class Running:
    """A trace under way. `progress` may be read at any time from any thread."""

    def __init__(self) -> None:
        self.progress = Progress("queued")
        self.future: Future[Captured] | None = None  # set by the engine before it hands this out

    def report(self, progress: Progress) -> None:
        """Called by the worker."""
        self.progress = progress

    def wait(self, seconds: float) -> bool:
        """Whether the trace is done; waits for that at most so long."""
        return bool(futures.wait([self.future], seconds).done)

    @property
    def done(self) -> bool:
        """Whether `result` would return or raise at once."""
        return self.future is not None and self.future.done()

    def result(self, timeout: float | None = None) -> Trace:
        """The trace; waits for it.

        Raises:
            EngineError: as the run ended.
            TimeoutError: not done within `timeout` seconds.
        """
        return self.future.result(timeout).trace
