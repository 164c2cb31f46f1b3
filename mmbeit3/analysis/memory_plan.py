"""How much memory training takes on each device: predicted from a config, without weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from mmengine.config import Config

from mmbeit3.analysis.image_size import training_size
from mmbeit3.analysis.live_memory import CHECKPOINTED, GRADIENTS, TEMPORARIES, Change
from mmbeit3.analysis.simulation import ModelSizes, Simulation, Step, computing_type, tower_name
from mmbeit3.config.devices import auto_accumulation, shards
from mmbeit3.utils import InputError

# What a GPU takes beside tensors, not measured: the context of CUDA with the workspaces of cuBLAS,
# cuDNN and NCCL, and gaps between the blocks of torch's allocator.
CONTEXT = 2**30
GAPS = 0.05


@dataclass(frozen=True)
class Settings:
    """What the memory of a training depends on, besides the model.

    Attributes:
        batch_size: Images on a device in one pass.
        image_size: Their height and width in pixels.
        world_size: Devices.
        accumulation: Passes for one step of the optimizer.
        with_cp: Checkpointing of the backbone: False, True or "offload".
        sharded: Whether model and optimizer are divided among the devices.
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
    def shard(self) -> float:
        """Part of model and optimizer that a device has."""
        return 1 / self.world_size if self.sharded else 1.0


@dataclass(frozen=True)
class Moment:
    """The fullest moment of a phase: where it is, and the bytes of each kind."""

    place: str
    kinds: dict[str, int]

    @property
    def size(self) -> int:
        """All bytes."""
        return sum(self.kinds.values())


@dataclass(frozen=True)
class MemoryPlan:
    """Predicted bytes on each device.

    Attributes:
        settings: What was asked for.
        fixed: What is held all the time, by kind: parameters, optimizer states and so on.
        parameters: Of the whole model, by part.
        activations: What the forward pass leaves for the backward pass, by part.
        moments: The fullest moment of forward pass, backward pass and optimizer step.
        layers: The parts that are repeated layers.
    """

    settings: Settings
    fixed: dict[str, int]
    parameters: dict[str, int]
    activations: dict[str, int]
    moments: dict[str, Moment]
    layers: tuple[str, ...]

    @property
    def fullest(self) -> Moment:
        """The moment that needs the most memory."""
        return max(self.moments.values(), key=lambda moment: moment.size)

    @property
    def peak(self) -> int:
        """Bytes that a device must have."""
        return self.fullest.size

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self) | {"peak": self.peak, "peak_at": self.fullest.place}


def plan_memory(
    cfg: Config, world_size: int = 1, batch_size: int | None = None, device: str = "cuda"
) -> MemoryPlan:
    """Predict the memory that training by a config takes on each device.

    One training step runs on tensors that have shapes and no content, which takes seconds and next
    to no memory. docs/memory.md says what that covers, and how near it comes.

    Args:
        cfg (Config): The config.
        world_size (int): Devices. Defaults to 1.
        batch_size (int, optional): Images on each of them. Defaults to the config's.
        device (str): "cuda", or "cpu", with the types that this processor has. Defaults to "cuda".

    Raises:
        InputError: The config cannot train, or its model cannot be followed.
    """
    return Planner(cfg, world_size, device).plan(batch_size)


class Planner:
    """Predicts the memory of a config under several settings.

    Args:
        cfg (Config): The config.
        world_size (int): Devices. Defaults to 1.
        device (str): "cuda" or "cpu". Defaults to "cuda".

    Raises:
        InputError: As :func:`plan_memory`.
    """

    def __init__(self, cfg: Config, world_size: int = 1, device: str = "cuda") -> None:
        absent = [key for key in ("model", "train_dataloader", "optim_wrapper") if not cfg.get(key)]
        if absent:
            raise InputError(f"the config cannot train: it has no {', '.join(absent)}")
        if world_size < 1:
            raise InputError(f"the number of devices is {world_size}; expected 1 or more")
        self.cfg, self.world_size, self.device = cfg, world_size, device
        self._steps: dict[tuple[int, bool], Step] = {}
        with _followed():
            self.image_size = training_size(cfg)
            self._simulation = Simulation(cfg, device)
            self._sizes = self._simulation.sizes()

    def plan(self, batch_size: int | None = None, **switches: Any) -> MemoryPlan:
        """Predict.

        Args:
            batch_size (int, optional): Images on a device; the whole batch stays that of the
                config, by accumulation. Defaults to the config's.
            **switches (Any): ``with_cp`` and ``sharded`` that differ from the config.
        """
        settings = self._settings(batch_size, **switches)
        key = settings.batch_size, bool(settings.with_cp)
        with _followed():
            if key not in self._steps:
                self._steps[key] = self._simulation.step(key[0], self.image_size, key[1])
        return add_up(settings, self._sizes, self._steps[key])

    def _settings(
        self,
        batch_size: int | None = None,
        with_cp: bool | str | None = None,
        sharded: bool | None = None,
    ) -> Settings:
        wrapper = self.cfg.get("model_wrapper_cfg") or {}
        if sharded is None:
            sharded = shards(wrapper)
        if with_cp is None:
            towers = tower_name(self.cfg.model)
            with_cp = towers is not None and self.cfg.model[towers].get("with_cp", False)
        if batch_size is None:
            batch_size = self.cfg.train_dataloader.batch_size
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}; expected 1 or more")
        hooks = self.cfg.get("custom_hooks") or ()
        many = self.world_size > 1
        return Settings(
            batch_size=batch_size,
            image_size=self.image_size,
            world_size=self.world_size,
            accumulation=accumulation(self.cfg, batch_size, self.world_size),
            with_cp=with_cp,
            sharded=sharded and many,
            ema=any("EMAHook" in str(hook.get("type")) for hook in hooks),
            buckets=many and not sharded and not wrapper.get("gradient_as_bucket_view"),
            dtype=str(computing_type(self.cfg, self.device)).removeprefix("torch."),
            device=self.device,
        )


