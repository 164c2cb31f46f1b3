"""The page on class maps: its numbers, its looks in a browser, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmbeit3.cli import main
from mmbeit3.evaluation import IoUMetric
from mmbeit3.inference.reports import report
from mmbeit3.utils import InputError
from tests.browser import CLICK_CELL, run_in_browser

NAMES = ("sky <b>", "grass & 'c'", "road", "nowhere")
SIZES = [(40, 60), (64, 48), (33, 57), (50, 50), (24, 90)]


def blocks(draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    small = draw.integers(0, 3, (5, 4)).astype(np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_NEAREST)


def write(folder: Path, maps: list[np.ndarray]) -> Path:
    for number, labels in enumerate(maps):
        path = folder / "in" / f"{number:02d} <i>.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)
    return folder


@pytest.fixture(scope="module")
def maps() -> dict[str, list[np.ndarray]]:
    """Class numbers: of the truth, where 255 is ignored, and of two results."""
    draw = np.random.default_rng(4)
    truth = [blocks(draw, size) for size in SIZES]
    for labels in truth:
        labels[:4, :7] = 255
    found = {}
    for name, part in (("one", 0.2), ("other", 0.1)):
        found[name] = []
        for labels in truth:
            changed = draw.random(labels.shape) < part
            noisy = np.where(changed, draw.integers(0, 3, labels.shape), labels)
            found[name].append(np.where(labels == 255, 1, noisy).astype(np.uint8))
    found["other"][0][10:20, 10:20] = 255  # no class
    return {"truth": truth, **found}


@pytest.fixture(scope="module")
def folder(maps: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmentation")
    for name, own in maps.items():
        write(folder / name, own)
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    for number, (height, width) in enumerate(SIZES):
        noise = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        path = folder / "images" / "in" / f"{number:02d} <i>.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), noise)
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    pytest.importorskip("plotly")
    words = ["report", folder / "one", folder / "other", "--gt", folder / "truth"]
    words += ["--images", folder / "images", "--classes", folder / "classes.txt"]
    assert main([*map(str, words), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_the_numbers_are_those_of_the_metric(maps: dict, made: Path) -> None:
    found = json.loads((made / "report.json").read_text())["results"][0]
    metric = IoUMetric()
    metric.dataset_meta = {"classes": NAMES}
    for number, (truth, result) in enumerate(zip(maps["truth"], maps["one"], strict=True)):
        sample = {"img_path": str(number)}
        for key, labels in (("gt_sem_seg", truth), ("pred_sem_seg", result)):
            sample[key] = {"data": torch.from_numpy(labels)[None]}
        metric.process({}, [sample])
    assert found["metrics"] == pytest.approx(metric.evaluate(len(SIZES)), abs=1e-12)
    for row in found["classes"]:
        assert {k: row[k] for k in ("IoU", "Acc")} == pytest.approx(metric.by_class[row["name"]])
    assert [sum(row) for row in found["confusion"]] == [row["pixels"] for row in found["classes"]]
    assert found["classes"][3]["IoU"] is None and len(found["confusion"][0]) == 4


def test_results_are_compared(maps: dict, made: Path) -> None:
    content = json.loads((made / "report.json").read_text())
    (comparison,), (one, other) = content["comparisons"], content["results"]
    difference = other["metrics"]["mIoU"] - one["metrics"]["mIoU"]
    assert comparison["difference"][-1] == pytest.approx(difference)
    low, high = comparison["interval"][-1]
    assert low < difference < high
    assert comparison["interval"][3] == [None, None]  # a class that is nowhere
    without = sum(int((labels == 255).sum()) for labels in maps["other"])
    assert sum(row[4] for row in other["confusion"]) == without == 100


def test_values_may_count_from_one_and_infer_has_indices(maps: dict, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    shifted = {k: [np.where(m == 255, 0, m + 1).astype(np.uint8) for m in maps[k]] for k in maps}
    truth = write(tmp_path / "truth", shifted["truth"])
    as_test = write(tmp_path / "test", shifted["one"])
    run = tmp_path / "run"
    write(run / "labels", maps["one"])
    classes = [dict(index=n, name=name, color=[9 * n, 0, 0]) for n, name in enumerate(NAMES)]
    (run / "summary.json").write_text(json.dumps({"task": "segmentation", "classes": classes}))
    options = {"reduce_zero_label": True}
    content = report([as_test, run, run / "labels"], truth, tmp_path / "out", **options)
    first, *others = content["results"]
    assert [row["name"] for row in first["classes"]] == list(NAMES)
    assert all(other["confusion"] == first["confusion"] for other in others)
    # without a class list values are names, and without images class maps are drawn on gray
    plain = report([write(tmp_path / "p", maps["one"])], write(tmp_path / "t", maps["truth"]), run)
    assert [row["name"] for row in plain["results"][0]["classes"]] == ["0", "1", "2"]
    assert plain["results"][0]["metrics"] == first["metrics"]
    assert '"pictures":{"' in (run / "report.html").read_text()


def test_in_a_browser(made: Path) -> None:
    found = run_in_browser(
        made / "report.html",
        CLICK_CELL
        + """
        const all = document.querySelectorAll("#table tbody tr").length;
        await clickCell("confusion", 2, 1);
        const cell = { state: state.cell, title: $("cell-title").textContent,
                       pictures: $("cell").querySelectorAll("img").length,
                       names: [...$("cell").querySelectorAll("b")].map(name => name.textContent) };
        $("class").value = 1;
        $("class").dispatchEvent(new Event("change"));
        await pause(300);
        const lines = [...document.querySelectorAll("#table tbody tr")];
        const rows = lines.map(row => row.cells[0].textContent);
        const worst = [...document.querySelectorAll("#worst figure")].length;
        $("result").value = 1;
        $("result").dispatchEvent(new Event("change"));
        await pause(300);
        const columns = $("confusion").data[0].x;
        lines[1].click();
        const width = document.documentElement.scrollWidth <= innerWidth;
        return { all, cell, rows, worst, columns, again: state.class, width };
        """,
    )
    assert isinstance(found, dict), found
    assert found["all"] == 5 and found["width"]
    assert found["cell"]["state"] == [2, 1]
    assert found["cell"]["title"] == "road taken for grass & 'c'"
    # truth, and of each of two results the class map and what is wrong
    assert found["cell"]["pictures"] == 5 * len(found["cell"]["names"]) > 0
    assert all(name.startswith("in/0") and "<i>" in name for name in found["cell"]["names"])
    assert found["rows"] == ["all classes", NAMES[1]] and found["worst"] == len(SIZES)
    assert found["columns"][-1] == "4"  # pixels without a class have a column
    assert found["again"] == -1


def test_a_result_may_have_classes_that_the_truth_lacks(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("plotly")
    shutil.copytree(folder / "one", tmp_path / "one")
    Image.fromarray(np.full(SIZES[0], 7, np.uint8)).save(tmp_path / "one/in/00 <i>.png")
    content = report([tmp_path / "one"], folder / "truth", tmp_path / "out")
    (result,) = content["results"]
    assert [line["name"] for line in result["classes"]] == list(map(str, range(8)))
    assert result["classes"][7]["IoU"] == 0 and result["classes"][6]["IoU"] is None
    assert "classes above all of the ground truth: 7; if" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "in" / "01 <i>.png").unlink(), "lacks 1 of the 5 label maps .* in/01 <i>"),
        (
            lambda f: [p.rename(p.with_name(f"b{p.name}")) for p in (f / "in").iterdir()],
            "lacks 5 of .*; 5 others are there: in/b00 .* of another data set",
        ),
        (
            lambda f: Image.fromarray(np.full((40, 60), 77, np.uint8)).save(f / "in/00 <i>.png"),
            "00 <i>.png has pixels of class 77; expected 0 to 3, the 4 classes sky <b>, grass",
        ),
        (
            lambda f: Image.new("L", (5, 4)).save(f / "in/00 <i>.png"),
            "00 <i>.png is 5 x 4, and its truth .* is 60 x 40",
        ),
        (
            lambda f: Image.new("RGB", (60, 40)).save(f / "in/00 <i>.png"),
            "has colors or transparency",
        ),
        (lambda f: [p.unlink() for p in (f / "in").iterdir()], "has no label map"),
    ],
)
def test_folders_that_do_not_fit(
    maps: dict, folder: Path, tmp_path: Path, change: Callable, message: str
) -> None:
    pytest.importorskip("plotly")
    result = write(tmp_path / "result", maps["one"])
    change(result)
    with pytest.raises(InputError, match=message):
        report([result], folder / "truth", tmp_path / "out", classes=folder / "classes.txt")
    assert not (tmp_path / "out" / "report.html").exists()


def test_results_of_another_task(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    boxes = tmp_path / "boxes.json"
    boxes.write_text('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]')
    with pytest.raises(InputError, match="holds detections, and the ground truth .* is a folder"):
        report([boxes], folder / "truth", tmp_path)
    with pytest.raises(InputError, match="the ground truth .*boxes.json is no folder"):
        report([folder / "one"], boxes, tmp_path)
    with pytest.raises(InputError, match="of one kind"):
        report([folder / "one", boxes], boxes, tmp_path)
    with pytest.raises(InputError, match="classes: it is not for detections"):
        report([boxes], boxes, tmp_path, classes=folder / "classes.txt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text('{"task": "detection"}')
    with pytest.raises(InputError, match="no label map .*holds results of the task 'detection'"):
        report([tmp_path / "run"], folder / "truth", tmp_path)
    for text, message in (("[]", "is an empty list"), ("[3]", "no list of results")):
        boxes.write_text(text)
        with pytest.raises(InputError, match=message):
            report([boxes], boxes, tmp_path)


def test_numbers_of_ade20k_are_those_of_its_own_code(data_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    data = data_root / "ade20k_sample"
    (tmp_path / "truth").mkdir()
    for file in (data / "reference_predictions").glob("*.png"):
        (tmp_path / "truth" / file.name).symlink_to(data / "annotations/validation" / file.name)
    (tmp_path / "classes.txt").write_text("".join(f"class {n}\n" for n in range(1, 151)))
    content = report(
        [data / "reference_predictions"],
        tmp_path / "truth",
        tmp_path / "out",
        data / "images/validation",
        classes=tmp_path / "classes.txt",
        reduce_zero_label=True,
    )
    (result,) = content["results"]
    assert result["metrics"]["aAcc"] == pytest.approx(80.79, abs=0.005)
    assert result["metrics"]["mIoU"] == pytest.approx(21.87, abs=0.005)
    assert sum(row["IoU"] is not None for row in result["classes"]) == 46
