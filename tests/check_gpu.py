"""Says plainly what the CUDA tests lack, and exits with 1, before pytest is started.

Knows only versions and devices; the tests themselves are marked `gpu`.
"""

from __future__ import annotations

import importlib.metadata
import sys

NEEDS = {"torch": (2, 11), "transformers": (5, 17), "pytest": (8, 0)}


def missing() -> list[str]:
    """What stands in the way of the CUDA tests, one sentence each."""
    problems = []
    for name, least in NEEDS.items():
        wanted = ".".join(map(str, least))
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"Expected {name} {wanted} or newer in {sys.executable}; it is not installed.")
            continue
        if tuple(int(part) for part in version.split(".")[:2]) < least:
            problems.append(f"Expected {name} {wanted} or newer in {sys.executable}; got {version}.")
    if not problems:
        import torch

        if not torch.cuda.is_available():
            problems.append("Expected a CUDA device; torch.cuda.is_available() is False.")
    return problems


if __name__ == "__main__":
    problems = missing()
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    sys.exit(bool(problems))
