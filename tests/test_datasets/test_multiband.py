from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.registry import TRANSFORMS, init_default_scope

from mmbeit3.checkpoint.fitting import fit_tower
from mmbeit3.checkpoint.layouts import read_tower
from mmbeit3.datasets.transforms import LoadImageFromFile, LoadMultibandImage
from mmbeit3.datasets.transforms.loading import load_bgr, load_image
from mmbeit3.models import BEiT3, MultibandDetDataPreprocessor, MultibandSegDataPreprocessor
from mmbeit3.utils import InputError

rasterio = pytest.importorskip("rasterio")


def write(path: Path, pixels: np.ndarray, **options: object) -> Path:
    height, width, count = pixels.shape
    shape = dict(height=height, width=width, count=count, dtype=pixels.dtype)
    with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def pixels(count: int = 5, dtype: type = np.uint16, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    values = np.random.default_rng(0).integers(1, 200, (*size, count)).astype(dtype)
    return values * np.arange(1, count + 1).astype(dtype) if dtype != np.uint8 else values


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_bands_are_as_in_the_file(tmp_path: Path, dtype: type) -> None:
    values = pixels(5, dtype)
    path = str(write(tmp_path / "a.tif", values))
    found = LoadMultibandImage(bands=[3, 1, 5])({"img_path": path})
    assert found["img"].dtype == np.float32
    assert found["img_shape"] == found["ori_shape"] == (30, 40)
    np.testing.assert_array_equal(found["img"], values[..., [2, 0, 4]])
    content = Path(path).read_bytes()
    again = LoadMultibandImage(bands=[3, 1, 5])({"img_path": path, "img_bytes": content})
    np.testing.assert_array_equal(again["img"], found["img"])
    array = LoadMultibandImage(bands=[3, 1, 5])({"img": values[..., :3]})
    np.testing.assert_array_equal(array["img"], values[..., :3])


def test_workers_that_are_spawned_can_load(tmp_path: Path) -> None:
    loader = pickle.loads(pickle.dumps(LoadMultibandImage(bands=[2])))
    path = str(write(tmp_path / "a.tif", pixels()))
    assert np.array_equal(loader({"img_path": path})["img"], pixels()[..., 1:2])


def test_absent_values_become_0(tmp_path: Path) -> None:
    values = pixels(2, np.float32)
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -99
    path = str(write(tmp_path / "a.tif", values, nodata=-99))
    image = LoadMultibandImage(bands=[1, 2])({"img_path": path})["img"]
    for place in range(3):
        assert (image[place, place] == 0).all()
    assert np.array_equal(image[3:], values[3:])


def test_errors_name_file_found_expected_and_cure(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.tif", pixels(4)))
    text = r"a.tif cannot be read: the file has 4 bands, and LoadMultibandImage asks for band 6: "
    with pytest.raises(InputError, match=text + "set bands, the model's in_channels"):
        LoadMultibandImage(bands=[1, 6])({"img_path": path})
    with pytest.raises(InputError, match=r"^the file has 4 bands"):
        load_image(LoadMultibandImage(bands=[5]), {"img_path": path})
    (tmp_path / "b.tif").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"b\.tif cannot be read: .*b\.tif"):
        LoadMultibandImage(bands=[1])({"img_path": str(tmp_path / "b.tif")})
    with pytest.raises(InputError, match=r"shape \(30, 40, 3\); expected \(height, width, 2\)"):
        LoadMultibandImage(bands=[1, 4])({"img": pixels(3)})
    for bands, shown in (([], None), ([0, 1], None), ([1, 2, 3], [1, 2, 4]), ([1, 2, 3], [1, 2])):
        with pytest.raises(InputError, match=r"LoadMultibandImage\.(bands|shown) is"):
            LoadMultibandImage(bands=bands, shown=shown)


def test_the_picture_has_the_bands_that_are_shown(tmp_path: Path) -> None:
    values = np.zeros((50, 60, 5), np.uint16)
    values[:25, :, 4] = 5000  # the upper half, red
    values[:, :30, 1] = 3000  # the left half, blue
    path = str(write(tmp_path / "a.tif", values))
    picture = load_bgr(LoadMultibandImage(bands=[1, 2, 3, 5], shown=[5, 3, 2]), path)
    assert picture.shape == (50, 60, 3) and picture.dtype == np.uint8
    assert picture[10, 10].tolist() == [255, 0, 255]
    assert picture[10, 50].tolist() == [0, 0, 255]
    assert picture[40, 50].tolist() == [0, 0, 0]
    gray = load_bgr(LoadMultibandImage(bands=[5, 2]), path)
    assert gray[10, 10].tolist() == [255] * 3 and gray[40, 10].tolist() == [0] * 3


@pytest.mark.parametrize("bands", [2, 4, 7])
def test_transforms_and_preprocessors(tmp_path: Path, bands: int) -> None:
    init_default_scope("mmdet")
    values = pixels(bands, size=(40, 50))
    path = str(write(tmp_path / "a.tif", values))
    steps = [
        dict(type="mmbeit3.LoadMultibandImage", bands=[*range(1, bands + 1)]),
        dict(type="Resize", scale=(80, 80), keep_ratio=True),
        dict(type="RandomFlip", prob=1.0, direction="horizontal"),
        dict(type="PackDetInputs"),
    ]
    packed = Compose([TRANSFORMS.build(step) for step in steps])({"img_path": path, "img_id": 1})
    expected = cv2.resize(np.ascontiguousarray(values.astype(np.float32)), (80, 64))[:, ::-1]
    np.testing.assert_allclose(packed["inputs"].numpy().transpose(1, 2, 0), expected, atol=1e-3)
    mean, std = [float(10 * i) for i in range(bands)], [float(1 + i) for i in range(bands)]
    batch = {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}
    wanted = (packed["inputs"] - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
        :, None, None
    ]
    for kind in (MultibandDetDataPreprocessor, MultibandSegDataPreprocessor):
        torch.testing.assert_close(kind(mean, std)(dict(batch))["inputs"][0], wanted)
        with pytest.raises(
            InputError, match=rf"a\.tif has {bands} channels .* mean of {bands + 1}"
        ):
            kind([*mean, 0.0], [*std, 1.0])(dict(batch))


def test_impossible_means_are_refused() -> None:
    for mean, std in (([1.0, 2.0], [1.0]), ([], []), ([1.0], [0.0])):
        with pytest.raises(InputError, match="one of each for every channel"):
            MultibandDetDataPreprocessor(mean, std)
    with pytest.raises(InputError, match="order the bands"):
        MultibandSegDataPreprocessor([1.0], [1.0], bgr_to_rgb=True)


ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_the_kernel_for_colors_is_repeated(channels: int) -> None:
    colors = BEiT3(ARCH, img_size=32).eval()
    colors.init_weights()
    bands = BEiT3(ARCH, img_size=32, in_channels=channels).eval()
    fitted = fit_tower(read_tower(colors.state_dict(), "a", "A"), bands)
    assert any(f"3 -> {channels} channels" in line for line in fitted.resized)
    bands.load_state_dict(fitted.weights)
    kernel, given = bands.patch_embed.proj.weight, colors.patch_embed.proj.weight
    if channels > 1:
        for index in range(channels):
            torch.testing.assert_close(kernel[:, index], given[:, index % 3] * 3 / channels)
    if channels in (1, 6):  # of gray bands as of a gray image
        gray = torch.rand(2, 1, 32, 32)
        torch.testing.assert_close(
            bands(gray.expand(-1, channels, -1, -1))[0], colors(gray.expand(-1, 3, -1, -1))[0]
        )


def test_a_tower_says_how_many_channels_it_takes() -> None:
    with pytest.raises(
        InputError, match=r"images have 4 channels, .* takes 3: set .*in_channels=4"
    ):
        BEiT3(ARCH, img_size=32)(torch.rand(1, 4, 32, 32))


def test_other_loaders_draw_as_before(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), pixels(3, np.uint8))
    np.testing.assert_array_equal(load_bgr(LoadImageFromFile(), str(path)), pixels(3, np.uint8))
