"""One rule for the pixels of every format, mode and orientation."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmbeit3.datasets.checks.segmentation import count_labels
from mmbeit3.datasets.image_files import ImageFile, find_image_problems
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import allow_pixels, read_image

ROOT = Path(__file__).resolve().parents[2]
RED_BGR = [0, 0, 255]


def save(path: Path, image: Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def red(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (6, 4), "red").convert(mode)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *[("RGB", f"a.{ext}") for ext in ("png", "bmp", "ppm", "tif", "gif", "PNG")],
        ("P", "a.png"),
        ("P", "a.gif"),
        ("RGBA", "a.png"),
        ("RGBA", "a.tif"),
        ("CMYK", "a.tif"),
        ("CMYK", "a.jpg"),
        ("PA", "a.tif"),
    ],
)
def test_color_modes(tmp_path, mode, name):
    image = read_image(save(tmp_path / name, red(mode)))
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert (image == RED_BGR).all()


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "webp", "jp2"])
def test_lossy_formats(tmp_path, extension):
    image = read_image(save(tmp_path / f"a.{extension}", red()))
    assert np.abs(image.astype(int) - RED_BGR).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_modes(tmp_path, mode):
    gray = Image.new("L", (6, 4), 0)
    gray.paste(255, (0, 0, 3, 4))
    image = read_image(save(tmp_path / "a.png", gray.convert(mode)))
    assert (image[:, :3] == 255).all()
    assert (image[:, 3:] == 0).all()


def test_same_pixels_as_opencv(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


def test_transparent_pixels_are_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    png = save(tmp_path / "rgba.png", image)
    assert read_image(png)[0].tolist() == [RED_BGR, [255, 255, 255]]

    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    for name in ("p.png", "p.gif"):
        path = save(tmp_path / name, palette, transparency=1)
        assert read_image(path)[0].tolist() == [RED_BGR, [255, 255, 255]]

    half = save(tmp_path / "la.png", Image.new("LA", (2, 1), (0, 127)))
    assert (read_image(half) == 128).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_is_stretched(tmp_path, name):
    values = np.array([[1000, 2000, 3000]], np.uint16)
    image = read_image(save(tmp_path / name, Image.fromarray(values)))
    assert image[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_is_stretched(tmp_path, dtype):
    values = np.array([[-4, 0, 4]], dtype)
    image = read_image(save(tmp_path / "a.tif", Image.fromarray(values)))
    assert image[0, :, 0].tolist() == [0, 128, 255]


def test_constant_and_undefined_grays(tmp_path):
    flat = np.full((2, 2), 300, np.uint16)
    assert (read_image(save(tmp_path / "a.png", Image.fromarray(flat))) == 255).all()
    values = np.array([[np.nan, np.inf, -np.inf, 1000, 2000, 1500]], np.float32)
    image = read_image(save(tmp_path / "a.tif", Image.fromarray(values)))
    assert image[0, :, 0].tolist() == [0, 255, 0, 0, 255, 128]
    nothing = Image.fromarray(np.full((2, 2), np.nan, np.float32))
    assert (read_image(save(tmp_path / "b.tif", nothing)) == 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_as_opencv_applies_it(tmp_path, orientation):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", Image.fromarray(pixels), exif=exif, quality=100)
    image = read_image(path)
    assert image.shape[:2] == ((16, 24) if orientation < 5 else (24, 16))
    np.testing.assert_allclose(image.astype(int), cv2.imread(str(path)).astype(int), atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_pixels_can_be_left_as_they_are_stored(tmp_path, orientation, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = dict(quality=100) if suffix == ".jpg" else dict(lossless=True)
    plain = save(tmp_path / f"a{suffix}", Image.fromarray(pixels), **options)
    turned = save(tmp_path / f"b{suffix}", Image.fromarray(pixels), exif=exif, **options)
    found = read_image(turned, turn=False)
    np.testing.assert_array_equal(found, read_image(plain))
    assert found.flags.c_contiguous
    assert (read_image(turned).shape == found.shape) == (orientation < 5)


def test_exif_data_behind_the_pixels_can_be_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (6, 4))
    path = save(tmp_path / "a.png", image, exif=exif)
    chunks = path.read_bytes()
    start = chunks.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(chunks[start : start + 4], "big")
    place = chunks.index(b"IEND") - 4
    path.write_bytes(chunks[:start] + chunks[end:place] + chunks[start:end] + chunks[place:])
    assert read_image(path).shape == (6, 4, 3) and read_image(path, turn=False).shape == (4, 6, 3)


def test_exif_orientation_6_turns_clockwise(tmp_path):
    image = Image.new("RGB", (6, 4))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read_image(save(tmp_path / "a.png", image, exif=exif))
    assert turned.shape == (6, 4, 3)
    assert turned[0, 3].tolist() == [255] * 3  # top left went to top right


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_exif(tmp_path):
    path = save(tmp_path / "a.png", red(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert (read_image(path) == RED_BGR).all()


def test_first_frame(tmp_path):
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "blue")]
    for name in ("a.gif", "a.tif"):
        path = save(tmp_path / name, frames[0], save_all=True, append_images=frames[1:])
        assert (read_image(path) == RED_BGR).all()


def test_truncated(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("a.jpg", "a.png", "a.tif", "a.gif", "a.webp"):
        path = save(tmp_path / name, Image.fromarray(noise))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError):
            read_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "0 bytes"), (b"this is text", "not an image"), (b"\xff\xd8\xff", "not an image")],
)
def test_no_image(tmp_path, content, reason):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_truncated_colors_of_16_bits(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 2**16, (64, 64, 3), dtype=np.uint16)
    cv2.imwrite(str(path), noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError):
        read_image(path)


def test_drawings_are_not_given_to_other_programs(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(InputError, match="drawing"):
        read_image(path)


def test_too_many_pixels(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", red())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    text = "too many pixels: 24, expected at most 20. If you trust the file, set the environment "
    text += "variable MMBEIT3_MAX_PIXELS=24, or cut the image into tiles"
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(caught.value) == text
    file = ImageFile(str(path), 6, 4)
    assert find_image_problems([file], "it") == {str(path): f"{path} cannot be read: {text}"}
    with warnings.catch_warnings():
        allow_pixels("24")
        assert read_image(path).shape == (4, 6, 3)
        assert find_image_problems([file], "it", decode=True) == {}
        allow_pixels("23")
        with pytest.raises(InputError, match="too many pixels"):
            read_image(save(tmp_path / "b.png", Image.new("L", (5, 5))))


@pytest.mark.parametrize("number", ["0", "-1", "1e9", "many"])
def test_a_limit_of_pixels_is_a_number(number):
    with pytest.raises(InputError, match=f"MMBEIT3_MAX_PIXELS={number}, expected a whole number"):
        allow_pixels(number)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_image_of_180_megapixels(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", Image.new("L", (20_000, 9_000), 7))
    code = "from mmbeit3.utils.image_reading import read_image; import sys; "
    code += "print(read_image(sys.argv[1]).shape)"
    command = [sys.executable, "-c", code, str(path)]
    run = partial(subprocess.run, command, cwd=ROOT, capture_output=True, text=True)
    refused = run()
    assert (
        "InputError: too many pixels: 180,000,000, expected at most 178,956,970" in refused.stderr
    )
    read = run(env=os.environ | {"MMBEIT3_MAX_PIXELS": "180000000"})
    assert (read.stdout, read.stderr) == ("(9000, 20000, 3)\n", "")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_image(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    with pytest.raises(InputError):
        read_image(tmp_path / "b.jpg")


@pytest.mark.skipif(os.name != "posix", reason="makes special files of POSIX")
@pytest.mark.parametrize(
    ("kind", "text"),
    [("fifo", "pipe (FIFO)"), ("socket", "socket"), ("zero", "character device")],
)
@pytest.mark.parametrize("is_linked", [False, True])
def test_what_never_ends_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, text: str, is_linked: bool
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    path = Path("/dev/zero") if kind == "zero" else Path("a.jpg")
    if kind == "fifo":
        os.mkfifo(path)
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(path))
    if is_linked:
        Path("b.jpg").symlink_to(path)
        path = Path("b.jpg")
    reason = f"it is a {text}, expected a regular file: copy its content to one"
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(caught.value) == reason
    problems = find_image_problems([ImageFile(str(path), 4, 4)], "these")
    assert problems == {str(path): f"{path} cannot be read: {reason}"}
    Image.new("RGB", (4, 4)).save("image.png")
    with pytest.raises(InputError) as caught:
        count_labels([("image.png", str(path))], "these")
    assert f"{path} cannot be read: {reason}" in str(caught.value)
