"""``mmbeit3 doctor``: what is installed, which operators and devices work, and every known issue.

First the gathering of facts, then the report; the issues themselves are in ``known_issues.py``.
Only the standard library is imported before a probe runs: the command must still speak when torch
or mmcv is missing.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module, metadata
from typing import TYPE_CHECKING

from mmbeit3.doctor import known_issues
from mmbeit3.utils.cores import count_cores
from mmbeit3.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

VERSION_ROWS = (
    "torch",
    "torchvision",
    "numpy",
    "mmengine",
    "mmcv",
    "mmdet",
    "mmseg",
    "timm",
    "fairscale",
    "faster_coco_eval",
    "pycocotools",
    "cv2",
)


def installed_distributions() -> dict[str, str]:
    """Version of each installed distribution, by its normalized name."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # None in the leftovers of an interrupted uninstall
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return found


def _probe_torch() -> None:
    import torch

    torch.zeros(1).add_(1)


def _probe_numpy() -> None:
    import numpy
    import torch

    torch.from_numpy(numpy.zeros(1)).numpy()


def _probe_torchvision() -> None:
    import torch
    from torchvision.ops import nms

    nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)


def _probe_faster_coco_eval() -> None:
    from faster_coco_eval import COCO, COCOeval_faster  # noqa: F401


PROBES: dict[str, Callable[[], object]] = {
    "torch": _probe_torch,
    "numpy": _probe_numpy,
    "torchvision": _probe_torchvision,
    "cv2": partial(import_module, "cv2"),
    "pycocotools": partial(import_module, "pycocotools.mask"),
    "faster_coco_eval": _probe_faster_coco_eval,
    "timm": partial(import_module, "timm"),
    "fairscale": partial(import_module, "fairscale"),
    "safetensors": partial(import_module, "safetensors.torch"),
    "mmengine": partial(import_module, "mmengine.runner"),
    "mmcv": partial(import_module, "mmcv.ops"),
    "mmdet": partial(import_module, "mmdet.models"),
    "mmseg": partial(import_module, "mmseg.models"),
}


def run_probes(probes: Mapping[str, Callable[[], object]]) -> dict[str, str]:
    """Call each probe; return the error message of those that failed."""
    failures = {}
    for name, probe in probes.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                probe()
        except Exception as error:  # whatever a broken package raises is the finding
            text = str(error).strip() or type(error).__name__
            failures[name] = text.splitlines()[0]
    return failures


def has_compiled_mmcv() -> bool:
    """Whether the installed mmcv has a file of compiled operators, loadable or not."""
    spec = importlib.util.find_spec("mmcv")
    folders = (spec.submodule_search_locations or []) if spec else []
    return any(glob.glob(os.path.join(folder, "_ext.*")) for folder in folders)


def load_compiled_mmcv() -> str | None:
    """Load mmcv's compiled operators in a fresh process; return the error, if any."""
    command = [sys.executable, "-c", "import torch, mmcv._ext"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"the process ended with status {result.returncode}"


def find_devices() -> list[str]:
    """The devices torch can compute on: the CPU, each CUDA GPU, Apple's GPU."""
    import torch

    devices = ["cpu"] + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return devices + (["mps"] if torch.backends.mps.is_available() else [])


def describe_device(device: str) -> str:
    """Name, size and bfloat16 support of a device, in one line."""
    import torch

    if device == "cpu":
        return _describe_processor()
    if device == "mps":
        name = "Apple GPU"
    else:
        properties = torch.cuda.get_device_properties(device)
        capability = f"{properties.major}.{properties.minor}"
        memory = properties.total_memory / 2**30
        name = f"{properties.name}, {memory:.0f} GiB, compute capability {capability}"
    return f"{name}, bfloat16 {'yes' if _supports_bfloat16(device) else 'no'}"


def _describe_processor() -> str:
    import torch

    from mmbeit3.ops.cpu.processor import bfloat16_obstacle, has_amx

    instructions = torch.backends.cpu.get_cpu_capability() + (" and AMX" if has_amx() else "")
    has_bfloat16 = bfloat16_obstacle() is None
    return (
        f"{platform.machine()} with {instructions}, {count_cores()} cores, "
        f"{torch.get_num_threads()} threads, bfloat16 {'yes' if has_bfloat16 else 'no'}"
    )


_ROWS = 1024  # of the inputs of measured products: AMX is far from its rate with few


def describe_products() -> list[str]:
    """Which way matrix products take on the CPU in each type, and how fast, in three lines."""
    import torch

    from mmbeit3.ops.cpu.choices import INPUTS, OUTPUTS, measure, onednn_pays
    from mmbeit3.ops.cpu.processor import bfloat16_obstacle, int8_obstacle, onednn_dtypes

    dtypes, obstacles = onednn_dtypes(), (bfloat16_obstacle(), int8_obstacle())
    ways = ["float32, torch", "bfloat16"]
    ways += ["float32, oneDNN"] if torch.float32 in dtypes else []
    ways += ["int8"] if obstacles[1] is None else []
    measured = measure(ways, rows=_ROWS)
    rates = {way: f"{rate:.0f} GFLOP/s" for way, rate in measured.items()}
    library = "oneDNN" if torch.bfloat16 in dtypes else "torch's own kernels"
    bfloat16 = f"{library}, {rates['bfloat16']}"
    float32 = f"torch's own kernels, {rates['float32, torch']}"
    if "float32, oneDNN" in rates:
        both = [f"oneDNN, {rates['float32, oneDNN']}", float32]
        chosen, other = both if onednn_pays(INPUTS, OUTPUTS) else both[::-1]
        float32 = f"{chosen} (not by {other})"
    return [
        f"float32 by {float32}",
        f"bfloat16 by {bfloat16}, in hardware"
        if obstacles[0] is None
        else f"bfloat16 emulated by {bfloat16}: {obstacles[0]}; --dtype bfloat16 is refused",
        f"int8 by oneDNN, {rates['int8']}"
        if obstacles[1] is None
        else f"int8: {obstacles[1]}; --dtype int8 is refused",
    ]


def _supports_bfloat16(device: str) -> bool:
    import torch

    if device.startswith("cuda"):
        # bf16 units came with compute capability 8; torch emulates them on older GPUs
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        ones = torch.ones(2, 2, dtype=torch.bfloat16, device=device)
        return bool((ones @ ones == 2).all())
    except (RuntimeError, TypeError):
        return False


def _try_nms(device: str) -> None:
    from mmcv.ops import nms

    _expect(nms(*_overlapping_boxes(device), 0.5)[1].tolist(), [0, 2])


def _try_roi_align(device: str) -> None:
    import torch
    from mmcv.ops import RoIAlign

    image = torch.full((1, 1, 8, 8), 3.0, device=device)
    rois = torch.tensor([[0.0, 2, 2, 6, 6]], device=device)
    _expect(RoIAlign(output_size=2)(image, rois).flatten().tolist(), [3.0] * 4)


def _try_soft_nms(device: str) -> None:
    from mmbeit3.ops import soft_nms

    boxes, scores = _overlapping_boxes(device)
    keep = soft_nms(boxes, scores, scores.new_zeros(3).long(), method="linear")[2]
    _expect(keep.tolist(), [0, 2])  # a full overlap takes the second score to 0


OPERATOR_TRIALS = {"NMS": _try_nms, "RoIAlign": _try_roi_align, "Soft-NMS": _try_soft_nms}


def _overlapping_boxes(device: str) -> tuple[Tensor, Tensor]:
    """Three boxes (3, 4), the second on top of the first, with falling scores (3,)."""
    import torch

    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]], device=device)
    return boxes, torch.tensor([0.9, 0.8, 0.7], device=device)


