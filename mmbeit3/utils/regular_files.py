"""Files that can be read to an end: no pipes, sockets or devices."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from mmbeit3.utils.errors import InputError

KINDS = {
    stat.S_IFIFO: "pipe (FIFO)",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def refuse_endless(path: str | Path) -> None:
    """Refuse a pipe, a socket or a device, of which reading may wait or go on for ever.

    Args:
        path (str | Path): The file; of one that is not on this machine nothing is known.

    Raises:
        InputError: It is one of these, or its name is too long; the message is the reason, without
            the path.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # Path.is_file raises it
            raise InputError(
                "its name is too long for the file system: give a shorter one"
            ) from None
        return  # opening it says why
    except ValueError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = KINDS.get(stat.S_IFMT(mode), "special file")
        raise InputError(f"it is a {kind}, expected a regular file: copy its content to one")


def check_regular(path: str | Path, what: str = "") -> None:
    """Refuse what :func:`refuse_endless` refuses, with the path in the message.

    Args:
        path (str | Path): The file.
        what (str): What to call it before its path. Defaults to '', nothing.

    Raises:
        InputError: It is a pipe, a socket or a device.
    """
    try:
        refuse_endless(path)
    except InputError as error:
        raise InputError(f"{f'{what} {path}'.strip()} cannot be read: {error}") from None
