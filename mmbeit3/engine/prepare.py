"""What a run does with a config, worked out in one place before anything is built."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_dist_info
from mmengine.logging import print_log

from mmbeit3.checkpoint import check_checkpoint, read_checkpoint, write_durably
from mmbeit3.config import check_arguments, check_monitors
from mmbeit3.config.classes import resolve_classes
from mmbeit3.config.data_checks import (
    check_files_here,
    check_test_data,
    check_training_data,
)
from mmbeit3.config.devices import auto_accumulation
from mmbeit3.config.tokenizers import read_tokenizer
from mmbeit3.config.types import TypeFinder
from mmbeit3.engine.checkpoint_hook import find_checkpoint
from mmbeit3.engine.distributed import start_processes
from mmbeit3.engine.loop_checks import loop_type
from mmbeit3.engine.train_loop import TrainLoop
from mmbeit3.utils import InputError, listed, warn
from mmbeit3.utils.collective import broadcast_from_rank0, run_on_all_ranks
from mmbeit3.utils.read_once import FilesReadOnce
from mmbeit3.utils.terminal import shorten_default
from mmbeit3.visualization.example_mask import write_example_mask

# Where a model has its towers: a detector or segmentor, and a model of images and texts.
TOWERS = ("backbone", "encoder")
FROZEN = ("image_tokenizer", "teacher")  # what models ask and do not train
PROBE = 2**16  # bytes that a work dir must have room for


@dataclass
class Plan:
    """A config fitted to its data and to this machine, and what follows from it.

    Attributes:
        cfg (Config): The config: all data sets have the training classes, heads their number,
            ``accumulative_counts`` is a number, and ``load_from`` the checkpoint to resume.
        classes (tuple[str, ...], optional): Names of the classes. Defaults to None: no data set
            says what they are.
        batch (str): The sentence about the images of an iteration. Defaults to '': nothing trains.
        checked (set[str]): For which of 'train' and 'test' the data have been looked at.
        checkpoint (tuple[str, dict], optional): The file to start from with its content, read once.
            Defaults to None.
        files (FilesReadOnce): The annotation files, read once until the data sets are built.
    """

    cfg: Config
    classes: tuple[str, ...] | None = None
    batch: str = ""
    checked: set[str] = field(default_factory=set)
    checkpoint: tuple[str, dict[str, Any]] | None = None
    files: FilesReadOnce = field(default_factory=FilesReadOnce)

    def __str__(self) -> str:
        start = self.cfg.get("load_from") or ", ".join(pretrained(self.cfg)) or "random weights"
        lines = [f"model: {self.cfg.model.get('type')}, starting from {start}"]
        if self.classes:
            lines.append(f"classes: {len(self.classes)}: {listed(self.classes)}")
        return "\n".join([*lines, *filter(None, [self.batch])])

    def take(self, file: str | Path) -> dict[str, Any]:
        """Give the content of a checkpoint, once; it is read unless :attr:`meta` has done so."""
        known, self.checkpoint = self.checkpoint, None
        return known[1] if known and known[0] == str(file) else read_checkpoint(file)

    @property
    def meta(self) -> dict[str, Any]:
        """dict: The ``meta`` of the checkpoint that ``load_from`` names; {} where there is none."""
        file = self.cfg.get("load_from")
        if not file:
            return {}
        if self.checkpoint is None:
            self.checkpoint = str(file), read_checkpoint(file)
        meta = self.checkpoint[1].get("meta")
        return meta if isinstance(meta, dict) else {}


def prepare(cfg: Config, entry: str | None = None) -> Plan:
    """Work out what a run does with a config; all processes must call it.

    Doing it again with the config of a plan changes nothing.

    Args:
        cfg (Config): The config, which stays as it is.
        entry (str, optional): 'train' or 'test', to look at the data and at what only this needs,
            too. Defaults to None, what both share.

    Returns:
        Plan: The plan.

    Raises:
        InputError: The config, the annotations or a checkpoint cannot be used.
    """
    cfg = copy.deepcopy(cfg)
    shorten_default()
    start_processes(cfg)
    plan = run_on_all_ranks(lambda: _fit(cfg, entry))
    if entry == "test":
        check_data(plan, entry)  # before a checkpoint is downloaded
    run_on_all_ranks(lambda: fit_classes(plan, entry))
    if entry == "train":
        check_data(plan, entry)
    return plan


def check_data(plan: Plan, entry: str) -> None:
    """Look at the data of a run, once; all processes must call it.

    Args:
        plan (Plan): The plan of the run.
        entry (str): 'train' or 'test'.

    Raises:
        InputError: An annotation, a file, a metric or a name of a class does not fit.
    """
    if entry in plan.checked:
        return
    cfg = plan.cfg
    if entry == "train":
        run_on_all_ranks(lambda: check_monitors(cfg))
        run_on_all_ranks(lambda: check_files_here(cfg))
        broadcast_from_rank0(lambda: _check_training_data(cfg))
        run_on_all_ranks(lambda: _check_weights(cfg, is_local=False))  # may download gigabytes
    else:
        broadcast_from_rank0(lambda: check_test_data(cfg, load="://" in str(cfg.get("load_from"))))
    plan.checked.add(entry)


def _fit(cfg: Config, entry: str | None) -> Plan:
    _check_entry(cfg, entry)
    check_arguments(cfg, entry or "build")
    read_tokenizer(cfg)  # one that cannot be read is found before anything takes long
    plan = Plan(cfg, batch=_set_accumulation(cfg))
    if entry == "train":
        if get_dist_info()[0] == 0:
            _check_work_dir(Path(cfg.work_dir))
        set_resume(cfg)
        if not cfg.get("resume") and get_dist_info()[0] == 0:
            _tell_of_earlier_training(Path(cfg.work_dir))
        _check_weights(cfg, is_local=True)  # before the minutes that data and model may take
    return plan


def fit_classes(plan: Plan, entry: str | None) -> None:
    """Give data sets and heads the classes of a run, in place.

    A test has those of its checkpoint, and so has a run whose training files are not here.

    Args:
        plan (Plan): The plan.
        entry (str, optional): 'train', 'test', or None, not known.

    Raises:
        InputError: The classes are nowhere, or in two places that differ.
    """
    try:
        plan.classes = resolve_classes(plan.cfg, plan.meta if entry == "test" else None)
    except InputError:
        if entry is not None or not plan.meta.get("dataset_meta"):
            raise
        plan.classes = resolve_classes(plan.cfg, plan.meta)


def set_resume(cfg: Config, resume: bool | str | Path = False) -> None:
    """Name the checkpoint that a training resumes, in place.

    Where there is none the training starts anew, from ``load_from`` if the config has it: a job
    restarted before its first checkpoint must not begin with random weights.

    Args:
        cfg (Config): The config.
        resume (bool | str | Path): The checkpoint; True is the newest whole one of the work dir.
            Defaults to False, as ``resume`` and ``load_from`` of the config say.
    """
    if not resume and cfg.get("resume"):
        resume = cfg.get("load_from") or True
    if resume is True:
        newest = find_checkpoint(cfg.work_dir)
        if newest is None:
            print_log(f"no checkpoint to resume in {cfg.work_dir}: starting anew", "current")
            cfg.resume = False
        resume = newest or False
    if resume:
        cfg.resume, cfg.load_from = True, str(resume)


def pretrained(cfg: Config, own: bool = False) -> list[str]:
    """The checkpoints that a config's model or its towers start from, by ``init_cfg``.

    Args:
        cfg (Config): The config.
        own (bool): Whether only those of this project's classes are wanted: those of other
            libraries may have addresses that mmengine alone understands. Defaults to False.
    """
    parts = [part for part in (cfg.model, *map(cfg.model.get, TOWERS)) if isinstance(part, dict)]
    if own:
        parts = [part for part in parts if str(part.get("type")).startswith("mmbeit3.")]
    found = []
    for part in parts:
        init_cfg = part.get("init_cfg")
        entries = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
        found += [each.checkpoint for each in entries if each and each.get("type") == "Pretrained"]
    return found


def warn_of_random_backbone(cfg: Config) -> None:
    """Say so where nothing has been learned before, and the model's class does not expect that."""
    kind = TypeFinder(cfg.get("default_scope")).find(cfg.model.get("type"), ("MODELS",))
    if not (pretrained(cfg) or cfg.get("load_from") or getattr(kind, "starts_from_nothing", False)):
        tower = next((name for name in TOWERS if name in cfg.model), TOWERS[0])
        warn(
            "random weights are for trials only: set "
            f"model.{tower}.init_cfg=dict(type='Pretrained', checkpoint=...) or load_from"
        )


