"""A folder divided over processes: shares, and journals that may be cut."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from mmbeit3.inference import rank_parts as shares
from mmbeit3.inference.detection_writer import WrittenDetections
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.rank_parts import Journal, await_all, endings, make_parts, merge, own_share
from mmbeit3.inference.result import Failed
from mmbeit3.inference.writer import Written

SOURCES = [Source(number, Path(f"{number}.png"), f"{number}.png", None) for number in range(1, 8)]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_image_is_in_one_share_and_batches_stay_whole(
    count: int, batch_size: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, batches = SOURCES[:count], []
    for rank in range(size):
        monkeypatch.setattr(shares, "get_dist_info", lambda rank=rank: (rank, size))
        share = own_share(sources, batch_size)
        batches += [share[i : i + batch_size] for i in range(0, len(share), batch_size)]
    batches.sort(key=lambda batch: batch[0].image_id)
    assert batches == [sources[i : i + batch_size] for i in range(0, count, batch_size)]


def outcome(number: int) -> Failed | Written:
    source = SOURCES[number - 1]
    if number == 4:
        return Failed(source, "the file is empty")
    return WrittenDetections(source, 20, 30, ['{"ä": 1}'] * number, [number])


def write(folder: Path, rank: int, numbers: list[int], ends: bool = True) -> None:
    with Journal(folder, rank) as journal:
        for number in numbers:
            journal.add(outcome(number))
        if ends:
            journal.end(False, None)


def test_journals_come_together_in_order(tmp_path: Path) -> None:
    write(tmp_path, 0, [1, 4, 7])
    write(tmp_path, 1, [2, 5])
    write(tmp_path, 2, [3, 6])
    merged = list(merge(tmp_path, SOURCES, 3, WrittenDetections))
    assert merged == [outcome(number) for number in range(1, 8)]
    assert endings(tmp_path, 3) == [{"interrupted": False, "error": None}] * 3


def test_what_a_killed_process_wrote_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    write(tmp_path, 0, [1, 3])
    write(tmp_path, 1, [2, 4, 6], ends=False)
    path = tmp_path / "1.jsonl"
    path.write_text(path.read_text()[:-5])
    merged = list(merge(tmp_path, SOURCES, 3, WrittenDetections))  # the third wrote nothing
    assert merged == [outcome(number) for number in (1, 2, 3, 4)]
    whole, *killed = endings(tmp_path, 3)
    assert whole["interrupted"] is False
    assert killed == [
        {"interrupted": True, "error": f"process {number} of 3 was killed"} for number in (2, 3)
    ]


def test_an_image_is_in_the_journal_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path, 0) as journal:
        journal.add(outcome(1))
        assert (tmp_path / "0.jsonl").read_text().endswith("]\n")


def test_waiting_ends_with_the_last_process(tmp_path: Path) -> None:
    write(tmp_path, 0, [])
    last = threading.Timer(0.3, write, (tmp_path, 1, []))
    last.start()
    start = time.monotonic()
    await_all(tmp_path, 2, lambda: False)
    assert time.monotonic() - start >= 0.25


def test_waiting_is_short_when_told_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "GRACE", 0.2)
    write(tmp_path, 0, [])
    start = time.monotonic()
    await_all(tmp_path, 2, lambda: True)
    assert 0.2 <= time.monotonic() - start < 5


def test_parts_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    write(make_parts(tmp_path), 0, [1])
    assert list(make_parts(tmp_path).iterdir()) == []
