from __future__ import annotations

import copy
import json
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_api

from mmbeit3.datasets import make_shapes
from mmbeit3.evaluation.coco import BACKENDS, class_rows, evaluate_coco, format_table
from mmbeit3.utils import InputError

from .helpers import accumulated, perturbed_results, run_pycocotools

ROOT = Path(__file__).resolve().parents[2]
KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict:
    root = make_shapes(tmp_path_factory.mktemp("data") / "shapes", 1, 12, 160, seed=0)
    return json.loads((root / "annotations" / "val.json").read_text())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_official_numbers(data_root: Path, iou_type: str, backend: str) -> None:
    folder = data_root / "coco_val2014_100_eval"
    expected = json.loads((folder / "expected.json").read_text())[iou_type]
    metrics = evaluate_coco(
        folder / "instances_val2014_100.json",
        folder / f"instances_val2014_fake{iou_type}100_results.json",
        iou_type,
        backend,
    )
    assert {key: round(value, 3) for key, value in metrics.items()} == expected


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_both_backends_agree_with_the_official_program(
    truth: dict, iou_type: str, seed: int
) -> None:
    results = perturbed_results(truth, seed)
    official = run_pycocotools(truth, results, iou_type)
    assert 0.02 < official[0] < 0.95
    for backend in BACKENDS:
        metrics = evaluate_coco(truth, results, iou_type, backend)
        assert list(metrics) == KEYS
        np.testing.assert_allclose(list(metrics.values()), official, rtol=0, atol=1e-9)


def test_more_than_100_detections(truth: dict) -> None:
    results = [result for seed in range(60) for result in perturbed_results(truth, seed)]
    assert len(results) / len(truth["images"]) > 150
    official = run_pycocotools(truth, results, "bbox")
    for backend in BACKENDS:
        metrics = evaluate_coco(truth, results, backend=backend)
        np.testing.assert_allclose(list(metrics.values()), official, rtol=0, atol=1e-9)


@pytest.mark.parametrize("max_dets", [(1, 10, 300), (100, 300, 1000), (7,), (3, 150)])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_other_numbers_of_detections(truth: dict, iou_type: str, max_dets: tuple) -> None:
    """Values as pycocotools accumulates them, which can print a summary of three numbers only."""
    first = next(a for a in truth["annotations"] if a["image_id"] == 1)
    results = [r for seed in range(400) for r in perturbed_results(truth, seed)[:3]]
    number = sum((r["image_id"], r["category_id"]) == (1, first["category_id"]) for r in results)
    assert number > 300
    official = accumulated(truth, results, iou_type, max_dets)
    for backend in BACKENDS:
        metrics = evaluate_coco(truth, results, iou_type, backend, max_dets=max_dets)
        assert list(metrics) == [*KEYS[:6], *(f"AR{n}" for n in max_dets), *KEYS[9:]]
        for index, limit in enumerate(max_dets):
            recall = official["recall"][:, :, 0, index]
            np.testing.assert_allclose(metrics[f"AR{limit}"], recall[recall > -1].mean(), atol=1e-9)
        for key, area in (("AP", 0), ("APs", 1), ("APm", 2)):
            values = official["precision"][..., area, -1]
            expected = values[values > -1].mean() if (values > -1).any() else -1
            np.testing.assert_allclose(metrics[key], expected, atol=1e-9)
    changed = evaluate_coco(truth, results, iou_type)["AP"] != metrics["AP"]
    assert changed == (max_dets[-1] != 100)


@pytest.mark.parametrize("kind", ["list", "text"])
def test_masks_of_crowds(truth: dict, kind: str) -> None:
    crowded = copy.deepcopy(truth)
    shape = (160, 160)
    for annotation in crowded["annotations"][::4]:
        counts = [160 * 20, 160 * 100, 160 * 40]  # columns 20 to 120
        rle = {"size": list(shape), "counts": counts}
        if kind == "text":
            rle = mask_api.frPyObjects(rle, *shape)
            rle["counts"] = rle["counts"].decode()
        annotation |= {"iscrowd": 1, "segmentation": rle}
    results = perturbed_results(truth, 5)
    official = run_pycocotools(crowded, results, "segm")
    assert np.abs(official - run_pycocotools(truth, results, "segm")).max() > 0.01
    for backend in BACKENDS:
        metrics = evaluate_coco(crowded, results, "segm", backend)
        np.testing.assert_allclose(list(metrics.values()), official, rtol=0, atol=1e-9)