def accumulation(cfg: Config, batch_size: int, world_size: int) -> int:
    """Passes for one step of the optimizer, so that the whole batch is what the config trains with.

    ``accumulative_counts="auto"`` means the batch of ``auto_scale_lr``; a number, that number for
    the config's own batch size.
    """
    counts = cfg.optim_wrapper.get("accumulative_counts", 1)
    if counts == "auto":
        return auto_accumulation(cfg, world_size * batch_size) or 1
    return max(round(cfg.train_dataloader.batch_size * counts / batch_size), 1)


def add_up(settings: Settings, sizes: ModelSizes, step: Step) -> MemoryPlan:
    """Add up what a training step holds on a device, under the settings of a training."""
    shard, trained = settings.shard, sum(sizes.trained.values())
    fixed: dict[str, float] = {
        "parameters": sum(sizes.parameters.values()) * shard,
        "buffers": sizes.buffers,
        "optimizer states": sizes.states * shard,
        "averaged weights": trained * shard * settings.ema,
        "gradient buckets": trained * settings.buckets,
    }
    passing = fixed | {
        "gathered by sharding": _gathered(sizes) * settings.sharded,
        "accumulated gradients": trained * shard * (settings.accumulation > 1),
    }
    changes = [
        change._replace(size=_held(settings, change, change.part in sizes.layers))
        for change in step.changes
    ]
    sums = list(accumulate(change.size for change in changes))
    moments = {}
    for phase, span in (
        ("forward pass", range(step.forward)),
        ("backward pass", range(step.forward, len(changes))),
    ):
        index = max(span, key=sums.__getitem__, default=-1)
        kinds: dict[str, float] = defaultdict(float, passing)
        for change in changes[: index + 1]:
            kinds[change.kind] += change.size
        place = f"{phase}, at {_part_at_work(step, index)}"
        moments[phase] = Moment(place, _with_reserve(settings, kinds))
    kinds = fixed | {GRADIENTS: trained * shard, TEMPORARIES: sizes.stepping * shard}
    moments["optimizer step"] = Moment("optimizer step", _with_reserve(settings, kinds))
    activations: dict[str, float] = defaultdict(float)
    for change in changes[: step.forward]:
        activations[change.part] += change.size
    return MemoryPlan(
        settings=settings,
        fixed=_present(fixed),
        parameters=sizes.parameters,
        activations=_present(activations),
        moments=moments,
        layers=sizes.layers,
    )


def _gathered(sizes: ModelSizes) -> int:
    """Bytes that a sharded model holds besides its shards, at most.

    All that is not a layer of the backbone is whole during a step; of the layers the one that runs
    and the next, and the gradients of one, twice while they are being summed up.
    """
    layers = {part: sizes.parameters[part] for part in sizes.layers}
    rest = sum(sizes.parameters.values()) - sum(layers.values())
    largest = max(layers, key=layers.__getitem__, default=None)
    return rest + (2 * layers[largest] + 2 * sizes.trained.get(largest, 0) if largest else 0)


def _held(settings: Settings, change: Change, is_layer: bool) -> float:
    """Bytes of a change that a device holds."""
    if change.kind == CHECKPOINTED and settings.with_cp == "offload":
        return 0 if settings.device == "cuda" else change.size
    if change.kind != GRADIENTS:
        return change.size
    if settings.accumulation > 1 and not (settings.sharded and not is_layer):
        return 0  # added to those that are there
    return change.size * (settings.shard if is_layer else 1)


def _part_at_work(step: Step, index: int) -> str:
    """Part of the model that a change is of; in the backward pass, whose gradients came last."""
    if index < step.forward:
        return step.changes[index].part
    arrived = [change.part for change in step.changes[: index + 1] if change.kind == GRADIENTS]
    return arrived[-1] if arrived else "the losses"


def _with_reserve(settings: Settings, kinds: dict[str, float]) -> dict[str, int]:
    reserve = CONTEXT + GAPS * sum(kinds.values()) if settings.device == "cuda" else 0
    return _present(dict(kinds) | {"reserve for the device": reserve})


def _present(kinds: dict[str, float]) -> dict[str, int]:
    return {kind: round(size) for kind, size in kinds.items() if round(size)}


@contextmanager
def _followed() -> Iterator[None]:
    """Say of every error that the config is of a kind that the plan cannot follow."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the memory plan cannot follow this config: {type(error).__name__}: {error}"
        ) from error
