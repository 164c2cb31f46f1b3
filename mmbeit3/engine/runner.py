"""mmengine's Runner, with this project's training loop, checkpoints and reading of weights.

mmengine loads with ``strict=False`` everywhere: a checkpoint of another model passes with a
warning, and resuming or testing continues on random weights. It also lets a checkpoint run code,
and overwrites the last good one in place.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_distributed, is_main_process
from mmengine.logging import MMLogger
from mmengine.model import (
    BaseTTAModel,
    MMDistributedDataParallel,
    is_model_wrapper,
    revert_sync_batchnorm,
)
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, LogProcessor
from mmengine.runner import Runner as MMEngineRunner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from mmbeit3.checkpoint import (
    load_safely,
    load_weights,
    read_checkpoint,
    save_checkpoint,
    state_dict_of,
)
from mmbeit3.checkpoint.reading import RESUME_KEYS
from mmbeit3.checkpoint.sharded import whole
from mmbeit3.checkpoint.strict_loading import partial_loading
from mmbeit3.config.devices import shards
from mmbeit3.config.dump import dump_text
from mmbeit3.engine.checkpoint_hook import CheckpointHook, find_checkpoint
from mmbeit3.engine.data_order import with_positions
from mmbeit3.engine.data_workers import WorkerLoader
from mmbeit3.engine.distributed import init_distributed
from mmbeit3.engine.ema import averages, trained_weights
from mmbeit3.engine.free_memory import FreeMemoryHook
from mmbeit3.engine.log_files import guard_hook, guard_logger, guard_visualizer, say_unwritten
from mmbeit3.engine.loop_checks import (
    check_ends,
    check_train_loop,
    counts_epochs,
    iterations_per_epoch,
)
from mmbeit3.engine.prepare import (
    Plan,
    check_data,
    fit_classes,
    prepare,
    warn_of_random_backbone,
)
from mmbeit3.engine.process_state import determinism, make_current, set_determinism
from mmbeit3.engine.progress_hook import ProgressHook
from mmbeit3.engine.randomness import Stream, generators_kept, seed_generators
from mmbeit3.engine.record_hook import TrainingRecordHook
from mmbeit3.engine.resuming import (
    SETTINGS,
    compare_frozen,
    digest_data,
    plan_resuming,
    restore_optimizer,
    schedule_state,
    training_settings,
)
from mmbeit3.engine.sharding import GatheringHook, divide, shard_optimizer_state
from mmbeit3.engine.state_checks import check_training_state, damaged_state
from mmbeit3.registry import RUNNERS
from mmbeit3.utils import InputError
from mmbeit3.utils.collective import broadcast_from_rank0, run_on_all_ranks
from mmbeit3.utils.folder_lock import folder_locked
from mmbeit3.utils.lora import add_lora, merge_lora, part_lora
from mmbeit3.utils.terminal import ignore_library_warnings, shorten
from mmbeit3.utils.whole_files import WriteError, write_whole, writing
from mmbeit3.version import __version__

LOCK = ("a training", "work_dir")  # on a work dir: the kind of run, and what to change
# Time stamps of this process's runs, which name their folders, loggers and message hubs.
_taken_timestamps: set[str] = set()


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """As ``mmengine.runner.Runner``, but a checkpoint must be of this model, and none is lost.

    Resuming, validation and testing ask for the same weights, name by name and shape by shape.
    ``load_from`` for training (fine-tuning) loads what fits and logs what does not. Files are
    read by :func:`mmbeit3.checkpoint.read_checkpoint`, which runs none of their code.

    In a config, ``runner_type="mmbeit3.Runner"``. With ``mmbeit3.TrainLoop``,
    ``mmbeit3.InfiniteSampler`` and ``mmbeit3.CheckpointHook`` a resumed training ends with the
    weights of one that was never interrupted.
    """

    _determinism_before: tuple | None = None  # a deterministic run of this process
    plan: Plan | None = None  # of a runner that was built from a config
    # mmengine keeps what is not built yet, or the config of it, under the same names
    _train_loop: Any
    _test_dataloader: Any
    _load_from: str | None
    optim_wrapper: Any
    param_schedulers: Any
    auto_scale_lr: Any

    @classmethod
    def from_cfg(cls, cfg: Config) -> Runner:
        """Build a runner from a config, fitted to its data and this machine.

        See :func:`mmbeit3.engine.prepare.prepare`. The data are checked when a training or a test
        begins.
        """
        return cls.from_plan(prepare(cfg))

    @classmethod
    def from_plan(cls, plan: Plan) -> Runner:
        """Build a runner that does what a plan says."""
        runner = run_on_all_ranks(lambda: super(Runner, cls).from_cfg(plan.cfg))
        runner.plan = plan
        return runner

    def setup_env(self, env_cfg: dict) -> None:
        """Start the communication of the processes, on the CPU by gloo; the rest as mmengine.

        No two runs have the same time stamp, even when they begin in the same second. From here on
        no checkpoint of this process runs code, the model's ``init_cfg`` included.
        """
        load_safely()
        ignore_library_warnings()
        if self.distributed and not is_distributed():
            init_distributed(self.launcher, **env_cfg.get("dist_cfg", {}))
        super().setup_env(env_cfg)
        if Runner._determinism_before is not None:
            set_determinism(Runner._determinism_before)
            Runner._determinism_before = None
        torch.backends.cudnn.benchmark = bool(env_cfg.get("cudnn_benchmark"))
        self._timestamp = broadcast_from_rank0(self._own_timestamp)

    def set_randomness(
        self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """Seed as mmengine does, alike in all processes.

        ``diff_rank_seed`` is not used: in training, processes draw different numbers anyway.
        Without a seed one is drawn from the system, whatever earlier runs of the process have set.
        """
        if deterministic and Runner._determinism_before is None:
            Runner._determinism_before = determinism()
        if seed is None:
            seed = broadcast_from_rank0(lambda: secrets.randbelow(2**31))
        super().set_randomness(seed, deterministic=deterministic)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build a model, with LoRA for a training; heads must be of the strides of its maps."""
        from mmbeit3.models.strides import check_strides  # brings mmdet, which not all models need

        model = super().build_model(model)
        check_strides(model)
        if self._train_dataloader is not None:
            with generators_kept():
                seed_generators(self.seed, Stream.WEIGHTS, 1)
                add_lora(model)
        return model

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build a visualizer of this run alone; mmengine's is shared by all that have its name."""
        if isinstance(visualizer, dict):
            name = visualizer.get("name", "visualizer")
            visualizer = dict(visualizer, name=f"{name}_{self.experiment_name}")
        built = super().build_visualizer(visualizer)
        guard_visualizer(built)
        return built

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, whose file may meet a full disk; arguments as mmengine's.

        Raises:
            WriteError: The log file cannot be made.
        """
        with writing(self.log_dir):
            logger = super().build_logger(*args, **kwargs)
        guard_logger(logger)
        self._terminal = shorten(logger)
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        """Write environment and config into the log file, and say in short where one is."""
        super()._log_env(env_cfg)
        self.logger.info(
            f"mmbeit3 {__version__}, PyTorch {torch.__version__}, {_devices()}\n"
            f"log file, with the environment and the whole config: {self.logger.log_file}"
        )

    @property
    def shows_progress(self) -> bool:
        """bool: Whether a progress bar is shown."""
        return self._progress.is_shown

    def dump_config(self) -> None:
        """Write the config into the work dir, whole; where it cannot be, the run goes on."""
        name = Path(self.cfg.filename or f"{self.timestamp}.py").name
        path = Path(self.work_dir, name)
        try:
            write_whole(path, dump_text(self.cfg))
        except WriteError as error:
            say_unwritten(str(path), error.error)

    def build_log_processor(self, log_processor: LogProcessor | dict) -> LogProcessor:
        """Build what formats the log; it counts what the loop counts, unless the config says."""
        if isinstance(log_processor, dict):
            log_processor = {"type": "mmbeit3.LogProcessor", **log_processor}
            if self._train_loop is not None:
                log_processor = {"by_epoch": counts_epochs(self._train_loop), **log_processor}
        return super().build_log_processor(log_processor)

    def train(self) -> nn.Module:
        """Train; see mmengine. One training at a time has the work dir."""
        self._make_current()
        if self.plan is not None:
            check_data(self.plan, "train")
            self.logger.info(str(self.plan))
            warn_of_random_backbone(self.plan.cfg)
        with ExitStack() as lock:
            broadcast_from_rank0(lambda: lock.enter_context(folder_locked(self.work_dir, *LOCK)))
            lock.callback(self._progress.close)
            lock.callback(setattr, self._terminal, "trains", False)
            self._terminal.trains = True
            return super().train()

    def val(self) -> dict:
        """Validate; see mmengine."""
        self._make_current()
        with closing(self._progress):
            return super().val()

    def test(self) -> dict:
        """Test; see mmengine."""
        self._make_current()
        if self.plan is not None:
            check_data(self.plan, "test")
            self._follow_checkpoint(self.plan)
        with closing(self._progress):
            return super().test()

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap a model for several processes: by DDP, or as ``model_wrapper_cfg`` says.

        Validation and test then run it in the faster ways of :func:`mmbeit3.accelerate`.
        """
        from mmbeit3.models.acceleration import accelerate  # brings mmdet, as for check_strides

        wrapped = self._wrapped(model_wrapper_cfg, model)
        accelerate(wrapped)
        return wrapped

    def _wrapped(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        self._shards = self.distributed and shards(model_wrapper_cfg)
        if not self.distributed:
            if shards(model_wrapper_cfg):
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
        by_epoch = self._train_loop is None or counts_epochs(self._train_loop)
        hooks.setdefault("checkpoint", dict(type="mmbeit3.CheckpointHook", by_epoch=by_epoch))
        # mmengine's default puts all validations of a loop by iterations at step 0.
        hooks.setdefault("logger", dict(type="LoggerHook", log_metric_by_epoch=by_epoch))
        super().register_hooks(hooks, custom_hooks)
        for hook in self.hooks:
            guard_hook(hook)
        self._progress = ProgressHook()
        self.register_hook(self._progress)
        if self._train_dataloader is not None:
            self.register_hook(TrainingRecordHook())
            self.register_hook(FreeMemoryHook())
        if self._shards:
            self.register_hook(GatheringHook())

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop, by epochs where the config does not say."""
        if isinstance(loop, dict) and "type" not in loop:
            loop = {"by_epoch": True, **loop}
        built = super().build_train_loop(loop)
        check_train_loop(self, built)
        built.dataloader.name = "train_dataloader"
        self.data_digest = digest_data(built.dataloader.dataset)
        return built

    def take_accumulation(self) -> int:
        """Take the count of a step's micro-batches off the optimizer, for a loop that heeds it."""
        if not isinstance(self.optim_wrapper, dict):
            return 1
        return self.optim_wrapper.pop("accumulative_counts", 1)

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the validation loop, which must end."""
        built = super().build_val_loop(loop)
        check_ends(built.dataloader, "val_dataloader")
        built.dataloader.name = "val_dataloader"
        return built

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the test loop, which must end."""
        built = super().build_test_loop(loop)
        check_ends(built.dataloader, "test_dataloader")
        built.dataloader.name = "test_dataloader"
        return built

    def _build_param_scheduler(self, scheduler: Any, optim_wrapper: OptimWrapper) -> list:
        """Build schedules; those converted from epochs get the optimizer steps of an epoch."""
        found = scheduler if isinstance(scheduler, (list, tuple)) else [scheduler]
        if not counts_epochs(self.train_loop):
            length = iterations_per_epoch(self)
            found = [
                {**each, "epoch_length": length}
                if isinstance(each, dict) and each.get("convert_to_iter_based")
                else each
                for each in found
            ]
        return super()._build_param_scheduler(found, optim_wrapper)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader that looks after its workers; arguments as mmengine's."""
        if isinstance(dataloader, dict):
            dataloader = with_positions(dataloader, seed)
        loader = MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)
        if type(loader) is DataLoader:  # mmengine names the class, and its parts cannot be set
            loader.__class__ = WorkerLoader
        return loader

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scale the learning rates by images a step over the recipe's, if the config says so."""
        if not auto_scale_lr or not auto_scale_lr.get("enable"):
            return
        images, recipe = self.images_per_step, auto_scale_lr["base_batch_size"]
        for group in optim_wrapper.param_groups:
            group["lr"] *= images / recipe
        self.logger.info(
            f"learning rates times {images / recipe:g}: {images} images a step, not {recipe}"
        )

    @property
    def images_per_step(self) -> int:
        """int: Images of one optimizer step, over all processes."""
        loader = self._train_dataloader
        loader = loader.batch_sampler if isinstance(loader, DataLoader) else loader
        size = loader["batch_size"] if isinstance(loader, dict) else loader.batch_size
        return size * get_world_size() * getattr(self.train_loop, "accumulative_counts", 1)

    @property
    def is_sharded(self) -> bool:
        """bool: Whether the weights are divided over processes, which then save together."""
        return self._shards

    def saved(self) -> str:
        """Say which checkpoint is the last one, for messages about an end."""
        hook = self._checkpoint_hook()
        if hook is None or not hook.last_ckpt:
            return "no checkpoint has been written"
        return f"the last good checkpoint is {hook.last_ckpt}; resume goes on from it"

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
            save_optimizer: Whether to keep the optimizer's state. Defaults to True.
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
            checkpoint["param_schedulers"] = [
                schedule_state(each) for each in self.param_schedulers
            ]
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        if is_main_process():
            merge_lora(without_wrappers(self.model), checkpoint)
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
        checkpoint = self.plan.take(filename) if self.plan else read_checkpoint(filename)
        if self._resume:
            _check_resumable(checkpoint, filename)
            # before the state is looked at, as averages are named after the parts
            part_lora(without_wrappers(self.model), checkpoint, True, str(filename))
            check_training_state(checkpoint, str(filename))
        checkpoint["state_dict"] = state_dict_of(checkpoint)
        if not self._resume:
            part_lora(without_wrappers(self.model), checkpoint, False, str(filename))
        if self._resume and not any(map(averages, self.hooks)):
            checkpoint["state_dict"] = trained_weights(checkpoint)
        fine_tuning = isinstance(self._train_loop, BaseLoop) and not self._resume
        model, meta = without_wrappers(self.model), checkpoint.get("meta")
        settings = meta.get(SETTINGS) if isinstance(meta, dict) else None
        tests = not (fine_tuning or self._resume)
        if tests and (other := compare_frozen(settings, self.frozen_digests())):
            raise InputError(f"{filename} cannot be tested with this config: {other}")
        with partial_loading():  # mmengine's EMAHook loads the same weights into its average
            self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        load_weights(model, checkpoint, strict or not fine_tuning, self.logger, str(filename))
        self._has_loaded = True
        return checkpoint

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = "default",
    ) -> None:
        """Go on with the training that wrote a checkpoint.

        What differs from it is taken from the config, and said in the log; see
        :mod:`mmbeit3.engine.resuming`.

        Args:
            filename: The checkpoint.
            resume_optimizer: Must be True, as must ``resume_param_scheduler``: all goes on, or
                ``load_from`` takes the weights alone.
            resume_param_scheduler: As ``resume_optimizer``.
            map_location: Not used.

        Raises:
            InputError: The file cannot be read, is of another model, or its training cannot go on
                with this config.
        """
        if not (resume_optimizer and resume_param_scheduler):
            raise InputError(
                "resuming brings all of a training back; for its weights alone set load_from"
            )
        self._resume = True
        if isinstance(self.optim_wrapper, dict):  # called by itself, before train()
            self._build_optimization()
        checkpoint = self.load_checkpoint(filename)
        try:
            self._go_on_from(checkpoint, filename)
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise damaged_state(filename, error) from error
        self.logger.info(f"resumed epoch: {self.epoch}, iter: {self.iter}")

    def _build_optimization(self) -> None:
        """Build loop, optimizer and schedules and draw the weights, as train() does."""
        self._train_loop = self.build_train_loop(self._train_loop)
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        self.scale_lr(self.optim_wrapper, self.auto_scale_lr)
        self.auto_scale_lr = None  # done
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        self._init_model_weights()

    def _go_on_from(self, checkpoint: dict[str, Any], filename: str) -> None:
        meta = checkpoint["meta"]
        plan = broadcast_from_rank0(lambda: plan_resuming(self, checkpoint, str(filename)))
        for line in plan.changes:
            self.logger.info(f"resuming with a change: {line}")
        self.train_loop._epoch, self.train_loop._iter = meta["epoch"], meta["iter"]
        if meta.get("seed") is not None:
            self._randomness_cfg.update(seed=meta["seed"])
            self.set_randomness(**self._randomness_cfg)
        self.message_hub.load_state_dict(checkpoint["message_hub"])
        state = restore_optimizer(self, checkpoint, plan)
        if plan.rebuild_schedules:
            rates = [group["lr"] for group in self.optim_wrapper.param_groups]
            before = [group["lr"] for group in checkpoint["optimizer"]["param_groups"]]
            self.logger.info(
                f"learning rates follow the config's schedule, now after {self.iter} iterations: "
                f"largest {max(before):.6g} -> {max(rates):.6g}"
            )
        if self._shards:
            shard_optimizer_state(state, self.optim_wrapper.optimizer)
        self.optim_wrapper.load_state_dict(state)

    def parameter_names(self) -> list[list[str]]:
        """Name the parameters in each group of the optimizer."""
        names = {id(p): name for name, p in without_wrappers(self.model).named_parameters()}
        return [
            [names.get(id(param), "") for param in group["params"]]
            for group in self.optim_wrapper.optimizer.param_groups
        ]

    def frozen_digests(self) -> dict[str, str]:
        """Digests of the weights that the model asks and does not train, by its name of them."""
        model = without_wrappers(self.model)
        find = getattr(model, "frozen_digest", None)
        digest = find() if find else None
        return {} if digest is None else {model.frozen_name: digest}

    @property
    def configured_seed(self) -> int | None:
        """Optional[int]: The seed that the config asks for."""
        return self._randomness_cfg.get("seed")

    def _own_timestamp(self) -> str:
        """Take a time stamp that no other run has, in this process or in the work dir."""
        for count in itertools.count(1):
            stamp = self._timestamp if count == 1 else f"{self._timestamp}_{count}"
            folder = Path(self.work_dir) / stamp
            if stamp not in _taken_timestamps and not folder.exists():
                with writing(folder):
                    folder.mkdir()
                _taken_timestamps.add(stamp)
                return stamp
        raise AssertionError("unreachable")

    def _make_current(self) -> None:
        make_current(self.logger, self.message_hub, self.visualizer, self.default_scope)

    def load_or_resume(self) -> None:
        """Load what the config names; a resumed training without a name, its newest whole file."""
        if self.plan is not None:
            self.plan.files.forget()  # the data sets are built
        if self._resume and self._load_from is None and not self._has_loaded:
            found = find_checkpoint(self.work_dir)
            self._load_from = None if found is None else str(found)
            if found is None:
                self.logger.info(f"no checkpoint to resume in {self.work_dir}: starting anew")
                return
        super().load_or_resume()

    def _meta(self, meta: dict[str, Any], by_epoch: bool) -> dict[str, Any]:
        defaults = {"epoch": self.epoch + by_epoch, "iter": self.iter + (not by_epoch)}
        found = {
            "cfg": self._config_text,
            "seed": self.seed,
            "experiment_name": self.experiment_name,
            "time": time.strftime("%Y%m%d_%H%M%S", time.localtime()),
            "mmengine_version": mmengine.__version__,
            SETTINGS: self._settings,
        }
        dataset = self.train_dataloader.dataset
        if hasattr(dataset, "metainfo"):
            found["dataset_meta"] = dataset.metainfo
        return defaults | meta | found

    @cached_property
    def _config_text(self) -> str:
        return self.cfg.pretty_text  # takes a second, and would at every checkpoint

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return training_settings(self)

    def _follow_checkpoint(self, plan: Plan) -> None:
        """Give a test set that is not built the classes of the checkpoint."""
        if isinstance(self._test_dataloader, dict):
            fit_classes(plan, "test")
            self._test_dataloader = plan.cfg.test_dataloader

    def _checkpoint_hook(self) -> CheckpointHook | None:
        return next((hook for hook in self.hooks if isinstance(hook, CheckpointHook)), None)

    def _init_model_weights(self) -> None:
        # Divided weights were drawn before, and loaded ones are not drawn again.
        if not self._shards and not self._has_loaded:
            seed_generators(self.seed, Stream.WEIGHTS, 0)
            super()._init_model_weights()


