"""mmengine's Runner, with this project's training loop, checkpoints and reading of weights.

mmengine loads with ``strict=False`` everywhere: a checkpoint of another model passes with a
warning, and resuming or testing continues on random weights. It also lets a checkpoint run code,
and overwrites the last good one in place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_distributed, is_main_process
from mmengine.model import (
    BaseTTAModel,
    MMDistributedDataParallel,
    is_model_wrapper,
    revert_sync_batchnorm,
)
from mmengine.optim import OptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from torch import nn
from torch.utils.data import DataLoader

from mmbeit3.checkpoint import load_weights, read_checkpoint, save_checkpoint, state_dict_of
from mmbeit3.checkpoint.sharded import whole
from mmbeit3.checkpoint.strict_loading import partial_loading
from mmbeit3.engine.checkpoint_hook import CheckpointHook
from mmbeit3.engine.data_workers import start_worker
from mmbeit3.engine.distributed import init_distributed
from mmbeit3.engine.randomness import Stream, seed_generators
from mmbeit3.engine.record_hook import TrainingRecordHook
from mmbeit3.engine.sharding import GatheringHook, divide, divides, shard_optimizer_state
from mmbeit3.engine.train_loop import TrainLoop, build_train_loader
from mmbeit3.utils import InputError

RESUME_KEYS = ("meta", "message_hub", "optimizer")


class Runner(MMEngineRunner):
    """As ``mmengine.runner.Runner``, but a checkpoint must be of this model, and none is lost.

    Resuming, validation and testing ask for the same weights, name by name and shape by shape.
    ``load_from`` for training (fine-tuning) loads what fits and logs what does not. Files are
    read by :func:`mmbeit3.checkpoint.read_checkpoint`, which runs none of their code.

    Three of mmengine's types stand for this project's, so that any config gets them:
    ``IterBasedTrainLoop`` for :class:`mmbeit3.engine.train_loop.TrainLoop`, ``InfiniteSampler`` for
    :class:`mmbeit3.engine.data_order.MicroBatchSampler`, and ``CheckpointHook`` for
    :class:`mmbeit3.engine.checkpoint_hook.CheckpointHook`. Together they make a resumed training
    end with the weights of one that was never interrupted.
    """

    def setup_env(self, env_cfg: dict) -> None:
        """Start the communication of the processes, on the CPU by gloo; the rest as mmengine."""
        if self.distributed and not is_distributed():
            init_distributed(self.launcher, **env_cfg.get("dist_cfg", {}))
        super().setup_env(env_cfg)

    def set_randomness(
        self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """Seed as mmengine does, alike in all processes.

        ``diff_rank_seed`` is not used: in training, processes draw different numbers anyway.
        """
        super().set_randomness(seed, deterministic=deterministic)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build a model, and refuse heads of other strides than its maps."""
        from mmbeit3.models.strides import check_strides  # brings mmdet, which not all models need

        model = super().build_model(model)
        check_strides(model)
        return model

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap a model for several processes: by DDP, or as ``model_wrapper_cfg`` says."""
        self._shards = self.distributed and divides(model_wrapper_cfg)
        if not self.distributed:
            if divides(model_wrapper_cfg):
                self.logger.info("one process: mmbeit3.FullySharded has nothing to divide")
            return super().wrap_model(None, model)
        if get_device() == "cpu":
            model = revert_sync_batchnorm(model)
        # Weights that are divided can no longer be drawn, nor loaded, as whole ones.
        if self._shards and self._train_dataloader is not None:
            seed_generators(self.seed, Stream.WEIGHTS, 0)
            model.init_weights()
        if model_wrapper_cfg is None and get_device() == "cpu":
            return MMDistributedDataParallel(  # mmengine's call is for a GPU
                module=model,
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get("find_unused_parameters", False),
            )
        return super().wrap_model(model_wrapper_cfg, model)

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: Any = None) -> None:
        """Register the config's hooks, and those that belong to this Runner."""
        hooks = dict(default_hooks or {})
        entry = hooks.setdefault("checkpoint", dict(type="CheckpointHook"))
        if isinstance(entry, dict) and entry.get("type") == "CheckpointHook":
            hooks["checkpoint"] = dict(entry, type="mmbeit3.CheckpointHook")
        super().register_hooks(hooks, custom_hooks)
        if self._train_dataloader is not None:
            self.register_hook(TrainingRecordHook())
        if self._shards:
            self.register_hook(GatheringHook())

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop; the class says which one."""
        if not isinstance(loop, dict) or loop.get("type") != "IterBasedTrainLoop":
            return super().build_train_loop(loop)
        options = {key: value for key, value in loop.items() if key != "type"}
        counts = 1
        if isinstance(self.optim_wrapper, dict):
            counts = self.optim_wrapper.pop("accumulative_counts", 1)
        if isinstance(self._train_dataloader, dict):
            self._train_dataloader = build_train_loader(
                self.build_dataloader, self._train_dataloader, self.seed
            )
        return TrainLoop(self, self._train_dataloader, **options, accumulative_counts=counts)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader whose workers end with this process; arguments as mmengine's."""
        loader = MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)
        loader.worker_init_fn = partial(start_worker, loader.worker_init_fn, os.getpid())
        return loader

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scale the learning rates by images a step over the recipe's, if the config says so."""
        if not (auto_scale_lr or {}).get("enable"):
            return
        images, recipe = self.images_per_step, auto_scale_lr["base_batch_size"]
        for group in optim_wrapper.param_groups:
            group["lr"] *= images / recipe
        self.logger.info(
            f"learning rates times {images / recipe:g}: {images} images a step, not {recipe}"
        )

    @property
    def images_per_step(self) -> int:
        """int: Images of one optimiser step, over all processes."""
        loader = self._train_dataloader
        loader = loader.batch_sampler if isinstance(loader, DataLoader) else loader
        size = loader["batch_size"] if isinstance(loader, dict) else loader.batch_size
        return size * get_world_size() * getattr(self.train_loop, "accumulative_counts", 1)

    def saved(self) -> str:
        """Say which checkpoint is the last one, for messages about an end."""
        hook = self._checkpoint_hook()
        if hook is None or not hook.last_ckpt:
            return "no checkpoint has been written"
        return f"the last good checkpoint is {hook.last_ckpt}; --resume goes on from it"

    def save_now(self, step: int) -> None:
        """Write a checkpoint after ``step`` iterations, unless it is there."""
        hook = self._checkpoint_hook()
        if hook is not None and step:
            hook.save(self, step)

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Write a checkpoint whole or not at all; sharded tensors are put together first.

        Args:
            out_dir: The folder, of this machine.
            filename: The file's name.
            file_client_args: Not used.
            save_optimizer: Whether to keep the optimiser's state. Defaults to True.
            save_param_scheduler: Whether to keep the schedules' state. Defaults to True.
            meta: What to keep beside it under ``meta``. Defaults to None.
            by_epoch: Whether epochs are counted. Defaults to True.
            backend_args: Not used.

        Raises:
            InputError: The file cannot be written; an older one of this name is as it was.
        """
        if not self._shards and not is_main_process():
            return
        if self._shards:
            divide(self.model)  # a validation may have been left
        checkpoint = {
            "meta": self._meta(meta or {}, by_epoch),
            "state_dict": whole(without_wrappers(self.model).state_dict()),
            "message_hub": whole(self.message_hub.state_dict()),
        }
        if save_optimizer:
            checkpoint["optimizer"] = whole(self.optim_wrapper.state_dict())
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint["param_schedulers"] = [each.state_dict() for each in self.param_schedulers]
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        if is_main_process():
            save_checkpoint(checkpoint, Path(out_dir) / filename)

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
        fine_tuning = isinstance(self._train_loop, BaseLoop) and not self._resume
        with partial_loading():  # mmengine's EMAHook loads the same weights into its average
            self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model = without_wrappers(self.model)
        load_weights(model, checkpoint, strict or not fine_tuning, self.logger, str(filename))
        if self._resume and self._shards:
            shard_optimizer_state(checkpoint["optimizer"], self.optim_wrapper.optimizer)
        self._has_loaded = True
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on with the training that wrote ``filename``; arguments as mmengine's."""
        self._resume = True
        super().resume(filename, *args, **kwargs)

    def _meta(self, meta: dict[str, Any], by_epoch: bool) -> dict[str, Any]:
        defaults = {"epoch": self.epoch + by_epoch, "iter": self.iter + (not by_epoch)}
        found = {
            "cfg": self._config_text,
            "seed": self.seed,
            "experiment_name": self.experiment_name,
            "time": time.strftime("%Y%m%d_%H%M%S", time.localtime()),
            "mmengine_version": mmengine.__version__,
        }
        dataset = self.train_dataloader.dataset
        if hasattr(dataset, "metainfo"):
            found["dataset_meta"] = dataset.metainfo
        return defaults | meta | found

    @cached_property
    def _config_text(self) -> str:
        return self.cfg.pretty_text  # takes a second, and would at every checkpoint

    def _checkpoint_hook(self) -> CheckpointHook | None:
        return next((hook for hook in self.hooks if isinstance(hook, CheckpointHook)), None)

    def _init_model_weights(self) -> None:
        if not self._shards:  # those were drawn before they were divided
            seed_generators(self.seed, Stream.WEIGHTS, 0)
            super()._init_model_weights()


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
