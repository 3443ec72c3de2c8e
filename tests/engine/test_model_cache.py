"""Loaded models: one load for many sessions, the right one out first, none out while in use."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from engine import errors, model_cache
from engine.model_cache import ModelCache


@dataclass(eq=False)
class Fake:
    """Stands for a loaded model: bytes, and a cycle like every torch module has."""

    bytes: int
    loop: list = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop.append(self)


@pytest.fixture(autouse=True)
def thaw():
    yield
    gc.unfreeze()


@pytest.fixture
def nothing_is_collected(monkeypatch):
    """For what is told by the cache's own lists: each collection walks every object of a process with torch in it."""
    monkeypatch.setattr(model_cache, "_collect", lambda: None)
    monkeypatch.setattr(model_cache, "_freeze", lambda: None)


def use(cache: ModelCache[Fake], name: str, size: int) -> None:
    with cache.lease(name, lambda: Fake(size)):
        pass


def names(cache: ModelCache[Fake]) -> list[str]:
    return [entry.name for entry in cache.entries()]


def test_loads_once_and_keeps():
    cache, loads = ModelCache(100), []

    def load():
        loads.append(1)
        return Fake(10)

    with cache.lease("a", load) as first, cache.lease("a", load) as second:
        assert first is second
        assert cache.entries()[0].leases == 2
    with cache.lease("a", load) as third:
        assert third is first
    assert len(loads) == 1 and cache.entries()[0].leases == 0


def test_least_recently_used_goes_first(nothing_is_collected):
    cache = ModelCache(30)
    for name in "abc":
        use(cache, name, 10)
    use(cache, "a", 10)
    use(cache, "d", 10)
    assert names(cache) == ["c", "a", "d"]


def test_leased_model_is_never_evicted(nothing_is_collected):
    cache = ModelCache(20)
    with cache.lease("a", lambda: Fake(10)):
        use(cache, "b", 10)
        use(cache, "c", 10)
        assert names(cache) == ["a", "c"]


def test_over_budget_model_is_kept_alone_while_in_use(nothing_is_collected):
    cache = ModelCache(20)
    use(cache, "small", 5)
    with cache.lease("huge", lambda: Fake(50)):
        assert names(cache) == ["huge"]
    assert names(cache) == []


def test_budget_is_kept_after_leases_that_passed_it(nothing_is_collected):
    cache = ModelCache(20)
    with ExitStack() as stack:
        for name in "abc":
            stack.enter_context(cache.lease(name, lambda: Fake(10)))
        assert len(names(cache)) == 3
    assert sum(entry.bytes for entry in cache.entries()) <= 20


def test_evicted_model_is_freed_although_frozen():
    cache = ModelCache(10)
    with cache.lease("a", lambda: Fake(10)) as loaded:
        gone = weakref.ref(loaded)
    del loaded
    assert gc.get_freeze_count() > 0
    use(cache, "b", 10)
    assert gone() is None


def test_dropped_model_is_freed_once_its_user_lets_go():
    cache = ModelCache(10)
    with cache.lease("huge", lambda: Fake(50)) as loaded:
        gone = weakref.ref(loaded)
    del loaded  # held until after the model was dropped
    use(cache, "b", 10)
    assert gone() is None


def over_budget() -> errors.OverBudget:
    return errors.OverBudget("room", got="none", next_step="Wait.", code="test")


def test_idle_models_make_room_for_one_that_does_not_fit(nothing_is_collected):
    cache, tries = ModelCache(100), []
    use(cache, "idle", 10)
    with cache.lease("busy", lambda: Fake(10)):

        def load():
            tries.append(names(cache))
            if "idle" in tries[-1]:
                raise over_budget()
            return Fake(10)

        use(cache, "new", 10)
        with cache.lease("wanted", load):
            assert names(cache) == ["busy", "wanted"]
    assert len(tries) == 2


def test_without_idle_models_the_refusal_stands():
    cache, tries = ModelCache(100), []

    def load():
        tries.append(1)
        raise over_budget()

    with pytest.raises(errors.OverBudget), cache.lease("wanted", load):
        pass
    assert len(tries) == 1


def test_failed_load_keeps_nothing_and_can_be_tried_again(nothing_is_collected):
    cache = ModelCache(10)

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError), cache.lease("a", fail):
        pass
    assert names(cache) == []
    use(cache, "a", 10)
    assert names(cache) == ["a"]


def test_error_inside_the_block_gives_the_lease_back(nothing_is_collected):
    cache = ModelCache(10)
    with pytest.raises(KeyError), cache.lease("a", lambda: Fake(5)):
        raise KeyError
    assert cache.entries()[0].leases == 0


def test_concurrent_first_use_loads_once():
    cache, loads, seen = ModelCache(100), [], []
    together, release = threading.Barrier(8), threading.Event()

    def load():
        loads.append(1)
        release.wait(5)
        return Fake(10)

    def session():
        together.wait(5)
        with cache.lease("a", load) as loaded:
            seen.append(loaded)

    threads = [threading.Thread(target=session) for _ in range(8)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join(5)
    assert len(loads) == 1 and len(seen) == 8 and len({id(loaded) for loaded in seen}) == 1


def test_a_slow_load_does_not_hold_up_another_model():
    cache, release, started = ModelCache(100), threading.Event(), threading.Event()

    def slow():
        started.set()
        assert release.wait(5)
        return Fake(10)

    thread = threading.Thread(target=lambda: cache.lease("slow", slow).__enter__())
    thread.start()
    assert started.wait(5)
    use(cache, "fast", 10)
    assert names(cache) == ["fast"]
    release.set()
    thread.join(5)


def test_many_sessions_never_pass_the_budget_when_idle(nothing_is_collected):
    cache, faults = ModelCache(25), []

    def session(seed: int) -> None:
        for step in range(30):
            name = "abcde"[(seed * 7 + step * 3) % 5]
            with cache.lease(name, lambda: Fake(10)) as loaded:
                if loaded is None or not any(entry.name == name and entry.leases for entry in cache.entries()):
                    faults.append(name)

    threads = [threading.Thread(target=session, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert faults == []
    assert sum(entry.bytes for entry in cache.entries()) <= 25
    assert all(entry.leases == 0 for entry in cache.entries())
