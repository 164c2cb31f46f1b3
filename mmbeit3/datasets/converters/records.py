"""Sizes and checksums of files that a converter wrote, by which a later run knows them again."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbeit3.datasets.converters.worker_pool import check_stop
from mmbeit3.utils.regular_files import refuse_endless
from mmbeit3.utils.whole_files import write_whole

CHUNK = 1 << 20
Record = tuple[int, ...]
"""A file's size and CRC-32."""


def read_record(path: str | Path) -> Record | None:
    """Read a file and return its size and CRC-32; None if it cannot be read."""
    size = crc = 0
    try:
        refuse_endless(path)
        with open(path, "rb") as file:
            while content := file.read(CHUNK):
                check_stop()
                size, crc = size + len(content), zlib.crc32(content, crc)
    except (OSError, ValueError):  # ValueError: a pipe, or the name has a null byte
        return None
    return size, crc


def holds(path: str | Path, record: Record) -> bool:
    """Whether a file has the size and the CRC-32 of a record."""
    try:
        return os.stat(path).st_size == record[0] and read_record(path) == tuple(record)
    except (OSError, ValueError):
        return False


def file_state(path: Path) -> list[int]:
    """Size and times of a file, which change whenever somebody writes it.

    For input of hundreds of gigabytes, which would take too long to read again.
    """
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def write_records(path: Path, source: Any, records: Mapping[str, Record]) -> None:
    """Write records, one a line; lines may be appended later.

    Args:
        path: The file.
        source: What the files were made from, as JSON holds it.
        records: By the files' names.

    Raises:
        InputError: It cannot be written.
    """
    write_whole(path, (f"{line}\n".encode() for line in _lines(source, records)))


def record_line(name: str, record: Record) -> str:
    """The line of a record."""
    return json.dumps([name, *record])


def load_records(path: Path, source: Any) -> dict[str, Record]:
    """Read records up to the first line that is cut short or damaged.

    Args:
        path: The file.
        source: What the files must have been made from.

    Returns:
        Records by name; none if there is no such file, or it is of another source.
    """
    records: dict[str, Record] = {}
    try:
        refuse_endless(path)
        with path.open(encoding="utf-8") as file:
            if json.loads(file.readline()) != source:
                return {}
            for line in file:
                name, *record = json.loads(line)
                if not line.endswith("\n") or not _is_record(name, record):
                    break
                records[name] = tuple(record)
    except (OSError, ValueError, TypeError, RecursionError):
        pass
    return records


def _is_record(name: Any, numbers: Sequence[Any]) -> bool:
    # What a record has beside a size and a checksum comes before them.
    return isinstance(name, str) and len(numbers) >= 2 and all(type(n) is int for n in numbers)


def _lines(source: Any, records: Mapping[str, Record]) -> Iterable[str]:
    yield json.dumps(source)
    for name, record in records.items():
        yield record_line(name, record)
