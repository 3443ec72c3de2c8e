"""One forward pass holds a model at a time; who waits is counted, who is too many is told at once.

A slot is one worker thread with a bounded queue. It knows nothing of models.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from engine import errors

T = TypeVar("T")


class Slot:
    """A worker with a bounded queue.

    Args:
        name: of the model it guards; for messages.
        queue_length: jobs that may wait besides the one that runs.
    """

    def __init__(self, name: str, *, queue_length: int) -> None:
        self._name = name
        self._limit = queue_length
        self._lock = threading.Lock()
        self._present = 0
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"model {name}")

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue `job`; its result or exception is the future's.

        Raises:
            Busy: `queue_length` jobs wait already.
        """
        with self._lock:
            waiting = max(0, self._present - 1)
            if self._present > self._limit:
                raise errors.Busy(
                    f"at most {self._limit} requests waiting for {self._name}", got=f"{waiting}",
                    next_step="Try again in a moment.", code="busy", limit=self._limit, waiting=waiting,
                    model=self._name,
                )
            self._present += 1
        # The worker runs in a copy of the caller's context, so that nothing set here leaks into the next job.
        context = contextvars.copy_context()
        try:
            future = self._worker.submit(context.run, job)
        except BaseException:
            self._leave(None)
            raise
        future.add_done_callback(self._leave)
        return future

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits here."""
        return not self._present

    def close(self) -> None:
        """End the worker once it is idle; the slot takes no more jobs."""
        self._worker.shutdown(wait=False)

    def _leave(self, _future: Future | None) -> None:
        with self._lock:
            self._present -= 1
