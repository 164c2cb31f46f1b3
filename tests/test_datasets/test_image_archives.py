from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from mmbeit3.datasets.image_archives import find_archives, unpack_images
from mmbeit3.utils import InputError

FILES = {f"patch0/{number}.jpg": bytes([number]) * 3000 for number in range(5)}


def _tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name[0] != "."
    }


@pytest.mark.parametrize("kind", ["w:gz", "w", "zip"])
def test_images_and_nothing_else_are_unpacked(kind: str, tmp_path: Path) -> None:
    others = {"patch0/readme.txt": b"text", "patch0/._1.jpg": b"of a Mac"}
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name, content in (FILES | others).items():
                archive.writestr(name, content)
    else:
        _tar(tmp_path / ("a.tar.gz" if kind == "w:gz" else "a.tar"), FILES | others, kind)
    unpack_images(find_archives(tmp_path), tmp_path / "out", num_workers=1)
    assert _contents(tmp_path / "out") == FILES


def test_a_stopped_run_is_taken_up_again(tmp_path: Path) -> None:
    whole = _tar(tmp_path / "a.tar.gz", FILES, "w:gz").read_bytes()
    _tar(tmp_path / "b.tar.gz", {"patch1/9.jpg": b"nine"})
    (tmp_path / "a.tar.gz").write_bytes(whole[: len(whole) * 2 // 3])
    archives, out = find_archives(tmp_path), tmp_path / "out"
    with pytest.raises(InputError, match=r"a\.tar\.gz \(\d+ bytes\) is damaged.*Download it again"):
        unpack_images(archives, out, num_workers=1)
    unpack_images(archives[1:], out, num_workers=1)
    have = _contents(out)
    assert have.items() <= (FILES | {"patch1/9.jpg": b"nine"}).items()
    times = {name: (out / name).stat().st_mtime_ns for name in have}
    (tmp_path / "a.tar.gz").write_bytes(whole)
    unpack_images(archives, out, num_workers=2)
    assert _contents(out) == FILES | {"patch1/9.jpg": b"nine"}
    assert {name: (out / name).stat().st_mtime_ns for name in times} == times
    # What is done is not even read again; what was replaced is.
    for archive in archives:
        archive.write_bytes(b"-" * archive.stat().st_size)
    unpack_images(archives, out, num_workers=1)
    _tar(archives[1], {"patch1/10.jpg": b"ten"})
    unpack_images(archives[1:], out, num_workers=1)
    assert (out / "patch1/10.jpg").read_bytes() == b"ten"


def test_an_image_cut_short_is_written_again(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar.gz", FILES)
    (tmp_path / "out/patch0").mkdir(parents=True)
    (tmp_path / "out/patch0/3.jpg").write_bytes(b"short")
    (tmp_path / "out/patch0/.4.jpg.123.partial").write_bytes(b"of a process that was killed")
    unpack_images([archive], tmp_path / "out", num_workers=1)
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert _contents(tmp_path / "out") == FILES


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "patch0/../../a.jpg"])
def test_no_file_leaves_the_folder(name: str, tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar", {name: b"a"}, "w")
    with pytest.raises(InputError, match="leads out of the folder"):
        unpack_images([archive], tmp_path / "out", num_workers=1)
    assert not _contents(tmp_path / "out")


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=r"a\.tar\.gz \(22 bytes\) is damaged"):
        unpack_images(find_archives(tmp_path), tmp_path / "out", num_workers=1)
