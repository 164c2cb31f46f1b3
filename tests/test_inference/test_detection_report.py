"""The page on detections: its numbers, its looks in a browser, and what it refuses."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmbeit3.cli import main
from mmbeit3.evaluation import evaluate_coco
from mmbeit3.inference.detection_report import report_detections
from mmbeit3.utils import InputError
from tests.browser import CLICK_CELL, run_in_browser
from tests.test_evaluation.helpers import perturbed_results

NAMES = ["disk", "a <b> & 'c'", "ring", "none of these"]


@pytest.fixture(scope="module")
def truth() -> dict:
    """12 pictures of up to 6 objects; a crowd, a class without objects, and names to be escaped."""
    draw = np.random.default_rng(5)
    annotations = []
    for image in range(1, 13):
        for _ in range(int(draw.integers(1, 7))):
            x, y = draw.integers(0, 90, 2).tolist()
            side, category = int(draw.integers(12, 60)), int(draw.choice([2, 3, 7]))
            box = [x, y, side, side]
            shape = [[x, y, x + side, y, x + side, y + side, x, y + side]]
            annotations.append(
                dict(image_id=image, category_id=category, bbox=box, area=side * side, iscrowd=0)
                | dict(id=len(annotations) + 1, segmentation=shape)
            )
    annotations[4]["iscrowd"] = 1
    images = [
        dict(id=image, file_name=f"{image:03d} <i>.png", width=160, height=160)
        for image in range(1, 13)
    ]
    categories = [dict(id=n, name=name) for n, name in zip((2, 3, 7, 9), NAMES, strict=True)]
    return dict(images=images, annotations=annotations, categories=categories)


@pytest.fixture(scope="module")
def files(truth: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "truth.json").write_text(json.dumps(truth))
    for name, seed in (("one", 1), ("other", 2)):
        (folder / f"{name}.json").write_text(json.dumps(perturbed_results(truth, seed)))
    for image in truth["images"]:
        noise = np.random.default_rng(image["id"]).integers(0, 255, (160, 160, 3), np.uint8)
        cv2.imwrite(str(folder / image["file_name"]), noise)
    return folder


@pytest.fixture(scope="module")
def made(files: Path) -> Path:
    pytest.importorskip("plotly")
    results = [files / "one.json", files / "other.json"]
    report_detections(results, files / "truth.json", files / "out", files)
    return files / "out"


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_the_numbers_are_those_of_the_evaluation(
    truth: dict, files: Path, tmp_path: Path, iou_type: str
) -> None:
    pytest.importorskip("plotly")
    report_detections([files / "one.json"], files / "truth.json", tmp_path, iou_type=iou_type)
    found = json.loads((tmp_path / "report.json").read_text())["results"][0]
    expected = evaluate_coco(truth, files / "one.json", iou_type, classwise=True)
    known = {key: None if value == -1 else value for key, value in expected.items()}
    assert found["metrics"] == {key: value for key, value in known.items() if "/" not in key}
    assert [row["AP"] for row in found["classes"]] == [known[f"AP/{name}"] for name in NAMES]
    # rows and columns of the confusion are all that there was to find, and was found
    objects = [sum(row) for row in found["confusion"]]
    assert objects[:-1] == [row["objects"] for row in found["classes"]]
    assert objects[3] == 0 and found["classes"][3]["threshold"] is None


def test_results_are_compared_with_the_first(made: Path) -> None:
    content = json.loads((made / "report.json").read_text())
    (comparison,) = content["comparisons"]
    one, other = (result["metrics"]["AP"] for result in content["results"])
    assert comparison["difference"][-1] == pytest.approx(other - one, abs=1e-12)
    low, high = comparison["interval"][-1]
    assert low < high
    assert comparison["difference"][3] is None  # no objects
    assert [result["name"] for result in content["results"]] == ["one", "other"]


def test_a_result_does_not_differ_from_itself(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    twice = [files / "one.json"] * 2
    content = report_detections(twice, files / "truth.json", tmp_path)
    assert content["comparisons"][0]["interval"][-1] == [0, 0]
    assert [result["name"] for result in content["results"]] == ["one (1)", "one (2)"]


def test_the_page_stands_alone(made: Path) -> None:
    page = (made / "report.html").read_text()
    assert len(page) < 20e6
    own = page.replace(pytest.importorskip("plotly.offline").get_plotlyjs(), "")
    assert len(own) < len(page) and not re.search("https?:", own)
    assert "<i>" not in page and "<b> &" not in page  # names of files and classes are text


def test_in_a_browser(made: Path) -> None:
    found = run_in_browser(
        made / "report.html",
        CLICK_CELL
        + """
        const all = document.querySelectorAll("#table tbody tr").length;
        const matrix = current().confusion;
        // the cell with most errors of the first class
        const column = matrix[0].indexOf(Math.max(...matrix[0].slice(1)), 1);
        await clickCell("confusion", 0, column);
        const cell = { column, state: state.cell, title: $("cell-title").textContent,
                       pictures: $("cell").querySelectorAll("img").length,
                       names: [...$("cell").querySelectorAll("b")].map(name => name.textContent) };
        const chosen = $("class");
        chosen.value = 1;
        chosen.dispatchEvent(new Event("change"));
        await pause(300);
        const lines = [...document.querySelectorAll("#table tbody tr")];
        const rows = lines.map(row => row.cells[0].textContent);
        const images = [...document.querySelectorAll("#worst img")];
        lines[1].click();
        const width = document.documentElement.scrollWidth <= innerWidth;
        return { all, cell, rows, again: state.class, width, picture: images[0].src };
        """,
    )
    assert isinstance(found, dict), found
    assert found["all"] == 5
    cell = found["cell"]
    assert cell["state"] == [0, cell["column"]]
    assert cell["title"].startswith("disk ")
    assert cell["pictures"] == 3 * len(cell["names"]) > 0  # truth and two results of each
    assert all(name.endswith(" <i>.png") for name in cell["names"])
    assert found["rows"] == ["all classes", NAMES[1]]
    assert found["again"] == -1  # a click on the line of the class shows all again
    assert found["width"]
    jpeg = base64.b64decode(found["picture"].partition("base64,")[2])
    assert max(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape) == 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: [], "there is not one detection"),
        (
            lambda r: [entry | {"image_id": entry["image_id"] + 500} for entry in r],
            r"of other images|\d+ have such an image_id: 50\d.* 12 images \(ids 1, 2, 3.*data set",
        ),
        (
            lambda r: [e | {"image_id": e["image_id"] + 500, "file_name": "a.png"} for e in r],
            r"infer counts the images of its folder, so take .* mmbeit3 test .*--out NAME.json",
        ),
        (
            lambda r: [entry | {"category_id": 40} for entry in r],
            r"have such a category_id: 40\. The ground truth .* classes disk, a <b> & 'c', ring",
        ),
        (
            lambda r: [{k: v for k, v in entry.items() if k != "bbox"} for entry in r],
            r"'bbox' is missing .* evaluate what it has, with iou_type or metric 'segm'",
        ),
    ],
)
def test_results_that_do_not_fit(
    truth: dict, files: Path, tmp_path: Path, change: Callable, message: str
) -> None:
    pytest.importorskip("plotly")
    path = tmp_path / "results.json"
    path.write_text(json.dumps(change(copy.deepcopy(perturbed_results(truth, 3)))))
    with pytest.raises(InputError, match=message):
        report_detections([path], files / "truth.json", tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_extra_is_named_before_the_work(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    words = [files / "one.json", "--gt", files / "truth.json", "--out", tmp_path]
    assert main(["report", *map(str, words)]) == 2
    assert 'pip install "mmbeit3[report]"' in capsys.readouterr().err


def test_without_images_there_are_names(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    report_detections([files / "one.json"], files / "truth.json", tmp_path)
    found = run_in_browser(
        tmp_path / "report.html",
        'return [$("worst-note").textContent, $("worst").children.length];',
    )
    assert ".png" in found[0] and found[1] == 0
