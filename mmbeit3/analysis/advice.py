"""Which switches make a training fit into the memory that there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from mmengine.config import Config

from mmbeit3.analysis.memory_plan import MemoryPlan, Planner
from mmbeit3.utils import InputError

GIB = 2**30
SHARDING = "mmbeit3.FullySharded"


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
    cfg = planner.cfg
    own = planner.plan()
    yield Trial({}, own, own.peak <= available_bytes)
    for with_cp, sharded in _combinations(own):
        plan = _largest(planner, available_bytes, with_cp, sharded)
        options = _options(cfg, own, plan)
        if options:
            yield Trial(options, plan, plan.peak <= available_bytes)


def in_words(tried: list[Trial], available_bytes: int) -> str:
    """The outcome of trials, the config as it is first."""
    as_is = tried[0].plan
    have = f"{available_bytes / GIB:.1f} GiB"
    lines = [
        f"memory plan: {as_is.peak / GIB:.1f} GiB predicted for {_described(as_is)} (fullest: "
        f"{as_is.fullest.place}); a device has {have}"
    ]
    fitting = next((trial for trial in tried if trial.fits and trial.options), None)
    if fitting:
        lines += [f"this is predicted to take {fitting.plan.peak / GIB:.1f} GiB:"]
        lines += [f"  --cfg-options {as_options(fitting.options)}"]
    else:
        least = min(tried, key=lambda trial: trial.plan.peak)
        lines += [
            f"no switch makes it fit; the least is {least.plan.peak / GIB:.1f} GiB with "
            f"{as_options(least.options) or 'the config as it is'}. Use smaller images, a smaller "
            "model, more devices to shard over, or devices with more memory"
        ]
    return "\n".join(lines)


def as_options(options: dict[str, Any]) -> str:
    """Options as ``--cfg-options`` takes them."""
    return " ".join(f"{key}={value}" for key, value in options.items())


def _described(plan: MemoryPlan) -> str:
    settings = plan.settings
    height, width = settings.image_size
    images = "image" if settings.batch_size == 1 else "images"
    return f"{settings.batch_size} {images} of {height} x {width} in {settings.dtype}"


def _combinations(own: MemoryPlan) -> Iterator[tuple[bool | str, bool]]:
    """Checkpointing and sharding, none of them less than the config has."""
    order = [False, True, "offload"]
    settings = own.settings
    stages = order[order.index(settings.with_cp) :] if settings.with_cp in order else [False]
    many = settings.world_size > 1
    shardings = [True] if settings.sharded else [False, True] if many else [False]
    recomputed = [stage for stage in stages if stage != "offload"]
    for sharded in shardings:
        yield from ((stage, sharded) for stage in recomputed)
    if "offload" in stages:
        yield from (("offload", sharded) for sharded in shardings)


def _largest(
    planner: Planner, available_bytes: int, with_cp: bool | str, sharded: bool
) -> MemoryPlan:
    """The plan of the largest batch that fits, or of one image."""
    own = planner.cfg.train_dataloader.batch_size
    batches = [size for size in range(1, own + 1) if own % size == 0]
    plans = [planner.plan(size, with_cp=with_cp, sharded=sharded) for size in batches[:2]]
    if len(plans) == 1 or plans[1].peak > available_bytes:
        return plans[0]
    # Beyond that memory grows with the batch: a line says where to look.
    slope = (plans[1].peak - plans[0].peak) / (batches[1] - batches[0])
    guess = batches[0] + (available_bytes - plans[0].peak) / max(slope, 1)
    for size in reversed([size for size in batches[2:] if size <= guess * 1.05]):
        plan = planner.plan(size, with_cp=with_cp, sharded=sharded)
        if plan.peak <= available_bytes:
            return plan
    return plans[1]


def _options(cfg: Config, own: MemoryPlan, plan: MemoryPlan) -> dict[str, Any]:
    before, after = own.settings, plan.settings
    options: dict[str, Any] = {}
    if after.batch_size != before.batch_size:
        options["train_dataloader.batch_size"] = after.batch_size
        if cfg.optim_wrapper.get("accumulative_counts") != "auto":
            options["optim_wrapper.accumulative_counts"] = after.accumulation
    if after.with_cp != before.with_cp:
        options["model.backbone.with_cp"] = after.with_cp
    if after.sharded != before.sharded:
        options["model_wrapper_cfg.type"] = SHARDING
    return options


def check_memory(size: float) -> int:
    """Bytes of ``size`` GiB.

    Raises:
        InputError: There is none.
    """
    if size <= 0:
        raise InputError(f"--memory is {size:g}; expected the GiB of a device, such as 24")
    return round(size * GIB)
