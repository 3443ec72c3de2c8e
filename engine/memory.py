"""How many bytes a device still has.

It also says whether there is such a device. It measures, it does not decide: what a run may take of the free bytes is
`engine.limits.Limits.memory_headroom`, and what a run needs is predicted by
whoever runs it. It knows nothing of models.
"""

from __future__ import annotations

import os
from pathlib import Path

from engine import errors

_MEMINFO = Path("/proc/meminfo")
_CGROUP_V2 = Path("/sys/fs/cgroup")
_CGROUP_V1 = Path("/sys/fs/cgroup/memory")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def device(name: str) -> str:
    """`name` as torch writes it, of a device that can be computed on here.

    Raises:
        InvalidPrompt: torch knows no such device, or this machine has none (code "no_such_device").
    """
    import torch

    try:
        found = torch.device(name)
        if found.type == "cuda":  # by number: an allocation would start CUDA, and take its memory
            there = torch.cuda.is_available() and (found.index or 0) < torch.cuda.device_count()
        else:
            there = found.type != "meta" and torch.empty(0, device=found) is not None
    except (RuntimeError, TypeError, NotImplementedError, AssertionError):
        there = False
    if not there:
        raise errors.InvalidPrompt(
            "a device that torch can compute on here, such as cpu, cuda or cuda:0", got=repr(name)[:60],
            next_step="Choose cpu, or leave the device out.", code="no_such_device", device=str(name)[:60],
        )
    return str(found)


def free_bytes(device: str) -> int:
    """Bytes that a new allocation on `device` can count on.

    On CUDA: what the driver reports free, plus what torch's allocator has
    reserved without using. On the CPU: Linux's MemAvailable, bounded by what
    the process's control group (a container's limit, version 2 or 1) leaves;
    elsewhere psutil's estimate.

    Args:
        device: "cpu", "cuda" or "cuda:<index>".

    Returns:
        Bytes, never negative.
    """
    if device.startswith("cuda"):
        return _free_cuda(device)
    available = _available(_MEMINFO)
    if available is None:
        return _psutil_available()
    remainders = cgroup_remainders(_OWN_CGROUPS, v2=_CGROUP_V2, v1=_CGROUP_V1)
    return max(0, min([available, *remainders]))


def _free_cuda(device: str) -> int:
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(0, free + unused)


def _psutil_available() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def cgroup_remainders(membership: Path, *, v2: Path, v1: Path) -> list[int]:
    """What each control group above this process leaves, in bytes; empty where none sets a limit.

    A group's own limit binds, and so does every limit above it, so the whole
    chain is read. Page cache counts as used by the kernel but can be
    reclaimed, so the inactive part of it is given back.

    Args:
        membership: a file like /proc/self/cgroup.
        v2: mount of the unified hierarchy.
        v1: mount of the version-1 memory controller.
    """
    remainders = []
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            files = (v2, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            files = (v1, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        root, *names = files
        # Inside a container the path may not exist under the mount; the mount's own root is then the group.
        group = Path(os.path.normpath(root / path.lstrip("/")))
        chain = [folder for folder in (group, *group.parents) if folder == root or root in folder.parents]
        remainders += [left for folder in chain if (left := _left(folder, *names)) is not None]
    return remainders


def _left(folder: Path, limit_file: str, usage_file: str, reclaimable_key: str) -> int | None:
    try:
        limit = (folder / limit_file).read_text().strip()
        usage = int((folder / usage_file).read_text())
    except (OSError, ValueError):
        return None
    if not limit.isdigit():  # "max": no limit
        return None
    return int(limit) - usage + _statistic(folder / "memory.stat", reclaimable_key)


def _statistic(stat: Path, key: str) -> int:
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0
