"""How much memory training takes on each device: predicted from a config, without weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from mmengine.config import Config

from mmbeit3.analysis.accounting import Moment, Settings, activations, fixed_memory, moments
from mmbeit3.analysis.image_size import training_size
from mmbeit3.analysis.simulation import Simulation, Step, computing_type
from mmbeit3.engine.prepare import auto_accumulation
from mmbeit3.engine.sharding import divides
from mmbeit3.utils import InputError


@dataclass(frozen=True)
class MemoryPlan:
    """Predicted bytes on each device.

    Attributes:
        settings: What was asked for.
        fixed: What is held all the time, by kind: parameters, optimiser states and so on.
        parameters: Of the whole model, by part.
        activations: What the forward pass leaves for the backward pass, by part.
        moments: The fullest moment of forward pass, backward pass and optimiser step.
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
        device (str): "cuda", or "cpu", where training is in float32. Defaults to "cuda".

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
        with _followed():
            step = self._step(settings)
            return MemoryPlan(
                settings=settings,
                fixed=fixed_memory(settings, self._sizes),
                parameters=self._sizes.parameters,
                activations=activations(settings, step),
                moments=moments(settings, self._sizes, step),
                layers=self._sizes.layers,
            )

    def _step(self, settings: Settings) -> Step:
        key = settings.batch_size, bool(settings.with_cp)
        if key not in self._steps:
            self._steps[key] = self._simulation.step(key[0], self.image_size, key[1])
        return self._steps[key]

    def _settings(
        self,
        batch_size: int | None = None,
        with_cp: bool | str | None = None,
        sharded: bool | None = None,
    ) -> Settings:
        wrapper = self.cfg.get("model_wrapper_cfg") or {}
        if sharded is None:
            sharded = divides(wrapper)
        if with_cp is None:
            with_cp = (self.cfg.model.get("backbone") or {}).get("with_cp", False)
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
    """Passes for one step of the optimiser, so that the whole batch is what the config trains with.

    ``accumulative_counts="auto"`` means the batch of ``auto_scale_lr``; a number, that number for
    the config's own batch size.
    """
    counts = cfg.optim_wrapper.get("accumulative_counts", 1)
    if counts == "auto":
        return auto_accumulation(cfg, world_size * batch_size) or 1
    return max(round(cfg.train_dataloader.batch_size * counts / batch_size), 1)


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
