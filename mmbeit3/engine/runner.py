"""mmengine's Runner with this project's reading of checkpoints.

mmengine loads with ``strict=False`` everywhere: a checkpoint of another model passes with a
warning, and resuming or testing continues on random weights. It also lets a checkpoint run code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from torch import nn

from mmbeit3.checkpoint import load_weights, read_checkpoint, state_dict_of
from mmbeit3.utils import InputError

RESUME_KEYS = ("meta", "message_hub", "optimizer")


class Runner(MMEngineRunner):
    """As ``mmengine.runner.Runner``, but a checkpoint must be of this model.

    Resuming, validation and testing ask for the same weights, name by name and shape by shape.
    ``load_from`` for training (fine-tuning) loads what fits and logs what does not. Files are
    read by :func:`mmbeit3.checkpoint.read_checkpoint`, which runs none of their code.
    """

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = "cpu",
        strict: bool = False,
        revise_keys: list | None = None,
    ) -> dict[str, Any]:
        """Load the weights of a file into the model.

        Args:
            filename: The checkpoint.
            map_location: Not used: the file is read on the CPU, and the weights go to wherever
                the model is.
            strict: Whether every weight must fit even for fine-tuning. Defaults to False.
            revise_keys: Not used: the prefix of a DDP wrapper is always taken off.

        Returns:
            The checkpoint's content, its weights under ``state_dict``.

        Raises:
            InputError: The file cannot be read, or is of another model.
        """
        checkpoint = read_checkpoint(filename)
        if self._resume:
            _check_resumable(checkpoint, filename)
        checkpoint["state_dict"] = state_dict_of(checkpoint)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model = without_wrappers(self.model)
        fine_tuning = isinstance(self._train_loop, BaseLoop) and not self._resume
        load_weights(model, checkpoint, strict or not fine_tuning, self.logger, str(filename))
        self._has_loaded = True
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on with the training that wrote ``filename``; arguments as mmengine's."""
        self._resume = True
        super().resume(filename, *args, **kwargs)


def build_runner(cfg: Config) -> MMEngineRunner:
    """Build this project's Runner, or the one that the config names by ``runner_type``."""
    if "runner_type" in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def without_wrappers(model: nn.Module) -> nn.Module:
    """Take off what distributed running and test-time augmentation put around a model."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _check_resumable(checkpoint: dict[str, Any], filename: str) -> None:
    absent = [key for key in RESUME_KEYS if key not in checkpoint]
    if absent:
        raise InputError(
            f"{filename} cannot be resumed: it has no {', '.join(absent)}, only "
            f"{', '.join(map(str, list(checkpoint)[:8]))}. To start training from its weights, "
            "set load_from to it and leave --resume out"
        )
