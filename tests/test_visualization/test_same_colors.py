"""A class has the same color in every picture: of infer, results, tests, checks and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import VISUALIZERS
from mmengine.structures import InstanceData
from PIL import Image

import mmbeit3
from mmbeit3.apis.data_report import report_config
from mmbeit3.datasets import CocoDataset
from mmbeit3.datasets.palette import make_palette
from mmbeit3.inference.folder import infer_folder
from mmbeit3.inference.task import find_task
from tests.color_models import color_cfg  # noqa: F401

CLASSES = ("red thing", "green thing")
NAMED = [(240, 130, 10), (130, 20, 200)]  # RGB
FILES = ("infer", "check-data")  # JPEG
#: Width, height, and the box of the red thing: x y w h.
SIZES = [
    (61, 43, (5, 14, 31, 22)),
    (640, 533, (101, 97, 333, 260)),
    (1500, 300, (90, 80, 700, 190)),
]


@pytest.fixture(params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def data(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[int]]:
    """An image with a red thing, and its COCO file."""
    width, height, box = request.param
    image = Image.new("RGB", (width, height), (60, 60, 60))
    image.paste("red", (box[0], box[1], box[0] + box[2], box[1] + box[3]))
    (tmp_path / "images").mkdir()
    image.save(tmp_path / "images" / "a.png")
    x, y, w, h = box
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    one = dict(id=1, image_id=1, category_id=1, bbox=[*box], area=w * h, iscrowd=0)
    content = {
        "images": [dict(id=1, file_name="a.png", width=width, height=height)],
        "annotations": [one | {"segmentation": polygon}],
        "categories": [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path, [x, y, x + w, y + h]


def line_color(picture: np.ndarray, width: int, box: list[int]) -> list[int]:
    """The color of the left side of a box, RGB, wherever the picture was resized to."""
    scale = picture.shape[1] / width
    y = round((box[1] + box[3]) / 2 * scale)
    return picture[y, round(box[0] * scale)][::-1].tolist()


@pytest.mark.parametrize("place", ["data set", "checkpoint", "nowhere"])
def test_in_all_five_places(data: tuple[Path, list[int]], color_cfg: Config, place: str) -> None:  # noqa: F811
    folder, box = data
    metainfo = dict(classes=CLASSES) | ({"palette": NAMED} if place == "data set" else {})
    dataset = dict(
        type="mmbeit3.CocoDataset",
        ann_file=str(folder / "a.json"),
        data_prefix=dict(img=str(folder / "images")),
        metainfo=metainfo,
        pipeline=color_cfg.test_dataloader.dataset.pipeline,
    )
    color_cfg.test_dataloader.dataset = dataset
    built = CocoDataset(**{k: v for k, v in dataset.items() if k != "type"} | {"pipeline": []})
    if place == "checkpoint":  # as training writes it, with the colors of its data
        built._metainfo["palette"] = NAMED
    meta = {"dataset_meta": built.metainfo} if place == "checkpoint" else {}
    checkpoint = folder / "color.pth"
    torch.save({"meta": meta, "state_dict": {"weight": torch.ones(1)}}, checkpoint)

    pictures = {}
    result = mmbeit3.load(color_cfg, checkpoint, device="cpu")(folder / "images" / "a.png")
    pictures["result"] = result.draw()
    infer_folder(color_cfg, checkpoint, folder / "images", folder / "out", device="cpu")
    pictures["infer"] = cv2.imread(str(folder / "out" / "overlays" / "a.jpg"))

    sample = DetDataSample(metainfo=dict(img_path=str(folder / "images" / "a.png")))
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor(result.boxes),
        labels=torch.tensor(result.labels),
        scores=torch.tensor(result.scores),
        masks=torch.tensor(result.masks),
    )
    hook = find_task(color_cfg).drawing_hook(color_cfg, meta, dict(show_dir=folder, loader=None))
    pictures["test"] = hook.draw(SimpleNamespace(visualizer=None), result.image, sample)

    visualizer = VISUALIZERS.build(dict(type="mmbeit3.Visualizer", name=str(folder)))
    visualizer.dataset_meta = built.metainfo
    visualizer.add_datasample("a", result.image[..., ::-1], sample)
    pictures["TensorBoard"] = visualizer.get_image()[..., ::-1]

    if place != "checkpoint":  # the data set has no colors then
        report_config(color_cfg, ("test",), folder / "check", num_samples=1)
        [file] = (folder / "check" / "samples").iterdir()
        pictures["check-data"] = cv2.imread(str(file))

    want = make_palette(2)[0] if place == "nowhere" else NAMED[0]
    for name, picture in pictures.items():
        found = line_color(picture, result.image.shape[1], box)
        assert np.abs(np.subtract(found, want)).max() <= (40 if name in FILES else 0), name
    assert (pictures["result"] == pictures["test"]).all()
    assert (pictures["result"] == pictures["TensorBoard"]).all()
