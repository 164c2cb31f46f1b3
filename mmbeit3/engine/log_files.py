"""Logs that cannot be written: said by name, tried again, and no reason for a training to end."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook, LoggerHook
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import (
    BaseVisBackend,
    LocalVisBackend,
    TensorboardVisBackend,
)

from mmbeit3.utils.text_files import printable

SAY_AGAIN = 600.0  # seconds after which a file that still cannot be written is named again
REST = 60.0  # seconds until TensorBoard begins a new file, as it must after an error
MAX_KEPT = 10_000  # lines of scalars that wait for room
GUARDED = ("add_config", "add_graph", "add_image", "add_scalar", "add_scalars", "close")

_thread_failed_before = threading.excepthook
_said: dict[str, float] = {}


def guard_logger(logger: logging.Logger) -> None:
    """Have the log files of a logger survive a full disk, and take any file name."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = functools.partial(_log_failed, handler)  # type: ignore[method-assign]
            if handler.stream is not None and hasattr(handler.stream, "reconfigure"):
                handler.stream.reconfigure(errors="backslashreplace")


def guard_visualizer(visualizer: Visualizer) -> None:
    """Have the curves of a visualizer survive a full disk.

    Lines of ``scalars.json`` wait until they can be written, in their order and never cut;
    TensorBoard begins a new file.
    """
    for backend in getattr(visualizer, "_vis_backends", {}).values():
        if isinstance(backend, LocalVisBackend):
            backend._dump = _ScalarLines(backend._dump)
        for name in GUARDED:
            setattr(backend, name, _guarded(getattr(backend, name), backend))
        if (
            isinstance(backend, TensorboardVisBackend)
            and threading.excepthook is not _thread_failed
        ):
            threading.excepthook = _thread_failed


def guard_hook(hook: Hook) -> None:
    """Have a test go on where mmengine's logger hook cannot write the metrics beside the log."""
    if isinstance(hook, LoggerHook):
        write = hook.after_test_epoch

        def after_test_epoch(runner: Any, *args: Any, **kwargs: Any) -> None:
            try:
                write(runner, *args, **kwargs)
            except OSError as error:
                say_unwritten(str(Path(runner.log_dir, str(hook.json_log_path))), error)

        hook.after_test_epoch = after_test_epoch


def say_unwritten(file: str, error: OSError) -> None:
    """Say, not too often, that a log file cannot be written."""
    now = time.monotonic()
    if now - _said.get(file, -SAY_AGAIN) >= SAY_AGAIN:
        _said[file] = now
        text = f"{file} cannot be written ({error.strerror or error}): make room there"
        text += "; the run goes on, and what is logged next is tried again"
        with suppress(OSError):  # where the output goes to the same disk
            print(printable(text), file=sys.stderr, flush=True)


def _log_failed(handler: logging.FileHandler, record: logging.LogRecord) -> None:
    error = sys.exc_info()[1]
    if isinstance(error, OSError):
        say_unwritten(handler.baseFilename, error)
    else:
        logging.Handler.handleError(handler, record)


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """Print no trace of TensorBoard's writer: its error is raised again for who writes next."""
    writer = type(failed.thread).__name__ == "_AsyncWriterThread"
    if not (writer and isinstance(failed.exc_value, OSError)):
        _thread_failed_before(failed)


def _guarded(method: Callable[..., Any], backend: BaseVisBackend) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if time.monotonic() < getattr(backend, "rests_until", 0.0):
            return None
        try:
            return method(*args, **kwargs)
        except OSError as error:
            say_unwritten(str(error.filename or f"a file in {backend._save_dir}"), error)
            if isinstance(backend, TensorboardVisBackend):
                backend._env_initialized = False  # the thread that writes has ended
                backend.rests_until = time.monotonic() + REST
                for file in Path(backend._save_dir).glob(f"events.*.{os.getpid()}.*"):
                    if file.stat().st_size == 0:
                        file.unlink()
            return None

    return guarded


class _ScalarLines:
    """Writes lines of scalars; those that found no room go first the next time.

    Args:
        dump (Callable): Takes values, a path and a format, and appends a line to the file.
    """

    def __init__(self, dump: Callable[[dict, str, str], None]) -> None:
        self._dump = dump
        self._waiting: dict[str, deque[tuple[dict, str, str]]] = {}

    def __call__(self, values: dict, path: str, file_format: str) -> None:
        waiting = self._waiting.setdefault(path, deque(maxlen=MAX_KEPT))
        waiting.append((values, path, file_format))
        while waiting:
            size = os.path.getsize(path) if os.path.exists(path) else None
            try:
                self._dump(*waiting[0])
            except OSError as error:
                with suppress(OSError):  # half a line
                    os.truncate(path, size or 0)
                say_unwritten(path, error)
                return
            waiting.popleft()