def _check_entry(cfg: Config, entry: str | None) -> None:
    needed = {
        "train": ("train_dataloader", "train_cfg", "optim_wrapper"),
        "test": ("test_dataloader", "test_evaluator"),
    }.get(entry or "", ())
    if absent := [key for key in needed if not cfg.get(key)]:
        raise InputError(f"the config cannot {entry}: it has no {', '.join(absent)}")


def _check_training_data(cfg: Config) -> None:
    """Check the data, and draw a segmentor's first: the check may ask what their values mean."""
    write_example_mask(cfg, cfg.work_dir)
    check_training_data(cfg)


def _check_work_dir(work_dir: Path) -> None:
    """Make sure, before anything takes long, that results can be written."""
    if work_dir.exists() and not work_dir.is_dir():
        raise InputError(f"{work_dir} is a file; expected a folder for results", "work_dir")
    probe = work_dir / ".writable"
    write_durably(probe, bytes(PROBE))  # a full disk still takes empty files
    probe.unlink(missing_ok=True)


def _tell_of_earlier_training(work_dir: Path) -> None:
    """Say that a training starts anew where another one has left checkpoints."""
    patterns = ("iter_*.pth", "epoch_*.pth", "best_*.pth")
    names = sorted(file.name for pattern in patterns for file in work_dir.glob(pattern))
    if names:
        warn(
            f"{work_dir} has checkpoints of an earlier training, {listed(names, 3)}: this one "
            "starts anew, and writes over those of the same name; --resume goes on from the last"
        )


