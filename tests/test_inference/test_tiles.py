"""Images predicted by tiles: what a seam cuts is whole again, and large ones are read by window."""

from __future__ import annotations

import json
import os
import signal
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from PIL import Image
from torch import nn

import mmbeit3
from mmbeit3.datasets.shapes import CLASSES, draw_sample
from mmbeit3.inference.folder import infer_folder
from mmbeit3.inference.tiles import Tiles
from mmbeit3.utils import InputError

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("rasterio.warp")
Affine = rasterio.Affine

SCENE = 64  # pixels


@MODELS.register_module(force=True)
class TrueDetector(nn.Module):
    """Find every object of a picture whose red and green are its number, and blue the class.

    Args:
        masks: Whether to return masks.
    """

    def __init__(self, masks: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.masks = masks

    def test_step(self, data: dict) -> list[DetDataSample]:
        for image, sample in zip(data["inputs"], data["data_samples"], strict=True):
            blue, green, red = image.int()
            numbers = red + 256 * green
            found = [number for number in numbers.unique().tolist() if number]
            masks = torch.stack([numbers == number for number in found] or [numbers != numbers])
            masks = masks[: len(found)]
            boxes = [
                [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                for rows, columns in (mask.nonzero(as_tuple=True) for mask in masks)
            ]
            labels = [int(blue[mask][0]) for mask in masks]
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                labels=torch.tensor(labels, dtype=torch.long),
                scores=1 / (1 + torch.tensor(found, dtype=torch.float32)),
            )
            if self.masks:
                sample.pred_instances.masks = masks
        return data["data_samples"]


@pytest.fixture(scope="module")
def mosaic() -> tuple[np.ndarray, np.ndarray]:
    """Generated scenes side by side: an RGB picture for the detector above, and object numbers."""
    rng = np.random.default_rng(3)
    rows, columns = 5, 6
    picture = np.zeros((rows * SCENE, columns * SCENE, 3), np.uint8)
    numbers = np.zeros(picture.shape[:2], int)
    for row, column in np.ndindex(rows, columns):
        drawing = draw_sample(rng, SCENE)
        part = np.s_[row * SCENE : (row + 1) * SCENE, column * SCENE : (column + 1) * SCENE]
        for mask, label in zip(drawing.masks, drawing.labels, strict=True):
            number = numbers.max() + 1
            numbers[part][mask] = number
            picture[part][mask] = number % 256, number // 256, label
    return picture, numbers


@pytest.fixture
def cfg(color_cfg: Config) -> Config:
    color_cfg.model = dict(type="TrueDetector")
    color_cfg.test_dataloader.dataset.pipeline[0]["_scope_"] = "mmbeit3"
    return color_cfg


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    meta = {"dataset_meta": {"classes": CLASSES}}
    torch.save({"meta": meta, "state_dict": {"weight": torch.ones(1)}}, path)
    return path


@pytest.mark.parametrize(
    ("size", "overlap"), [(64, 0.5), (100, 0.2), (130, 0.34), (200, 0.2), (90, 0.75), (350, 0.1)]
)
def test_cut_objects_are_whole_again(cfg, checkpoint, mosaic, size, overlap):
    picture, numbers = mosaic
    model = mmbeit3.load(cfg, checkpoint, device="cpu")
    found = model(picture, channels="rgb", tile=size, overlap=overlap)
    whole = model(picture, channels="rgb")
    assert len(Tiles(size, overlap).windows(picture.shape[:2])) > 1
    assert found.size == picture.shape[:2]
    assert len(found.labels) == len(whole.labels) == numbers.max()
    np.testing.assert_array_equal(found.scores, whole.scores)
    np.testing.assert_array_equal(found.labels, whole.labels)
    np.testing.assert_array_equal(found.boxes, whole.boxes)
    np.testing.assert_array_equal(np.asarray(found.masks), whole.masks)
    assert found.to_coco() == whole.to_coco()


def test_same_by_boxes(cfg, checkpoint):
    """Of a detector without masks; where objects of a class do not overlap."""
    cfg.model.masks = False
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[20:280, 30:390] = 1, 0, 2  # over many tiles
    picture[150:230, 100:180] = 2, 0, 1
    picture[100:110, 300:310] = 3, 0, 1
    picture[120:130, 300:310] = 4, 0, 1
    model = mmbeit3.load(cfg, checkpoint, device="cpu")
    found = model(picture, channels="rgb", tile=130, overlap=0.3)
    assert found.masks is None and "segmentation" not in found.to_coco()[0]
    np.testing.assert_array_equal(found.boxes, model(picture, channels="rgb").boxes)


def test_what_is_not_joined(cfg, checkpoint):
    model = mmbeit3.load(cfg, checkpoint, device="cpu")
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[20:60, 20:160] = 1, 0, 2
    apart = model(picture, channels="rgb", tile=100, overlap=0.0)  # nothing is seen twice
    assert apart.boxes.tolist() == [[20, 20, 100, 60], [100, 20, 160, 60]]
    assert len(model(picture, channels="rgb", tile=100, overlap=0.1).boxes) == 1
    picture[20:60, 99:160] = 2, 0, 1  # another class
    assert len(model(picture, channels="rgb", tile=100, overlap=0.1).boxes) == 2


@pytest.mark.parametrize(
    ("length", "size", "overlap"), [(9, 4, 0), (20000, 1024, 0.2), (7, 3, 0.9)]
)
def test_tiles_cover_and_overlap(length, size, overlap):
    pairs = Tiles(size, overlap).windows((length, 2))
    starts = [window.x for window, _ in pairs] + [window.y for window, _ in pairs]
    rows = [window.y for window, _ in pairs]
    assert set(starts) == {0, *rows} and rows[0] == 0 and rows[-1] == length - size
    steps = np.diff(rows)
    assert (steps >= 1).all() and (size - steps >= int(overlap * size)).all()
    cores = np.zeros(length, int)
    for window, core in pairs:
        assert (window.width, window.height) == (2, size) and (core.x, core.width) == (0, 2)
        assert window.y <= core.y and core.y + core.height <= window.y + size
        cores[core.y : core.y + core.height] += 1
    assert (cores == 1).all()


def write_tiff(path: Path, picture: np.ndarray, **options: object) -> Path:
    height, width = picture.shape[:2]
    shape = dict(height=height, width=width, count=3, dtype="uint8", photometric="rgb")
    with rasterio.open(path, "w", driver="GTiff", tiled=True, **shape, **options) as file:
        file.write(np.moveaxis(picture, -1, 0))
    return path


PLACE = {"crs": "EPSG:32632", "transform": Affine(0.5, 0, 500000, 0, -0.25, 5300000)}


def test_folder_of_files(cfg, checkpoint, mosaic, tmp_path, capsys):
    """As without tiles, and with places on the earth for the image that has one."""
    picture, _ = mosaic
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in" / "placed.tif", picture, **PLACE)
    write_tiff(tmp_path / "in" / "plain.tif", picture[:200])
    Image.fromarray(picture[:70, :90]).save(tmp_path / "in" / "small.png")
    Image.fromarray(picture[:60, :80]).save(tmp_path / "in" / "tiny.png")
    (tmp_path / "in" / "text.tif").write_text("no image")
    whole = infer_folder(cfg, checkpoint, tmp_path / "in", tmp_path / "whole", device="cpu")
    summary = infer_folder(
        cfg, checkpoint, tmp_path / "in", tmp_path / "out", device="cpu", tile=120, score_thr=0.01
    )
    said = capsys.readouterr().out
    assert said.count("fits into one tile") == 1
    assert "small.png of 90 x 70 pixels" in said
    results = [
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "out")
    ]
    assert results[0] == results[1]
    assert (summary["tile"], summary["overlap"], whole["tile"]) == (120, 0.2, None)
    [failure] = summary["failed"]
    assert failure["file_name"] == "text.tif"
    assert failure["reason"] == "not an image in a format that Pillow or OpenCV can read"
    assert [image["height"] for image in summary["images"]] == [320, 200, 70, 60]
    assert [image.get("geojson") for image in summary["images"]][1:] == [None] * 3
    assert {path.name for path in (tmp_path / "out" / "maps").iterdir()} == {"placed.geojson"}
    content = json.loads((tmp_path / "out" / "maps" / "placed.geojson").read_text())
    first = [entry for entry in results[1] if entry["image_id"] == 1 and entry["score"] >= 0.01]
    assert len(content["features"]) == len(first) == 99
    for feature, entry in zip(content["features"], first, strict=True):
        assert feature["properties"] == {
            "class": entry["category"],
            "category_id": entry["category_id"],
            "score": entry["score"],
        }
        x, y, width, height = entry["bbox"]
        corners = [(x, y), (x + width, y), (x, y + height), (x + width, y + height)]
        lon, lat = rasterio.warp.transform(
            "EPSG:32632",
            "EPSG:4326",
            *(corners @ np.array([[0.5, 0], [0, -0.25]]) + [500000, 5300000]).T,
        )
        found = np.array(list(points(feature["geometry"]["coordinates"])))
        assert abs(found[:, 0].min() - min(lon)) < 1e-7 and abs(found[:, 1].max() - max(lat)) < 1e-7
        assert area(feature["geometry"]) > 0