def test_more_than_100_masks_of_a_class(truth: dict) -> None:
    first = next(a for a in truth["annotations"] if a["image_id"] == 1)
    of_first = [r for seed in range(400) for r in perturbed_results(truth, seed)[:3]]
    results = [r for r in of_first if r["category_id"] == first["category_id"]]
    assert sum(r["image_id"] == 1 for r in results) > 300
    official = run_pycocotools(truth, results, "segm")
    for backend in BACKENDS:
        metrics = evaluate_coco(truth, results, "segm", backend)
        np.testing.assert_allclose(list(metrics.values()), official, rtol=0, atol=1e-9)


def test_other_types_of_numbers(truth: dict) -> None:
    results = perturbed_results(truth, 0)
    expected = [evaluate_coco(truth, results, iou_type) for iou_type in ("bbox", "segm")]
    for result in results:
        result["score"] = np.float64(result["score"])
        result["bbox"] = np.array(result["bbox"])
        result["segmentation"]["counts"] = result["segmentation"]["counts"].encode()
    assert [evaluate_coco(truth, results, iou_type) for iou_type in ("bbox", "segm")] == expected
    whole = [result | {"score": 1, "bbox": (10, 10, 20, 30)} for result in results]
    decimal = [result | {"score": 1.0, "bbox": [10.0, 10.0, 20.0, 30.0]} for result in results]
    assert evaluate_coco(truth, whole) == evaluate_coco(truth, decimal)


NUMPY = [
    (np.int64, np.float64),
    (np.int32, np.float32),
    (np.uint16, np.float16),
    (np.array, np.array),
    (torch.tensor, torch.tensor),
]


@pytest.mark.parametrize(("whole", "real"), NUMPY)
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_numbers_of_numpy(truth: dict, iou_type: str, whole: Callable, real: Callable) -> None:
    results = perturbed_results(truth, 0)
    for result in results:  # what 16 bits can hold, too
        result["bbox"] = np.float16(result["bbox"]).tolist()
        result["score"] = float(np.float16(result["score"]))
    changed_results, changed_truth = copy.deepcopy(results), copy.deepcopy(truth)
    for result in changed_results:
        result |= {key: whole(result[key]) for key in ("image_id", "category_id")}
        result |= {"score": real(result["score"]), "bbox": [real(v) for v in result["bbox"]]}
        result["segmentation"]["size"] = [whole(v) for v in result["segmentation"]["size"]]
    for image in changed_truth["images"]:
        image |= {key: whole(image[key]) for key in ("id", "width", "height")}
    for annotation in changed_truth["annotations"]:
        annotation |= {key: whole(annotation[key]) for key in ("id", "image_id", "category_id")}
        annotation |= {"area": real(annotation["area"]), "iscrowd": whole(0)}
        annotation["bbox"] = np.array(annotation["bbox"])
        annotation["segmentation"] = [np.array(part) for part in annotation["segmentation"]]
    for category in changed_truth["categories"]:
        category["id"] = whole(category["id"])
    for annotation in (plain := copy.deepcopy(truth))["annotations"]:
        annotation["area"] = real(annotation["area"]).item()  # 16 bits round it
    expected = evaluate_coco(plain, results, iou_type)
    for backend in BACKENDS:
        found = evaluate_coco(changed_truth, changed_results, iou_type, backend)
        assert found == pytest.approx(expected, abs=1e-9)
        ids = [whole(1), whole(3)]
        found = evaluate_coco(changed_truth, changed_results, iou_type, backend, False, ids)
        expected_two = evaluate_coco(plain, results, iou_type, category_ids=[1, 3])
        assert found == pytest.approx(expected_two, abs=1e-9)


