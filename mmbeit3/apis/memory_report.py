"""What ``tools/analysis_tools/memory_plan.py`` prints and writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from mmbeit3.analysis.advice import GIB, find_fitting, in_words
from mmbeit3.analysis.image_size import set_training_size
from mmbeit3.analysis.measuring import measure_memory
from mmbeit3.analysis.memory_plan import MemoryPlan, Planner
from mmbeit3.analysis.simulation import tower_name
from mmbeit3.config.classes import resolve_classes
from mmbeit3.inference.pipeline import write_json
from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import make_folder


def report(
    cfg: Config,
    gpus: int = 1,
    memory: float | None = None,
    batch_size: int | None = None,
    size: tuple[int, int] | None = None,
    device: str = "cuda",
    measure: bool = False,
    json: Path | None = None,
) -> None:
    """Print what training by a config will need.

    Args:
        cfg (Config): The config; batch size and size of images are written into it.
        gpus (int): Devices. Defaults to 1.
        memory (float, optional): GiB of a device, to look for what fits. Defaults to None.
        batch_size (int, optional): Images on a device. Defaults to the config's.
        size (tuple[int, int], optional): Height and width of the images. Defaults to the config's.
        device (str): "cuda" or "cpu". Defaults to "cuda".
        measure (bool): Whether to train two steps, too. Defaults to False.
        json (Path, optional): Where to write the numbers. Defaults to None.

    Raises:
        InputError: The config or an argument cannot be used.
    """
    if memory is not None and memory <= 0:
        raise InputError(f"the memory is {memory:g} GiB; expected that of a device, such as 24")
    if tower_name(cfg.get("model") or {}) is None:
        raise InputError(
            "the plan is for models with a backbone or an encoder; this one is a "
            f"{(cfg.get('model') or {}).get('type')}: train two steps and look at the memory in "
            "the log"
        )
    if size:
        set_training_size(cfg, size)
    if batch_size is not None:
        cfg.train_dataloader.batch_size = batch_size
    if measure:
        _prepare_measuring(cfg, device)
    console = Console()
    with console.status("running a step of the model, without content"):
        planner = Planner(cfg, gpus, device)
        plan = planner.plan()
    print(f"{_heading(plan)}; all numbers in GiB (2^30 bytes)")  # rich would break the lines
    console.print(_parts_table(plan))
    console.print(_peak_table(plan))
    print(f"predicted peak: {plan.peak / GIB:.2f} GiB, {plan.fullest.place}")
    results: dict[str, Any] = {"plan": plan.to_dict()}
    if memory is not None:
        results["trials"] = _look_for_fitting(console, planner, round(memory * GIB))
    if measure:
        with console.status("training two steps"):
            results["measured"] = measured = measure_memory(cfg)
        table = _table("", "predicted", "measured", "predicted / measured")
        table.add_row("tensors", _gib(plan.peak), _gib(measured), f"{plan.peak / measured:.2f}")
        console.print(table)
    if json:
        make_folder(json.parent)
        write_json(json, results)
        print(f"the numbers are in {json}")


def _prepare_measuring(cfg: Config, device: str) -> None:
    here = "cuda" if torch.cuda.is_available() else "cpu"
    if device != here:
        raise InputError(f"measuring trains on this machine: device must be {here}, not {device}")
    cfg.optim_wrapper.accumulative_counts = 1
    for part in (tower_name(cfg.model), "image_tokenizer"):
        if cfg.model.get(part):
            cfg.model[part].init_cfg = None
    if cfg.model.get("init_cfg"):
        cfg.model.init_cfg = None
    if "encoder" not in cfg.model:
        resolve_classes(cfg)


def _look_for_fitting(console: Console, planner: Planner, available: int) -> list[dict[str, Any]]:
    tried = []
    with console.status("trying switches") as status:
        for trial in find_fitting(planner, available):
            tried.append(trial)
            status.update(f"trying switches, {len(tried)} combinations so far")
    print(f"with {available / GIB:g} GiB:")
    for trial in tried:
        fits = "fits   " if trial.fits else "too big"
        print(f"  {trial.plan.peak / GIB:8.2f} GiB  {fits}  {trial.switches}")
    print(in_words(tried, available))
    return [
        {"options": trial.options, "fits": trial.fits, **trial.plan.to_dict()} for trial in tried
    ]


def _heading(plan: MemoryPlan) -> str:
    settings = plan.settings
    height, width = settings.image_size
    words = [
        f"batch of {settings.batch_size} at {height} x {width}",
        settings.dtype,
        f"{settings.world_size} device{'s' * (settings.world_size > 1)} ({settings.device})",
        f"with_cp={settings.with_cp}",
    ]
    words += [f"accumulation of {settings.accumulation}"] * (settings.accumulation > 1)
    words += ["sharded"] * settings.sharded
    return ", ".join(words)


def _parts_table(plan: MemoryPlan) -> Table:
    """Parameters of the whole model and activations of a device, part by part."""
    table = _table("by part", "parameters", "activations")
    columns = plan.parameters, plan.activations
    for name, parts in _grouped(plan, columns):
        table.add_row(name, *(_gib(sum(sizes.get(part, 0) for part in parts)) for sizes in columns))
    table.add_section()
    table.add_row("together", *(_gib(sum(sizes.values())) for sizes in columns))
    return table


def _peak_table(plan: MemoryPlan) -> Table:
    """What is held at the fullest moment of each phase."""
    table = _table("fullest moment", *plan.moments)
    moments = plan.moments.values()
    for kind in dict.fromkeys(kind for moment in moments for kind in moment.kinds):
        table.add_row(kind, *(_gib(moment.kinds.get(kind, 0)) for moment in moments))
    table.add_section()
    table.add_row("together", *(_gib(moment.size) for moment in moments))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _grouped(plan: MemoryPlan, columns: Sequence[dict[str, int]]) -> list[tuple[str, list[str]]]:
    """Parts in the order of the model; layers of the backbone that take the same are one."""
    groups: list[tuple[str, list[str]]] = []
    before = None
    for part in dict.fromkeys((*columns[1], *columns[0])):
        sizes = tuple(column.get(part, 0) for column in columns)
        if part in plan.layers and sizes == before:
            parts = [*groups.pop()[1], part]
            last = part.rpartition(".")[2]
            groups.append((f"{parts[0]} to {last} ({len(parts)} layers)", parts))
        elif any(round(size / GIB, 3) for size in sizes):
            groups.append((part, [part]))
        before = sizes if part in plan.layers else None
    return groups


def _gib(size: int) -> str:
    return f"{size / GIB:.3f}" if size else ""
