"""A detector and a segmentor whose answers are known: they find what is red and what is green."""

from __future__ import annotations

import builtins
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from mmseg.registry import MODELS as SEG_MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn


@MODELS.register_module(force=True)
class ColorDetector(nn.Module):
    """Find a red rectangle (class 0, score 0.9) and a green one (class 1, score 0.2).

    Args:
        masks: Whether to return masks.
        fails: The name of an error to raise from the third image on.
        max_pixels: Larger batches meet an error for want of memory.
    """

    def __init__(
        self,
        masks: bool = True,
        fails: str | None = None,
        max_pixels: float = float("inf"),
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.masks, self.fails, self.max_pixels = masks, fails, max_pixels

    def test_step(self, data: dict) -> list[DetDataSample]:
        assert not self.training
        assert len({image.shape for image in data["inputs"]}) == 1  # nothing will be padded
        if sum(image[0].numel() for image in data["inputs"]) > self.max_pixels:
            raise torch.cuda.OutOfMemoryError("too large")
        for sample in data["data_samples"]:
            if self.fails and sample.img_id >= 3:
                raise getattr(builtins, self.fails)
        return [self._detect(*pair) for pair in zip(*data.values(), strict=True)]

    def _detect(self, image: Tensor, sample: DetDataSample) -> DetDataSample:
        assert tuple(image.shape[1:]) == tuple(sample.ori_shape)
        _, green, red = image.int()
        masks = [(red - green) > 100, (green - red) > 100]
        labels = [label for label in (0, 1) if masks[label].any()]
        boxes = [self._box(masks[label]) for label in labels]
        found = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            scores=torch.tensor([(0.9, 0.2)[label] for label in labels]) * self.weight,
            labels=torch.tensor(labels, dtype=torch.long),
        )
        if self.masks:
            found.masks = torch.stack(masks)[labels]
        sample.pred_instances = found
        return sample

    @staticmethod
    def _box(mask: Tensor) -> list[int]:
        rows, columns = mask.nonzero(as_tuple=True)
        return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.fixture
def color_cfg() -> Config:
    return color_detector_cfg()


def color_detector_cfg() -> Config:
    """A config of the detector above, with a usual test pipeline."""
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape")),
    ]
    dataset = dict(type="CocoDataset", pipeline=pipeline)
    return Config(
        dict(
            default_scope="mmdet",
            model=dict(type="ColorDetector"),
            test_dataloader=dict(batch_size=2, dataset=dataset),
        )
    )


@pytest.fixture
def color_checkpoint(tmp_path: Path) -> Path:
    return write_color_weights(tmp_path)


def write_color_weights(folder: Path) -> Path:
    """The weights of the detector above."""
    path = folder / "weights" / "color.pth"
    path.parent.mkdir()
    meta = {"dataset_meta": {"classes": ("red thing", "green thing")}}
    torch.save({"meta": meta, "state_dict": {"weight": torch.ones(1)}}, path)
    return path


@SEG_MODELS.register_module(force=True)
class ColorSegmentor(nn.Module):
    """Call black pixels class 0, red ones 1 and green ones 2.

    Args:
        fails: The name of an error to raise from the third image on.
        max_pixels: Larger batches meet an error for want of memory.
        shift: Added to every class.
    """

    def __init__(
        self, fails: str | None = None, max_pixels: float = float("inf"), shift: int = 0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.fails, self.max_pixels, self.shift = fails, max_pixels, shift
        self.calls = 0

    def test_step(self, data: dict) -> list[SegDataSample]:
        assert not self.training
        assert len({image.shape for image in data["inputs"]}) == 1  # nothing will be padded
        if sum(image[0].numel() for image in data["inputs"]) > self.max_pixels:
            raise torch.cuda.OutOfMemoryError("too large")
        self.calls += len(data["inputs"])
        if self.fails and self.calls >= 3:
            raise getattr(builtins, self.fails)
        return [self._segment(*pair) for pair in zip(*data.values(), strict=True)]

    def _segment(self, image: Tensor, sample: SegDataSample) -> SegDataSample:
        _, green, red = image.int()
        labels = (red > 100).long() + 2 * (green > 100).long() + self.shift
        size = [int(side) for side in sample.ori_shape]
        labels = nn.functional.interpolate(labels[None, None].float(), size).long()[0]
        sample.pred_sem_seg = PixelData(data=labels)
        return sample


@pytest.fixture
def seg_cfg() -> Config:
    """A config of the segmentor above, with a usual test pipeline."""
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations"),
        dict(type="PackSegInputs"),
    ]
    dataset = dict(type="BaseSegDataset", pipeline=pipeline)
    return Config(
        dict(
            default_scope="mmseg",
            model=dict(type="ColorSegmentor"),
            test_dataloader=dict(batch_size=2, dataset=dataset),
        )
    )


@pytest.fixture
def seg_checkpoint(tmp_path: Path) -> Path:
    """The weights of the segmentor above."""
    path = tmp_path / "weights" / "segmentor.pth"
    path.parent.mkdir(exist_ok=True)
    dataset_meta = {
        "classes": ("dark", "red thing", "green thing"),
        "palette": [[10, 20, 30], [200, 0, 0], [0, 200, 0]],
        "reduce_zero_label": True,
        "label_map": None,
    }
    content = {"meta": {"dataset_meta": dataset_meta}, "state_dict": {"weight": torch.ones(1)}}
    torch.save(content, path)
    return path
