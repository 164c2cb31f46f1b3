"""A call in a process that does nothing else."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process, and give what it returns.

    Args:
        function (Callable): The function, of a module.
        *arguments: Its arguments; like the result, they must allow pickling.

    Raises:
        RuntimeError: The function failed (with its trace), or the process ended before its time.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(sender, function, arguments))
    child.start()
    sender.close()
    try:
        result, trace = receiver.recv()
    except EOFError:
        child.join()
        trace = f"the process ended with status {child.exitcode}; out of memory?"
    child.join()
    if trace:
        raise RuntimeError(trace)
    return result


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        sender.send((function(*arguments), None))
    except Exception:
        sender.send((None, traceback.format_exc()))
