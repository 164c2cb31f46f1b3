"""Damaged JPEG and PNG files are named, and sound ones of all kinds are not."""

from __future__ import annotations

import copy
import io
import logging
import multiprocessing
import os
import pickle
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mmbeit3.datasets.image_files import ImageFile, find_image_problems
from mmbeit3.datasets.transforms import loading
from mmbeit3.datasets.transforms.loading import LoadImageFromFile, image_loader
from mmbeit3.utils import InputError, image_damage
from mmbeit3.utils.image_reading import ORIENTATION, decode_image, read_image
from mmbeit3.utils.said_once import SaidOnce
from tests.damaged_jpegs import ENCODINGS, END, KINDS, damage, encode, photograph

pytest.importorskip("simplejpeg", reason="damage in JPEG files is told by simplejpeg")


def damaged_files(folder: Path) -> list[ImageFile]:
    """Fifty files: five kinds of damage in each of ten encodings, of different sizes."""
    files = []
    for seed, encoding in enumerate(ENCODINGS):
        image = photograph(90 + 37 * seed, 200 - 13 * seed, seed)
        for kind in KINDS:
            path = folder / f"{encoding} {kind}.jpg".replace(":", "")
            path.write_bytes(damage(encode(image, encoding), kind, seed))
            files.append(ImageFile(str(path), *image.size))
    return files


def test_fifty_damaged_files_are_errors_of_decode(tmp_path: Path) -> None:
    files = damaged_files(tmp_path)
    problems = find_image_problems(files, "these", decode=True)
    assert set(problems) == {file.path for file in files} and len(files) == 50
    for path, text in problems.items():
        assert text.startswith((f"{path} is damaged: ", f"{path} cannot be read: "))
    by_mmcv = image_loader([{"type": "mmcv.LoadImageFromFile"}])
    assert set(find_image_problems(files, "these", by_mmcv, decode=True)) == set(problems)


class Files(Dataset):
    """Files as training loads them; what cannot be decoded at all would end it, and is 0."""

    def __init__(self, files: list[ImageFile]) -> None:
        self.files, self.loader = files, LoadImageFromFile()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> int:
        file = self.files[index]
        try:
            image = self.loader({"img_path": file.path})["img"]
        except InputError as error:
            assert file.path in str(error)
            return 0
        assert image.shape == (file.height, file.width, 3)
        return 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_damaged_file_is_warned_of_once_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    log = tmp_path / "log"

    def write(text: str, logger: str, level: int) -> None:
        assert (logger, level) == ("current", logging.WARNING)
        with log.open("a") as file:
            file.write(f"{text}\n")

    monkeypatch.setattr(loading, "print_log", write)
    files = damaged_files(tmp_path)
    context = "fork" if num_workers else None
    loader = DataLoader(
        Files(files), num_workers=num_workers, batch_size=None, multiprocessing_context=context
    )
    used = [sum(map(int, loader)) for _ in range(3)]  # epochs, each with workers of its own
    lines = log.read_text().splitlines()
    assert used == [len(lines)] * 3 and used[0] >= 35
    assert len(set(lines)) == len(lines)
    assert all(" is damaged (" in line and "Copy the file anew" in line for line in lines)


def test_the_pixels_of_a_damaged_file_are_those_of_opencv(tmp_path: Path) -> None:
    found = []
    content = damage(encode(photograph(), "baseline"), "zeroed", 1)
    pixels = decode_image(content, on_damage=found.append)
    np.testing.assert_array_equal(pixels, cv2.imdecode(np.frombuffer(content, np.uint8), 1))
    assert len(found) == 1 and found[0].startswith("Corrupt JPEG data")


def with_thumbnail() -> bytes:
    """EXIF data that hold a JPEG file of their own, as cameras write them."""
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    exif.get_ifd(0x8769)[0x927C] = encode(photograph(16, 16), "baseline")
    return encode(photograph(), "baseline", exif=exif)


def with_second_picture() -> bytes:
    """A file of Multi-Picture Format (MPO)."""
    stream = io.BytesIO()
    photograph().save(stream, "MPO", save_all=True, append_images=[photograph(seed=2)])
    return stream.getvalue()


