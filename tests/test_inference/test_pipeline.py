"""Items through threads in order, and files that are whole at any time."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmbeit3.inference import pipeline as stream
from mmbeit3.inference.pipeline import JsonList, map_ahead, track, write_json


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_map_ahead_keeps_the_order(pool):
    def slow_if_even(number: int) -> int:
        time.sleep(0.01 * (number % 2 == 0))
        return number

    assert list(map_ahead(pool, slow_if_even, range(20), limit=5)) == list(range(20))
    assert list(map_ahead(pool, slow_if_even, [], limit=5)) == []


def test_map_ahead_takes_no_more_than_the_limit(pool):
    taken = []
    items = (taken.append(i) or i for i in range(100))
    gate = threading.Event()
    results = map_ahead(pool, lambda item: gate.wait() and item, items, limit=6)
    opener = threading.Timer(0.05, gate.set)
    opener.start()
    assert next(results) == 0
    assert len(taken) == 7  # six ahead of the one that was waited for
    assert list(results) == list(range(1, 100))


def test_map_ahead_weighs_items(pool):
    taken = []
    items = (taken.append(i) or i for i in range(10))
    results = map_ahead(pool, lambda item: item, items, limit=5, weigh=lambda _: 10)
    for expected in range(10):  # each item alone exceeds the limit
        assert next(results) == expected
        assert len(taken) == expected + 1


def test_map_ahead_refills_while_results_are_taken(pool):
    taken = []
    items = (taken.append(i) or i for i in range(100))
    results = map_ahead(pool, lambda item: item, items, limit=6)
    for count in range(1, 50):
        next(results)
        time.sleep(0.001)  # all pending items are done now
        assert len(taken) >= count


def test_map_ahead_overlaps(pool):
    start = time.perf_counter()
    list(map_ahead(pool, lambda _: time.sleep(0.05), range(8), limit=8))
    assert time.perf_counter() - start < 0.3  # 0.4 one after the other


def test_map_ahead_passes_errors_on(pool):
    with pytest.raises(ZeroDivisionError):
        list(map_ahead(pool, lambda item: 1 // item, [1, 0], limit=3))


def test_track_passes_on_and_logs(monkeypatch, capsys):
    monkeypatch.setattr(stream, "LOG_INTERVAL", 0)
    assert list(track(iter("ab"), 4)) == ["a", "b"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1/4 images")
    assert lines[1].startswith("2/4 images")
    assert "remaining" in lines[1]


def test_json_list(tmp_path):
    path = tmp_path / "list.json"
    with JsonList(path) as entries:
        entries.append(['{"a": 1}', '{"b": "ü"}'])
        entries.append([])
        entries.append(["3"])
        assert not path.exists()
    assert json.loads(path.read_text(encoding="utf-8")) == [{"a": 1}, {"b": "ü"}, 3]
    assert list(tmp_path.iterdir()) == [path]


def test_json_list_empty(tmp_path):
    with JsonList(tmp_path / "list.json"):
        pass
    assert json.loads((tmp_path / "list.json").read_text()) == []


def test_json_list_after_an_error_holds_what_was_whole(tmp_path):
    path = tmp_path / "list.json"
    with pytest.raises(KeyboardInterrupt), JsonList(path) as entries:
        entries.append(["1"])
        entries._file.write(b",\n{half an ent")  # an append that was interrupted
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == [1]


def test_write_json_replaces(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert list(tmp_path.iterdir()) == [path]
