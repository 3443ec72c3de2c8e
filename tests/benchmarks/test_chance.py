"""How often models with random weights earn "attends and is used", with exact intervals.

    python -m pytest -m benchmark tests/benchmarks/test_chance.py

Six architectures, two languages, two seeds; models and pairs as `tests.engine.chance` fixed them before their rates
were seen.
"""

from __future__ import annotations

import pytest

from engine import LocalEngine
from tests.engine import chance

PAIRS = 100


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", chance.KINDS)
def test_false_alarms(monkeypatch, tmp_path, report, kind):
    monkeypatch.setenv("ATTENTION_CACHE", str(tmp_path / "references"))
    for seed in chance.BENCHMARK_SEEDS:
        chance.save(kind, tmp_path / f"{kind}-{seed}", seed=seed)
    engine = LocalEngine(assets=tmp_path, folder=tmp_path, device="cpu")
    for language in ("zh", "en"):
        by_seed = [chance.verdicts(engine, f"{kind}-{seed}", language, n=PAIRS, seed=seed)["attends and is used"]
                   for seed in chance.BENCHMARK_SEEDS]
        hits, n = sum(by_seed), PAIRS * len(by_seed)
        low, high = chance.interval(hits, n)
        report(f'"attends and is used" by chance, {kind}, {language}',
               f"{hits / n:.1%} of {n} pairs (95%: {low:.1%} … {high:.1%}; by seed {by_seed})", "< 5%")
