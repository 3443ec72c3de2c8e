"""Times two jobs against each other in one run, and reads what a process took at most.

Jobs alternate (A B, B A, A B, …), so that whatever else the machine does falls
on both alike; what is reported is the median of the pairs' ratios. It does not
know what it measures.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ratio:
    """Seconds of pairs (a, b), measured in turns."""

    pairs: tuple[tuple[float, float], ...]

    @property
    def ratios(self) -> list[float]:
        """a / b of each pair, smallest first."""
        return sorted(a / b for a, b in self.pairs)

    @property
    def median(self) -> float:
        """The median of the pairs' ratios."""
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        seconds = [statistics.median(side) for side in zip(*self.pairs, strict=True)]
        return (f"{self.median:.2f}×, pairs {self.ratios[0]:.2f} … {self.ratios[-1]:.2f}, "
                f"medians {seconds[0]:.3f} s / {seconds[1]:.3f} s, {len(self.pairs)} pairs")


def in_turns(a: Callable[[], object], b: Callable[[], object], *, pairs: int) -> Ratio:
    """Run each job once unmeasured, then `pairs` times in turns that swap who goes first."""
    a()
    b()
    measured = []
    for turn in range(pairs):
        if turn % 2:
            second = seconds(b)
            measured.append((seconds(a), second))
        else:
            first = seconds(a)
            measured.append((first, seconds(b)))
    return Ratio(tuple(measured))


def seconds(job: Callable[[], object]) -> float:
    """Wall-clock seconds of one run of `job`."""
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def peak_bytes() -> int | None:
    """Most bytes this process has held resident so far; None where the system has no /proc.

    VmHWM rather than getrusage, which a child inherits from the process that started it.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def in_a_process(module: str, *arguments: str) -> dict:
    """Run `python -m module arguments…` and return the JSON object it prints last."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])
