"""The cores that a process may keep busy, and threads that do not keep more of them busy.

What is settled here is read when torch is loaded, so importing mmbeit3 does it first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

# What decides how long OpenMP's threads spin before they sleep: of any, of GNU's (torch has it).
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
# Rounds of waiting, by default 300,000: some milliseconds at each of thousands of barriers. Few are
# too few: to wake a thread takes longer than most of what small models do between two barriers.
SPINS = "1000"


def count_cores() -> int:
    """Return how many cores this process may keep busy: at least 1.

    Those of its affinity (``taskset``, a batch system), and no more than the CPU quota of its
    control group (``docker run --cpus``, Kubernetes' limits), rounded up.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS, Windows
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota())))


def settle_threads(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set the environment by which OpenMP's threads spin shortly and are no more than the cores.

    A thread that spins while it waits for the others takes the core from the one it waits for,
    as soon as something else runs there too. torch counts the cores of the machine and of the
    affinity, not of the control group's quota. Nothing that the user has set is changed.

    Args:
        environ (MutableMapping[str, str]): What to change. Default: this process's environment.
    """
    if not any(name in environ for name in WAITING):
        environ["GOMP_SPINCOUNT"] = SPINS
    if "OMP_NUM_THREADS" not in environ and cpu_quota() < math.inf:
        environ["OMP_NUM_THREADS"] = str(count_cores())


def cpu_quota(
    groups: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> float:
    """Return the cores' worth of time that control groups give this process: infinity for no limit.

    Args:
        groups (Path): The list of this process's groups (``man 7 cgroups``), of version 1 or 2.
        mount (Path): Where the groups' files are.

    Returns:
        float: The smallest quota of its group and of those around it.
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:  # not Linux
        return math.inf
    quota = math.inf
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            folder, read = mount, _read_quota
        elif "cpu" in controllers.split(","):
            folder, read = mount / "cpu", _read_old_quota
        else:
            continue
        for level in _levels(folder, group):
            try:
                quota = min(quota, read(level))
            except (OSError, ValueError):  # no quota is kept at this level
                continue
    return quota


def _levels(folder: Path, group: str) -> Iterator[Path]:
    """Yield the folders of a group and of those around it, as far as they are seen from here."""
    path = folder / group.strip("/")
    yield path
    while path != folder and folder in path.parents:
        path = path.parent
        yield path


def _read_quota(folder: Path) -> float:
    """Read version 2's: ``max 100000`` or microseconds of so many."""
    quota, period = (folder / "cpu.max").read_text().split()
    return math.inf if quota == "max" else int(quota) / int(period)


def _read_old_quota(folder: Path) -> float:
    """Read version 1's: -1, or microseconds of so many."""
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    period = int((folder / "cpu.cfs_period_us").read_text())
    return quota / period if quota > 0 else math.inf
