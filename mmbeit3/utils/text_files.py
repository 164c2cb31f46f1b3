"""Text files in the encodings that editors save them in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mmbeit3.utils.errors import InputError
from mmbeit3.utils.regular_files import check_regular

HEAD = 4  # bytes that tell the encoding
MAX_SMALL = 64_000_000  # bytes


def find_encoding(head: bytes) -> str:
    """Tell the encoding of a text by its byte order mark, or by where its first zero bytes are.

    Args:
        head: The first four bytes.

    Returns:
        Python's name of UTF-8 (the default), UTF-16 or UTF-32; decoding drops the mark.
    """
    return json.detect_encoding(head)


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 or UTF-32 as some editors of Windows save it.

    Raises:
        InputError: Its bytes are not those of a text, or it is a pipe, a socket or a device.
        OSError: It cannot be read.
    """
    check_regular(path)
    with open(path, "rb") as file:
        encoding = find_encoding(file.read(HEAD))
    try:
        with open(path, encoding=encoding) as file:
            return file.read()
    except UnicodeError as error:
        raise InputError(f"{path} {not_text(encoding, error)}") from error


def read_small_json(path: str | Path) -> Any:
    """Read a file that one of our runs may have written; it may be anything else, too.

    Raises:
        ValueError: It is no JSON, larger than 64 MB, nested deeply, or no regular file.
        OSError: It cannot be read.
    """
    check_regular(path)
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_SMALL:
            raise ValueError(f"{path} is larger than {MAX_SMALL:,} bytes")
        try:
            return json.loads(file.read())
        except RecursionError as error:
            raise ValueError(f"{path} is nested too deeply") from error


def printable(text: str) -> str:
    """Write what is no character, as in names of other encodings, as a backslash and a number."""
    return text.encode(errors="backslashreplace").decode()


def not_text(encoding: str, error: UnicodeError) -> str:
    """Say that a file is no text, and why, without its path."""
    place = f" at byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
    reason = getattr(error, "reason", None) or error
    name = encoding.upper().removesuffix("-SIG")
    return f"is not a text file in {name}: {reason}{place}. Save it in UTF-8"