def points(coordinates: list) -> list:
    if isinstance(coordinates[0], float):
        return [coordinates]
    return [point for part in coordinates for point in points(part)]


def area(geometry: dict) -> float:
    """Of rings that go against the clock, holes the other way."""
    several = geometry["type"] == "MultiPolygon"
    polygons = geometry["coordinates"] if several else [geometry["coordinates"]]
    total = 0.0
    for ring in (ring for polygon in polygons for ring in polygon):
        assert ring[0] == ring[-1]
        x, y = (np.array(ring) - ring[0]).T
        total += (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2
    return total


def test_geojson_needs_a_place(cfg, checkpoint, mosaic, tmp_path):
    model = mmbeit3.load(cfg, checkpoint, device="cpu")
    path = write_tiff(tmp_path / "a.tif", mosaic[0], transform=Affine.scale(2))  # without a CRS
    found = model(path, tile=120)
    with pytest.raises(InputError, match="a.tif has no georeference; expected a file with a "):
        found.save_geojson(tmp_path / "a.geojson")


def test_picture_of_an_overview(cfg, checkpoint, tmp_path):
    picture = np.zeros((300, 4096, 3), np.uint8)
    picture[100:200, 1000:3000] = 1, 0, 2
    model = mmbeit3.load(cfg, checkpoint, device="cpu")
    found = model(write_tiff(tmp_path / "a.tif", picture), tile=512)
    assert found.image.shape == (150, 2048, 3)
    assert found.boxes.tolist() == [[1000, 100, 3000, 200]]
    drawn = found.draw(hide_duplicates=True)
    assert drawn.shape == found.image.shape
    changed = np.flatnonzero((drawn != found.image).any(2)[100])
    assert abs(changed[0] - 500) < 8 and abs(changed[-1] - 1500) < 8
    assert json.loads(found.to_json())["width"] == 4096
    assert found.masks[0].sum() == 100 * 2000
    assert len(found[found.scores > 0.9].masks) == 0


@pytest.mark.parametrize("overlap", [0, 0.3])
def test_class_maps(seg_cfg, seg_checkpoint, tmp_path, overlap):
    rng = np.random.default_rng(0)
    picture = rng.choice([0, 255], (301, 420, 3)).astype(np.uint8)
    picture[(picture[..., 0] == 255) & (picture[..., 1] == 255)] = 0
    (tmp_path / "in").mkdir()
    path = write_tiff(tmp_path / "in" / "a.tif", picture, **PLACE)
    Image.fromarray(picture[:50, :60]).save(tmp_path / "in" / "small.png")
    model = mmbeit3.load(seg_cfg, seg_checkpoint, device="cpu")
    found, whole = model(path, tile=128, overlap=overlap), model(path)
    assert found.size == (301, 420) and found.shares == whole.shares
    np.testing.assert_array_equal(found.label_map, whole.label_map)
    assert found.to_coco() == whole.to_coco()
    np.testing.assert_array_equal(found.draw(), whole.draw())
    with pytest.raises(InputError, match="is a TIFF; expected .tif"):
        found.save_label_map(tmp_path / "a.png")
    summary = infer_folder(
        seg_cfg, seg_checkpoint, tmp_path / "in", tmp_path / "out", device="cpu", tile=128
    )
    assert [image["label"] for image in summary["images"]] == ["labels/a.tif", "labels/small.png"]
    with rasterio.open(tmp_path / "out" / "labels" / "a.tif") as file:
        assert file.profile["tiled"] and file.crs.to_epsg() == 32632
        assert file.transform == PLACE["transform"]
        assert file.colormap(1)[1][:3] == (200, 0, 0)
        np.testing.assert_array_equal(file.read(1), whole.label_map)
    folder = found.folder.name
    assert Path(folder).is_dir()
    del found
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (dict(tile=64, overlap=1), r"overlap: is 1; expected the share .* from 0 to below 1"),
        (dict(tile=64, overlap=-0.1), "overlap: is -0.1"),
        (dict(tile=64, overlap=float("nan")), "overlap: is nan"),
        (dict(tile=0), "tile: is 0; expected a whole number of pixels"),
        (dict(tile=64.5), "tile: is 64.5"),
    ],
)
def test_bad_tiles(cfg, checkpoint, options, reason):
    model = mmbeit3.load(cfg, checkpoint, device="cpu")
    with pytest.raises(InputError, match=reason):
        model(np.zeros((99, 99, 3), np.uint8), **options)