SOUND = {
    **{encoding: lambda name=encoding: encode(photograph(), name) for encoding in ENCODINGS},
    "thumbnail": with_thumbnail,
    "two pictures": with_second_picture,
    "zeros behind": lambda: encode(photograph(), "baseline") + bytes(1000),
    "motion photo": lambda: encode(photograph(), "progressive") + b"\0\0\0\x18ftypmp42" * 90,
    "JPEG behind": lambda: 2 * encode(photograph(), "4:2:2"),
    "comment with markers": lambda: encode(photograph(), "gray", comment=b"\xff\xda\xff\xd9"),
    "one pixel": lambda: encode(photograph(1, 1), "baseline"),
    "narrow": lambda: encode(photograph(3, 500), "restart blocks"),
    "OpenCV": lambda: cv2.imencode(".jpg", np.asarray(photograph()))[1].tobytes(),
}


@pytest.mark.parametrize("kind", SOUND)
def test_sound_files_are_not_named_and_give_the_same_pixels(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(SOUND[kind]())
    found = []
    pixels = read_image(path, on_damage=found.append)
    assert found == []
    size = pixels.shape[1::-1]
    assert find_image_problems([ImageFile(str(path), *size)], "it", decode=True) == {}
    if kind != "CMYK":
        np.testing.assert_array_equal(pixels, cv2.imread(str(path)))


def test_a_harmless_warning_is_not_damage() -> None:
    content = bytearray(encode(photograph(), "baseline"))
    content[content.index(b"JFIF\0") + 5] = 9  # a revision that libjpeg does not know
    decode_image(bytes(content), on_damage=lambda reason: pytest.fail(reason))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
@pytest.mark.parametrize("kind", ["zeroed", "nul tail", "flip"])
def test_damaged_png_files_are_named(tmp_path: Path, mode: str, kind: str) -> None:
    path = tmp_path / "a.png"
    photograph().convert(mode).save(path)
    draw = random.Random(f"{mode} {kind}")
    for _ in range(5):
        content = bytearray(path.read_bytes())
        middle = draw.randrange(len(content) // 3, len(content) // 2)
        if kind == "flip":
            content[middle] ^= 1 << draw.randrange(8)
        else:
            end = len(content) if kind == "nul tail" else middle + 50
            content[middle:end] = bytes(end - middle)
        (tmp_path / "b.png").write_bytes(content)
        file, found = ImageFile(str(tmp_path / "b.png"), 120, 88), []
        assert len(find_image_problems([file], "it", decode=True)) == 1
        try:
            decode_image(bytes(content), on_damage=found.append)
        except InputError:
            continue
        assert len(found) == 1


def test_a_jpeg_without_its_end_is_refused_as_before(tmp_path: Path) -> None:
    content = encode(photograph(), "baseline").removesuffix(END)
    with pytest.raises(InputError, match="truncated"):
        decode_image(content)


def test_without_simplejpeg_files_are_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [encode(photograph(), encoding) for encoding in ENCODINGS]
    pixels = [decode_image(content) for content in contents]
    monkeypatch.setattr(image_damage, "simplejpeg", None)
    for content, expected in zip(contents, pixels, strict=True):
        np.testing.assert_array_equal(decode_image(content), expected)
    assert not image_damage.finds_jpeg_damage()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_workers_share_what_was_said() -> None:
    said = SaidOnce()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def worker() -> None:
        queue.put([said.is_new(text) for text in ("a", "b", "a")])

    for _ in range(2):
        process = context.Process(target=worker)
        process.start()
        process.join()
    assert queue.get() == [True, True, False] and queue.get() == [False] * 3
    assert not said.is_new("a") and said.is_new("c")
    assert copy.deepcopy(said).is_new("a") and pickle.loads(pickle.dumps(said)).is_new("a")


@pytest.mark.slow
def test_five_hundred_sound_photographs(data_root: Path, tmp_path: Path) -> None:
    paths = sorted(data_root.rglob("*.jpg"))
    contents = [path.read_bytes() for path in paths]
    for path in paths[::3]:
        image = Image.open(path).convert("RGB")
        contents += [encode(image, encoding) for encoding in ENCODINGS]
    for content in contents:
        decode_image(content, on_damage=lambda reason: pytest.fail(reason))
    files = []
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.jpg").write_bytes(content)
        files.append(ImageFile(str(tmp_path / f"{number}.jpg")))
    assert len(files) >= 500
    assert find_image_problems(files, "these", decode=True) == {}


@pytest.mark.slow
def test_damaged_photographs(data_root: Path) -> None:
    paths = sorted(data_root.rglob("*.jpg"))
    for seed, path in enumerate(paths[::9]):
        for number, kind in enumerate(KINDS):
            encoding = list(ENCODINGS)[(seed + 3 * number) % len(ENCODINGS)]
            content = encode(Image.open(path), encoding)
            found = []
            try:
                decode_image(damage(content, kind, seed), on_damage=found.append)
            except InputError:
                continue
            assert len(found) == 1, (path, encoding, kind)
