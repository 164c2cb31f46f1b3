"""One run for a folder: who is refused, who takes over, and where there are no locks."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from mmbeit3.utils import InputError, folder_lock
from mmbeit3.utils.folder_lock import LOCK_FILE, folder_locked

HOLDER = """
    import multiprocessing, os, sys, time
    from mmbeit3.utils.folder_lock import folder_locked
    with folder_locked(sys.argv[1], "a training", "work_dir"):
        if sys.argv[2] == "forks" and not os.fork():
            time.sleep(60)  # a data worker that outlives the training
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def hold():
    """Start a process that locks a folder and waits."""
    started = []

    def hold(folder: Path, way: str = "") -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOLDER), str(folder), way],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def locked(folder: Path):
    return folder_locked(folder, "an inference", "out_dir")


def test_a_second_run_is_told_whose_the_folder_is(tmp_path: Path, hold) -> None:
    process = hold(tmp_path)
    with pytest.raises(InputError) as caught, locked(tmp_path):
        pass
    text = str(caught.value)
    assert f"a training by process {process.pid} on {socket.gethostname()}, started 2" in text
    assert str(tmp_path) in text and "-c" in text and "another out_dir" in text
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == process.pid
    with pytest.raises(InputError), locked(tmp_path):  # being refused takes nothing away
        pass


@pytest.mark.parametrize("way", ["", "forks"])
def test_what_a_killed_run_leaves_is_taken_over(tmp_path: Path, hold, way: str) -> None:
    process = hold(tmp_path, way)
    process.kill()
    process.wait()
    assert (tmp_path / LOCK_FILE).exists()
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_it_is_given_back_after_errors(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), locked(tmp_path):
        raise error
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        pass


def test_a_folder_made_inside_of_a_run_is_locked_from_then_on(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with locked(folder):
        folder.mkdir()
        with locked(folder):
            owner = json.loads((folder / LOCK_FILE).read_text())
    assert owner["pid"] == os.getpid() and list(folder.iterdir()) == []


def test_a_run_may_be_part_of_another_but_threads_are_not(tmp_path: Path) -> None:
    refused = []

    def other() -> None:
        try:
            with locked(tmp_path):
                pass
        except InputError as error:
            refused.append(str(error))

    (tmp_path / "link").symlink_to(tmp_path)
    with locked(tmp_path), locked(tmp_path / "link"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"an inference by process {os.getpid()}" in refused[0]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": "x"}', "\0\0", '{"pid": -1}'])
def test_a_file_of_other_content_stops_nobody(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / LOCK_FILE).write_text(content)
    with locked(tmp_path):
        pass
    no_locks(monkeypatch)
    (tmp_path / LOCK_FILE).write_text(content)
    with locked(tmp_path):
        pass


def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "lockf", lockf)


def test_without_locks_the_text_decides(
    tmp_path: Path, hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = hold(tmp_path)
    no_locks(monkeypatch)
    with pytest.raises(InputError, match=f"process {process.pid} on"), locked(tmp_path):
        pass
    file = tmp_path / LOCK_FILE
    owner = json.loads(file.read_text())
    file.write_text(json.dumps(owner | {"born": owner["born"] + 1}))  # a later process of this pid
    with locked(tmp_path):
        pass
    file.write_text(json.dumps(owner | {"host": "elsewhere"}))
    with pytest.raises(InputError, match=f"on elsewhere.*remove {file}"), locked(tmp_path):
        pass
    process.kill()
    process.wait()
    file.write_text(json.dumps(owner))
    with locked(tmp_path):
        pass


def test_a_folder_that_takes_no_file_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: object, *_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder_lock.os, "open", full)
    with locked(tmp_path):
        assert list(tmp_path.iterdir()) == []
