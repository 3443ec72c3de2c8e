"""Times two jobs against each other in one run, and reads what a process took at most.

Jobs alternate (A B, B A, A B, …), and what is reported is the median of the
pairs' ratios. Processor time is the measure of a job that computes on its own
thread: a machine that does other work besides changes it little, while it may
double the wall clock's, which is given too. It does not know what it measures.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The app while none of its runs is under way.
SETTLED = '[data-testid="stApp"][data-test-script-state="notRunning"]'


@dataclass(frozen=True)
class Spent:
    """What one run of a job took: seconds of the processor (all threads of this process), and of the wall clock."""

    processor: float
    wall: float


@dataclass(frozen=True)
class Ratio:
    """Pairs of runs (a, b), made in turns."""

    pairs: tuple[tuple[Spent, Spent], ...]

    def of(self, clock: str) -> list[float]:
        """a / b of each pair by one of `Spent`'s clocks, smallest first."""
        return sorted(getattr(a, clock) / getattr(b, clock) for a, b in self.pairs)

    def __str__(self) -> str:
        ratios = self.of("processor")
        seconds = [statistics.median(spent.processor for spent in side) for side in zip(*self.pairs, strict=True)]
        return (f"{statistics.median(ratios):.2f}× processor time (pairs {ratios[0]:.2f} … {ratios[-1]:.2f}, "
                f"medians {seconds[0]:.2f} / {seconds[1]:.2f} s), {statistics.median(self.of('wall')):.2f}× by the "
                f"clock, {len(self.pairs)} pairs")


def in_turns(a: Callable[[], object], b: Callable[[], object], *, pairs: int) -> Ratio:
    """Run each job once unmeasured, then `pairs` times in turns that swap who goes first."""
    a()
    b()
    measured = []
    for turn in range(pairs):
        if turn % 2:
            second = spent(b)
            measured.append((spent(a), second))
        else:
            first = spent(a)
            measured.append((first, spent(b)))
    return Ratio(tuple(measured))


def spent(job: Callable[[], object]) -> Spent:
    """What one run of `job` takes."""
    wall, processor = time.perf_counter(), time.process_time()
    job()
    return Spent(time.process_time() - processor, time.perf_counter() - wall)


def peak_bytes() -> int | None:
    """Most bytes this process has held resident so far; None where the system has no /proc.

    VmHWM rather than getrusage, which a child inherits from the process that started it.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def processor_seconds(pid: int) -> float:
    """Processor seconds of a process so far, with all its threads; NaN where the system has no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def in_a_process(module: str, *arguments: str) -> dict:
    """Run `python -m module arguments…` and return the JSON object it prints last."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])
