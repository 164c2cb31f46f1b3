"""The hook that draws the images of a test: whose classes and colors it takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmbeit3.datasets.palette import make_palette
from mmbeit3.visualization.drawing_hook import SampleDrawingHook

TRAINED, COLORS = ("a", "b"), [(200, 10, 10), (10, 200, 10)]  # BGR
NAMED = [(1, 2, 250), (3, 250, 4), (240, 6, 5), (120, 8, 250)]  # RGB


@pytest.mark.parametrize(
    ("metainfo", "label", "color"),
    [
        (dict(classes=("a", "b")), 1, COLORS[1]),
        (dict(classes=("a", " b "), palette=NAMED[:2]), 1, COLORS[1]),  # those of the checkpoint
        ({}, 1, COLORS[1]),
        (dict(classes=("b", "c", "d", "e"), palette=NAMED), 3, NAMED[3][::-1]),
        (dict(classes=("b", "c", "d")), 2, make_palette(3)[2][::-1]),
    ],
)
def test_classes_other_than_trained_are_those_of_the_data(
    tmp_path: Path, metainfo: dict, label: int, color: tuple[int, int, int]
) -> None:
    hook = SampleDrawingHook(TRAINED, COLORS, show_dir=tmp_path, loader=dict)
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=metainfo))
    runner = SimpleNamespace(test_dataloader=loader, visualizer=None)
    hook.before_test(runner)
    sample = DetDataSample()
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[100.0, 150, 300, 400]]),
        labels=torch.tensor([label]),
        scores=torch.tensor([0.7]),
    )
    picture = hook.draw(runner, np.full((500, 610, 3), 77, np.uint8), sample)
    assert picture[300, 100].tolist() == list(color)
