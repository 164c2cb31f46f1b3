"""A progress bar below the lines of the log, where the output is a terminal."""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from mmbeit3.utils.terminal import is_terminal

EVERY = 0.2  # seconds between two drawings


class ProgressHook(Hook):
    """Shows how far a training is, and the validation or test that runs.

    It draws in the main thread: data workers are forked, and a thread that draws might hold a lock
    at that moment.
    """

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._training: TaskID | None = None
        self._evaluation: TaskID | None = None
        self._drawn = 0.0

    def before_train(self, runner: Any) -> None:
        """Begin the bar of a training."""
        self._training = self._add("train", runner.max_iters, runner.iter)

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Move on."""
        loss = runner.message_hub.log_scalars.get("train/loss")
        text = "" if loss is None else f"loss {float(loss.current()):.4g}"
        self._update(self._training, runner, runner.iter + 1, text)

    def before_val_epoch(self, runner: Any) -> None:
        """Begin the bar of a validation."""
        self._evaluation = self._add("validation", len(runner.val_dataloader))

    def after_val_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Move on."""
        self._update(self._evaluation, runner, batch_idx + 1)

    def after_val_epoch(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Take the bar of a validation away."""
        self._remove()

    def before_test_epoch(self, runner: Any) -> None:
        """Begin the bar of a test."""
        self._evaluation = self._add("test", len(runner.test_dataloader))

    def after_test_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Move on."""
        self._update(self._evaluation, runner, batch_idx + 1)

    def after_test_epoch(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Take the bar of a test away."""
        self._remove()

    def after_train(self, runner: Any) -> None:
        """Take all bars away."""
        self.close()

    @property
    def is_shown(self) -> bool:
        """bool: Whether there is a bar."""
        return self._progress is not None

    def close(self) -> None:
        """Take all bars away, also after an error; the terminal is then as it was."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._training = self._evaluation = None

    def _add(self, what: str, total: int, done: int = 0) -> TaskID | None:
        if not (is_terminal() and is_main_process()):
            return None
        if self._progress is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._progress = Progress(
                *columns,
                TextColumn("{task.fields[left]}  {task.fields[text]}"),
                console=Console(),
                auto_refresh=False,
                transient=True,
            )
            self._progress.start()
        return self._progress.add_task(what, total=total, completed=done, left="", text="")

    def _update(self, task: TaskID | None, runner: Any, done: int, text: str = "") -> None:
        if self._progress is None or task is None:
            return
        seconds = runner.message_hub.runtime_info.get("eta")
        left = "" if seconds is None else f"{timedelta(seconds=int(seconds))} left"
        self._progress.update(task, completed=done, left=left, text=text)
        if time.monotonic() - self._drawn >= EVERY:
            self._drawn = time.monotonic()
            self._progress.refresh()

    def _remove(self) -> None:
        if self._progress is not None and self._evaluation is not None:
            self._progress.remove_task(self._evaluation)
            self._progress.refresh()
        self._evaluation = None
        if self._training is None:
            self.close()


def _leave_bar() -> None:
    """Let a forked worker write its lines without drawing the bar of its parent."""
    sys.stdout = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    sys.stderr = getattr(sys.stderr, "rich_proxied_file", sys.stderr)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_bar)
