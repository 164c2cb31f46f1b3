"""The page on captions: its numbers, its looks in a browser, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmbeit3.cli import main
from mmbeit3.evaluation import caption_scores
from mmbeit3.inference.reports import report
from mmbeit3.utils import InputError
from tests.browser import run_in_browser

WORDS = ["a", "red", "blue", "small", "dog", "cat", "tree", "house", "on", "under", "near"]
WORDS += ["<b>bold</b>", "&", "runs", "sits"]
NUMBER = 30


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draw = tmp_path_factory.mktemp("captions"), np.random.default_rng(6)
    (folder / "images").mkdir()
    images, annotations, results = [], [], {"one": [], "other": []}
    for index in range(NUMBER):
        name = f"{index:02d} <i>.jpg"
        images.append({"id": 5 + index, "file_name": name, "width": 60, "height": 40})
        if index:  # the first is missing
            noise = draw.integers(0, 255, (40, 60, 3), np.uint8)
            cv2.imwrite(str(folder / "images" / name), noise)
        for _ in range(int(draw.integers(1, 5))):
            text = " ".join(draw.choice(WORDS, 7))
            annotations.append({"id": len(annotations), "image_id": 5 + index, "caption": text})
        words = text.split()
        for result, part in (("one", 0.4), ("other", 0.1)):
            said = [w if draw.random() > part else str(draw.choice(WORDS)) for w in words]
            results[result].append({"image_id": 5 + index, "caption": " ".join(said)})
    (folder / "captions.json").write_text(
        json.dumps({"images": images, "annotations": annotations})
    )
    for result, entries in results.items():
        (folder / f"{result}.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def made(files: Path) -> Path:
    pytest.importorskip("plotly")
    words = ["report", files / "one.json", files / "other.json", "--images", files / "images"]
    words += ["--gt", files / "captions.json"]
    assert main([*map(str, words), "--out", str(files / "out")]) == 0
    return files / "out"


def test_the_numbers_are_those_of_the_evaluation(files: Path, made: Path) -> None:
    content = json.loads((made / "report.json").read_text())
    for result in content["results"]:
        expected = caption_scores(files / "captions.json", files / f"{result['name']}.json")
        assert result == {"name": result["name"]} | expected
    one, other = content["results"]
    (comparison,) = content["comparisons"]
    for name, difference in zip(content["compared"], comparison["difference"], strict=True):
        assert difference == pytest.approx(other[name] - one[name])


def test_in_a_browser(made: Path) -> None:
    found = run_in_browser(
        made / "report.html",
        """
        const sums = data.results.map((_, n) => data.scores[n].CIDEr.reduce((a, b) => a + b, 0));
        const point = { customdata: 0, curveNumber: 1 };
        const number = $("bars").data[1].y[0];
        $("bars").emit("plotly_click", { points: [point] });
        await pause(300);
        const cell = [...$("cell").querySelectorAll("figure")].map(node => node.innerText);
        const title = $("cell-title").textContent, result = state.result;
        $("result").value = 0;
        $("result").dispatchEvent(new Event("change"));
        await pause(300);
        const worst = [...document.querySelectorAll("#worst figcaption")].map(n => n.innerText);
        const best = document.querySelectorAll("#best img").length;
        const order = [...document.querySelectorAll("#worst b")].map(n => n.textContent);
        const scores = order.map(name => data.scores[0].CIDEr[data.names.indexOf(name)]);
        const width = document.documentElement.scrollWidth <= innerWidth;
        return { sums, number, cell, title, result, worst, best, scores, width };
        """,
    )
    assert isinstance(found, dict), found
    results = json.loads((made / "report.json").read_text())["results"]
    means = [result["CIDEr"] for result in results]
    assert [total / NUMBER for total in found["sums"]] == pytest.approx(means, abs=1e-4)
    assert len(found["cell"]) == found["number"] and found["title"] == "CIDEr from 0.00 to 0.25"
    assert found["result"] == 1 and found["width"]
    # the picture that is missing is last
    pictured = [
        s for s, text in zip(found["scores"], found["worst"], strict=True) if "00" not in text
    ]
    assert pictured == sorted(pictured)
    assert "→ one: " in found["worst"][0] and "→ other: " in found["worst"][0]
    assert found["best"] == 24


def test_results_that_do_not_fit(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    path = tmp_path / "results.json"
    entries = json.loads((files / "one.json").read_text())
    for change, message in (
        ([entry | {"image_id": entry["image_id"] + 90} for entry in entries], "not in the ref"),
        (entries[2:], "2 of the 30 images have no caption"),
    ):
        path.write_text(json.dumps(change))
        with pytest.raises(InputError, match=message):
            report([path], files / "captions.json", tmp_path / "out")
    boxes = {"image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}
    path.write_text(json.dumps([boxes]))
    with pytest.raises(InputError, match="'categories' is missing at the top level"):
        report([path], files / "captions.json", tmp_path / "out")
    truth = {"images": [], "annotations": [{"id": 1, "image_id": 5, "bbox": [0, 0, 1, 1]}]}
    truth["images"].append({"id": 5, "file_name": "a.jpg"})
    path.write_text(json.dumps(truth))
    with pytest.raises(InputError, match="the annotations are boxes, not captions"):
        report([files / "one.json"], path, tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
