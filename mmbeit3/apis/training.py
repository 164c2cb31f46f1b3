"""Train the model of a config: what ``tools/train.py`` runs, for notebooks too."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import get_dist_info
from mmengine.logging import print_log

from mmbeit3.apis.config import (
    auto_accumulation,
    resolve_classes,
    start_processes,
    use_amp,
    use_device,
)
from mmbeit3.apis.data_checks import check_training_data
from mmbeit3.apis.example_mask import write_example_mask
from mmbeit3.checkpoint import check_checkpoint, write_durably
from mmbeit3.config import check_arguments, check_monitors
from mmbeit3.engine import Terminated, build_runner, find_checkpoint
from mmbeit3.engine.agreement import from_first, together
from mmbeit3.engine.checkpoint_hook import POINTER
from mmbeit3.engine.loop_checks import counts_epochs
from mmbeit3.engine.process_state import separate_run
from mmbeit3.engine.runner import LOCK
from mmbeit3.utils import InputError
from mmbeit3.utils.folder_lock import folder_locked

PROBE = 2**16  # bytes that a work dir must have room for


@separate_run
def train(
    cfg: Config, resume: bool | str | Path = False, amp: bool = False, scale_lr: bool = False
) -> Path:
    """Train; logs, checkpoints and the full config go to ``cfg.work_dir``.

    Any number of trainings and tests may follow in one process, as each in one of its own.

    Args:
        cfg: The config, as :func:`mmbeit3.apis.config.load_config` returns it. It stays as it is.
        resume: Continue from this checkpoint; True is the latest one in ``cfg.work_dir``, and a
            fresh start where there is none. Defaults to False.
        amp: Whether to train in mixed precision, bfloat16 unless the config names another type.
            Defaults to False: as the config says.
        scale_lr: Whether to scale the learning rate from the batch size in the config's
            ``auto_scale_lr`` to the one that runs, in place of accumulating gradients up to the
            former. Defaults to False.

    Returns:
        The folder of the results.

    Raises:
        InputError: The config, the annotations or a checkpoint cannot be used, another training
            goes on in the folder, or training cannot go on.
        Terminated: The process was told to end; a checkpoint has been written.
    """
    with ExitStack() as lock:
        return _train(cfg, resume, amp, scale_lr, lock)


def _train(
    cfg: Config, resume: bool | str | Path, amp: bool, scale_lr: bool, lock: ExitStack
) -> Path:
    start_processes(cfg)
    batch = together(lambda: _prepare(cfg, resume, amp, scale_lr, lock))
    from_first(lambda: _check_data(cfg))
    together(lambda: _check_weights(cfg, is_local=False))  # may download gigabytes
    runner = together(lambda: build_runner(cfg))
    print_log(batch, "current")
    _warn_of_random_backbone(cfg)
    try:
        runner.train()
    except Terminated as error:
        print_log(str(error), "current")
        raise
    work_dir = Path(runner.work_dir)
    print_log(_results(work_dir, Path(runner.log_dir)), "current")
    return work_dir


def _prepare(
    cfg: Config, resume: bool | str | Path, amp: bool, scale_lr: bool, lock: ExitStack
) -> str:
    """Fit the config to this run, and check what it names; gives the sentence about the batch."""
    _check_trainable(cfg)
    check_arguments(cfg, "train")
    if get_dist_info()[0] == 0:
        _check_work_dir(Path(cfg.work_dir))
        lock.enter_context(folder_locked(cfg.work_dir, *LOCK))
    if scale_lr:
        _scale_lr(cfg)
    if amp:
        use_amp(cfg)
    use_device(cfg)
    batch = _set_accumulation(cfg, scale_lr)
    _set_resume(cfg, resume)
    _check_weights(cfg, is_local=True)  # before the minutes that data and model may take
    resolve_classes(cfg)
    check_monitors(cfg)
    return batch


def _check_data(cfg: Config) -> None:
    """Check the data, and draw a segmentor's first: the check may ask what their values mean."""
    write_example_mask(cfg, cfg.work_dir)
    check_training_data(cfg)


def _check_trainable(cfg: Config) -> None:
    absent = [key for key in ("train_dataloader", "train_cfg", "optim_wrapper") if not cfg.get(key)]
    if absent:
        raise InputError(f"the config cannot train: it has no {', '.join(absent)}")


