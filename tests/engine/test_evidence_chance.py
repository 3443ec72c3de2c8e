"""How often chance earns "attends and is used": 300 random pairs of words, three families, both languages.

The thresholds were chosen on other models (`tests.engine.chance` says which, and what was fixed before any of the
rates here was seen: architectures, sizes, seeds, spreads, and the count of pairs). The rate over all must lie under
5%. More of them, by architecture, with intervals: `python -m pytest -m benchmark tests/benchmarks/test_chance.py`.
"""

from __future__ import annotations

from collections import Counter

import pytest

from engine import LocalEngine
from engine.evidence import reference
from tests.engine import chance


@pytest.mark.timeout(400)
def test_chance_seldom_earns_attends_and_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTENTION_CACHE", str(tmp_path / "references"))
    monkeypatch.setattr(reference, "REFERENCE_RUNS", 800)
    for kind in chance.TEST_PAIRS:
        chance.save(kind, tmp_path / kind, seed=chance.TEST_SEED)
    engine = LocalEngine(assets=tmp_path, folder=tmp_path, device="cpu")
    found = {(kind, language): chance.verdicts(engine, kind, language, n=pairs, seed=chance.TEST_SEED)
             for kind, pairs in chance.TEST_PAIRS.items() for language in ("zh", "en")}
    total = sum(found.values(), Counter())
    assert total.total() == 300
    assert total["attends and is used"] < 15, found
    # Not because nothing is ever found: the other verdicts occur too.
    assert len(total) > 1 and total["no evidence"] < 285, found


@pytest.mark.parametrize(("hits", "n", "low", "high"), [
    (0, 300, 0.0, 1 - 0.025 ** (1 / 300)), (300, 300, 0.025 ** (1 / 300), 1.0), (10, 100, 0.04900, 0.17622),
])
def test_the_interval(hits, n, low, high):
    assert chance.interval(hits, n) == pytest.approx((low, high), abs=1e-5)