def test_bad_files(cfg, checkpoint, tmp_path):
    model = mmbeit3.load(cfg, checkpoint, device="cpu")
    with pytest.raises(InputError, match=r"absent.tif: .*No such file"):
        model(tmp_path / "absent.tif", tile=64)
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(InputError, match=r"text.tif: .*not an image in a format"):
        model(tmp_path / "text.tif", tile=64)
    with rasterio.open(
        tmp_path / "bands.tif", "w", driver="GTiff", height=99, width=99, count=6, dtype="uint8"
    ) as file:
        file.write(np.zeros((6, 99, 99), np.uint8))
    with pytest.raises(InputError, match="bands.tif: it has 6 bands"):
        model(tmp_path / "bands.tif", tile=64)
    path = write_tiff(tmp_path / "cut.tif", np.ones((400, 400, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-90000])
    with pytest.raises(InputError, match=r"cut.tif: cannot be read there .*\(tile 64 x 64 at "):
        model(path, tile=64)


def test_overlap_needs_tiles(cfg, checkpoint, tmp_path):
    with pytest.raises(InputError, match="overlap: is that of tiles; expected tile"):
        infer_folder(cfg, checkpoint, tmp_path, tmp_path / "out", overlap=0.3)


def test_missing_package(cfg, checkpoint, monkeypatch):
    model = mmbeit3.load(cfg, checkpoint, device="cpu")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    picture = np.zeros((99, 99, 3), np.uint8)
    assert len(model(picture).boxes) == 0
    with pytest.raises(InputError, match=r'needs rasterio .*pip install "mmbeit3\[tiles\]"'):
        model(picture, tile=64)


def test_run_ends_between_tiles(cfg, checkpoint, mosaic, tmp_path, monkeypatch):
    """When told to, however large the image is."""
    path = write_tiff(tmp_path / "a.tif", mosaic[0])
    test_step, calls = TrueDetector.test_step, []

    def told_to_end(self, data):
        calls.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        return test_step(self, data)

    monkeypatch.setattr(TrueDetector, "test_step", told_to_end)
    summary = infer_folder(cfg, checkpoint, path, tmp_path / "out", device="cpu", tile=64)
    assert summary["interrupted"] and summary["num_done"] == 0
    assert len(calls) == 1


@pytest.mark.slow
def test_memory_does_not_grow(color_cfg, color_checkpoint, tmp_path):
    """The image has 432 MB, and each of its masks 144 MB."""
    side = 12_000
    shape = dict(height=side, width=side, count=3, dtype="uint8", tiled=True, photometric="rgb")
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", compress="deflate", **shape
    ) as file:
        red = rasterio.windows.Window(500, 700, 9000, 8000)
        file.write(np.full((8000, 9000), 255, np.uint8), 1, window=red)
        green = rasterio.windows.Window(10_000, 100, 300, 11_000)
        file.write(np.full((11_000, 300), 255, np.uint8), 2, window=green)
    color_cfg.test_dataloader.dataset.pipeline[0]["_scope_"] = "mmbeit3"
    model = mmbeit3.load(color_cfg, color_checkpoint, device="cpu")
    tracemalloc.start()
    try:
        found = model(tmp_path / "a.tif", tile=1024)
        picture = found.draw(score_thr=0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.boxes.tolist() == [[500, 700, 9500, 8700], [10_000, 100, 10_300, 11_100]]
    assert picture.shape == (2048, 2048, 3)
    assert peak < 150 * 2**20
