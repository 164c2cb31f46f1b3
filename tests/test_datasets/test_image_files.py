from __future__ import annotations

import os
from pathlib import Path

import mmcv
import numpy as np
import pytest
from PIL import Image

from mmbeit3.datasets import image_files
from mmbeit3.datasets.checks import files as file_checks
from mmbeit3.datasets.image_files import (
    ImageFile,
    check_image_files,
    find_image_problems,
    read_size,
)
from mmbeit3.datasets.transforms.loading import LoadImageFromFile, image_loader
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import ORIENTATION, read_image

SUFFIXES = (".jpg", ".png", ".webp", ".tif", ".bmp")


def _image(path: Path, size: tuple[int, int] = (60, 40), **options: object) -> ImageFile:
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return ImageFile(str(path), *size)


def _cut(file: ImageFile, share: float) -> ImageFile:
    content = Path(file.path).read_bytes()
    Path(file.path).write_bytes(content[: int(share * len(content))])
    return file


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whole_files_pass(tmp_path: Path, suffix: str) -> None:
    file = _image(tmp_path / f"a{suffix}")
    assert find_image_problems([file], "it") == {}
    assert find_image_problems([file], "it", decode=True) == {}
    assert find_image_problems([ImageFile(file.path)], "it") == {}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0, 0.1, 0.6, 0.97])
def test_cut_files_are_found(tmp_path: Path, suffix: str, share: float) -> None:
    file = _cut(_image(tmp_path / f"a{suffix}"), share)
    (problem,) = find_image_problems([file], "it").values()
    assert problem.startswith(f"{file.path} cannot be read: ")


def test_what_follows_the_end_of_an_image_does_not_matter(tmp_path: Path) -> None:
    files = [_image(tmp_path / f"{index}{suffix}") for index, suffix in enumerate(SUFFIXES[:2])]
    for file, tail in zip(files, (b"\0" * 40, b"a phone's own data" * 20), strict=True):
        Path(file.path).write_bytes(Path(file.path).read_bytes() + tail)
    assert find_image_problems(files, "it") == {}


def test_damage_in_the_middle_is_found_by_decoding(tmp_path: Path) -> None:
    file = _image(tmp_path / "a.png")
    content = bytearray(Path(file.path).read_bytes())
    content[200:260] = bytes(60)
    Path(file.path).write_bytes(content)
    assert find_image_problems([file], "it") == {}
    assert len(find_image_problems([file], "it", decode=True)) == 1


