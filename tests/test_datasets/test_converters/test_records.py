from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mmbeit3.datasets.converters.records import holds, load_records, read_record, write_records
from tests.test_checkpoint.mutations import mutated
from tests.test_datasets.fuzzing import time_limit

SOURCE = ["a.zip", 12, 34]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Records of ten files."""
    for number in range(10):
        (tmp_path / f"{number}.jpg").write_bytes(b"x" * number)
    records = {path.name: read_record(path) for path in tmp_path.glob("*.jpg")}
    write_records(tmp_path / ".records", SOURCE, records)
    return tmp_path / ".records"


def test_mutated_records_are_those_of_their_files_or_none(notes: Path) -> None:
    whole, folder = notes.read_bytes(), notes.parent
    assert len(load_records(notes, SOURCE)) == 10
    for seed in range(500):
        notes.write_bytes(mutated(whole, seed))
        with time_limit(seed):
            for name, record in load_records(notes, SOURCE).items():
                if holds(folder / name, record):
                    assert read_record(folder / name) == record


@pytest.mark.parametrize(
    "line",
    [
        '"a"',
        '["0.jpg"]',
        "[]",
        "{}",
        "7",
        "null",
        "[[], 1, 2]",
        '["0.jpg", 1]',
        '["0.jpg", true, 0]',
    ]
    + [
        '["0.jpg", NaN, 0]',
        '{"0.jpg": 1}',
        "[" * 100_000,
        '["\\ud800", 0, 0]',
        '["a\\u0000", 0, 0]',
    ]
    + [f'["0.jpg", {"9" * 5000}, 0]', '["0.jpg", -1, -1]', "[null, 0, 0]", "\0", "\\xff"],
)
def test_other_lines_are_no_records(line: str, notes: Path) -> None:
    first, *rest = notes.read_text().splitlines()
    notes.write_text("\n".join([first, line, *rest]) + "\n")
    for name, record in load_records(notes, SOURCE).items():
        assert not holds(notes.parent / name, record) or record == read_record(notes.parent / name)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)])
def test_what_is_no_file_has_no_records(make: Callable[[Path], None], notes: Path) -> None:
    notes.unlink()
    make(notes)
    with time_limit(0):
        assert load_records(notes, SOURCE) == {}
        assert not holds(notes, (0, 0))
