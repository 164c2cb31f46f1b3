"""Peak memory of one call, in a process that does nothing else."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmbeit3.utils.processes import in_new_process

STATUS = Path("/proc/self/status")
# Writing 5 here makes the present size of the process its peak (man 5 proc).
CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a call.

    Attributes:
        total: Of the model and the call, without the libraries that are loaded.
        working: Of these, what came with the call.
    """

    total: int
    working: int


def measure_memory(
    build: Callable[..., Callable[[], Any]], arguments: Mapping[str, Any], device: str
) -> Memory | None:
    """Measure one call of what ``build`` makes, the first one of a fresh process.

    On the CPU it is resident memory, by which the process has grown since its libraries were
    loaded; on a GPU it is what torch has allocated there.

    Args:
        build (Callable): Makes the call.
        arguments (Mapping): Its arguments.
        device (str): Whose memory to measure.

    Returns:
        Memory | None: None where the system does not tell.

    Raises:
        RuntimeError: If the call failed; with the trace of the other process.
    """
    if torch.device(device).type == "cpu" and not CLEAR_REFS.exists():
        return None
    try:
        return in_new_process(_measure, build, arguments, device, torch.get_num_threads())
    except RuntimeError as error:
        raise RuntimeError(f"measuring the memory of {build.__name__} failed:\n{error}") from error


def _measure(
    build: Callable[..., Callable[[], Any]],
    arguments: Mapping[str, Any],
    device: str,
    threads: int,
) -> Memory:
    torch.set_num_threads(threads)
    on_cpu = torch.device(device).type == "cpu"
    libraries = _resident() if on_cpu else 0
    silence_initialization()
    if on_cpu:
        return _of_cpu(build(**arguments), libraries)
    return measure_on_gpu(build, arguments, device)[1]


def silence_initialization() -> None:
    """Keep mmengine from printing three lines for each weight that a model draws."""
    from mmengine.logging import MMLogger  # after the memory of libraries was looked at

    MMLogger.get_instance("benchmarks", log_level="WARNING")


def _of_cpu(call: Callable[[], Any], libraries: int) -> Memory:
    before = _resident()
    CLEAR_REFS.write_text("5")
    call()
    peak = _status("VmHWM")
    return Memory(peak - libraries, peak - before)


def measure_on_gpu(
    build: Callable[..., Callable[[], Any]], arguments: Mapping[str, Any], device: str
) -> tuple[Callable[[], Any], Memory]:
    """Make a call and run it once; returns it and its memory, besides what was there before."""
    others = torch.cuda.memory_allocated(device)
    call = build(**arguments)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    return call, Memory(peak - others, peak - before)


def _resident() -> int:
    """Bytes of the process, without those that are free and that glibc still holds."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def _status(key: str) -> int:
    """Bytes that the kernel states under a key of the process."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