def test_an_array_of_results(truth: dict) -> None:
    results = perturbed_results(truth, 0)
    rows = [[r["image_id"], *r["bbox"], r["score"], r["category_id"]] for r in results]
    assert evaluate_coco(truth, np.array(rows)) == evaluate_coco(truth, results)
    assert evaluate_coco(truth, np.empty((0, 7)))["AP"] == 0
    with pytest.raises(InputError, match=r"shape \(3, 6\), expected \(N, 7\)"):
        evaluate_coco(truth, np.zeros((3, 6)))


def test_the_arguments_are_left_as_they_were(truth: dict) -> None:
    results = perturbed_results(truth, 0)
    before = copy.deepcopy((truth, results))
    evaluate_coco(truth, results, "segm", "pycocotools")
    evaluate_coco(truth, results, "bbox")
    assert (truth, results) == before


def test_annotation_ids_from_zero_cost_nothing(truth: dict) -> None:
    shifted = copy.deepcopy(truth)
    for index, annotation in enumerate(shifted["annotations"]):
        annotation["id"] = index
    perfect = [annotation | {"score": 1.0} for annotation in truth["annotations"]]
    for backend in BACKENDS:
        assert evaluate_coco(shifted, perfect, backend=backend)["AP"] == pytest.approx(1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_classwise(truth: dict, backend: str) -> None:
    results = perturbed_results(truth, 1)
    metrics = evaluate_coco(truth, results, backend=backend, classwise=True)
    rows = class_rows(metrics)
    assert list(rows) == ["disk", "square", "triangle", "star", "ring"]
    assert np.mean([row["AP"] for row in rows.values()]) == pytest.approx(metrics["AP"], abs=1e-9)
    for category in truth["categories"]:
        alone = evaluate_coco(truth, results, backend=backend, category_ids=[category["id"]])
        assert alone["APm"] == pytest.approx(rows[category["name"]]["APm"], abs=1e-12)
    assert "ring" in format_table(rows)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_no_detections(
    truth: dict, iou_type: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    monkeypatch.setattr("mmbeit3.evaluation.coco.print_log", lambda text, *_: messages.append(text))
    metrics = evaluate_coco(truth, [], iou_type, backend)
    assert list(metrics) == KEYS
    assert set(metrics.values()) <= {0.0, -1.0}  # -1: no object of that size
    assert metrics["AP"] == 0
    assert "not one detection" in messages[0]


def test_an_ap_of_zero_is_explained(truth: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr("mmbeit3.evaluation.coco.print_log", lambda text, *_: messages.append(text))
    shifted = [
        annotation | {"score": 1.0, "category_id": annotation["category_id"] % 5 + 1}
        for annotation in truth["annotations"]
        if annotation["image_id"] == 2
    ][:1]
    assert evaluate_coco(truth, shifted)["AP"] == 0
    assert "none of 1 detections matches" in messages[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 999}, r"results\[1\]: image_id 999 is not in"),
        ({"category_id": 6}, r"results\[1\]: category_id 6 is not in .*\[1, 2, 3, 4, 5\]"),
        ({"score": float("nan")}, r"results\[1\]: score is nan"),
        ({"score": "0.5"}, r"results\[1\]: score is '0.5', expected a finite number"),
        ({"bbox": [1, 2, 3]}, r"results\[1\]: bbox is \[1, 2, 3\], expected 4"),
        ({"bbox": ["1", "2", "3", "4"]}, r"results\[1\]: bbox is \['1', .* expected 4 finite"),
        ({"bbox": [1, 2, 3, float("inf")]}, r"results\[1\]: bbox is .*inf\], expected 4 finite"),
        ({"bbox": None}, r"results\[1\]: bbox is None, expected 4 finite"),
        ({"bbox": [1, 2, -3, 4]}, r"results\[1\]: bbox is .* width or height is negative"),
    ],
)
def test_results_that_do_not_fit(truth: dict, change: dict, message: str) -> None:
    results = perturbed_results(truth, 0)
    results[1] |= change
    with pytest.raises(InputError, match=message):
        evaluate_coco(truth, results)
    results[1] = "text"
    with pytest.raises(InputError, match=r"results\[1\]: is 'text', expected an object"):
        evaluate_coco(truth, results)


