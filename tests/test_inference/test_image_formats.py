"""One file is the same pixels to training, testing and inference, in every format and mode."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from mmbeit3.inference.detector import Detector
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.result import Failed
from mmbeit3.inference.segmentor import Segmentor
from mmbeit3.registry import DATASETS
from mmbeit3.utils.image_reading import read_image

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT.parent / "shared" / "cases"
DETECTION = "beit3_vitdet/cascade-mask-rcnn_beit3-base_custom.py"
SEGMENTATION = "beit3_mask2former/mask2former_beit3-base_512_custom.py"
HEIGHT, WIDTH = 24, 40

# What a person sees: smooth colors, from the darkest to the brightest.
GRAY = np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).round().astype(np.uint8)
BGR = np.dstack([GRAY, GRAY[:, ::-1], GRAY[::-1]])
RGB = BGR[..., ::-1]
GRAY_BGR = np.dstack([GRAY] * 3)
DEEP_GRAY = 500 + 13 * GRAY.astype(np.uint16)  # 12 of 16 bits
DEEP_BGR = 500 + 13 * BGR.astype(np.uint16)
ALPHA = np.full((HEIGHT, WIDTH), 255, np.uint8)
ALPHA[:, :9] = 0
ON_WHITE = np.where(ALPHA[..., None] > 0, BGR, 255)
EXIF = Image.Exif()
EXIF[0x0112] = 6  # turned by a quarter, clockwise


def by_pillow(pixels: np.ndarray, mode: str | None = None, **options: Any) -> Callable:
    def write(path: Path) -> None:
        image = Image.fromarray(pixels)
        (image.convert(mode) if mode else image).save(path, **options)

    return write


def by_opencv(pixels: np.ndarray) -> Callable:
    return lambda path: cv2.imwrite(str(path), pixels)


def by_tifffile(pixels: np.ndarray, **options: Any) -> Callable:
    def write(path: Path) -> None:
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(path, pixels, **options)

    return write


def turned(pixels: np.ndarray) -> np.ndarray:
    return np.rot90(pixels, -1)


RGBA, BGRA = np.dstack([RGB, ALPHA]), np.dstack([BGR, ALPHA])
DEEP_BGRA = np.dstack([DEEP_BGR, ALPHA.astype(np.uint16) * 257])
WHITE_GRAY = np.where(ALPHA[..., None] > 0, GRAY_BGR, 255)
TURN_TAG = dict(extratags=[(274, "H", 1, 6, True)])
PALETTE = Image.fromarray(RGB).quantize(200)
FRAMES = dict(save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))])
WITH_NAN = DEEP_GRAY.astype(np.float32)
WITH_NAN[0, 0] = np.nan  # the darkest, which is 0 either way

# How a file is written, what is seen in it, and by how much it may differ from it: lossy codecs.
FORMATS: dict[str, tuple[str, Callable, np.ndarray, int]] = {
    "JPEG": (".jpg", by_pillow(RGB, quality=95, subsampling=0), BGR, 16),
    "JPEG, progressive": (".jpg", by_pillow(RGB, quality=95, progressive=True), BGR, 90),
    "JPEG, gray": (".jpg", by_pillow(GRAY, quality=95), GRAY_BGR, 16),
    "JPEG, EXIF": (".jpg", by_pillow(RGB, quality=95, subsampling=0, exif=EXIF), turned(BGR), 16),
    "JPEG, OpenCV": (".jpg", by_opencv(BGR), BGR, 90),
    "JPEG, CMYK": (".jpg", by_pillow(RGB, "CMYK", quality=95, subsampling=0), BGR, 16),
    "PNG": (".png", by_pillow(RGB), BGR, 0),
    "PNG, OpenCV": (".png", by_opencv(BGR), BGR, 0),
    "PNG, EXIF": (".png", by_pillow(RGB, exif=EXIF), turned(BGR), 0),
    "PNG, gray": (".png", by_pillow(GRAY), GRAY_BGR, 0),
    "PNG, 1 bit": (".png", by_pillow(GRAY > 127), np.where(GRAY_BGR > 127, 255, 0), 0),
    "PNG, palette": (
        ".png",
        lambda path: PALETTE.save(path),
        np.asarray(PALETTE.convert("RGB"))[..., ::-1],
        0,
    ),
    "PNG, alpha": (".png", by_pillow(RGBA), ON_WHITE, 0),
    "PNG, gray and alpha": (".png", by_pillow(np.dstack([GRAY, ALPHA]), "LA"), WHITE_GRAY, 0),
    "PNG, transparent color": (
        ".png",
        by_pillow(RGB, transparency=tuple(RGB[0, 0].tolist())),
        np.where((BGR[0, 0] == BGR).all(axis=2, keepdims=True), 255, BGR),
        0,
    ),
    "PNG, 16-bit gray": (".png", by_pillow(DEEP_GRAY), GRAY_BGR, 0),
    "PNG, 16-bit gray, OpenCV": (".png", by_opencv(DEEP_GRAY), GRAY_BGR, 0),
    "PNG, 16-bit color": (".png", by_opencv(DEEP_BGR), BGR, 0),
    "PNG, 16-bit color and alpha": (".png", by_opencv(DEEP_BGRA), ON_WHITE, 13),
    "TIFF": (".tif", by_pillow(RGB), BGR, 0),
    "TIFF, OpenCV": (".tif", by_opencv(BGR), BGR, 0),
    "TIFF, EXIF": (".tif", by_pillow(RGB, exif=EXIF), turned(BGR), 0),
    "TIFF, alpha": (".tif", by_pillow(RGBA), ON_WHITE, 0),
    "TIFF, CMYK": (".tif", by_pillow(RGB, "CMYK"), BGR, 0),
    "TIFF, 16-bit gray": (".tif", by_pillow(DEEP_GRAY), GRAY_BGR, 0),
    "TIFF, 16-bit color": (".tif", by_opencv(DEEP_BGR), BGR, 0),
    "TIFF, float gray": (".tif", by_pillow(DEEP_GRAY.astype(np.float32)), GRAY_BGR, 0),
    "TIFF, LogLuv": (".tif", by_opencv(DEEP_BGR.astype(np.float32)), BGR, 20),
    "TIFF, float with NaN": (".tif", by_pillow(WITH_NAN), GRAY_BGR, 1),
    "TIFF, pages": (".tif", by_pillow(RGB, **FRAMES), BGR, 0),
    "TIFF, tifffile": (".tif", by_tifffile(RGB, photometric="rgb"), BGR, 0),
    "TIFF, tifffile, turned": (
        ".tif",
        by_tifffile(RGB, photometric="rgb", **TURN_TAG),
        turned(BGR),
        0,
    ),
    "TIFF, tifffile, 16-bit gray": (".tif", by_tifffile(DEEP_GRAY), GRAY_BGR, 0),
    "TIFF, tifffile, 16-bit gray, white is zero": (
        ".tif",
        by_tifffile(DEEP_GRAY.max() - DEEP_GRAY, photometric="miniswhite"),
        GRAY_BGR,
        1,
    ),
    "TIFF, tifffile, 16-bit color, turned": (
        ".tif",
        by_tifffile(DEEP_BGR[..., ::-1], photometric="rgb", **TURN_TAG),
        turned(BGR),
        0,
    ),
    "TIFF, tifffile, float color": (
        ".tif",
        by_tifffile(DEEP_BGR[..., ::-1].astype(np.float32), photometric="rgb"),
        BGR,
        0,
    ),
    "TIFF, tifffile, double": (".tif", by_tifffile(DEEP_GRAY / 7), GRAY_BGR, 0),
    "TIFF, tifffile, 32-bit": (".tif", by_tifffile(DEEP_GRAY * np.uint32(2**19)), GRAY_BGR, 0),
    "WebP": (".webp", by_pillow(RGB, lossless=True), BGR, 0),
    "WebP, lossy": (".webp", by_pillow(RGB, quality=90), BGR, 90),
    "WebP, OpenCV": (".webp", by_opencv(BGR), BGR, 90),
    "WebP, EXIF": (".webp", by_pillow(RGB, lossless=True, exif=EXIF), turned(BGR), 0),
    "WebP, alpha": (".webp", by_pillow(RGBA, lossless=True, exact=True), ON_WHITE, 0),
    "WebP, frames": (".webp", by_pillow(RGB, lossless=True, **FRAMES), BGR, 0),
    "BMP": (".bmp", by_opencv(BGR), BGR, 0),
    "GIF, frames": (".gif", lambda path: PALETTE.save(path, **FRAMES), None, 0),
    "JPEG 2000": (".jp2", by_pillow(RGB), BGR, 2),
    "JPEG 2000, 16-bit gray": (".jp2", by_pillow(DEEP_GRAY), GRAY_BGR, 2),
    "AVIF": (".avif", by_pillow(RGB, quality=95), BGR, 90),
    "PPM": (".ppm", by_pillow(RGB), BGR, 0),
    "PPM, 16-bit": (".ppm", by_opencv(DEEP_BGR), BGR, 0),
    "PGM, 16-bit": (".pgm", by_opencv(DEEP_GRAY), GRAY_BGR, 0),
}
FORMATS["GIF, frames"] = (*FORMATS["GIF, frames"][:2], FORMATS["PNG, palette"][2], 0)


@pytest.fixture(params=FORMATS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray, int]:
    """A file of each format, what is seen in it, and the tolerance."""
    suffix, write, seen, tolerance = FORMATS[request.param]
    path = tmp_path / "images" / f"a{suffix}"
    path.parent.mkdir()
    try:
        write(path)
    except (KeyError, OSError, cv2.error) as error:
        pytest.skip(f"this installation writes no {request.param}: {error}")
    return path, np.ascontiguousarray(seen, np.uint8), tolerance


def test_what_is_seen(file: tuple[Path, np.ndarray, int]) -> None:
    path, seen, tolerance = file
    found = read_image(path)
    assert found.shape == seen.shape and found.dtype == np.uint8 and found.flags.c_contiguous
    assert np.abs(found.astype(int) - seen).max() <= tolerance
    assert np.abs(found.astype(int) - seen).mean() <= tolerance / 10


@functools.cache
def shortened(name: str, split: str, pack: str) -> list[dict]:
    """The loading of images in a pipeline of a config, and what makes a sample of it."""
    loading = Config.fromfile(ROOT / "configs" / name)[f"{split}_pipeline"][0]
    return [loading, {"type": pack, "meta_keys": ("img_path", "ori_shape")}]


def test_a_detector_is_trained_tested_and_used_on_the_same_pixels(
    file: tuple[Path, np.ndarray, int], color_cfg: Config, color_checkpoint: Path
) -> None:
    path, seen, _ = file
    image = {"id": 1, "file_name": path.name, "width": seen.shape[1], "height": seen.shape[0]}
    coco = {"images": [image], "categories": [{"id": 1, "name": "x"}]}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20], "area": 400}
    ann_file = path.parents[1] / "a.json"
    ann_file.write_text(json.dumps(coco | {"annotations": [box | {"iscrowd": 0}]}))
    init_default_scope("mmdet")

    inputs = []
    for split, test_mode in (("train", False), ("test", True)):
        settings = dict(
            type="mmbeit3.CocoDataset",
            ann_file=str(ann_file),
            data_prefix=dict(img=str(path.parent)),
            test_mode=test_mode,
            serialize_data=False,
            pipeline=shortened(DETECTION, split, "PackDetInputs"),
        )
        inputs.append(DATASETS.build(settings)[0]["inputs"])  # checks the size, too
    color_cfg.test_dataloader.dataset.pipeline = shortened(DETECTION, "test", "PackDetInputs")
    loaded = Detector(color_cfg, color_checkpoint, "cpu").load(Source(1, path, path.name, None))

    assert not isinstance(loaded, Failed), loaded
    assert (inputs[0] == inputs[1]).all() and (inputs[0] == loaded.packed["inputs"]).all()
    assert np.array_equal(inputs[0].permute(1, 2, 0).numpy(), read_image(path))
    assert np.array_equal(loaded.image, read_image(path))


def test_a_segmentor_is_trained_tested_and_used_on_the_same_pixels(
    file: tuple[Path, np.ndarray, int], seg_cfg: Config, seg_checkpoint: Path
) -> None:
    path, seen, _ = file
    maps = path.parents[1] / "maps"
    maps.mkdir()
    labels = np.zeros(seen.shape[:2], np.uint8)
    labels[:3] = 1
    Image.fromarray(labels).save(maps / "a.png")
    init_default_scope("mmseg")

    inputs = []
    for split, test_mode in (("train", False), ("test", True)):
        settings = dict(
            type="mmbeit3.SegFolderDataset",
            data_prefix=dict(img_path=str(path.parent), seg_map_path=str(maps)),
            metainfo=dict(classes=("a", "b")),
            test_mode=test_mode,
            serialize_data=False,
            pipeline=shortened(SEGMENTATION, split, "PackSegInputs"),
        )
        inputs.append(DATASETS.build(settings)[0]["inputs"])
    seg_cfg.test_dataloader.dataset.pipeline = shortened(SEGMENTATION, "test", "PackSegInputs")
    loaded = Segmentor(seg_cfg, seg_checkpoint, "cpu").load(Source(1, path, path.name, None))

    assert not isinstance(loaded, Failed), loaded
    assert (inputs[0] == inputs[1]).all() and (inputs[0] == loaded.packed["inputs"]).all()


def loading_steps(value: Any) -> Iterator[dict[str, Any]]:
    """All transforms in a config that load images."""
    if isinstance(value, dict):
        kind = value.get("type")
        if isinstance(kind, str) and "LoadImage" in kind:
            yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from loading_steps(part)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("beit3_*/*.py")), ids=lambda p: p.stem
)
def test_all_pipelines_of_a_config_load_in_the_same_way(path: Path) -> None:
    cfg = Config.fromfile(path)
    steps = list(loading_steps(cfg._cfg_dict.to_dict()))
    assert len(steps) >= 2
    found = {(step["type"], step.get("_scope_", cfg.default_scope)) for step in steps}
    assert found == {("LoadImageFromFile", "mmbeit3")}


@pytest.mark.parametrize("color_type", ["color", "color_ignore_orientation", "unchanged"])
def test_a_config_with_the_transform_of_mmcv_is_read_by_its_rule(
    tmp_path: Path, color_cfg: Config, color_checkpoint: Path, color_type: str
) -> None:
    loader = dict(type="LoadImageFromFile", color_type=color_type)
    pipeline = [loader, shortened(DETECTION, "test", "PackDetInputs")[1]]
    color_cfg.test_dataloader.dataset.pipeline = pipeline
    detector = Detector(color_cfg, color_checkpoint, "cpu")
    flags = dict(color=cv2.IMREAD_COLOR, unchanged=cv2.IMREAD_UNCHANGED)
    flags["color_ignore_orientation"] = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    for name in ("PNG, 16-bit gray", "PNG, alpha", "JPEG, EXIF", "TIFF, 16-bit color"):
        suffix, write, _, _ = FORMATS[name]
        path = tmp_path / f"a{suffix}"
        write(path)
        loaded = detector.load(Source(1, path, path.name, None))
        assert not isinstance(loaded, Failed), loaded
        by_opencv = cv2.imread(str(path), flags[color_type])
        found = loaded.packed["inputs"].permute(1, 2, 0).numpy()
        assert np.array_equal(found, by_opencv.reshape(found.shape))
        assert loaded.image.shape == (*found.shape[:2], 3) and loaded.image.dtype == np.uint8


def test_what_only_our_transform_reads_is_said(
    tmp_path: Path, color_cfg: Config, color_checkpoint: Path
) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(DEEP_GRAY.astype(np.float32)).save(path)
    assert cv2.imread(str(path)) is None  # else the case is void
    failed = Detector(color_cfg, color_checkpoint, "cpu").load(Source(1, path, "a.tif", None))
    assert isinstance(failed, Failed)
    assert "LoadImageFromFile cannot load it" in failed.reason
    assert "mmbeit3.LoadImageFromFile can" in failed.reason
    path.write_bytes(b"")
    failed = Detector(color_cfg, color_checkpoint, "cpu").load(Source(1, path, "a.tif", None))
    assert failed.reason == "the file is empty (0 bytes)"


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside the project")
def test_the_case_of_the_complaint(color_cfg: Config, color_checkpoint: Path) -> None:
    path = CASES / "grey16_train_vs_infer" / "grey12in16.png"
    init_default_scope("mmdet")
    pipeline = shortened(DETECTION, "train", "PackDetInputs")
    trained = Compose(pipeline)({"img_path": str(path)})["inputs"]
    color_cfg.test_dataloader.dataset.pipeline = shortened(DETECTION, "test", "PackDetInputs")
    loaded = Detector(color_cfg, color_checkpoint, "cpu").load(Source(1, path, path.name, None))
    assert (trained == loaded.packed["inputs"]).all()
    assert trained.min() == 0 and trained.max() == 255


def test_photographs_are_read_as_by_mmcv(data_root: Path) -> None:
    for folder in ("coco_sample/val2017", "nuclei_dsb2018/val", "fruits_nuts/images"):
        for path in sorted((data_root / folder).iterdir())[:10]:
            np.testing.assert_array_equal(read_image(path), cv2.imread(str(path)))
