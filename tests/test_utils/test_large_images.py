"""Windows of large image files: the pixels are those that the reader of whole files gives."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import read_image
from mmbeit3.utils.large_images import LargeImage, NotOpenedError, Window, tile_package

rasterio = pytest.importorskip("rasterio")
SIZE = (37, 53)  # rows and columns


def values(bands: int, kind: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(bands)
    high = 256 if kind == np.uint8 else 3000
    return (rng.random((*SIZE, bands)) * high).astype(kind).squeeze()


def write_tiff(path: Path, bands: int, kind: type = np.uint8, **options: object) -> Path:
    pixels = values(bands, kind).reshape(*SIZE, bands)
    shape = dict(height=SIZE[0], width=SIZE[1], count=bands, dtype=pixels.dtype)
    names = options.pop("colorinterp", None)
    with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
        if names:
            file.colorinterp = [rasterio.enums.ColorInterp[name] for name in names]
        file.write(np.moveaxis(pixels, -1, 0))
    return path


def check(path: Path) -> None:
    """A window in the middle, one in a corner, and all."""
    whole = read_image(path)
    image = LargeImage(path)
    assert image.size == whole.shape[:2]
    height, width = image.size
    for window in ((5, 7, 20, 11), (width - 9, height - 8, 9, 8), (0, 0, width, height)):
        x, y, columns, rows = window
        found = image.read(Window(*window))
        np.testing.assert_array_equal(found, whole[y : y + rows, x : x + columns])
    assert image.reduced(20).shape == ((14, 20, 3) if width > height else (20, 14, 3))
    np.testing.assert_array_equal(image.reduced(2048), whole)
    image.close()


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
@pytest.mark.parametrize("bands", [1, 3])
def test_formats(tmp_path, suffix, bands):
    Image.fromarray(values(bands)).save(tmp_path / f"a.{suffix}")
    check(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_turned(tmp_path, orientation, suffix):
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(values(3))
    if suffix == "tif":
        image.save(path, tiffinfo={0x0112: orientation})
    else:
        image.save(path, exif=exif.tobytes())
    check(path)
    stored = LargeImage(path, turn=False)
    assert stored.size == SIZE


def test_transparency_palette_and_two_colors(tmp_path):
    Image.fromarray(values(4)).save(tmp_path / "a.png")
    check(tmp_path / "a.png")
    Image.fromarray(values(3)).quantize(30).save(tmp_path / "b.png")
    check(tmp_path / "b.png")
    Image.fromarray(values(1) > 128).save(tmp_path / "c.tif", compression="group4")
    check(tmp_path / "c.tif")


@pytest.mark.parametrize(("bands", "kind"), [(1, np.uint16), (3, np.uint16), (1, np.float32)])
def test_more_bits_are_stretched_over_the_whole_image(tmp_path, bands, kind):
    options = {"photometric": "rgb"} if bands == 3 else {}
    check(write_tiff(tmp_path / "a.tif", bands, kind, **options))


def test_absent_values_are_out_of_the_range(tmp_path):
    path = write_tiff(tmp_path / "a.tif", 1, np.float32, nodata=-9999)
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        pixels[0, :5] = -9999
        file.write(pixels)
    seen = LargeImage(path).read(Window(0, 0, *SIZE[::-1]))
    assert seen[:5].max() == 0
    rest = pixels[0, 5:]
    expected = np.rint((rest - rest.min()) * (255 / (rest.max() - rest.min())))
    assert np.abs(seen[5:, :, 0] - expected).max() <= 1


@pytest.mark.parametrize("bands", [4, 8])
def test_colors_among_many_bands(tmp_path, bands):
    names = ["blue", "green", "red"] + ["undefined"] * (bands - 3)
    path = write_tiff(tmp_path / "a.tif", bands, colorinterp=names, photometric="minisblack")
    found = LargeImage(path).read(Window(0, 0, *SIZE[::-1]))
    np.testing.assert_array_equal(found, values(bands)[..., :3])


@pytest.mark.parametrize("bands", [2, 5, 8])
def test_many_bands_without_names_are_refused(tmp_path, bands):
    names = ["undefined"] * bands
    path = write_tiff(tmp_path / "a.tif", bands, colorinterp=names)
    with pytest.raises(InputError, match=rf"it has {bands} bands .*rio stack IN.tif --bidx"):
        LargeImage(path)


def test_georeference(tmp_path):
    assert LargeImage(write_tiff(tmp_path / "a.tif", 3)).georeference is None
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 500000, 0, -0.5, 5300000)}
    found = LargeImage(write_tiff(tmp_path / "b.tif", 3, **place)).georeference
    assert found.crs.to_epsg() == 32632 and found.transform == place["transform"]


def test_what_is_no_image(tmp_path):
    (tmp_path / "a.tif").write_text("no image")
    Image.fromarray(values(3)).save(tmp_path / "a.jpg")  # GDAL's pixels would be others
    for name in ("a.tif", "a.jpg", "absent.tif"):
        with pytest.raises(NotOpenedError):
            LargeImage(tmp_path / name)
    vrt = '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand band="1"/></VRTDataset>'
    (tmp_path / "b.tif").write_text(vrt)  # it may name other files: never opened
    with pytest.raises(NotOpenedError):
        LargeImage(tmp_path / "b.tif")


def test_damaged_file(tmp_path):
    path = write_tiff(tmp_path / "a.tif", 3, compress="deflate")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    try:
        image = LargeImage(path)
    except NotOpenedError:
        return
    with pytest.raises(InputError, match="cannot be read there .*copy the file anew"):
        image.read(Window(0, 0, *SIZE[::-1]))


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(InputError, match=r'pip install "mmbeit3\[tiles\]"'):
        tile_package()
