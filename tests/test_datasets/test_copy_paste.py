from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import CopyPaste as MMDetCopyPaste
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.registry import init_default_scope

from mmbeit3.datasets import make_shapes
from mmbeit3.datasets.transforms import CopyPaste
from mmbeit3.engine.data_order import SampleIndex, with_positions
from mmbeit3.utils import InputError

LOAD = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", num_train=6, num_val=1)


def dataset(shapes: Path, seed: int = 3, threshold: float = 0.9, **options: Any) -> Any:
    """Class-balanced, with objects pasted, as a training builds it."""
    init_default_scope("mmdet")
    inner = dict(
        type="mmbeit3.CocoDataset",
        data_root=str(shapes),
        ann_file="annotations/train.json",
        data_prefix=dict(img="train/"),
        pipeline=LOAD,
    )
    balanced = dict(type="ClassBalancedDataset", oversample_thr=threshold, dataset=inner)
    mixed = dict(
        type="MultiImageMixDataset",
        dataset=balanced,
        pipeline=[dict(type="mmbeit3.CopyPaste", **options), dict(type="PackDetInputs")],
    )
    loader = dict(dataset=mixed, batch_size=2, sampler=dict(type="mmbeit3.InfiniteSampler"))
    return with_positions(loader, seed)["dataset"]


def test_masks_and_boxes_are_of_what_is_seen(shapes: Path) -> None:
    data = dataset(shapes, max_num_pasted=5)
    numbers = []
    for position in range(12):
        sample = data[SampleIndex(position % len(data), position, 3)]
        assert sample["inputs"].dtype == torch.uint8
        instances = sample["data_samples"].gt_instances
        masks = instances.masks.masks
        assert masks.sum(0).max() <= 1  # each pixel is of one object at most
        assert masks.any((1, 2)).all()
        numbers.append(len(masks))
        boxes = instances.bboxes.tensor.numpy()
        for mask, box in zip(masks, boxes, strict=True):
            ys, xs = np.nonzero(mask)
            # The annotations' boxes are a pixel off at the most.
            seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            np.testing.assert_allclose(box, seen, atol=1.5)
    assert len(set(numbers)) > 2


def test_a_sample_follows_from_seed_and_position_alone(shapes: Path) -> None:
    """Which is what makes a resumed training exact."""
    first, again = dataset(shapes), dataset(shapes)
    for position in (5, 0, 9):
        samples = []
        for data in (first, again):
            random.seed(position)  # of the process: of no effect
            samples.append(data[SampleIndex(1, position, 3)])
            random.random()
        assert torch.equal(samples[0]["inputs"], samples[1]["inputs"])
        masks = [sample["data_samples"].gt_instances.masks.masks for sample in samples]
        assert np.array_equal(*masks)
    other = first[SampleIndex(1, 6, 3)]["inputs"]
    assert not torch.equal(other, first[SampleIndex(1, 5, 3)]["inputs"])


def test_images_with_rare_classes_come_more_often(shapes: Path) -> None:
    plain, often = (dataset(shapes, threshold=thr) for thr in (1e-6, 0.99))
    assert len(plain) == 6 < len(often)
    assert len(often) == len(dataset(shapes, threshold=0.99))


def test_no_image_beyond_the_last_one() -> None:
    for number in (1, 2, 5):
        found = {CopyPaste().get_indexes(range(number)) for _ in range(200)}
        assert found == set(range(number))


def sample(size: tuple[int, int], value: int, *boxes: tuple[int, int, int, int]) -> dict[str, Any]:
    masks = np.zeros((len(boxes), *size), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    return dict(
        img=np.full((*size, 3), value, np.uint8),
        gt_bboxes=HorizontalBoxes(torch.tensor(boxes, dtype=torch.float).reshape(-1, 4)),
        gt_bboxes_labels=np.arange(len(boxes)),
        gt_masks=BitmapMasks(masks, *size),
        gt_ignore_flags=np.zeros(len(boxes), bool),
    )


@pytest.mark.parametrize(("kind", "kept"), [(CopyPaste, 2), (MMDetCopyPaste, 3)])
def test_pixels_are_those_of_the_uppermost_and_what_is_hidden_goes(kind: type, kept: int) -> None:
    image = sample((40, 50), 10, (0, 0, 6, 6), (20, 20, 40, 36))
    image["mix_results"] = [sample((40, 50), 200, (0, 0, 30, 30))]
    found = kind(selected=False, mask_occluded_thr=100)(image)
    assert len(found["gt_bboxes_labels"]) == kept  # the first one is hidden, near the corner
    if kind is CopyPaste:
        assert found["img"].dtype == np.uint8
        assert (found["img"][:30, :30] == 200).all() and (found["img"][30:] == 10).all()
        assert found["gt_bboxes_labels"].tolist() == [1, 0]
        assert found["gt_masks"].masks.sum((1, 2)).tolist() == [20 * 16 - 10 * 10, 900]


def test_what_it_cannot_paste_is_told() -> None:
    image = sample((40, 50), 1, (0, 0, 6, 6)) | {"mix_results": [sample((50, 40), 2, (1, 1, 9, 9))]}
    with pytest.raises(InputError, match=r"of 40 x 50 and one of 50 x 40 .*expected one size"):
        CopyPaste(selected=False)(image)
    image = sample((40, 50), 1, (0, 0, 6, 6)) | {"mix_results": [sample((40, 50), 2, (1, 1, 9, 9))]}
    image["gt_masks"] = PolygonMasks([[np.array([0.0, 0, 6, 0, 6, 6])]], 40, 50)
    with pytest.raises(InputError, match="has PolygonMasks; expected BitmapMasks"):
        CopyPaste(selected=False)(image)
