"""What a run changes in its process, given back at its end, so that any number of runs may follow.

mmengine keeps loggers, message hubs, visualizers and scopes by name for the whole process, and a
Runner sets generators, cuDNN, OpenCV and the start method of workers.
"""

from __future__ import annotations

import copy
import functools
import gc
import logging
import multiprocessing
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import cv2
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.utils import ManagerMixin
from mmengine.visualization import Visualizer

from mmbeit3.checkpoint import loading_safely
from mmbeit3.engine.randomness import generators_kept

Result = TypeVar("Result")


def separate_run(function: Callable[..., Result]) -> Callable[..., Result]:
    """Make a function whose first argument is a config a run of its own.

    It gets a copy of the config, and leaves the process as it was.
    """

    @functools.wraps(function)
    def run(cfg: Config, *args: Any, **kwargs: Any) -> Result:
        with process_state_kept():
            return function(copy.deepcopy(cfg), *args, **kwargs)

    return run


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Give back, at the end, the state of the process that runs change.

    Inside, no checkpoint runs code. Files of the loggers and visualizers that were made inside are
    closed, and what is left of the run, its data workers among it, is freed.
    """
    instances = _instances()
    torch_flags = determinism()
    threads, method = cv2.getNumThreads(), multiprocessing.get_start_method(allow_none=True)
    try:
        with generators_kept(), loading_safely():
            yield
    finally:
        _close(instances)
        for cls in _managers():
            cls._instance_dict = OrderedDict(instances.get(cls, {}))
        set_determinism(torch_flags)
        cv2.setNumThreads(threads)
        multiprocessing.set_start_method(method, force=True)
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def make_current(*members: ManagerMixin | None) -> None:
    """Make these the instances that code without access to the runner finds.

    Args:
        *members (ManagerMixin): Logger, message hub and the like; None is left out.
    """
    for member in members:
        if member is None:
            continue
        for cls in type(member).__mro__:
            named = vars(cls).get("_instance_dict")
            if named is not None and (cls is type(member) or member.instance_name in named):
                named.pop(member.instance_name, None)
                named[member.instance_name] = member


def determinism() -> tuple[bool, bool, bool, bool]:
    """Tell how torch chooses its algorithms, for :func:`set_determinism`."""
    return (
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def set_determinism(flags: tuple[bool, bool, bool, bool]) -> None:
    """Have torch choose its algorithms as :func:`determinism` told."""
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = flags[:2]
    torch.use_deterministic_algorithms(flags[2], warn_only=flags[3])


def _managers() -> Iterator[type[ManagerMixin]]:
    waiting = [ManagerMixin]
    while waiting:
        cls = waiting.pop()
        yield cls
        waiting += cls.__subclasses__()


def _instances() -> dict[type[ManagerMixin], dict[str, ManagerMixin]]:
    return {cls: dict(cls._instance_dict) for cls in _managers()}


def _close(before: dict[type[ManagerMixin], dict[str, ManagerMixin]]) -> None:
    """Close the files of loggers and visualizers that were not there before."""
    for name, logger in MMLogger._instance_dict.items():
        for handler in logger.handlers if name not in before.get(MMLogger, {}) else ():
            if isinstance(handler, logging.FileHandler):
                with suppress(OSError):  # a full disk, which the log file has met before
                    handler.close()
    for name, visualizer in Visualizer._instance_dict.items():
        if name not in before.get(Visualizer, {}):
            visualizer.close()
