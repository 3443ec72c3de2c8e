"""What capturing costs beside a plain forward pass, and what it saves beside eager `output_attentions`.

Ratios of jobs that take turns in one process (time), and of processes that run
one job each (peak memory: resident bytes with weights, Python and its
libraries, and again without what was resident before the model was built).
"""

from __future__ import annotations

import statistics

import pytest
import torch

from tests.benchmarks import decoder
from tests.benchmarks.measure import Ratio, in_a_process, in_turns, peak_bytes

PAIRS = {1024: 5, 2048: 3}
PROCESSES = 3


@pytest.fixture(scope="module")
def live():
    return decoder.build()


@pytest.fixture(scope="module")
def peaks():
    """The peaks of one pass in processes of their own, one by one: where libc's allocator lays things is chance."""
    if peak_bytes() is None:
        pytest.skip("Peak memory is read from /proc, which this system lacks.")
    known = {}

    def of(name: str, n: int) -> list[dict[str, int]]:
        if (name, n) not in known:
            known[name, n] = [in_a_process("tests.benchmarks.decoder", name, str(n)) for _ in range(PROCESSES)]
        return known[name, n]

    return of


def times(live, a: str, b: str, n: int) -> Ratio:
    return in_turns(decoder.PASSES[a](live, n), decoder.PASSES[b](live, n), pairs=PAIRS[n])


def memory(a: list[dict[str, int]], b: list[dict[str, int]]) -> str:
    """Ratios of the processes' medians, and of the whole processes the smallest and largest there is."""
    gib = 2**30
    (peak_a, run_a), (peak_b, run_b) = (
        [[one["peak"] / gib for one in side], [(one["peak"] - one["before"]) / gib for one in side]] for side in (a, b))
    middle = statistics.median
    return (f"{middle(peak_a) / middle(peak_b):.2f}× of the whole process ({middle(peak_a):.2f} / {middle(peak_b):.2f} "
            f"GiB; {min(peak_a) / max(peak_b):.2f} … {max(peak_a) / min(peak_b):.2f}×), "
            f"{middle(run_a) / middle(run_b):.2f}× of model and run alone "
            f"({middle(run_a):.2f} / {middle(run_b):.2f} GiB), {len(a)} processes each")


def test_the_passes_compute_the_same(live):
    """A benchmark of wrong maps would be worthless: eager's maps are the oracle, float32 rounding the tolerance."""
    maps = decoder.eager(live, 96)()
    found = decoder.captured(live, 96, keep=7)()
    assert torch.allclose(found[0], maps[7][0, 0], rtol=0, atol=1e-5)
    summary, pictures = decoder.reduced(live, 96)()
    assert summary.max[7, 0] == pytest.approx(float(maps[7][0, 0].amax(-1).mean()), abs=1e-5)
    assert pictures.cells.shape == (decoder.N_LAYERS, decoder.N_HEADS, 64, 64)


@pytest.mark.parametrize("n", [1024, 2048])
def test_capture_takes_the_time_of_a_forward(live, report, n):
    report(f"capture / plain SDPA forward, time, n={n}", str(times(live, "captured", "plain", n)), "≤ 1.05×")


@pytest.mark.parametrize("n", [1024, 2048])
def test_capture_takes_the_memory_of_a_forward(peaks, report, n):
    report(f"capture / plain SDPA forward, peak memory, n={n}", memory(peaks("captured", n), peaks("plain", n)),
           "≤ 1.2×")


def test_a_map_takes_half_the_time_of_eager(live, report):
    report("capture + one map / eager output_attentions, time, n=2048", str(times(live, "one map", "eager", 2048)),
           "≤ 0.5×")


def test_a_map_takes_a_quarter_of_the_memory_of_eager(peaks, report):
    report("capture + one map / eager output_attentions, peak memory, n=2048",
           memory(peaks("one map", 2048), peaks("eager", 2048)), "≤ 0.25×")


def test_summaries_of_all_heads_take_two_forwards(live, report):
    report("summaries and pictures of all heads / plain SDPA forward, time, n=1024",
           str(times(live, "reduced", "plain", 1024)), "≤ 2×")
