from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mmbeit3.datasets.converters import image_archives
from mmbeit3.datasets.converters.image_archives import find_archives, unpack_images
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
    # What was written anew is read again, whatever its size.
    archives[1].write_bytes(b"-" * archives[1].stat().st_size)
    with pytest.raises(InputError, match=r"b\.tar\.gz .* is damaged"):
        unpack_images(archives, out, num_workers=1)
    _tar(archives[1], {"patch1/10.jpg": b"ten"})
    unpack_images(archives[1:], out, num_workers=1)
    assert (out / "patch1/10.jpg").read_bytes() == b"ten"


def test_what_is_done_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _tar(tmp_path / "a.tar.gz", FILES)
    unpack_images([archive], tmp_path / "out", num_workers=1)
    monkeypatch.setattr(image_archives, "open_tar", None)
    unpack_images([archive], tmp_path / "out", num_workers=1)


@pytest.mark.parametrize("kind", ["w:gz", "w", "zip"])
@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("content", [b"\1" * 3000, b"", b"longer" * 900])
def test_other_content_of_an_earlier_run_is_replaced(
    kind: str, is_done: bool, content: bytes, tmp_path: Path
) -> None:
    archive = tmp_path / "a.tar.gz"
    if kind == "zip":
        archive = tmp_path / "a.zip"
        with zipfile.ZipFile(archive, "w") as opened:
            for name, data in FILES.items():
                opened.writestr(name, data)
    else:
        _tar(archive, FILES, kind)
    out = tmp_path / "out"
    unpack_images([archive], out, num_workers=1)
    path = out / "patch0/3.jpg"
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy keeps them
    if not is_done:
        (out / f".{archive.name}.unpacked").unlink()
    unpack_images([archive], out, num_workers=1)
    assert _contents(out) == FILES


@pytest.mark.parametrize("cut", [20, 100, 1])
def test_damaged_records_count_as_none(cut: int, tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar.gz", FILES)
    unpack_images([archive], tmp_path / "out", num_workers=1)
    note = tmp_path / "out/.a.tar.gz.unpacked"
    note.write_bytes(note.read_bytes()[:-cut] + b"\xff[[")
    (tmp_path / "out/patch0/3.jpg").write_bytes(b"other")
    unpack_images([archive], tmp_path / "out", num_workers=1)
    assert _contents(tmp_path / "out") == FILES


def test_an_image_cut_short_is_written_again(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar.gz", FILES)
    (tmp_path / "out/patch0").mkdir(parents=True)
    (tmp_path / "out/patch0/3.jpg").write_bytes(b"short")
    (tmp_path / "out/patch0/.4.jpg.123.partial").write_bytes(b"of a process that was killed")
    unpack_images([archive], tmp_path / "out", num_workers=1)
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert _contents(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/a.jpg", "patch0/../../a.jpg", "..\\a.jpg", "C:\\a.jpg", "\\a.jpg"]
)
def test_no_file_leaves_the_folder(name: str, tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar", {name: b"a"}, "w")
    with pytest.raises(InputError, match="leads out of the folder"):
        unpack_images([archive], tmp_path / "out", num_workers=1)
    assert not _contents(tmp_path / "out")


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=r"a\.tar\.gz \(22 bytes\) is damaged"):
        unpack_images(find_archives(tmp_path), tmp_path / "out", num_workers=1)


def _sparse_tar(path: Path) -> None:
    """A tar whose only entry is said to be 10 GB of zeros."""
    entry = tarfile.TarInfo("a.jpg")
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"  # a sparse file
    header[483:495] = b"%011o\0" % 10**10
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(header + bytes(1024))


def _announcing_tar(path: Path) -> None:
    """A tar whose extended header is said to take 8 GB of memory."""
    entry = tarfile.TarInfo("a.jpg")
    entry.size, entry.type = 8**11 - 1, tarfile.XHDTYPE
    path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(2048))


def _bomb_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.jpg", bytes(1_000_000))


BOMBS: dict[str, Callable[[Path], object]] = {
    "many.zip": _bomb_zip,
    "one.tar.gz": lambda path: _tar(path, {"a.jpg": bytes(20_000_000)}),
    "many.tar.gz": lambda path: _tar(path, {f"{n}.jpg": bytes(10**6) for n in range(20)}),
    "text.tar.gz": lambda path: _tar(path, {"a.txt": bytes(20_000_000), "a.jpg": b"a"}),
    "sparse.tar": _sparse_tar,
    "header.tar": _announcing_tar,
}


@pytest.mark.parametrize("name", BOMBS)
def test_archives_made_to_fill_the_disk(name: str, tmp_path: Path) -> None:
    BOMBS[name](tmp_path / name)
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"over 100 times its size|announces [\d,]+ bytes"):
        unpack_images([tmp_path / name], out, num_workers=1)
    assert sum(path.stat().st_size for path in out.rglob("*")) < 5_000_000


