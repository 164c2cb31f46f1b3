from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmengine.evaluator import Evaluator
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from mmbeit3.datasets import CocoDataset, make_shapes
from mmbeit3.evaluation import CocoMetric, evaluate_coco
from mmbeit3.evaluation.coco_metric import metric_name
from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError

from .helpers import perturbed_results, run_pycocotools

KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
METRIC_NAMES = {key: metric_name(key) for key in KEYS}
SHAPES = ("disk", "square", "triangle", "star", "ring")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", 1, 8, 96, seed=0)


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    for module in ("coco", "coco_metric"):
        target = f"mmbeit3.evaluation.{module}.print_log"
        monkeypatch.setattr(target, lambda text, *_: texts.append(text))
    return texts


def _samples(truth: dict, results: list[dict], cat_ids: list[int]) -> list[dict]:
    """Results in the form that a detector hands to the metric."""
    samples = []
    for image in truth["images"]:
        found = [result for result in results if result["image_id"] == image["id"]]
        boxes = np.array([result["bbox"] for result in found]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = [mask_api.decode(result["segmentation"]) for result in found]
        shape = (image["height"], image["width"])
        prediction = {
            "bboxes": torch.from_numpy(boxes),
            "scores": torch.tensor([result["score"] for result in found], dtype=torch.float64),
            "labels": torch.tensor([cat_ids.index(result["category_id"]) for result in found]),
            "masks": torch.from_numpy(np.array(masks, np.uint8).reshape(-1, *shape)).bool(),
        }
        samples.append({"img_id": image["id"], "ori_shape": shape, "pred_instances": prediction})
    return samples


def _evaluate(metric: CocoMetric, samples: list[dict], classes: tuple[str, ...]) -> dict:
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {"classes": classes}
    evaluator.process(samples, None)
    return evaluator.evaluate(len(samples))


def _perfect(ann_file: Path) -> tuple[dict, list[dict]]:
    coco = COCO(str(ann_file))
    return coco.dataset, [
        annotation | {"score": 1.0, "segmentation": coco.annToRLE(annotation)}
        for annotation in coco.dataset["annotations"]
    ]


@pytest.mark.parametrize("backend", ["faster-coco-eval", "pycocotools"])
def test_perfect_predictions(shapes: Path, backend: str, messages: list[str]) -> None:
    ann_file = shapes / "annotations" / "val.json"
    metric = METRICS.build(
        {
            "type": "mmbeit3.CocoMetric",
            "ann_file": str(ann_file),
            "metric": ["bbox", "segm"],
            "classwise": True,
            "backend": backend,
        }
    )
    metrics = _evaluate(metric, _samples(*_perfect(ann_file), [1, 2, 3, 4, 5]), SHAPES)
    for iou_type in ("bbox", "segm"):
        assert metrics[f"coco/{iou_type}_mAP"] == pytest.approx(1, abs=1e-9)
        assert metrics[f"coco/{iou_type}_star_precision"] == pytest.approx(1, abs=1e-9)
        assert {f"coco/{iou_type}_{name}" for name in METRIC_NAMES.values()} <= metrics.keys()
    table = messages[0]
    assert "AP50" in table and "segm" in table and "1.000" in table
    assert "triangle" in messages[1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"metric": "segm", "proposal_nums": (5, 200)},
        {"metric": ["bbox", "segm"], "classwise": True},
        {"metric": ["bbox"], "format_only": True},
    ],
)
def test_the_names_of_the_metrics_are_known_before(
    shapes: Path, tmp_path: Path, settings: dict
) -> None:
    ann_file = shapes / "annotations" / "val.json"
    metric = CocoMetric(str(ann_file), outfile_prefix=str(tmp_path / "out"), **settings)
    metrics = _evaluate(metric, _samples(*_perfect(ann_file), [1, 2, 3, 4, 5]), SHAPES)
    assert {f"coco/{name}" for name in CocoMetric.metric_names(settings, SHAPES)} == set(metrics)


@pytest.mark.parametrize("classes", [SHAPES, ("ring", "disk", "star", "square", "triangle")])
def test_labels_follow_the_classes_of_the_data_set(shapes: Path, classes: tuple[str, ...]) -> None:
    ann_file = shapes / "annotations" / "val.json"
    dataset = CocoDataset(
        ann_file=str(ann_file),
        data_prefix={"img": str(shapes / "val")},
        metainfo={"classes": classes},
        test_mode=True,
    )
    samples = [
        {
            "img_id": info["img_id"],
            "ori_shape": (info["height"], info["width"]),
            "pred_instances": {
                "bboxes": torch.tensor([i["bbox"] for i in info["instances"]]),
                "labels": torch.tensor([i["bbox_label"] for i in info["instances"]]),
                "scores": torch.ones(len(info["instances"])),
            },
        }
        for info in (dataset.get_data_info(index) for index in range(len(dataset)))
    ]
    metrics = _evaluate(CocoMetric(str(ann_file)), samples, dataset.metainfo["classes"])
    assert metrics["coco/bbox_mAP"] == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 1])
