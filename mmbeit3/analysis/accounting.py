"""Adds up what a training step holds on each device, under the settings of a training."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate

from mmbeit3.analysis.live_memory import CHECKPOINTED, GRADIENTS, TEMPORARIES, Change
from mmbeit3.analysis.simulation import ModelSizes, Step

# What a GPU takes beside tensors, not measured: the context of CUDA with the workspaces of cuBLAS,
# cuDNN and NCCL, and gaps between the blocks of torch's allocator.
CONTEXT = 2**30
GAPS = 0.05

PASSES = ("forward pass", "backward pass")
OPTIMISER_STEP = "optimiser step"
RESERVE = "reserve for the device"


@dataclass(frozen=True)
class Settings:
    """What the memory of a training depends on, beside the model.

    Attributes:
        batch_size: Images on a device in one pass.
        image_size: Their height and width in pixels.
        world_size: Devices.
        accumulation: Passes for one step of the optimiser.
        with_cp: Checkpointing of the backbone: False, True or "offload".
        sharded: Whether model and optimiser are divided among the devices.
        ema: Whether averaged weights are kept.
        buckets: Whether DDP holds the gradients once more, in buckets.
        dtype: Type of matrix products: "float32", "bfloat16" or "float16".
        device: "cuda" or "cpu".
    """

    batch_size: int
    image_size: tuple[int, int]
    world_size: int
    accumulation: int
    with_cp: bool | str
    sharded: bool
    ema: bool
    buckets: bool
    dtype: str
    device: str

    @property
    def share(self) -> float:
        """Part of model and optimiser that a device has."""
        return 1 / self.world_size if self.sharded else 1.0


@dataclass(frozen=True)
class Moment:
    """The fullest moment of a phase.

    Attributes:
        place: Where it is.
        kinds: Bytes of each kind.
    """

    place: str
    kinds: dict[str, int]

    @property
    def size(self) -> int:
        """All bytes."""
        return sum(self.kinds.values())


def fixed_memory(settings: Settings, sizes: ModelSizes) -> dict[str, int]:
    """What is held all the time, by kind."""
    trained = sum(sizes.trained.values())
    kinds = {
        "parameters": sum(sizes.parameters.values()) * settings.share,
        "buffers": sizes.buffers,
        "optimiser states": sizes.states * settings.share,
        "averaged weights": trained * settings.share * settings.ema,
        "gradient buckets": trained * settings.buckets,
    }
    return _present(kinds)


def moments(settings: Settings, sizes: ModelSizes, step: Step) -> dict[str, Moment]:
    """The fullest moment of each phase, reserve included."""
    accumulated = sum(sizes.trained.values()) * settings.share
    held = fixed_memory(settings, sizes) | {
        "gathered by sharding": gathered(sizes) if settings.sharded else 0,
        "accumulated gradients": accumulated if settings.accumulation > 1 else 0,
    }
    found = {
        name: _fullest(settings, step, name, span, held, sizes.layers)
        for name, span in zip(PASSES, (range(step.forward), _backward(step)), strict=True)
    }
    kinds = fixed_memory(settings, sizes) | {
        GRADIENTS: accumulated,
        TEMPORARIES: sizes.stepping * settings.share,
    }
    found[OPTIMISER_STEP] = Moment(OPTIMISER_STEP, _with_reserve(settings, kinds))
    return found


def activations(settings: Settings, step: Step) -> dict[str, int]:
    """What the forward pass leaves, by part."""
    parts: Counter[str] = Counter()
    for change in step.changes[: step.forward]:
        parts[change.part] += _counted(settings, change)
    return _present(parts)


def gathered(sizes: ModelSizes) -> int:
    """Bytes that a sharded model holds beside its shards, at most.

    All that is not a layer of the backbone is whole during a step; of the layers the one that runs
    and the next, and the gradients of one, twice while they are being summed up.
    """
    layers = {part: sizes.parameters[part] for part in sizes.layers}
    rest = sum(sizes.parameters.values()) - sum(layers.values())
    largest = max(layers, key=layers.__getitem__, default=None)
    return rest + (2 * layers[largest] + 2 * sizes.trained.get(largest, 0) if largest else 0)


def _backward(step: Step) -> range:
    return range(step.forward, len(step.changes))


def _fullest(
    settings: Settings,
    step: Step,
    phase: str,
    span: range,
    held: dict[str, float],
    layers: tuple[str, ...],
) -> Moment:
    sums = list(accumulate(_counted(settings, change, layers) for change in step.changes))
    index = max(span, key=sums.__getitem__, default=-1)
    kinds: Counter[str] = Counter(held)
    for change in step.changes[: index + 1]:
        kinds[change.kind] += _counted(settings, change, layers)
    return Moment(f"{phase}, {_place(step, index)}", _with_reserve(settings, kinds))


def _counted(settings: Settings, change: Change, layers: tuple[str, ...] = ()) -> float:
    """Bytes of a change that a device holds."""
    if change.kind == CHECKPOINTED and settings.with_cp == "offload":
        return 0 if settings.device == "cuda" else change.size
    if change.kind != GRADIENTS:
        return change.size
    is_layer = change.part in layers
    if settings.accumulation > 1 and not (settings.sharded and not is_layer):
        return 0  # added to those that are there
    return change.size * (settings.share if is_layer else 1)


def _place(step: Step, index: int) -> str:
    """Part of the model that was at work after so many changes."""
    if index < step.forward:
        return f"at {step.changes[index].part}"
    passed = [part for number, part in step.places.items() if number <= index + 1]
    return f"at {passed[-1]}" if passed else "at its start"


def _with_reserve(settings: Settings, kinds: dict[str, float]) -> dict[str, int]:
    reserve = CONTEXT + GAPS * sum(kinds.values()) if settings.device == "cuda" else 0
    return _present(dict(kinds) | {RESERVE: reserve})


def _present(kinds: dict[str, float] | Counter[str]) -> dict[str, int]:
    return {kind: round(size) for kind, size in kinds.items() if round(size)}
