from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path

import pytest

from mmbeit3.datasets.converters import archives
from mmbeit3.datasets.converters.image_archives import unpack_images
from mmbeit3.datasets.converters.worker_pool import run_in_processes
from mmbeit3.utils import InputError

UNPACK = (
    "import sys; from pathlib import Path\n"
    "from mmbeit3.commands.console import run\n"
    "from mmbeit3.datasets.converters.image_archives import unpack_images\n"
    "run(lambda: unpack_images([Path(sys.argv[1])], Path(sys.argv[2]), 1))"
)
NUM_IMAGES = 3000


def _square(number: int) -> int:
    if number == 7:
        raise InputError("seven")
    return number**2


def _end(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_and_before_an_error() -> None:
    assert run_in_processes(_square, range(7), "", 2, chunk=2) == [n**2 for n in range(7)]
    noted: list[int] = []
    with pytest.raises(InputError, match="seven"):
        run_in_processes(_square, range(8), "", 1, chunk=8, on_result=noted.append)
    assert noted == [n**2 for n in range(7)]
    with pytest.raises(InputError, match="number of processes is 0"):
        run_in_processes(_square, [], "", 0)


def test_a_killed_process_is_one_message() -> None:
    with pytest.raises(InputError, match="killed from outside.*fewer --workers"):
        run_in_processes(_end, range(3), "", 2)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that takes a while."""
    path = tmp_path_factory.mktemp("big") / "big.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(NUM_IMAGES):
            entry = tarfile.TarInfo(f"p/{number}.jpg")
            entry.size = 20000
            archive.addfile(entry, io.BytesIO(_content(number)))
    return path


def _content(number: int) -> bytes:
    return zlib.crc32(bytes([number % 256])).to_bytes(4, "big") * 5000


def _start_unpacking(big: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", UNPACK, str(big), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(out.glob("p/*")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    return process


def _num_images(out: Path) -> int:
    return len(list(out.glob("p/*.jpg")))


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [False, True])
def test_stopped_in_the_middle_of_an_archive(is_killed: bool, big: Path, tmp_path: Path) -> None:
    process = _start_unpacking(big, tmp_path / "out")
    # Ctrl-C reaches all processes; SIGKILL the first one, and the others must not outlive it.
    if is_killed:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGINT)
    stderr = process.communicate(timeout=20)[1]
    if not is_killed:
        assert process.returncode == 130 and "Traceback" not in stderr
    time.sleep(0.5)
    count = _num_images(tmp_path / "out")
    time.sleep(0.5)
    assert 0 < count == _num_images(tmp_path / "out") < NUM_IMAGES
    unpack_images([big], tmp_path / "out", 1)
    for number in range(NUM_IMAGES):
        assert (tmp_path / f"out/p/{number}.jpg").read_bytes() == _content(number)
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_a_full_disk_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, path = tmp_path / "out", tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(4):
            entry = tarfile.TarInfo(f"{number}.jpg")
            entry.size = 20000
            archive.addfile(entry, io.BytesIO(_content(number)))
    files: list[str] = []
    open_file = archives.Path.open

    def open_on_full_disk(self: Path, mode: str = "r", **kwargs):
        if mode == "wb":
            files.append(self.name)
            if len(files) == 3:
                raise OSError(28, "No space left on device")
        return open_file(self, mode, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(archives.Path, "open", open_on_full_disk)
        with pytest.raises(InputError, match=r"2\.jpg cannot be written \(No space left on device"):
            unpack_images([path], out, 1)
    assert sorted(file.name for file in out.iterdir()) == ["0.jpg", "1.jpg"]
    unpack_images([path], out, 1)
    assert [(out / f"{n}.jpg").read_bytes() for n in range(4)] == [_content(n) for n in range(4)]