def test_unrounded_and_equal_to_pycocotools_on_coco(data_root: Path, seed: int) -> None:
    ann_file = data_root / "coco_sample" / "annotations" / "instances_val2017.json"
    truth = json.loads(ann_file.read_text())
    classes = tuple(category["name"] for category in truth["categories"])
    cat_ids = [category["id"] for category in truth["categories"]]
    assert cat_ids == sorted(cat_ids)
    results = perturbed_results(truth, seed)
    metric = CocoMetric(str(ann_file), metric=["bbox", "segm"])
    metrics = _evaluate(metric, _samples(truth, results, cat_ids), classes)
    for iou_type in ("bbox", "segm"):
        ours = [metrics[f"coco/{iou_type}_{name}"] for name in METRIC_NAMES.values()]
        official = run_pycocotools(truth, results, iou_type)
        assert 0.05 < official[0] < 0.95
        np.testing.assert_allclose(ours, official, rtol=0, atol=1e-9)


def test_ground_truth_from_the_samples() -> None:
    box = [10.0, 12.0, 50.0, 40.0]
    sample = {
        "img_id": 3,
        "ori_shape": (64, 64),
        "instances": [{"bbox": box, "bbox_label": 1, "ignore_flag": 0}],
        "pred_instances": {
            "bboxes": torch.tensor([box]),
            "scores": torch.ones(1),
            "labels": torch.ones(1, dtype=torch.long),
        },
    }
    assert _evaluate(CocoMetric(), [sample], ("cat", "dog"))["coco/bbox_mAP"] == pytest.approx(1)


def test_result_files_are_kept(shapes: Path, tmp_path: Path) -> None:
    ann_file = shapes / "annotations" / "val.json"
    samples = _samples(*_perfect(ann_file), [1, 2, 3, 4, 5])
    prefix = tmp_path / "new" / "run"
    metric = CocoMetric(str(ann_file), outfile_prefix=str(prefix), format_only=True)
    assert _evaluate(metric, samples, SHAPES) == {}
    results = json.loads(Path(f"{prefix}.segm.json").read_text())
    assert len(results) == len(json.loads(ann_file.read_text())["annotations"])


