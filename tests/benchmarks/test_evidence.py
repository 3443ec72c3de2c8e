"""What the full evidence for one sentence takes on zh-en, and against the same edited runs made one by one.

    python -m pytest -m benchmark tests/benchmarks/test_evidence.py

The sentence has twelve tokens; the reference statistics are kept already
(computing them is measured apart). "One by one" gives each edited sequence a
pass of its own, on the same code.
"""

from __future__ import annotations

import statistics
import time

import pytest

from engine import LocalEngine, Prompt, edits
from tests.benchmarks import zh_en
from tests.benchmarks.measure import in_turns, spent

SENTENCE = "我昨天在商店给妈妈买了一个苹果。"
RUNS = 7


@pytest.fixture
def engine(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTENTION_CACHE", str(tmp_path))
    return LocalEngine(assets=zh_en.folder(), folder=tmp_path / "none", device="cpu")


def test_full_evidence(engine, report, monkeypatch):
    prompt = Prompt(zh_en.NAME, SENTENCE)
    tokens = len(engine.trace(prompt).tokens("encoder").key)
    passes, batch, run = [], edits._batch, edits.run
    monkeypatch.setattr(edits, "_batch", lambda live, items, indices, observe: passes.append(
        len(indices)) or batch(live, items, indices, observe))

    def ask() -> None:
        engine.evidence(prompt, "苹果", "买", contrast="Apple")

    first = spent(ask)
    report("evidence, first question to a model (reference corpus included)", f"{first.wall:.1f} s", "none")
    passes.clear()
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        ask()
        times.append(time.perf_counter() - started)
    report(f"evidence for {tokens} tokens, warm", f"median {statistics.median(times):.2f} s, "
           f"{min(times):.2f} … {max(times):.2f}, {sum(passes) // RUNS} edited runs in {len(passes) // RUNS} passes",
           "≤ 2 s on 2 cores")

    evidence = engine.evidence(prompt, "苹果", "买", contrast="Apple")
    asked = spent(lambda: engine.emergence(evidence))
    report("the same question put to ten snapshots of the training", f"{asked.wall:.1f} s", "none")

    # The same edited runs alone: recorded once, then made together and one by one.
    recorded = []

    def record(live, items, **arguments):
        recorded.append(items)
        return run(live, items, **arguments)

    monkeypatch.setattr(edits, "run", record)
    ask()
    monkeypatch.setattr(edits, "run", run)

    def make(size: int):
        def job(live) -> None:
            monkeypatch.setattr(edits, "BATCH_BYTES", size)
            for items in recorded:
                run(live, items, limits=engine.limits)

        return lambda: engine.submit(zh_en.NAME, job).result()

    ratio = in_turns(make(edits.BATCH_BYTES), make(1), pairs=5)
    report("the same edited runs, in batches against one by one", str(ratio), "≤ 0.20×")
