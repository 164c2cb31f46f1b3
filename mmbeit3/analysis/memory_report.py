"""Memory plans as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from mmbeit3.analysis.advice import GIB, Trial, as_options
from mmbeit3.analysis.memory_plan import MemoryPlan


def heading(plan: MemoryPlan) -> str:
    """What a plan is for, in a line."""
    settings = plan.settings
    height, width = settings.image_size
    words = [
        f"batch of {settings.batch_size} at {height} x {width}",
        settings.dtype,
        f"{settings.world_size} device{'s' if settings.world_size > 1 else ''} ({settings.device})",
        f"with_cp={settings.with_cp}",
    ]
    words += [f"accumulation of {settings.accumulation}"] if settings.accumulation > 1 else []
    words += ["sharded"] if settings.sharded else []
    return ", ".join(words)


def parts_table(plan: MemoryPlan) -> Table:
    """Parameters of the whole model and activations of a device, part by part."""
    table = _table("by part", "parameters", "activations")
    for name, parts in _grouped(plan):
        row = (sum(sizes.get(part, 0) for part in parts) for sizes in _columns(plan))
        table.add_row(name, *map(_gib, row))
    table.add_section()
    table.add_row("together", *(_gib(sum(sizes.values())) for sizes in _columns(plan)))
    return table


def peak_table(plan: MemoryPlan) -> Table:
    """What is held at the fullest moment of each phase."""
    table = _table("fullest moment", *plan.moments)
    kinds = dict.fromkeys(kind for moment in plan.moments.values() for kind in moment.kinds)
    for kind in kinds:
        table.add_row(kind, *(_gib(moment.kinds.get(kind, 0)) for moment in plan.moments.values()))
    table.add_section()
    table.add_row("together", *(_gib(moment.size) for moment in plan.moments.values()))
    return table


def trials_lines(tried: Iterable[Trial], available_bytes: int) -> str:
    """Switches as they are pasted, what they take, and whether that fits."""
    lines = [f"with {available_bytes / GIB:g} GiB:"]
    for trial in tried:
        fits = "fits   " if trial.fits else "too big"
        options = as_options(trial.options)
        name = f"--cfg-options {options}" if options else "the config as it is"
        lines.append(f"  {trial.plan.peak / GIB:8.2f} GiB  {fits}  {name}")
    return "\n".join(lines)


def measured_table(plan: MemoryPlan, measured: int) -> Table:
    """The prediction beside the measurement."""
    table = _table("", "predicted", "measured", "predicted / measured")
    ratio = f"{plan.peak / measured:.2f}"
    table.add_row("tensors", _gib(plan.peak), _gib(measured), ratio)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _columns(plan: MemoryPlan) -> tuple[dict[str, int], dict[str, int]]:
    return plan.parameters, plan.activations


def _grouped(plan: MemoryPlan) -> list[tuple[str, Sequence[str]]]:
    """Parts in the order of the model; layers of the backbone that take the same are one."""
    groups: list[tuple[str, list[str]]] = []
    before = None
    for part in dict.fromkeys((*plan.activations, *plan.parameters)):
        sizes = tuple(column.get(part, 0) for column in _columns(plan))
        if part in plan.layers and sizes == before:
            first = groups[-1][1][0]
            groups[-1][1].append(part)
            count = f"{first} to {part.rpartition('.')[2]} ({len(groups[-1][1])} layers)"
            groups[-1] = (count, groups[-1][1])
        elif any(round(size / GIB, 3) for size in sizes):
            groups.append((part, [part]))
        before = sizes if part in plan.layers else None
    return groups


def _gib(size: int) -> str:
    return f"{size / GIB:.3f}" if size else ""
