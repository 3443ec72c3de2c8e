"""A slot runs one job at a time, answers "busy" at once, and survives whatever a job does.

Events, not sleeps, decide the order of things; no model is needed.
"""

from __future__ import annotations

import contextvars
import threading
import time

import pytest

from engine import errors
from engine.slots import Slot

WAIT = 10.0


@pytest.fixture
def slot():
    return Slot("m", queue_length=2)


class Blocker:
    """A job that runs until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.go.wait(WAIT)
        return "done"


def test_the_queue_is_bounded_and_the_answer_comes_at_once(slot):
    blocker = Blocker()
    first = slot.submit(blocker)
    assert blocker.begun.wait(WAIT)
    waiting = [slot.submit(lambda n=n: n) for n in range(2)]
    before = time.perf_counter()
    with pytest.raises(errors.Busy) as busy:
        slot.submit(lambda: pytest.fail("ran"))
    assert time.perf_counter() - before < 0.5
    assert busy.value.numbers == {"limit": 2, "waiting": 2, "model": "m"}
    blocker.go.set()
    assert first.result(WAIT) == "done"
    assert [future.result(WAIT) for future in waiting] == [0, 1]
    assert slot.submit(lambda: "again").result(WAIT) == "again"


def test_one_job_at_a_time_in_the_order_of_asking():
    slot, inside, order = Slot("m", queue_length=50), threading.Lock(), []

    def job(n: int) -> None:
        assert inside.acquire(blocking=False), "two jobs at once"
        time.sleep(0.001)
        order.append(n)
        inside.release()

    for future in [slot.submit(lambda n=n: job(n)) for n in range(40)]:
        future.result(WAIT)
    assert order == list(range(40))


@pytest.mark.parametrize("raised", [ValueError, errors.Busy, MemoryError, SystemExit, KeyboardInterrupt])
def test_an_exception_in_a_job_reaches_its_caller_alone_and_leaves_no_place_taken(slot, raised):
    def fail():
        raise raised("x", **({"got": "", "next_step": "", "code": "c"} if raised is errors.Busy else {}))

    for _ in range(10):  # more often than the queue is long
        with pytest.raises(raised):
            slot.submit(fail).result(WAIT)
    assert slot.submit(lambda: 1).result(WAIT) == 1


def test_a_cancelled_job_gives_its_place_back(slot):
    blocker = Blocker()
    slot.submit(blocker)
    assert blocker.begun.wait(WAIT)
    for _ in range(10):
        assert slot.submit(lambda: pytest.fail("ran")).cancel()
    blocker.go.set()
    assert slot.submit(lambda: 1).result(WAIT) == 1


def test_nothing_that_a_job_sets_leaks_into_the_next_or_back(slot):
    variable = contextvars.ContextVar("variable", default="untouched")

    def set_it():
        variable.set("changed")
        return variable.get()

    assert slot.submit(set_it).result(WAIT) == "changed"
    assert slot.submit(variable.get).result(WAIT) == "untouched"
    assert variable.get() == "untouched"


def test_a_full_queue_of_one_model_does_not_stop_another(slot):
    blocker = Blocker()
    slot.submit(blocker)
    assert blocker.begun.wait(WAIT)
    assert Slot("other", queue_length=0).submit(lambda: "free").result(WAIT) == "free"
    blocker.go.set()
