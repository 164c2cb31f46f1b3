"""Several validation sets at once: each image is scored against its own objects, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmdet.datasets import ConcatDataset as MMDetConcatDataset
from mmdet.registry import DATASETS
from mmengine.dataset import ConcatDataset
from mmengine.evaluator import Evaluator
from mmengine.registry import EVALUATOR, init_default_scope
from PIL import Image

from mmbeit3.datasets import CocoDataset
from mmbeit3.evaluation import CocoMetric
from mmbeit3.utils import InputError

PIPELINE = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape")),
]


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope("mmdet")


def make_set(
    root: Path, name: str, ids: list[int], size: tuple[int, int] = (40, 30)
) -> CocoDataset:
    """A set of images with one box each, at places that differ between the sets."""
    shift = 2 * ord(name[-1]) % 9
    images = [
        dict(id=i, file_name=f"{index}.png", width=size[0], height=size[1])
        for index, i in enumerate(ids)
    ]
    boxes = [
        dict(id=n, image_id=i, category_id=2, bbox=[shift, n, 11, 9 + shift], area=99, iscrowd=0)
        for n, i in enumerate(ids, 1)
    ]
    content = dict(images=images, annotations=boxes, categories=[dict(id=2, name="box")])
    (root / name).mkdir()
    for image in images:
        Image.new("RGB", size).save(root / name / image["file_name"])
    (root / f"{name}.json").write_text(json.dumps(content))
    return load(root, name)


def load(root: Path, name: str) -> CocoDataset:
    return CocoDataset(
        data_root=str(root),
        ann_file=f"{name}.json",
        data_prefix=dict(img=name),
        test_mode=True,
        pipeline=PIPELINE,
    )


def perfect(dataset: ConcatDataset | CocoDataset) -> list[dict]:
    """Samples whose predictions are the ground truth."""
    samples = []
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"]
        boxes = sample.gt_instances.bboxes.tensor
        found = dict(
            bboxes=boxes,
            scores=torch.full((len(boxes),), 0.9),
            labels=torch.zeros(len(boxes), dtype=torch.long),
        )
        keys = ("img_id", "img_path", "ori_shape")
        samples.append({key: sample.get(key) for key in keys} | {"pred_instances": found})
    return samples


def score(metric: CocoMetric, samples: list[dict], size: int | None = None) -> float:
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {"classes": ("box",)}
    for sample in samples:
        evaluator.process([sample], None)
    return evaluator.evaluate(size or len(samples))["coco/bbox_mAP"]


@pytest.mark.parametrize("with_paths", [True, False])
@pytest.mark.parametrize("ids", [([1, 2], [1, 2]), ([7, 9, 4], [5, 4]), ([1], [2], [3, 1])])
def test_the_same_id_for_two_images(tmp_path: Path, ids: tuple, with_paths: bool) -> None:
    both = ConcatDataset([make_set(tmp_path, f"set_{'abc'[n]}", i) for n, i in enumerate(ids)])
    samples = perfect(both)
    for sample in samples if not with_paths else ():
        del sample["img_path"]
    with pytest.raises(InputError, match="have the id of another one.*MultiDatasetsEvaluator"):
        score(CocoMetric(str(tmp_path / "set_a.json")), samples)


def test_two_sets_in_one_file(tmp_path: Path) -> None:
    both = ConcatDataset([make_set(tmp_path, "a", [1, 2]), make_set(tmp_path, "b", [3, 8])])
    contents = [json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab"]
    merged = {key: contents[0][key] + contents[1][key] for key in ("images", "annotations")}
    for number, annotation in enumerate(merged["annotations"]):
        annotation["id"] = number
    (tmp_path / "all.json").write_text(
        json.dumps(merged | dict(categories=contents[0]["categories"]))
    )
    assert score(CocoMetric(str(tmp_path / "all.json")), perfect(both)) == pytest.approx(1)


def test_images_that_the_file_lacks(tmp_path: Path) -> None:
    both = ConcatDataset([make_set(tmp_path, "a", [1, 2]), make_set(tmp_path, "b", [3, 8])])
    with pytest.raises(InputError, match=r"2 of the 4 images .* not in .*a.json.*b/0.png \(id 3\)"):
        score(CocoMetric(str(tmp_path / "a.json")), perfect(both))


def test_images_of_another_size(tmp_path: Path) -> None:
    make_set(tmp_path, "a", [1, 2])
    other = make_set(tmp_path, "b", [2, 1], size=(50, 40))
    with pytest.raises(InputError, match="2 of the 2 images .* 50 x 40, expected 40 x 30"):
        score(CocoMetric(str(tmp_path / "a.json")), perfect(other))


@pytest.mark.parametrize("with_paths", [True, False])
def test_an_image_that_was_run_twice_counts_once(tmp_path: Path, with_paths: bool) -> None:
    samples = perfect(make_set(tmp_path, "a", [4, 2, 6]))
    for sample in samples if not with_paths else ():
        del sample["img_path"]
    metric = CocoMetric(str(tmp_path / "a.json"))
    assert score(metric, [*samples, *samples[:2]]) == pytest.approx(1)


def test_padding_of_distributed_samplers_is_cut_off(tmp_path: Path) -> None:
    """The last samples of a round are the first ones again, with other rounding."""
    samples = perfect(make_set(tmp_path, "a", [4, 2, 6]))
    again = perfect(load(tmp_path, "a"))[0]
    again["pred_instances"]["scores"] = again["pred_instances"]["scores"] + 1e-7
    for sample in (*samples, again):
        del sample["img_path"]
    metric = CocoMetric(str(tmp_path / "a.json"))
    assert score(metric, [*samples, again], size=3) == pytest.approx(1)


def test_each_set_by_a_metric_of_its_own(tmp_path: Path) -> None:
    """What the message advises."""
    for name in "ab":
        make_set(tmp_path, name, [1, 2])
    both: MMDetConcatDataset = DATASETS.build(
        dict(
            type="ConcatDataset",
            datasets=[
                dict(
                    type="mmbeit3.CocoDataset",
                    data_root=str(tmp_path),
                    ann_file=f"{name}.json",
                    data_prefix=dict(img=name),
                    test_mode=True,
                    pipeline=PIPELINE,
                )
                for name in "ab"
            ],
        )
    )
    metrics = [
        dict(type="mmbeit3.CocoMetric", ann_file=str(tmp_path / f"{name}.json")) for name in "ab"
    ]
    evaluator = EVALUATOR.build(
        dict(type="MultiDatasetsEvaluator", metrics=metrics, dataset_prefixes=["a", "b"])
    )
    evaluator.dataset_meta = both.metainfo
    samples = perfect(both)
    evaluator.process(samples, None)
    found = evaluator.evaluate(len(samples))
    assert found["a/coco/bbox_mAP"] == found["b/coco/bbox_mAP"] == pytest.approx(1)


def test_masks_to_score_must_be_there(tmp_path: Path) -> None:
    make_set(tmp_path, "a", [1, 2])
    with pytest.raises(InputError, match="2 of the 2 objects of .*a.json have no segmentation"):
        CocoMetric(str(tmp_path / "a.json"), metric=["bbox", "segm"])


def test_more_proposals(tmp_path: Path) -> None:
    samples = perfect(make_set(tmp_path, "a", [1, 2]))
    metric = CocoMetric(str(tmp_path / "a.json"), proposal_nums=(100, 300, 1000))
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {"classes": ("box",)}
    evaluator.process(samples, None)
    found = evaluator.evaluate(2)
    assert {"coco/bbox_AR@300", "coco/bbox_AR@1000", "coco/bbox_AR_s@1000"} <= found.keys()
    assert found["coco/bbox_mAP"] == pytest.approx(1)
    with pytest.raises(InputError, match="proposal_nums is 100, expected"):
        CocoMetric(str(tmp_path / "a.json"), proposal_nums=100)