def _expect(found: list, expected: list) -> None:
    if found != expected:
        raise RuntimeError(f"wrong result: {found}, expected {expected}")


def _version_rows(installed: Mapping[str, str]) -> list[tuple[str, str, str]]:
    rows = [("python", platform.python_version(), sys.executable)]
    for name in VERSION_ROWS:
        providers = known_issues.PROVIDERS.get(name, (name,))
        found = [provider for provider in providers if provider in installed]
        versions = " / ".join(dict.fromkeys(installed[provider] for provider in found))
        spec = None if found else importlib.util.find_spec(name)
        if spec:  # a source tree on PYTHONPATH, say
            rows.append((name, "no distribution", str(spec.origin)))
        else:
            rows.append((name, versions or "not installed", " + ".join(found)))
    return rows


def _print_section(title: str, rows: Iterable[tuple[str, ...]]) -> None:
    print(f"\n{title}")
    for first, *rest in rows:
        cells = [f"{cell:<16}" for cell in rest[:-1]]
        print(f"  {first:<18}{''.join(cells)}{rest[-1]}".rstrip())


def _check_mmcv_operators(installed: Mapping[str, str]) -> list[known_issues.Problem]:
    if has_compiled_mmcv():
        return known_issues.check_compiled_mmcv(load_compiled_mmcv(), installed)
    return known_issues.check_import_order(sys.modules)


def _try_operators(devices: list[str], installed: Mapping[str, str]) -> list[known_issues.Problem]:
    """Run the operator trials on each device, print their outcome, return the problems."""
    from mmbeit3.ops import mmcv_ext

    rows, problems = [("mmcv.ops", mmcv_ext.source())], []
    for device in devices:
        trials = {name: partial(trial, device) for name, trial in OPERATOR_TRIALS.items()}
        failures = run_probes(trials)
        states = [f"{name} {'FAILS' if name in failures else 'ok'}" for name in trials]
        rows.append((device, ", ".join(states)))
        problems += known_issues.check_operators(device, failures, installed)
    _print_section("Operators", rows)
    return problems


def _print_problems(problems: list[known_issues.Problem]) -> int:
    errors = sum(problem.is_error for problem in problems)
    print(f"\nProblems: {errors} errors, {len(problems) - errors} warnings")
    for problem in problems:
        print(f"  {'ERROR' if problem.is_error else 'warning'}: {problem.what}")
        print(f"      fix: {problem.fix}")
    return 1 if errors else 0


def main() -> int:
    """Print the report; return 1 when anything must be fixed, else 0."""
    installed = installed_distributions()
    print(f"mmbeit3 {__version__}")
    _print_section("Versions", _version_rows(installed))

    failures = run_probes(PROBES)
    problems = [
        *known_issues.check_duplicates(installed),
        *known_issues.check_opencv(installed),
        *known_issues.check_torch(installed),
        *known_issues.check_numpy(installed),
        *known_issues.check_mmcv_range(installed),
        *known_issues.check_pkg_resources(
            installed, bool(importlib.util.find_spec("pkg_resources"))
        ),
        *_check_mmcv_operators(installed),
        *known_issues.check_probes(failures, installed),
    ]
    if "torch" not in failures:
        import torch

        devices = find_devices()
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
        rows = [(device, describe_device(device)) for device in devices]
        _print_section(f"Devices (torch built for {build})", rows)
        rows = [("cpu", line) for line in describe_products()]
        _print_section("Matrix products of linear layers, without gradient", rows)
        has_driver = shutil.which("nvidia-smi") is not None
        problems += known_issues.check_gpu(
            torch.version.cuda, torch.cuda.is_available(), has_driver
        )
        if "mmcv" not in failures:
            problems += _try_operators(devices, installed)
    return _print_problems(problems)
