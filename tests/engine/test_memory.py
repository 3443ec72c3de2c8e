"""Free bytes: against the kernel's own numbers, and on made-up control groups."""

from __future__ import annotations

import pytest

from engine import memory

MIB = 2**20


def test_cpu_agrees_with_psutil_or_is_bounded_by_a_control_group():
    psutil = pytest.importorskip("psutil")
    free, available = memory.free_bytes("cpu"), psutil.virtual_memory().available
    limits = memory.cgroup_remainders(memory._OWN_CGROUPS, v2=memory._CGROUP_V2, v1=memory._CGROUP_V1)
    # 256 MiB: what other processes may take or give back between the readings.
    assert free == pytest.approx(min([available, *limits]), abs=256 * MIB)
    assert free > 0


def test_without_meminfo_psutil_is_asked(monkeypatch, tmp_path):
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "absent")
    assert memory.free_bytes("cpu") == pytest.approx(psutil.virtual_memory().available, abs=256 * MIB)


def write(folder, **files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")


@pytest.fixture
def membership(tmp_path):
    return tmp_path / "cgroup"


def test_version_2_limits_of_the_whole_chain(tmp_path, membership):
    v2 = tmp_path / "v2"
    write(v2)
    write(v2 / "outer", memory__max=f"{1000 * MIB}\n", memory__current=f"{900 * MIB}\n",
          memory__stat=f"anon 5\ninactive_file {50 * MIB}\n")
    write(v2 / "outer" / "inner", memory__max="max\n", memory__current=f"{300 * MIB}\n")
    membership.write_text("0::/outer/inner\n", encoding="utf-8")
    assert memory.cgroup_remainders(membership, v2=v2, v1=tmp_path / "none") == [150 * MIB]


def test_version_2_limit_at_the_mount_of_a_container(tmp_path, membership):
    v2 = tmp_path / "v2"
    write(v2, memory__max=f"{512 * MIB}", memory__current=f"{112 * MIB}")
    membership.write_text("0::/docker/abc\n", encoding="utf-8")  # the host's path, not visible inside
    assert memory.cgroup_remainders(membership, v2=v2, v1=tmp_path / "none") == [400 * MIB]


def test_version_1_limit(tmp_path, membership):
    v1 = tmp_path / "v1"
    write(v1 / "box", memory__limit_in_bytes=f"{256 * MIB}", memory__usage_in_bytes=f"{56 * MIB}",
          memory__stat=f"inactive_file 1\ntotal_inactive_file {6 * MIB}\n")
    membership.write_text("5:cpu,cpuacct:/box\n4:memory:/box\n0::/ignored\n", encoding="utf-8")
    assert memory.cgroup_remainders(membership, v2=tmp_path / "none", v1=v1) == [206 * MIB]


def test_path_that_climbs_does_not_leave_the_mount(tmp_path, membership):
    write(tmp_path / "elsewhere", memory__max="1", memory__current="1")
    write(tmp_path / "v2")
    membership.write_text("0::/../elsewhere\n", encoding="utf-8")
    assert memory.cgroup_remainders(membership, v2=tmp_path / "v2", v1=tmp_path / "none") == []


def test_no_control_groups(tmp_path, membership):
    assert memory.cgroup_remainders(membership, v2=tmp_path, v1=tmp_path) == []


def test_used_up_is_zero_not_negative(tmp_path, membership, monkeypatch):
    write(tmp_path / "v2", memory__max="100", memory__current="300")
    membership.write_text("0::/\n", encoding="utf-8")
    monkeypatch.setattr(memory, "_OWN_CGROUPS", membership)
    monkeypatch.setattr(memory, "_CGROUP_V2", tmp_path / "v2")
    assert memory.free_bytes("cpu") == 0


@pytest.mark.gpu
def test_cuda_counts_what_the_allocator_holds_unused():
    torch = pytest.importorskip("torch")
    torch.cuda.empty_cache()
    before = memory.free_bytes("cuda")
    block = torch.empty(512 * MIB, dtype=torch.uint8, device="cuda")
    during = memory.free_bytes("cuda")
    del block  # goes back to the allocator, not to the driver
    after = memory.free_bytes("cuda")
    assert before - during == pytest.approx(512 * MIB, abs=64 * MIB)
    assert after == pytest.approx(before, abs=64 * MIB)
