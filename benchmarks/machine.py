"""What the measurements ran on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mmbeit3.ops.cpu.processor import bfloat16_obstacle

PACKAGES = ("mmbeit3", "torch", "torchvision", "timm", "torchscale", "pycocotools")


def describe(device: str) -> dict[str, Any]:
    """Processor, device, memory, threads and versions."""
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": bfloat16_obstacle() is None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    if torch.device(device).type == "cuda":
        found["device"] = f"{device}: {torch.cuda.get_device_name(device)}"
    return found


def in_words(machine: dict[str, Any]) -> str:
    """The machine in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    instructions = machine["instructions"] + (", bfloat16" if machine["bfloat16"] else "")
    return (
        f"{machine['processor']} ({instructions}), {machine['cores']} cores, "
        f"{machine['threads']} threads; device {machine['device']}; {versions}"
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