def _scale_lr(cfg: Config) -> None:
    settings = cfg.get("auto_scale_lr") or {}
    if "base_batch_size" not in settings:
        raise InputError(
            "--auto-scale-lr needs the batch size that the learning rate was chosen for; set "
            "auto_scale_lr=dict(base_batch_size=...) in the config"
        )
    settings["enable"] = True


def _check_work_dir(work_dir: Path) -> None:
    """Make sure, before anything takes long, that results can be written."""
    probe = work_dir / ".writable"
    write_durably(probe, bytes(PROBE))  # a full disk still takes empty files
    probe.unlink(missing_ok=True)


def _set_accumulation(cfg: Config, scale_lr: bool) -> str:
    """Turn ``accumulative_counts="auto"`` into a number; gives the sentence about the batch."""
    wrapper, loader = cfg.optim_wrapper, cfg.train_dataloader
    recipe = (cfg.get("auto_scale_lr") or {}).get("base_batch_size")
    processes, size = get_dist_info()[1], loader.get("batch_size", 1)
    counts = wrapper.get("accumulative_counts", 1)
    if counts == "auto":
        counts = 1 if scale_lr else auto_accumulation(cfg, processes * size)
        if counts is None:
            raise InputError(
                'optim_wrapper.accumulative_counts="auto" needs the batch size that the learning '
                "rate was chosen for; set auto_scale_lr=dict(base_batch_size=...) or a number"
            )
        wrapper.accumulative_counts = counts
    images = processes * size * counts
    product = f"{processes} process(es) x {size} images"
    if counts_epochs(cfg.get("train_cfg")):
        text = f"one iteration is {product}"
        if counts > 1:
            text += (
                f"; {counts} iterations are one optimiser step of {images} images, and schedules "
                "and intervals count the iterations"
            )
    else:
        text = (
            f"one iteration is one optimiser step of {images} images: {product} x {counts} "
            "accumulated"
        )
    if recipe and images == recipe:
        return f"{text}, as in the recipe"
    if recipe and not scale_lr:
        text += (
            f". The recipe has {recipe}, and the learning rate is not scaled: change "
            "train_dataloader.batch_size, or use --auto-scale-lr"
        )
    return text


def _set_resume(cfg: Config, resume: bool | str | Path) -> None:
    if not resume and cfg.get("resume"):
        resume = cfg.get("load_from") or True
    if not resume:
        return
    if resume is True:
        latest = find_checkpoint(cfg.work_dir)
        if latest is None:
            # mmdet drops load_from here, and a job restarted before its first checkpoint would
            # train from random weights.
            print_log(f"no checkpoint to resume in {cfg.work_dir}: starting anew", "current")
            cfg.resume = False
            return
        resume = latest
    cfg.resume, cfg.load_from = True, str(resume)


def _check_weights(cfg: Config, is_local: bool) -> None:
    """Look at every checkpoint that the run starts from, if it is a file, or fetch it."""
    # Other libraries' backbones may name addresses that only mmengine understands.
    ours = str((cfg.model.get("backbone") or {}).get("type")).startswith("mmbeit3.")
    starts = _pretrained(cfg) if ours else []
    starts += [cfg.load_from] if cfg.get("load_from") else []
    for start in starts:
        if is_local == ("://" not in str(start)):
            check_checkpoint(start)


def _pretrained(cfg: Config) -> list[str]:
    """Checkpoints that the backbone's ``init_cfg`` names."""
    init_cfg = (cfg.model.get("backbone") or {}).get("init_cfg")
    entries = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return [entry.checkpoint for entry in entries if entry and entry.get("type") == "Pretrained"]


def _warn_of_random_backbone(cfg: Config) -> None:
    if not (_pretrained(cfg) or cfg.get("load_from")):
        print_log(
            "the backbone starts from random weights, which is fine for trials only: set "
            "model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...) or load_from",
            "current",
            logging.WARNING,
        )


def _results(work_dir: Path, log_dir: Path) -> str:
    lines = [f"results are in {work_dir}"]
    if (work_dir / POINTER).is_file():
        lines.append(f"  last checkpoint: {Path((work_dir / POINTER).read_text()).name}")
    lines += [f"  best checkpoint: {file.name}" for file in sorted(work_dir.glob("best_*.pth"))]
    lines.append(f"  log: {log_dir.name}/{log_dir.name}.log")
    return "\n".join(lines)
