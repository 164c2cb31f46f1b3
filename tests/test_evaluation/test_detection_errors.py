"""TIDE's errors next to tidecv, and AP of images drawn again next to the COCO API."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from mmbeit3.evaluation.average_precision import resample
from mmbeit3.evaluation.coco import accumulate_coco, evaluate_coco
from mmbeit3.evaluation.detection_errors import ERRORS, find_errors
from mmbeit3.evaluation.overlaps import find_overlaps, match
from tests.test_evaluation.helpers import perturbed_results

# tidecv 1.0.1 on COCO's 100 example images: AP at IoU 0.5; number and cost of each error
TIDECV = {
    "bbox": (64.20498881733425, (83, 1, 0, 1, 0, 97), (22.24603974, 0.22789102, 0, 0.01897297, 0)),
    "segm": (51.80081155512982, (76, 82, 7, 0, 4, 109), (16.18600085, 11.60072279, 1.01285095, 0)),
}
COST_OF_MISSED = {"bbox": 8.523573787723365, "segm": 7.778639338018046}


@pytest.fixture
def truth() -> dict:
    draw = np.random.default_rng(3)
    images = [dict(id=n, file_name=f"{n}.jpg", width=200, height=200) for n in range(1, 11)]
    annotations = []
    for image in images:
        for _ in range(int(draw.integers(0, 9))):
            box = [*draw.integers(0, 140, 2).tolist(), *draw.integers(20, 60, 2).tolist()]
            entry = dict(id=len(annotations) + 1, image_id=image["id"], bbox=box)
            entry |= dict(category_id=int(draw.integers(1, 5)), area=box[2] * box[3])
            annotations.append(entry | dict(iscrowd=int(draw.random() < 0.1)))
    categories = [dict(id=n, name=f"class {n}") for n in range(1, 6)]  # one without objects
    return dict(images=images, annotations=annotations, categories=categories)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_errors_are_those_of_tidecv(data_root: Path, iou_type: str) -> None:
    folder = data_root / "coco_val2014_100_eval"
    results = folder / f"instances_val2014_fake{iou_type}100_results.json"
    found = accumulate_coco(folder / "instances_val2014_100.json", results, iou_type)
    overlaps = find_overlaps(found, iou_type)
    errors = find_errors(overlaps, match(overlaps, 0.5))
    ap50, counts, costs = TIDECV[iou_type]
    assert 100 * errors.ap50 == pytest.approx(ap50, abs=1e-9)
    assert tuple(errors.counts.values()) == counts
    cost = 100 * np.array(list(errors.cost.values()))
    assert cost[: len(costs)] == pytest.approx(costs, abs=1e-7)
    assert cost[-1] == pytest.approx(COST_OF_MISSED[iou_type], abs=1e-9)
    assert list(errors.cost) == list(ERRORS)


def test_errors_of_crowds_and_ties_are_those_of_tidecv(truth: dict) -> None:
    tidecv = pytest.importorskip("tidecv")
    results = perturbed_results(truth, 4)
    objects, detections = tidecv.Data("truth"), tidecv.Data("results")
    for entry in truth["annotations"]:
        add = objects.add_ignore_region if entry["iscrowd"] else objects.add_ground_truth
        add(entry["image_id"], entry["category_id"], entry["bbox"])
    for image in truth["images"]:
        objects.add_image(image["id"], image["file_name"])
    for entry in results:
        place = entry["image_id"], entry["category_id"]
        detections.add_detection(*place, entry["score"], entry["bbox"])
    run = tidecv.TIDE(mode=tidecv.TIDE.BOX).evaluate(objects, detections, name="results")
    overlaps = find_overlaps(accumulate_coco(truth, results), "bbox")
    errors = find_errors(overlaps, match(overlaps, 0.5))
    assert 100 * errors.ap50 == pytest.approx(run.ap, abs=1e-9)
    names = ["Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"]
    counts = {kind.short_name: number for kind, number in run.count_errors().items()}
    assert list(errors.counts.values()) == [counts[name] for name in names]
    costs = {kind.short_name: value for kind, value in run.fix_main_errors().items()}
    expected = [costs[name] for name in names]
    assert 100 * np.array(list(errors.cost.values())) == pytest.approx(expected, abs=1e-9)


def test_ap_is_that_of_the_coco_api(truth: dict) -> None:
    results = perturbed_results(truth, 5)
    found = accumulate_coco(truth, results)
    expected = evaluate_coco(truth, results, classwise=True)
    values = resample(find_overlaps(found, "bbox")).average_precision(np.ones(10, int))
    for name, value in zip(found.classes, values, strict=True):
        other = expected[f"AP/{name}"]
        assert np.isnan(value) if other < 0 else value == pytest.approx(other, abs=1e-12)


def test_equal_scores_of_images_in_any_order_are_as_in_the_coco_api(truth: dict) -> None:
    results = perturbed_results(truth, 8)
    draw = np.random.default_rng(4)
    draw.shuffle(truth["images"])
    draw.shuffle(results)
    found = accumulate_coco(truth, results)
    values = resample(find_overlaps(found, "bbox")).average_precision(np.ones(10, np.int64))
    assert np.nanmean(values) == pytest.approx(evaluate_coco(truth, results)["AP"], abs=1e-12)


def test_an_image_that_is_drawn_twice_counts_twice(truth: dict) -> None:
    """Next to the COCO API on a data set in which the image is there twice, and another not."""
    results = perturbed_results(truth, 6)
    scores = np.random.default_rng(0).permutation(len(results)) / len(results)
    results = [entry | {"score": score} for entry, score in zip(results, scores, strict=True)]
    times = np.array([2, 1, 0, 1, 3, 1, 1, 0, 1, 0])
    drawn, found = copy.deepcopy(truth) | {"images": [], "annotations": []}, []
    for image, number in zip(truth["images"], times, strict=True):
        for turn in range(number):
            other = {"image_id": image["id"] + 100 * turn}
            drawn["images"].append(image | {"id": other["image_id"]})
            for part, into in ((truth["annotations"], drawn["annotations"]), (results, found)):
                into += [
                    entry | other | {"id": len(into) + 1000 * turn + place}
                    for place, entry in enumerate(part)
                    if entry["image_id"] == image["id"]
                ]
    for number, entry in enumerate(drawn["annotations"], 1):
        entry["id"] = number
    expected = evaluate_coco(drawn, found)["AP"]
    overlaps = find_overlaps(accumulate_coco(truth, results), "bbox")
    values = resample(overlaps).average_precision(times)
    assert np.nanmean(values) == pytest.approx(expected, abs=1e-12)