def test_other_sizes_and_missing_files_are_named(tmp_path: Path) -> None:
    file = _image(tmp_path / "a.jpg")
    other, absent = file._replace(width=40, height=60), ImageFile(str(tmp_path / "b.jpg"), 1, 1)
    size, missing = find_image_problems([other, absent], "it").values()
    assert size == f"{file.path} is 60 x 40, but expected to be 40 x 60 (width x height)"
    assert missing == f"{absent.path} cannot be read: No such file or directory"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_size_is_that_of_the_reader(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    file = _image(tmp_path / f"a{suffix}", exif=exif)
    height, width = read_image(file.path).shape[:2]
    assert read_size(file.path).loaded == (width, height)
    assert find_image_problems([file._replace(width=width, height=height)], "it") == {}

    by_mmcv = image_loader([{"type": "mmcv.LoadImageFromFile"}])
    height, width = mmcv.imread(file.path).shape[:2]
    assert read_size(file.path, by_mmcv).loaded == (width, height)


def test_an_orientation_is_given_as_the_reason(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    file = _image(tmp_path / "a.jpg", exif=exif)
    (problem,) = find_image_problems([file], "it").values()
    assert "is 40 x 60, but expected to be 60 x 40" in problem
    assert "; its EXIF orientation swaps the sides: if the annotations follow" in problem
    stored = image_loader([{"type": "mmbeit3.LoadImageFromFile", "exif": "ignore"}])
    assert find_image_problems([file], "it", stored) == {}
    settings = {"type": "mmcv.LoadImageFromFile", "color_type": "color_ignore_orientation"}
    assert find_image_problems([file], "it", image_loader([settings])) == {}


def _turned(path: Path, orientation: int, size: tuple[int, int] = (60, 40)) -> ImageFile:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return _image(path, size, exif=exif)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientations_that_no_size_tells_are_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    lines = []
    monkeypatch.setattr(image_files, "print_log", lambda text, *_: lines.append(text))
    files = [_turned(tmp_path / f"{value}{suffix}", value) for value in (1, 2, 3, 4)]
    files += [_turned(tmp_path / f"square{suffix}", 6, (50, 50)), _image(tmp_path / f"a{suffix}")]
    check_image_files(files, "train.json")
    (line,) = lines
    assert line.startswith("train.json: 4 images have an EXIF orientation")
    assert f"the first: {files[1].path}. " in line and 'exif="ignore"' in line
    for exif in ("apply", "ignore"):
        check_image_files(files, "it", LoadImageFromFile(exif=exif))
    check_image_files([ImageFile(file.path) for file in files], "images without annotations")
    assert len(lines) == 1


def test_that_files_are_turned_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = []
    monkeypatch.setattr(image_files, "print_log", lambda text, *_: lines.append(text))
    monkeypatch.setattr(file_checks, "LARGE", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = [_turned(tmp_path / f"{value}.jpg", value) for value in (1, 2, 3)]
    for _ in range(2):
        check_image_files(files, "it")
    assert len(lines) == 2 and lines[0] == lines[1]
    check_image_files(files, "it", LoadImageFromFile(exif="apply"))
    assert len(lines) == 2


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_annotations_of_stored_pixels_fit_where_exif_is_ignored(
    tmp_path: Path, orientation: int
) -> None:
    file = _turned(tmp_path / "a.jpg", orientation)
    ignored = LoadImageFromFile(exif="ignore")
    assert len(find_image_problems([file], "it")) == 1
    assert find_image_problems([file], "it", ignored) == {}
    assert ignored({"img_path": file.path})["img"].shape == (40, 60, 3)
    with pytest.raises(InputError, match="exif='no', expected one of"):
        LoadImageFromFile(exif="no")


def test_damaged_exif_data_are_no_error(tmp_path: Path) -> None:
    file = _image(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff")
    assert find_image_problems([file], "it") == {}


def test_errors_are_listed_and_counted(tmp_path: Path) -> None:
    files = [_image(tmp_path / f"{index}.png")._replace(width=1) for index in range(12)]
    with pytest.raises(InputError) as caught:
        check_image_files([*files, _image(tmp_path / "good.png")], "train.json")
    lines = str(caught.value).splitlines()
    assert lines[0] == "12 of the 13 images of train.json cannot be used:"
    assert lines[1].strip().startswith(files[0].path) and lines[3] == "  ... and 10 more"
    assert len(lines) == 5


def test_that_files_passed_is_kept_until_one_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_checks, "LARGE", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = [_image(tmp_path / f"{index}.jpg") for index in range(3)]
    reads = []
    read = image_files.read_size

    def counted(path: str, *options: object) -> image_files.Size:
        reads.append(path)
        return read(path, *options)

    monkeypatch.setattr(image_files, "read_size", counted)
    check_image_files(files, "it")
    check_image_files(files, "it")
    assert len(reads) == 3
    with pytest.raises(InputError, match="60 x 40, but expected to be 61 x 40"):
        check_image_files([*files[:2], files[2]._replace(width=61)], "it")
    os.utime(_cut(files[1], 0.5).path, ns=(1, 1))
    for _ in range(2):  # what failed is not kept
        with pytest.raises(InputError, match=r"1\.jpg cannot be read"):
            check_image_files(files, "it")
    assert len(reads) == 12


def test_real_photographs_pass(data_root: Path) -> None:
    files = [
        ImageFile(str(path), *Image.open(path).size)
        for folder in ("coco_sample/train2017", "fruits_nuts/images", "nuclei_dsb2018/train")
        for path in sorted((data_root / folder).iterdir())
    ]
    assert len(files) > 150
    assert find_image_problems(files, "it") == {}