def _check_weights(cfg: Config, is_local: bool) -> None:
    """Look at every checkpoint that the run starts from, if it is a file, or fetch it."""
    starts = pretrained(cfg, own=True)
    frozen = [cfg.model[name] for name in FROZEN if isinstance(cfg.model.get(name), dict)]
    starts += [found for each in frozen for found in pretrained(Config(dict(model=each)), own=True)]
    starts += [cfg.load_from] if cfg.get("load_from") else []
    for start in starts:
        if is_local == ("://" not in str(start)):
            check_checkpoint(start)


def _set_accumulation(cfg: Config) -> str:
    """Turn ``accumulative_counts="auto"`` into a number; gives the sentence about the batch."""
    wrapper, loader = cfg.get("optim_wrapper"), cfg.get("train_dataloader")
    if not (isinstance(wrapper, dict) and isinstance(loader, dict)):
        return ""
    settings = cfg.get("auto_scale_lr") or {}
    recipe, scales_lr = settings.get("base_batch_size"), settings.get("enable")
    if scales_lr and recipe is None:
        raise InputError(
            "scaling the learning rate needs the batch size that it was chosen for; set "
            "auto_scale_lr=dict(base_batch_size=...) in the config"
        )
    processes, size = get_dist_info()[1], loader.get("batch_size", 1)
    counts = wrapper.get("accumulative_counts", 1)
    if counts == "auto":
        counts = 1 if scales_lr else auto_accumulation(cfg, processes * size)
        if counts is None:
            raise InputError(
                'optim_wrapper.accumulative_counts="auto" needs the batch size that the learning '
                "rate was chosen for; set auto_scale_lr=dict(base_batch_size=...) or a number"
            )
        wrapper["accumulative_counts"] = counts
    images = processes * size * counts
    product = f"{processes} process(es) x {size} images"
    if not issubclass(loop_type(cfg.get("train_cfg")) or TrainLoop, TrainLoop):
        text = f"one iteration is {product}"
        if counts > 1:
            text += (
                f"; {counts} iterations are one optimizer step of {images} images, and schedules "
                "and intervals count the iterations"
            )
    else:
        text = (
            f"one iteration is one optimizer step of {images} images: {product} x {counts} "
            "accumulated"
        )
    if recipe and images == recipe:
        return f"{text}, as in the recipe"
    if recipe and not scales_lr:
        text += (
            f". The recipe has {recipe}, and the learning rate is not scaled: change "
            "train_dataloader.batch_size, or set auto_scale_lr.enable=True"
        )
    return text
