"""Cores that a process may keep busy, by files as the kernel writes them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmbeit3.utils import cores
from mmbeit3.utils.cores import count_cores, cpu_quota, settle_threads


def quota_of(tmp_path: Path, groups: str, files: dict[str, str]) -> float:
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        file = tmp_path / "mount" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return cpu_quota(tmp_path / "cgroup", tmp_path / "mount")


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),  # docker run --cpus 1.5
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),  # the root group has no file
        # a pod around a container: the smaller one counts
        ("0::/pod/box\n", {"pod/box/cpu.max": "max 100000", "pod/cpu.max": "50000 100000"}, 0.5),
        ("0::/pod/box\n", {"pod/box/cpu.max": "200000 100000", "pod/cpu.max": "max 100000"}, 2),
        (
            "4:memory:/a\n3:cpu,cpuacct:/a\n0::/\n",
            {"cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        (
            "3:cpu,cpuacct:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            math.inf,
        ),
        # version 1 in a container: the list names the machine's path, the mount is the group's own
        (
            "3:cpuacct,cpu:/docker/0123\n2:cpuset:/\n",
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        (
            "3:cpuset:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "1", "cpu/a/cpu.cfs_period_us": "1"},
            math.inf,
        ),
        ("0::/\n", {"cpu.max": "something else\n"}, math.inf),
    ],
)
def test_the_quota_of_a_group(
    tmp_path: Path, groups: str, files: dict[str, str], expected: float
) -> None:
    assert quota_of(tmp_path, groups, files) == expected


def test_a_group_outside_the_mount_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("1000 100000")
    assert quota_of(tmp_path, "0::/../\n", {}) in (math.inf, 0.01)  # and it comes to an end


def test_no_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "absent") == math.inf


def test_the_cores_of_a_quota_are_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for quota, expected in ((0.3, 1), (1.5, 2), (2, 2), (100, 64), (math.inf, 64)):
        monkeypatch.setattr(cores, "cpu_quota", lambda quota=quota: quota)
        assert count_cores() == expected


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cpu_quota", lambda: 1.0)
    environ: dict[str, str] = {}
    settle_threads(environ)
    assert environ == {"GOMP_SPINCOUNT": "1000", "OMP_NUM_THREADS": "1"}
    for name in cores.WAITING:
        environ = {name: "as set", "OMP_NUM_THREADS": "7"}
        settle_threads(environ)
        assert environ == {name: "as set", "OMP_NUM_THREADS": "7"}


def test_without_a_quota_torch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cpu_quota", lambda: math.inf)
    environ: dict[str, str] = {}
    settle_threads(environ)
    assert "OMP_NUM_THREADS" not in environ


@pytest.mark.parametrize("given", [None, "7000"])
def test_it_is_settled_before_torch_is_loaded(given: str | None) -> None:
    """GNU's OpenMP tells what it has read, when it is loaded."""
    environ = {name: value for name, value in os.environ.items() if name not in cores.WAITING}
    environ |= {"OMP_DISPLAY_ENV": "VERBOSE"} | ({"GOMP_SPINCOUNT": given} if given else {})
    code = "import mmbeit3, torch; torch.ones(2) @ torch.ones(2)"
    run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    if "GOMP_SPINCOUNT" not in run.stderr:
        pytest.skip("torch has another OpenMP here")
    assert f"GOMP_SPINCOUNT = '{given or cores.SPINS}'" in run.stderr
