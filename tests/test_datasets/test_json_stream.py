from __future__ import annotations

import io
import json
from collections import defaultdict

import pytest

from mmbeit3.datasets import json_stream
from mmbeit3.datasets.json_stream import stream_entries
from mmbeit3.utils import InputError

DATA = {
    "info": {"note": "Zürich \u4e2d\U0001f600 ] } ,", "year": 2019, "nested": [1, [2, {}]]},
    "type": "instances",
    "empty": [],
    "images": [{"id": number, "name": f'a "{number}" \\ b', "size": 0.5} for number in range(40)],
    "numbers": [1, -2.5e-3, 12345678, True, None, "x"],
    "version": 12345,
}


def _collect(content: bytes) -> dict:
    lists, single = defaultdict(list), {}
    for key, entry in stream_entries(io.BytesIO(content), "a.json"):
        if isinstance(DATA.get(key), list):
            lists[key].append(entry)
        else:
            single[key] = entry
    return {"empty": [], **lists, **single}


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_reads_what_json_reads_wherever_the_window_ends(
    chunk: int, indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    for ascii_only in (True, False):
        text = json.dumps(DATA, indent=indent, ensure_ascii=ascii_only)
        assert _collect(text.encode()) == DATA
        assert _collect(text.encode("utf-8-sig")) == DATA


@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_every_cut_is_seen(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    content = json.dumps({"a": [{"b": 1}, {"c": "d"}], "e": 5}, indent=1).encode()
    for length in range(len(content)):
        with pytest.raises(InputError, match=r"a\.json is not valid JSON: character \d+"):
            _collect(content[:length])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2]", "character 0: expected one of {"),
        (b'{"a": [1 2]}', "character 9: expected one of ,]"),
        (b'{"a": [1,]}', "character 9: Expecting value"),
        (b'{"a" [1]}', "character 5: expected one of :"),
        (b"{1: [1]}", "character 2: expected a name in quotes"),
        (b'{"a": [{"b": }]}', "Expecting value"),
        (b'{"a": [' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": "\xff"}', "not a text file in UTF-8"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(InputError) as error:
        _collect(content)
    assert message in str(error.value)


def test_a_broken_entry_ends_before_the_file_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", 100)
    monkeypatch.setattr(json_stream, "MAX_ENTRY", 1000)
    file = io.BytesIO(b'{"a": [{"b": "' + b"x" * 100_000)
    with pytest.raises(InputError, match="character 7"):
        list(stream_entries(file, "a.json"))
    assert file.tell() < 2000