def build_runner(run: Config | Plan) -> MMEngineRunner:
    """Build the Runner that a config names by ``runner_type``, by default this project's.

    Args:
        run (Config | Plan): The config, or the plan that has been made of it.
    """
    load_safely()
    plan = run if isinstance(run, Plan) else prepare(run)
    kind = plan.cfg.get("runner_type", Runner)
    kind = RUNNERS.get(kind) if isinstance(kind, str) else kind
    if issubclass(kind, Runner):
        return kind.from_plan(plan)
    return kind.from_cfg(plan.cfg)


def without_wrappers(model: nn.Module) -> nn.Module:
    """Take off what distributed running and test-time augmentation put around a model."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _devices() -> str:
    """Say on what a run computes."""
    processes = get_world_size()
    several = f"{processes} processes, " if processes > 1 else ""
    if get_device() == "cuda":
        return f"{several}{torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    device = get_device().upper()
    return f"{several}{device}, {threads} thread{'s' * (threads > 1)}"


def _check_resumable(checkpoint: dict[str, Any], filename: str) -> None:
    absent = [key for key in RESUME_KEYS if key not in checkpoint]
    if absent:
        raise InputError(
            f"{filename} cannot be resumed: it has no {', '.join(absent)}, only "
            f"{', '.join(map(str, list(checkpoint)[:8]))}. To start training from its weights, "
            "set load_from to it and leave resume out"
        )
