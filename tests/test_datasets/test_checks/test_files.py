"""Checks that are kept: waiting for another process that does the same one, and damaged caches."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmbeit3.datasets.checks import files as file_checks
from tests.test_checkpoint.mutations import mutated
from tests.test_datasets.fuzzing import time_limit

FOUND = {"num_maps": 3, "pixels": [1, 2, 3] * 20, "examples": {"7": ["a.png", 12]}, "narrow": []}


def test_waiting_for_another_process_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_checks, "FIRST_SAID", 0.2)
    monkeypatch.setattr(file_checks, "SAY_AGAIN", 0.3)
    data = tmp_path / "a.json"
    data.touch()
    arguments = ("annotations", [str(data)], "the train set", lambda: 7)
    assert file_checks.keep(*arguments, is_costly=True) == 7
    assert capsys.readouterr().err == ""
    (kept,) = (tmp_path / "cache" / "mmbeit3").glob("*.json")
    kept.unlink()
    code = "import sys, time; from filelock import FileLock\n"
    code += "with FileLock(sys.argv[1]): print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, f"{kept}.lock"], stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        timer = threading.Timer(1.2, holder.kill)  # which gives the lock back
        timer.start()
        assert file_checks.keep(*arguments, is_costly=True) == 7
        timer.join()
    said = capsys.readouterr().err
    assert said.count("another process that checks the train set, and holds") >= 2
    assert f"{kept}.lock" in said


class Kept:
    """A check, how often it was done, and the file in which its result is kept."""

    def __init__(self, folder: Path) -> None:
        self.data, self.runs = folder / "a.json", 0
        self.data.touch()
        assert self() == FOUND
        (self.file,) = (folder / "cache" / "mmbeit3").glob("*.json")

    def __call__(self) -> Any:
        return file_checks.keep("labels", [str(self.data)], "it", self.check, is_costly=True)

    def check(self) -> Any:
        self.runs += 1
        return FOUND


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Kept(tmp_path)


def lines_said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_what_is_kept_is_not_done_again(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    assert kept() == kept() == FOUND
    assert kept.runs == 1 and lines_said(capsys) == []


@pytest.mark.parametrize("half", [0, 1])
def test_a_mutated_cache_is_said_and_made_anew(
    half: int, kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = kept.file.read_bytes()
    for seed in range(half * 200, half * 200 + 200):
        content = mutated(whole, seed)
        kept.file.write_bytes(content)
        kept.runs = 0
        with time_limit(seed):
            assert kept() == FOUND, seed
        assert kept.runs == len(lines_said(capsys)) == int(content != whole), seed
        assert kept.file.read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\0" * 100, b"\xff\xfe{}", b"[" * 100_000, b"9" * 10_000),
        *(json.dumps({"result": value}).encode() for value in (FOUND, None, float("nan"), 1e308)),
        *(b"null", b"[]", b"{}", b'{"result": 7}', b'"result"', b"NaN", b"-1e999"),
        b'{"result": {"num_maps": {}, "pixels": [[]], "maps": "x", "examples": [], "narrow": 1}}',
        b"0" * 64 + b"\n" + json.dumps(FOUND).encode(),
    ],
)
def test_other_content_is_no_cache(
    content: bytes, kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.file.write_bytes(content)
    assert kept() == FOUND and kept.runs == 2
    (line,) = lines_said(capsys)
    assert line.startswith("the check of it is done again") and str(kept.file) in line
    assert kept() == FOUND and kept.runs == 2


def test_the_result_of_another_check_is_no_cache(
    kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    other = kept.file.with_name(f"labels-{'0' * 16}.json")
    kept.file.rename(other)
    assert kept() == FOUND
    kept.file.write_bytes(other.read_bytes().replace(b"3", b"4"))
    other.replace(kept.file.with_name("images-1.json"))
    assert kept() == FOUND and kept.runs == 3 and len(lines_said(capsys)) == 1


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # longer names are refused


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a directory": Path.mkdir,
    "a pipe": os.mkfifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a huge file": make_huge,
}


@pytest.mark.parametrize("part", ["", ".lock"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_no_cache(
    kind: str,
    part: str,
    kept: Kept,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(kept.file.parent)
    place = Path(f"{kept.file}{part}")
    kept.file.unlink()
    place.unlink(missing_ok=True)
    SPECIAL[kind](place)
    with time_limit(0):
        assert kept() == FOUND
    assert kept.runs == 2
    if part == "" and kind != "a link to nothing":
        assert "the check of it is done again" in lines_said(capsys)[0]
    with time_limit(0):
        assert kept() == FOUND


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o400])
def test_a_cache_without_rights_is_done_without(mode: int, kept: Kept) -> None:
    for path in (kept.file, kept.file.with_name(f"{kept.file.name}.lock"), kept.file.parent):
        path.chmod(mode)
        if os.access(path, os.R_OK | os.W_OK):
            pytest.skip("this user may read and write everything")
        assert kept() == FOUND
        path.chmod(0o700)


def test_an_error_of_the_check_itself_is_raised_once(kept: Kept) -> None:
    kept.file.unlink()

    def fail() -> None:
        kept.runs += 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        file_checks.keep("labels", [str(kept.data)], "it", fail, is_costly=True)
    assert kept.runs == 2
