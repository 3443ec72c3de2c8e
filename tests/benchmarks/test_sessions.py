"""Twenty people at once on zh-en: how long each waits for a sentence's grid and head, and whether any sees another's.

Each session asks what the page asks for one sentence of its own. The oracle is
the same model in an engine of its own, asked one sentence after the other.
"""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest

from engine import Head, LocalEngine, Prompt
from tests.benchmarks import zh_en

ROUNDS = 3
SENTENCES = (
    "我喜欢吃苹果", "苹果发布了新手机", "我买了苹果的股票", "他每天吃一个苹果", "他打电话给我", "他们在打篮球",
    "她在看书", "我们在看电视", "我们去看电影", "我爸爸在开车", "请开门", "他在学校学习中文", "我昨天没有去学校",
    "我比他高", "今天天气很好", "你什么时候回来", "这本书是我的", "我想喝一杯水", "他不知道怎么办", "我们明天去北京",
)


@dataclass(frozen=True)
class Answer:
    """What one session saw: the output and every array, by what it asked for."""

    output: str
    arrays: dict[str, np.ndarray]

    def equals(self, other: Answer) -> bool:
        """Bit for bit: the same work on the same thread count has no reason to round differently."""
        return self.output == other.output and self.arrays.keys() == other.arrays.keys() and all(
            np.array_equal(array, other.arrays[name], equal_nan=True) for name, array in self.arrays.items()
        )


def ask(engine: LocalEngine, sentence: str) -> Answer:
    """Trace, the grid of every stream with its summaries, and one head of each."""
    prompt = Prompt(model=zh_en.NAME, text=sentence)
    trace = engine.trace(prompt)
    arrays = {}
    for stream in trace.streams:
        summary = engine.summaries(prompt, stream)
        arrays[f"{stream} entropy"], arrays[f"{stream} label"] = summary.entropy, summary.label
        arrays[f"{stream} patterns"] = engine.patterns(prompt, stream)
        arrays[f"{stream} scores"] = engine.scores(prompt, Head(stream, 1, 2))
    return Answer(trace.output, arrays)


@pytest.fixture(scope="module")
def engines():
    """Two engines with zh-en loaded: one to be asked alone, one by everybody."""
    folder = zh_en.folder()
    made = [LocalEngine(assets=folder, device="cpu") for _ in range(2)]
    for engine in made:
        ask(engine, "你好")
    return made


def all_at_once(engine: LocalEngine, sentences) -> list[tuple[float, Answer]]:
    """Each sentence's seconds and answer, asked by as many threads that start together."""
    found: dict[str, tuple[float, Answer]] = {}
    start = threading.Barrier(len(sentences))

    def session(sentence: str) -> None:
        start.wait()
        began = time.perf_counter()
        answer = ask(engine, sentence)
        found[sentence] = time.perf_counter() - began, answer

    threads = [threading.Thread(target=session, args=(sentence,)) for sentence in sentences]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[sentence] for sentence in sentences]


def test_twenty_sessions_at_once(engines, report):
    alone, shared = engines
    waits, single, processor, wrong = [], [], [], 0
    for number in range(ROUNDS):
        # Another full stop count makes another prompt, so that no round is answered from the cache.
        sentences = [sentence + "。" * number for sentence in SENTENCES]
        expected = []
        for sentence in sentences:
            began = time.perf_counter()
            expected.append(ask(alone, sentence))
            single.append(time.perf_counter() - began)
        assert len({answer.arrays["cross patterns"].tobytes() for answer in expected}) == len(sentences)
        began = time.process_time()
        found = all_at_once(shared, sentences)
        processor.append(time.process_time() - began)
        for (seconds, answer), right in zip(found, expected, strict=True):
            waits.append(seconds)
            wrong += not answer.equals(right)
    one = statistics.median(single)
    p50, p95 = np.percentile(waits, [50, 95])
    report(
        f"{len(SENTENCES)} sessions at once on zh-en",
        f"p50 {p50:.2f} s, p95 {p95:.2f} s, slowest {max(waits):.2f} s; one session alone {one:.2f} s (median), "
        f"p95 / alone {p95 / one:.1f}×; all of them {statistics.median(processor):.2f} s of processor time; "
        f"{wrong} wrong answers of {len(waits)}",
        "p95 ≤ 4 s, no wrong answer",
    )
    assert wrong == 0
