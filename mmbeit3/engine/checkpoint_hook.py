"""Checkpoints of a training: when they are written, which are kept, and which one to resume."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.logging import print_log

from mmbeit3.checkpoint import read_checkpoint, write_durably
from mmbeit3.registry import HOOKS
from mmbeit3.utils import InputError

POINTER = "last_checkpoint"  # mmengine's name for the file that holds the path of the newest
NUMBERED = re.compile(r"(?:iter|epoch)_(\d+)\.pth")
PARTIAL = ".*.partial"
MAX_PATH = 4096  # bytes, on nearly all systems


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """As mmengine's, but an older checkpoint goes only when the newer one is whole.

    mmengine removes the old file first and then writes the new one in place: whoever is killed in
    between has none. Here the new file takes its name when all of it is on the disk, then the
    pointer ``last_checkpoint`` is replaced, then the oldest file is removed. A file that cannot be
    written is an error in the log, and training goes on to the next interval; only the end of the
    training raises it. The options are mmengine's, for a folder of this machine.
    """

    def before_train(self, runner: Any) -> None:
        """Remove what earlier runs, killed while writing, have left half done."""
        super().before_train(runner)
        if not isinstance(self.file_backend, LocalBackend):
            raise InputError(
                f"checkpoints go to a folder of this machine; out_dir is {self.out_dir}"
            )
        if runner.iter and Path(self._path(runner.iter)).is_file():
            self.last_ckpt = self._path(runner.iter)  # the one resumed
        if is_main_process():
            for partial in Path(self.out_dir).glob(PARTIAL):
                partial.unlink(missing_ok=True)

    def save(self, runner: Any, step: int) -> None:
        """Write the checkpoint of a moment between two iterations, unless it is there already."""
        if self.last_ckpt != self._path(step):
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=step))

    def _path(self, step: int) -> str:
        return str(Path(self.out_dir) / self.filename_tmpl.format(step))

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        kept = getattr(self, "keep_ckpt_ids", [])
        ids = [*(number for number in kept if number != step), step]
        limit = self.max_keep_ckpts if self.max_keep_ckpts > 0 else len(ids)
        runner.message_hub.update_info("keep_ckpt_ids", ids[-limit:])
        runner.message_hub.update_info("last_ckpt", self._path(step))
        if not self._write(
            runner,
            self.filename_tmpl.format(step),
            meta,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            **self.args,
        ):
            runner.message_hub.update_info("keep_ckpt_ids", list(kept))
            runner.message_hub.update_info("last_ckpt", self.last_ckpt)
            if self.is_last_train_iter(runner) or runner.iter >= runner.max_iters:
                raise InputError(
                    f"training is done, but its last checkpoint could not be written. "
                    f"{runner.saved()}"
                )
            return
        self.last_ckpt = self._path(step)
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(ids[-limit:])
        if is_main_process():
            try:
                write_durably(Path(runner.work_dir) / POINTER, os.fsencode(self.last_ckpt))
            except InputError as error:  # resuming finds a file that is newer than the pointer
                runner.logger.error(str(error))
            for number in ids[:-limit]:
                Path(self._path(number)).unlink(missing_ok=True)

    def _save_best_checkpoint(self, runner: Any, metrics: dict[str, Any]) -> None:
        """Keep the weights if a metric is better than ever; the former best goes after that."""
        if not self.save_best:
            return
        if "auto" in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        updated = False
        for key, rule in zip(self.key_indicators, self.rules, strict=True):
            if key not in metrics:
                raise InputError(
                    f"save_best is {key!r}, but the evaluation gives {', '.join(metrics)}"
                )
            suffix = "" if len(self.key_indicators) == 1 else f"_{key}"
            info = runner.message_hub.runtime_info
            best = info.get(f"best_score{suffix}", self.init_value_map[rule])
            if metrics[key] is None or not self.is_better_than[key](metrics[key], best):
                continue
            step = runner.epoch if self.by_epoch else runner.iter
            name = f"best_{key}_{self.filename_tmpl.format(step)}".replace("/", "_")
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            if not self._write(runner, name, meta, save_optimizer=False):
                continue
            former = info.get(f"best_ckpt{suffix}")
            path = str(Path(self.out_dir) / name)
            runner.message_hub.update_info(f"best_score{suffix}", metrics[key])
            runner.message_hub.update_info(f"best_ckpt{suffix}", path)
            if is_main_process() and former and Path(former) != Path(path):
                Path(former).unlink(missing_ok=True)
            updated = True
            print_log(f"best {key} so far, {metrics[key]:.4f}: {name}", "current")
        if updated and self.last_ckpt:  # which then knows the best one
            step = runner.epoch if self.by_epoch else runner.iter
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=step))

    def _write(self, runner: Any, name: str, meta: dict[str, Any], **options: Any) -> bool:
        """Write a file, and tell whether it is there; if not, the log says why."""
        options.setdefault("save_param_scheduler", False)
        try:
            runner.save_checkpoint(self.out_dir, name, meta=meta, by_epoch=self.by_epoch, **options)
        except InputError as error:
            runner.logger.error(
                f"{error}. Nothing of {name} is left; {runner.saved()}. Training goes on, and the "
                "next checkpoint is tried at its time"
            )
            return False
        return True


def find_checkpoint(work_dir: str | Path) -> Path | None:
    """Find the newest checkpoint of a training that is whole; damaged ones are named in the log.

    Only files of the folder are taken: ``last_checkpoint`` is text that others may have written,
    and of a path in it the name counts.

    Args:
        work_dir (str | Path): Its folder.

    Returns:
        Path | None: The file, or None if there is none.
    """
    for file in _candidates(Path(work_dir)):
        outside = os.path.dirname(os.path.realpath(file)) != os.path.realpath(work_dir)
        problem = f"{file} is a link to another folder" if outside else damage(file)
        if problem is None:
            return file
        print_log(f"{problem}; trying the checkpoint before it", "current", logging.ERROR)
    return None


def _candidates(work_dir: Path) -> Iterator[Path]:
    """The checkpoint that the pointer names, later ones before and earlier ones after it."""
    numbers = {
        file: int(match.group(1))
        for file in work_dir.glob("*.pth")
        if (match := NUMBERED.fullmatch(file.name))
    }
    files = sorted(numbers, key=numbers.__getitem__, reverse=True)
    pointer = work_dir / POINTER
    if not pointer.is_file():
        yield from files
        return
    named = read_pointer(work_dir)
    target = work_dir / Path(named).name  # of a path only the name: the folder may have been moved
    is_there = bool(named) and os.path.isfile(target)
    if not is_there:
        print_log(
            f"{pointer} names {named!r:.200}, of which nothing is in its folder: not followed. To "
            "resume a file of another folder, give it to resume",
            "current",
            logging.WARNING,
        )
    # A run killed after writing a file and before naming it; files of an older run are older.
    moment = _written(pointer)
    number = numbers.get(target, -1)
    later = [f for f in files if numbers[f] > number and _written(f) >= moment]
    yield from later
    if is_there:
        yield target
    yield from (file for file in files if file not in later and file != target)


def read_pointer(work_dir: Path) -> str:
    """Read what ``last_checkpoint`` names; empty if it cannot be read.

    It may be of any content; of a path that is longer than any, the beginning is read.
    """
    try:
        with (work_dir / POINTER).open("rb") as file:
            return os.fsdecode(file.read(MAX_PATH)).strip()
    except OSError:
        return ""


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # a link to nothing
        return 0.0


def damage(file: Path) -> str | None:
    """Say what is wrong with a checkpoint, reading all of it, or None."""
    try:
        read_checkpoint(file)
    except InputError as error:
        return str(error)
    return None
