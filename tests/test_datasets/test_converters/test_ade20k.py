from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbeit3.datasets import ADE20KDataset
from mmbeit3.datasets.converters import ade20k as module
from mmbeit3.datasets.converters import archives
from mmbeit3.datasets.converters.ade20k import NAME, expected_names, prepare_ade20k
from mmbeit3.utils import InputError

SIZE = (10, 8)


def _picture(array: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def _content(name: str) -> bytes:
    """A JPEG or a label map of the official values."""
    rng, shape = np.random.default_rng(list(name.encode())), SIZE[::-1]
    if name.endswith("jpg"):
        return _picture(rng.integers(0, 256, (*shape, 3), np.uint8), "JPEG")
    if name.endswith("png"):
        return _picture(rng.integers(0, 151, shape, np.uint8), "PNG")
    return name.encode() * 50


def _archive(path: Path, num_train: int = 3, num_val: int = 2, root: str = NAME) -> Path:
    """An archive like the official one, with small pictures."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir(root)
        for name in [*expected_names(num_train, num_val), "objectInfo150.txt"]:
            archive.writestr(f"{root}/{name}", _content(name))
    return path


def _prepare(archive: Path, **kwargs) -> Path:
    settings = {"out_dir": archive.parent / "ade", "num_train": 3, "num_val": 2}
    return prepare_ade20k(archive, **(settings | kwargs))


def test_the_official_names_and_counts() -> None:
    names = expected_names()
    assert len(names) == len(set(names)) == 2 * (20210 + 2000)
    assert "images/training/ADE_train_00020210.jpg" in names
    assert "annotations/validation/ADE_val_00002000.png" in names


def test_the_names_are_those_of_the_real_files(data_root: Path) -> None:
    root = data_root / "ade20k_sample"
    real = {
        str(path.relative_to(root))
        for folder in ("images", "annotations")
        for path in (root / folder).rglob("*.*")
    }
    assert len(real) == 64 and real <= set(expected_names())


def test_an_archive_is_unpacked(tmp_path: Path) -> None:
    folder = _prepare(_archive(tmp_path / "a.zip"))
    assert folder == tmp_path / "ade" / NAME
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    assert found == {*expected_names(3, 2), "objectInfo150.txt"}
    assert all((folder / name).read_bytes() == _content(name) for name in found)
    assert [path.name for path in (tmp_path / "ade").iterdir()] == [NAME]


def test_a_stopped_run_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _archive(tmp_path / "a.zip")
    written = []
    write_whole = module.write_whole

    def write(path: Path, chunks) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path.name)
        write_whole(path, chunks)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_whole", write)
        with pytest.raises(KeyboardInterrupt):
            _prepare(archive)
    assert [path.name for path in (tmp_path / "ade").iterdir()] == [f".{NAME}.partial"]
    # A file that was cut short is written anew.
    cut = tmp_path / "ade" / f".{NAME}.partial" / expected_names(3, 2)[0]
    cut.write_bytes(b"half")
    times = {path: path.stat().st_mtime_ns for path in cut.parent.rglob("*.*")}
    folder = _prepare(archive)
    assert (folder / expected_names(3, 2)[0]).read_bytes() == _content(expected_names(3, 2)[0])
    kept = [
        path
        for path, time in times.items()
        if (folder / path.relative_to(cut.parents[2])).stat().st_mtime_ns == time
    ]
    assert len(kept) == len(times) - 1


def test_a_finished_folder_is_compared(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.zip")
    folder = _prepare(archive)
    assert _prepare(archive) == folder
    (folder / "images/training/ADE_train_00000002.jpg").unlink()
    with pytest.raises(InputError, match=r"exists, but 1 of 11 files are missing.*0002.jpg"):
        _prepare(archive)


def _change(archive: Path, changes: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(archive) as opened:
        contents = {name: opened.read(name) for name in opened.namelist()}
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in (contents | changes).items():
            opened.writestr(name, content)
    return archive


@pytest.mark.parametrize("name", [*expected_names(1, 0), "objectInfo150.txt"])
def test_other_content_of_the_right_size_is_noticed(name: str, tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.zip")
    path = _prepare(archive) / name
    state, content = path.stat(), path.read_bytes()
    path.write_bytes(bytes(len(content)))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(InputError, match=rf"exists, but 1 of 11 files .*{name} or of another con"):
        _prepare(archive)
    partial = tmp_path / "ade" / f".{NAME}.partial"
    (tmp_path / "ade" / NAME).rename(partial)
    assert (_prepare(archive) / name).read_bytes() == content


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("annotations/training/ADE_train_00000002.png", (8, 11), "is 11 x 8, but .*2.jpg is 10 x"),
        ("images/validation/ADE_val_00000001.jpg", (10, 8, 3), "1.png is 10 x 8, .*is 8 x 10"),
        ("annotations/training/ADE_train_00000002.png", (8, 10, 3), "has colo"),
        (
            "annotations/validation/ADE_val_00000002.png",
            151,
            "value 151: 80 pixels in 1 label",
        ),
        ("images/training/ADE_train_00000001.jpg", b"", r"0001.jpg cannot be read: .*empty"),
        ("images/training/ADE_train_00000003.jpg", b"\xff\xd8", r"0003.jpg cannot be read"),
    ],
)
def test_pairs_that_training_would_refuse(
    name: str, content: object, message: str, tmp_path: Path
) -> None:
    if isinstance(content, int):
        content = _picture(np.full(SIZE[::-1], content, np.uint8), "PNG")
    elif isinstance(content, tuple):
        content = _picture(np.zeros(content, np.uint8), "JPEG" if name[-3:] == "jpg" else "PNG")
    archive = _change(_archive(tmp_path / "a.zip"), {f"{NAME}/{name}": content})
    with pytest.raises(InputError, match=message):
        _prepare(archive)
    assert not (tmp_path / "ade" / NAME).exists()
    folder = _prepare(_archive(tmp_path / "a.zip"))
    assert (folder / name).read_bytes() == _content(name)


def test_our_dataset_reads_what_was_unpacked(tmp_path: Path) -> None:
    folder = _prepare(_archive(tmp_path / "a.zip"))
    prefix = {"img_path": "images/training", "seg_map_path": "annotations/training"}
    assert len(ADE20KDataset(data_root=str(folder), data_prefix=prefix)) == 3


def test_archives_made_to_fill_the_disk(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.zip")
    changes = {f"{NAME}/{name}": bytes(10**6) for name in expected_names(3, 2)}
    with pytest.raises(InputError, match=r"a.zip \([\d,]+ bytes\) unpacks to 10,.* over 100 times"):
        _prepare(_change(archive, changes))
    with pytest.raises(InputError, match="ADE_train_00000001.JPG and .*1.jpg, which are one file"):
        _prepare(
            _change(_archive(archive), {f"{NAME}/images/training/ADE_train_00000001.JPG": b"?"})
        )
    assert not (tmp_path / "ade").exists()


def test_the_home_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="~no-such-user/a.zip: .*; give the whole path"):
        prepare_ade20k("~no-such-user/a.zip", tmp_path)


def test_other_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"not ADEChallengeData2016.zip: it holds 11 files in ADE20"
    ):
        _prepare(_archive(tmp_path / "full.zip", root="ADE20K_2016_07_26"))
    with pytest.raises(
        InputError, match=r"is incomplete: 2 of 10 files are missing, such as images"
    ):
        _prepare(_archive(tmp_path / "less.zip", num_val=1))
    with pytest.raises(InputError, match="has 12 images and label maps, expected 10"):
        _prepare(_archive(tmp_path / "more.zip", num_train=4))
    assert not (tmp_path / "ade").exists()


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.zip")
    content = archive.read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[:-100])
    with pytest.raises(InputError, match="is no complete zip file.*Download it again"):
        _prepare(tmp_path / "cut.zip")
    with zipfile.ZipFile(archive) as opened:
        entry = opened.getinfo(f"{NAME}/images/training/ADE_train_00000003.jpg")
    start = entry.header_offset + 30 + len(entry.filename) + 5
    (tmp_path / "bad.zip").write_bytes(content[:start] + b"\0\0\0" + content[start + 3 :])
    with pytest.raises(InputError, match=r"is damaged at .*ADE_train_00000003.jpg"):
        _prepare(tmp_path / "bad.zip")
    with pytest.raises(InputError, match="absent.zip does not exist"):
        _prepare(tmp_path / "absent.zip")
    with pytest.raises(InputError, match="is a folder, expected the zip file"):
        _prepare(tmp_path)


@pytest.mark.parametrize(
    ("offset", "byte"),
    [(6, 1), (8, 77)],  # flags: encrypted; compression: unknown
)
def test_flipped_bits_are_damage(tmp_path: Path, offset: int, byte: int) -> None:
    content = bytearray(_archive(tmp_path / "a.zip").read_bytes())
    local = content.rindex(b"PK\3\4")
    listed = content.rindex(b"PK\1\2")
    content[local + offset] = content[listed + offset + 2] = byte
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged at .*objectInfo150.txt: .*Download it again"):
        _prepare(tmp_path / "bad.zip")
    content[listed + 6] = 200  # the version needed to read it
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(InputError, match="is no complete zip file: zip file version 20.0"):
        _prepare(tmp_path / "bad.zip")


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.zip")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"the folder .*file/.* cannot be made: Not a directory"):
        _prepare(archive, out_dir=tmp_path / "file")
    (tmp_path / "ade").mkdir()
    (tmp_path / "ade" / NAME).symlink_to(tmp_path / "disk")
    with pytest.raises(InputError, match="is a link to .*disk, which does not exist: mount"):
        _prepare(archive)
    (tmp_path / "disk").mkdir()
    with pytest.raises(InputError, match="exists, but 11 of 11 files are missing"):
        _prepare(archive)


def test_a_full_disk_is_noticed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _archive(tmp_path / "a.zip")
    usage = archives.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match="0.0 GB free, .* are needed: make room"):
        _prepare(archive)
