"""Which switches make a training fit into the memory that there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from mmengine.config import Config

from mmbeit3.analysis.memory_plan import MemoryPlan, Planner
from mmbeit3.analysis.simulation import tower_name

GIB = 2**30


class Trial(NamedTuple):
    """What was tried.

    Attributes:
        options: What to change in the config, by dotted key; nothing for the config as it is.
        plan: What it takes then.
        fits: Whether that is no more than there is.
    """

    options: dict[str, Any]
    plan: MemoryPlan
    fits: bool

    @property
    def switches(self) -> str:
        """The options as they are pasted on a command line."""
        pairs = " ".join(f"{key}={value}" for key, value in self.options.items())
        return f"--cfg-options {pairs}" if pairs else "the config as it is"


def advise(cfg: Config, available_bytes: int, world_size: int = 1) -> str:
    """Say in a few lines what to change in a config so that its training fits.

    Args:
        cfg (Config): The config.
        available_bytes (int): Memory of a device.
        world_size (int): Devices. Defaults to 1.

    Raises:
        InputError: The config cannot be followed.
    """
    tried = []
    for trial in find_fitting(Planner(cfg, world_size), available_bytes):
        tried.append(trial)
        if trial.fits and trial.options:
            break
    return in_words(tried, available_bytes)


def find_fitting(planner: Planner, available_bytes: int) -> Iterator[Trial]:
    """Try the config as it is, then combinations of switches from the cheapest on.

    Of each combination it is the largest batch that fits, or a single image if none does: fewer
    images at a time with accumulation cost next to nothing, checkpointing a third more time,
    sharding what the devices send each other, offloading the way to the CPU's memory and back.

    Args:
        planner (Planner): Of the config.
        available_bytes (int): Memory of a device.

    Yields:
        Trial: One for each combination.
    """
    own = planner.plan()
    yield Trial({}, own, own.peak <= available_bytes)
    for with_cp, sharded in _combinations(own):
        plan = _largest(planner, available_bytes, with_cp, sharded)
        options = _options(planner.cfg, own, plan)
        if options:
            yield Trial(options, plan, plan.peak <= available_bytes)


def in_words(tried: list[Trial], available_bytes: int) -> str:
    """The outcome of trials, the config as it is first."""
    plan = tried[0].plan
    images, (height, width) = plan.settings.batch_size, plan.settings.image_size
    line = (
        f"memory plan: {plan.peak / GIB:.1f} GiB predicted for {images} "
        f"image{'s' * (images > 1)} of {height} x {width} in {plan.settings.dtype} (fullest: "
        f"{plan.fullest.place}); a device has {available_bytes / GIB:.1f} GiB"
    )
    fitting = next((trial for trial in tried if trial.fits and trial.options), None)
    if fitting:
        peak = fitting.plan.peak / GIB
        return f"{line}\nthis is predicted to take {peak:.1f} GiB:\n  {fitting.switches}"
    least = min(tried, key=lambda trial: trial.plan.peak)
    return (
        f"{line}\nno switch makes it fit; the least is {least.plan.peak / GIB:.1f} GiB with "
        f"{least.switches}. Use smaller images, a smaller model, more devices to shard over, or "
        "devices with more memory"
    )


def _combinations(own: MemoryPlan) -> Iterator[tuple[bool | str, bool]]:
    """Checkpointing and sharding, none of them less than the config has; offloading comes last."""
    order: list[bool | str] = [False, True, "offload"]
    settings = own.settings
    stages = order[order.index(settings.with_cp) :] if settings.with_cp in order else [False]
    shardings = [True] if settings.sharded else [False, True][: min(settings.world_size, 2)]
    pairs = [(stage, sharded) for sharded in shardings for stage in stages]
    yield from sorted(pairs, key=lambda pair: pair[0] == "offload")


def _largest(
    planner: Planner, available_bytes: int, with_cp: bool | str, sharded: bool
) -> MemoryPlan:
    """The plan of the largest batch that fits, or of one image."""
    own = planner.cfg.train_dataloader.batch_size
    best = planner.plan(1, with_cp=with_cp, sharded=sharded)
    for size in (size for size in range(2, own + 1) if own % size == 0):
        plan = planner.plan(size, with_cp=with_cp, sharded=sharded)
        if plan.peak > available_bytes:
            break
        best = plan
    return best


def _options(cfg: Config, own: MemoryPlan, plan: MemoryPlan) -> dict[str, Any]:
    before, after = own.settings, plan.settings
    options: dict[str, Any] = {}
    if after.batch_size != before.batch_size:
        options["train_dataloader.batch_size"] = after.batch_size
        if cfg.optim_wrapper.get("accumulative_counts") != "auto":
            options["optim_wrapper.accumulative_counts"] = after.accumulation
    if after.with_cp != before.with_cp:
        options[f"model.{tower_name(cfg.model)}.with_cp"] = after.with_cp
    if after.sharded != before.sharded:
        options["model_wrapper_cfg.type"] = "mmbeit3.FullySharded"
    return options
