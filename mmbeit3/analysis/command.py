"""What ``tools/analysis_tools/memory_plan.py`` prints and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console

from mmbeit3.analysis.advice import check_memory, find_fitting, in_words
from mmbeit3.analysis.image_size import set_training_size
from mmbeit3.analysis.measuring import measure_memory
from mmbeit3.analysis.memory_plan import MemoryPlan, Planner
from mmbeit3.analysis.memory_report import (
    heading,
    measured_table,
    parts_table,
    peak_table,
    trials_lines,
)
from mmbeit3.apis.sources import make_folder
from mmbeit3.apis.stream import write_json
from mmbeit3.config.classes import resolve_classes
from mmbeit3.utils import InputError


@dataclass(frozen=True)
class Request:
    """What to find out.

    Attributes:
        gpus: Devices.
        memory: GiB of a device, to look for what fits; None not to look.
        batch_size: Images on a device; None for the config's.
        size: Height and width of the images; None for the config's.
        device: "cuda" or "cpu".
        measure: Whether to train two steps, too.
        json: Where to write the numbers.
    """

    gpus: int = 1
    memory: float | None = None
    batch_size: int | None = None
    size: tuple[int, int] | None = None
    device: str = "cuda"
    measure: bool = False
    json: Path | None = None


def report(cfg: Config, request: Request) -> None:
    """Print what a config will need, as the request asks.

    Args:
        cfg (Config): The config; batch size and size of images are written into it.
        request (Request): What to find out.

    Raises:
        InputError: The config or the request cannot be used.
    """
    if request.gpus < 1:
        raise InputError(f"--gpus is {request.gpus}; expected 1 or more")
    console = Console()
    _fit_config(cfg, request)
    with console.status("running a step of the model, without content"):
        planner = Planner(cfg, request.gpus, request.device)
        plan = planner.plan()
    _show(console, plan)
    results: dict[str, Any] = {"plan": plan.to_dict()}
    if request.memory is not None:
        results["trials"] = _look_for_fitting(console, planner, check_memory(request.memory))
    if request.measure:
        results["measured"] = _compare(console, cfg, plan)
    if request.json:
        make_folder(request.json.parent)
        write_json(request.json, results)
        print(f"the numbers are in {request.json}")


def _fit_config(cfg: Config, request: Request) -> None:
    if request.size:
        set_training_size(cfg, request.size)
    if request.batch_size is not None:
        cfg.train_dataloader.batch_size = request.batch_size
    if request.measure:
        here = "cuda" if torch.cuda.is_available() else "cpu"
        if request.device != here:
            raise InputError(
                f"--measure trains on this machine, so --device must be {here}, not "
                f"{request.device}"
            )
        cfg.optim_wrapper.accumulative_counts = 1
        cfg.model.backbone.init_cfg = None
        resolve_classes(cfg)


def _show(console: Console, plan: MemoryPlan) -> None:
    print(f"{heading(plan)}; all numbers in GiB (2^30 bytes)")  # rich would break the lines
    console.print(parts_table(plan))
    console.print(peak_table(plan))
    print(f"predicted peak: {plan.peak / 2**30:.2f} GiB, {plan.fullest.place}")


def _look_for_fitting(
    console: Console, planner: Planner, available_bytes: int
) -> list[dict[str, Any]]:
    tried = []
    with console.status("trying switches") as status:
        for trial in find_fitting(planner, available_bytes):
            tried.append(trial)
            status.update(f"trying switches, {len(tried)} combinations so far")
    print(trials_lines(tried, available_bytes))
    print(in_words(tried, available_bytes))
    return [
        {"options": trial.options, "fits": trial.fits, **trial.plan.to_dict()} for trial in tried
    ]


def _compare(console: Console, cfg: Config, plan: MemoryPlan) -> int:
    with console.status("training two steps"):
        measured = measure_memory(cfg)
    console.print(measured_table(plan, measured))
    return measured