def test_links_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            entry = tarfile.TarInfo("a.jpg")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        with pytest.raises(InputError, match=r"a\.tar has a\.jpg as a link or a device"):
            unpack_images([tmp_path / "a.tar"], tmp_path / "out", num_workers=1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        entry = zipfile.ZipInfo("a.jpg")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(InputError, match=r"a\.zip has a\.jpg as a link or a device"):
        unpack_images([tmp_path / "a.zip"], tmp_path / "out", num_workers=1)
    assert not _contents(tmp_path / "out")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["p/a.jpg", "p/a.jpg"], "has p/a.jpg twice"),
        (["p/a.jpg", "p//./a.jpg"], "and p/a.jpg, which are one file"),
        (["p/a.jpg", "P/A.jpg"], "has P/A.jpg and p/a.jpg, which are one file on some disks"),
        (["p/\u00e9.jpg", "p/e\u0301.jpg"], "which are one file on some disks"),
    ],
)
def test_names_of_one_file(names: list[str], message: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number, name in enumerate(names):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            archive.addfile(entry, io.BytesIO(str(number).encode()))
    with pytest.raises(InputError, match=message):
        unpack_images([tmp_path / "a.tar"], tmp_path / "out", num_workers=1)


def test_an_entry_without_a_name_is_damage(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("p/a.jpg", b"a")
        archive.writestr(zipfile.ZipInfo(""), b"b")
    with pytest.raises(InputError, match=r"a\.zip .* is damaged: an entry has no name"):
        unpack_images([tmp_path / "a.zip"], tmp_path / "out", num_workers=1)


def test_two_archives_with_one_file(tmp_path: Path) -> None:
    archives = [_tar(tmp_path / f"{name}.tar", {"p/a.jpg": name.encode()}, "w") for name in "ab"]
    with pytest.raises(InputError, match=r"a\.tar and .*b\.tar both|b\.tar and .*a\.tar both"):
        unpack_images(archives, tmp_path / "out", num_workers=1)


def test_archives_without_images(tmp_path: Path) -> None:
    inner = _tar(tmp_path / "inner.tar", FILES, "w").read_bytes()
    archive = _tar(tmp_path / "a.tar.gz", {"patch0.tar": inner})
    with pytest.raises(InputError, match=r"holds no image, but patch0\.tar: .*in it first"):
        unpack_images([archive], tmp_path / "out", num_workers=1)


def test_what_is_inside_tells_the_kind(tmp_path: Path) -> None:
    plain = _tar(tmp_path / "a.tar", FILES, "w")
    unpack_images([plain.rename(tmp_path / "a.tar.gz")], tmp_path / "out", num_workers=1)
    assert _contents(tmp_path / "out") == FILES


def test_a_tar_that_breaks_off_between_its_files_is_damaged(tmp_path: Path) -> None:
    content = _tar(tmp_path / "a.tar", FILES, "w").read_bytes()
    size = 512 + 3072  # of a header and a file
    for damaged in (content[: 2 * size], content[:size] + b"?" * 512 + content[size + 512 :]):
        (tmp_path / "a.tar").write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.tar .* is damaged: it breaks off at byte"):
            unpack_images([tmp_path / "a.tar"], tmp_path / "out", num_workers=1)