def test_masks_that_do_not_fit(truth: dict) -> None:
    results = perturbed_results(truth, 0)
    results[0]["segmentation"] = [[1, 2, 3, 4, 5, 6]]
    with pytest.raises(InputError, match="not a compressed RLE"):
        evaluate_coco(truth, results, "segm")
    results[0]["segmentation"] = {"size": [160, 160], "counts": [100, 25500]}
    with pytest.raises(InputError, match="not a compressed RLE"):
        evaluate_coco(truth, results, "segm")
    results[0]["segmentation"] = {"size": [160, 160], "counts": 7}
    with pytest.raises(InputError, match="the RLE's counts are an integer"):
        evaluate_coco(truth, results, "segm")
    results[0]["segmentation"] = {"counts": "x"}
    with pytest.raises(InputError, match=r"the RLE has the keys \['counts'\]"):
        evaluate_coco(truth, results, "segm")
    results[0]["segmentation"] = {"size": [80, 80], "counts": "x"}
    with pytest.raises(InputError, match=r"size \[80, 80\], expected .* \[160, 160\]"):
        evaluate_coco(truth, results, "segm")
    del results[0]["segmentation"]
    with pytest.raises(InputError, match="'segmentation' is missing"):
        evaluate_coco(truth, results, "segm")


def test_wrong_arguments(truth: dict) -> None:
    with pytest.raises(InputError, match="iou_type is 'box'"):
        evaluate_coco(truth, [], "box")
    with pytest.raises(InputError, match="backend is 'coco'"):
        evaluate_coco(truth, [], backend="coco")
    for max_dets in ((), (0, 10), (1.5,), "many", 100):
        with pytest.raises(InputError, match="expected numbers of detections such as"):
            evaluate_coco(truth, [], max_dets=max_dets)
    boxes_only = copy.deepcopy(truth)
    boxes_only["annotations"][3]["segmentation"] = []
    with pytest.raises(InputError, match=r"1 of the 58 objects .*annotations\[3\]"):
        evaluate_coco(boxes_only, [], "segm")
    with pytest.raises(InputError, match="not a list of detections"):
        evaluate_coco(truth, {"annotations": []})


def test_the_tool(
    truth: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool = str(ROOT / "tools" / "analysis_tools" / "eval_coco.py")
    results = perturbed_results(truth, 0)
    files = [str(tmp_path / name) for name in ("gt.json", "results.json")]
    for file, content in zip(files, (truth, results), strict=True):
        Path(file).write_text(json.dumps(content))
    out = tmp_path / "new" / "metrics.json"
    options = ["--iou-type", "bbox", "segm", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["eval_coco.py", *files, *options])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(tool, run_name="__main__")
    assert end.value.code is None
    metrics = json.loads(out.read_text())
    assert metrics["segm"] == evaluate_coco(truth, results, "segm")
    printed = capsys.readouterr().out
    assert f"{metrics['bbox']['AP']:.3f}" in printed and str(out) in printed
    monkeypatch.setattr("sys.argv", ["eval_coco.py", files[0], str(tmp_path / "absent.json")])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(tool, run_name="__main__")
    assert end.value.code == 2
    assert "does not exist" in capsys.readouterr().err


def test_absent_files_are_named_with_what_to_check(truth: dict, tmp_path: Path) -> None:
    absent = str(tmp_path / "nope.json")
    for given in ((absent, []), (truth, absent)):
        with pytest.raises(InputError, match=f"there is no file {absent}; check the path"):
            evaluate_coco(*given, "bbox")