def test_files_change_no_number(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann_file = shapes / "annotations" / "val.json"
    truth = json.loads(ann_file.read_text())
    samples = _samples(truth, perturbed_results(truth, 0), [1, 2, 3, 4, 5])
    for sample in samples:  # as heads that score their masks give them
        prediction = sample["pred_instances"]
        prediction["bboxes"] = prediction["bboxes"].float()
        prediction["mask_scores"] = 1 - prediction["scores"].float()
    prefix = str(tmp_path / "run")
    options = {"ann_file": str(ann_file), "metric": ["bbox", "segm"]}
    metrics = _evaluate(CocoMetric(**options, outfile_prefix=prefix), samples, SHAPES)
    for iou_type in ("bbox", "segm"):
        written = evaluate_coco(ann_file, f"{prefix}.{iou_type}.json", iou_type)
        assert 0.02 < written["AP"] < 0.95
        ours = [metrics[f"coco/{iou_type}_{METRIC_NAMES[key]}"] for key in written]
        assert ours == list(written.values())
    monkeypatch.setattr("tempfile.TemporaryDirectory", None)  # nothing is written unasked
    assert _evaluate(CocoMetric(**options), samples, SHAPES) == metrics


def test_scored_are_the_numbers_of_the_files(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann_file = shapes / "annotations" / "val.json"
    truth = json.loads(ann_file.read_text())
    samples = _samples(truth, perturbed_results(truth, 0), [1, 2, 3, 4, 5])
    for sample in samples:
        sample["pred_instances"]["bboxes"] = sample["pred_instances"]["bboxes"].float()
    scored = {}

    def keep(truth: COCO, results: list[dict], iou_type: str, *_: object) -> dict:
        scored[iou_type] = results
        return dict.fromkeys(METRIC_NAMES, 0.5)

    monkeypatch.setattr("mmbeit3.evaluation.coco_metric.evaluate_coco", keep)
    prefix = tmp_path / "run"
    metric = CocoMetric(str(ann_file), metric=["bbox", "segm"], outfile_prefix=str(prefix))
    _evaluate(metric, samples, SHAPES)
    assert len(scored["bbox"]) > 20
    assert scored["bbox"] == json.loads(Path(f"{prefix}.bbox.json").read_text())
    written = json.loads(Path(f"{prefix}.segm.json").read_text())
    for result in written:
        del result["bbox"]  # mmdet writes it too
    assert scored["segm"] == written


def test_masks_are_kept_as_mmdet_keeps_them(shapes: Path) -> None:
    ann_file = shapes / "annotations" / "val.json"
    samples = _samples(*_perfect(ann_file), [1, 2, 3, 4, 5])
    ours, theirs = CocoMetric(str(ann_file)), MMDetCocoMetric(str(ann_file))
    ours.process({}, samples)
    theirs.process({}, samples)
    for (_, kept), (_, expected) in zip(ours.results, theirs.results, strict=True):
        assert kept["masks"] == expected["masks"]
    # other metrics want them as they were
    assert all(sample["pred_instances"]["masks"].dtype == torch.bool for sample in samples)


def test_masks_that_are_codes_already(shapes: Path) -> None:
    ann_file = shapes / "annotations" / "val.json"
    sample = _samples(*_perfect(ann_file), [1, 2, 3, 4, 5])[0]
    codes = [{"size": [96, 96], "counts": b"0"}] * len(sample["pred_instances"]["labels"])
    sample["pred_instances"]["masks"] = codes
    metric = CocoMetric(str(ann_file))
    metric.process({}, [sample])
    assert metric.results[0][1]["masks"] == codes


def test_no_detections_at_all(shapes: Path, messages: list[str]) -> None:
    ann_file = shapes / "annotations" / "val.json"
    truth = json.loads(ann_file.read_text())
    metric = CocoMetric(str(ann_file), metric=["bbox", "segm"])
    metrics = _evaluate(metric, _samples(truth, [], [1, 2, 3, 4, 5]), SHAPES)
    assert metrics["coco/bbox_mAP"] == metrics["coco/segm_mAP"] == 0
    assert sum("not one detection" in text for text in messages) == 2


def test_images_that_were_not_run_are_mentioned(shapes: Path, messages: list[str]) -> None:
    ann_file = shapes / "annotations" / "val.json"
    samples = _samples(*_perfect(ann_file), [1, 2, 3, 4, 5])[:5]
    assert _evaluate(CocoMetric(str(ann_file)), samples, SHAPES)["coco/bbox_mAP"] < 1
    assert "only 5 of the 8 images" in messages[0]


def test_classes_that_the_file_lacks_stop_before_the_run(shapes: Path) -> None:
    evaluator = Evaluator(CocoMetric(str(shapes / "annotations" / "val.json")))
    with pytest.raises(InputError, match=r"'discs' \(did you mean 'disk'\?\)"):
        evaluator.dataset_meta = {"classes": ("discs", "star")}


def test_labels_beyond_the_classes(shapes: Path) -> None:
    ann_file = shapes / "annotations" / "val.json"
    samples = _samples(*_perfect(ann_file), [1, 2, 3, 4, 5])
    samples[0]["pred_instances"]["labels"][0] = 79
    with pytest.raises(InputError, match="predicts label 79, the data set has 5 classes"):
        _evaluate(CocoMetric(str(ann_file)), samples, SHAPES)


def test_segm_without_masks(shapes: Path) -> None:
    ann_file = shapes / "annotations" / "val.json"
    samples = _samples(*_perfect(ann_file), [1, 2, 3, 4, 5])
    for sample in samples:
        del sample["pred_instances"]["masks"]
    with pytest.raises(InputError, match="needs masks"):
        _evaluate(CocoMetric(str(ann_file), metric="segm"), samples, SHAPES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "proposal"}, "metric is 'proposal'"),
        ({"backend": "coco"}, "backend is 'coco'"),
        ({"format_only": True}, "needs outfile_prefix"),
        ({"ann_file": "absent.json"}, "there is no file absent.json"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CocoMetric(**arguments)


@pytest.mark.parametrize("portion", [10, 10_000])
def test_ground_truth_of_a_large_file_is_read_by_category(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    file = str(shapes / "annotations" / "val.json")
    truth = json.loads(Path(file).read_text())
    results = perturbed_results(truth, 3)
    samples = _samples(truth, results, sorted(each["id"] for each in truth["categories"]))
    metrics = ["bbox", "segm"]
    whole = _evaluate(CocoMetric(file, metrics, classwise=True), samples, SHAPES)
    monkeypatch.setattr("mmbeit3.datasets.coco_index.LARGE", 0)
    monkeypatch.setattr("mmbeit3.evaluation.coco.MAX_ENTRIES", portion)
    monkeypatch.setenv("MMBEIT3_INDEX_DIR", str(tmp_path))
    ours = CocoMetric(file, metrics, classwise=True)
    assert not hasattr(ours._coco_api, "anns") or not ours._coco_api.anns
    assert list(tmp_path.glob("*.index"))
    assert _evaluate(ours, samples, SHAPES) == whole
    expected = run_pycocotools(truth, results, "segm")
    assert list(evaluate_coco(file, results, "segm").values()) == pytest.approx(expected, abs=1e-12)
