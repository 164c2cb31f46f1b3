"""The page on answers: its numbers, its looks in a browser, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmbeit3.cli import main
from mmbeit3.datasets import VQAv2Dataset
from mmbeit3.evaluation import vqa_accuracy
from mmbeit3.inference.reports import report
from mmbeit3.inference.task import named_task
from mmbeit3.utils import InputError
from tests.browser import CLICK_CELL, run_in_browser

KINDS = {"yes/no": ("is the", ["yes", "no"]), "other": ("what <i>", ["a cat", "dog", "<b>", "2"])}
NUMBER = 60


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty questions on twenty images, one of which is missing, and two results."""
    folder, draw = tmp_path_factory.mktemp("answers"), np.random.default_rng(2)
    questions, annotations = [], []
    results: dict[str, list[dict[str, Any]]] = {"one": [], "other": []}
    for index in range(NUMBER):
        kind = "yes/no" if index % 3 else "other"
        beginning, answers = KINDS[kind]
        main_answer = str(draw.choice(answers))
        people = [main_answer if draw.random() < 0.8 else answers[0] for _ in range(10)]
        ids = {"question_id": 100 + index, "image_id": 7 + index // 3}
        questions.append(ids | {"question": f"{beginning} thing {index} & 'more'?"})
        annotations.append(
            ids
            | {"answers": [{"answer": answer} for answer in people], "answer_type": kind}
            | {"multiple_choice_answer": main_answer, "question_type": beginning}
        )
        for name, part in (("one", 0.5), ("other", 0.8)):
            given = main_answer if draw.random() < part else str(draw.choice(answers))
            results[name].append({"question_id": 100 + index, "answer": given})
    content: dict[str, Any] = {
        "questions": {"questions": questions, "data_subtype": "val2014"},
        "annotations": {"annotations": annotations},
    }
    for name, data in (content | results).items():
        (folder / f"{name}.json").write_text(json.dumps(data))
    (folder / "images" / "val2014").mkdir(parents=True)
    for number in range(8, 27):  # not 7
        noise = draw.integers(0, 255, (40, 60, 3), np.uint8)
        cv2.imwrite(str(folder / f"images/val2014/COCO_val2014_{number:012d}.jpg"), noise)
    return folder


@pytest.fixture(scope="module")
def made(files: Path) -> Path:
    pytest.importorskip("plotly")
    words = ["report", files / "one.json", files / "other.json", "--images", files / "images"]
    words += ["--gt", files / "annotations.json", "--questions", files / "questions.json"]
    assert main([*map(str, words), "--out", str(files / "out")]) == 0
    return files / "out"


def test_the_numbers_are_those_of_the_evaluation(files: Path, made: Path) -> None:
    content = json.loads((made / "report.json").read_text())
    annotations = json.loads((files / "annotations.json").read_text())["annotations"]
    kinds = [group["name"] for group in content["groups"]]
    assert kinds == ["yes/no", "other", "is the", "what <i>"]
    for result in content["results"]:
        given = {
            entry["question_id"]: entry["answer"]
            for entry in json.loads((files / f"{result['name']}.json").read_text())
        }
        scores = [
            vqa_accuracy(given[a["question_id"]], [one["answer"] for one in a["answers"]])
            for a in annotations
        ]
        assert result["accuracy"] == pytest.approx(100 * np.mean(scores))
        for name, value in zip(kinds[:2], result["groups"], strict=False):
            own = [s for s, a in zip(scores, annotations, strict=True) if a["answer_type"] == name]
            assert value == pytest.approx(100 * np.mean(own))
        assert np.sum(result["confusion"]) == NUMBER
    one, other = (result["accuracy"] for result in content["results"])
    (comparison,) = content["comparisons"]
    assert comparison["difference"][-1] == pytest.approx(other - one)
    low, high = comparison["interval"][-1]
    assert low < other - one < high


def test_in_a_browser(made: Path) -> None:
    found = run_in_browser(
        made / "report.html",
        CLICK_CELL
        + """
        const yes = data.answers.indexOf("yes"), no = data.answers.indexOf("no");
        await clickCell("confusion", yes, no);
        const cell = { state: state.cell, title: $("cell-title").textContent,
                       number: data.results[0].confusion[yes][no],
                       texts: [...$("cell").querySelectorAll("figcaption")].map(n => n.innerText) };
        $("group").value = 1;
        $("group").dispatchEvent(new Event("change"));
        await pause(300);
        const lines = [...document.querySelectorAll("#table tbody tr")];
        const rows = lines.map(row => row.cells[0].textContent);
        const titles = [...document.querySelectorAll("#worst b")].map(n => n.textContent);
        const pictures = document.querySelectorAll("#worst img").length;
        lines[1].click();
        const width = document.documentElement.scrollWidth <= innerWidth;
        return { yes, no, cell, rows, titles, pictures, again: state.group, width };
        """,
    )
    assert isinstance(found, dict), found
    cell = found["cell"]
    assert cell["state"] == [found["yes"], found["no"]]
    assert cell["title"] == "yes answered as no"
    assert len(cell["texts"]) == cell["number"] > 0
    assert all("is the thing" in text and "one: no" in text for text in cell["texts"])
    assert found["rows"] == ["all questions", "other"] and found["width"]
    assert found["titles"] and all(title.startswith("what <i> thing") for title in found["titles"])
    assert found["pictures"] >= len(found["titles"]) - 3  # the image that is missing has no picture
    assert found["again"] == -1


@pytest.mark.parametrize("dark", [False, True])
def test_numbers_of_the_confusion_can_be_read(made: Path, dark: bool) -> None:
    found = run_in_browser(
        made / "report.html",
        """
        const shares = $("confusion").data[0].z.flat().filter(share => share);
        return { shares, dark: matchMedia("(prefers-color-scheme: dark)").matches,
                 paper: getComputedStyle(document.querySelector("nav")).backgroundColor,
                 ink: [...document.querySelectorAll("#confusion .heatmap-label text")]
                   .map(text => getComputedStyle(text).fill) };
        """,
        dark,
    )
    assert isinstance(found, dict) and found["dark"] == dark, found
    paper = rgb(found["paper"])
    assert len(found["ink"]) == len(found["shares"])
    for share, ink in zip(found["shares"], found["ink"], strict=True):
        cell = paper + share * (np.array([42, 125, 225]) - paper)
        assert abs(rgb(ink) - cell).mean() > 80


def rgb(color: str) -> np.ndarray:
    return np.array(re.findall(r"[\d.]+", color)[:3], float)


def test_one_question_alone_is_not_beyond_chance(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    annotations = json.loads((files / "annotations.json").read_text())
    annotations["annotations"][0] |= {"question_type": "alone", "answer_type": "alone"}
    results = [json.loads((files / f"{name}.json").read_text()) for name in ("one", "other")]
    results[0][0]["answer"] = "wrong"
    results[1][0]["answer"] = annotations["annotations"][0]["multiple_choice_answer"]
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    paths = [tmp_path / "one.json", tmp_path / "other.json"]
    for path, result in zip(paths, results, strict=True):
        path.write_text(json.dumps(result))
    truth, questions = tmp_path / "annotations.json", files / "questions.json"
    report(paths, truth, tmp_path / "out", questions=questions)
    rows = run_in_browser(
        tmp_path / "out" / "report.html",
        """return [...document.querySelectorAll("#comparison tbody tr")]
             .map(row => [...row.cells].map(cell => cell.textContent));""",
    )
    marks = {row[0]: row[-1] for row in rows}
    assert marks["alone"] == "" and marks["all questions"] == "better"


def test_a_test_reports_on_its_data_set(files: Path, made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "val2014").mkdir(parents=True)
    for number in range(7, 27):
        cv2.imwrite(str(folder / "val2014" / f"{number:012d}.jpg"), np.zeros((8, 8, 3), np.uint8))
    dataset = VQAv2Dataset(
        str(files / "questions.json"),
        str(files / "annotations.json"),
        min_count=1,
        data_prefix={"img": str(folder)},
        test_mode=True,
    )
    cfg = Config({"load_from": "a.pth"})
    task = named_task("vqa")
    task.check_report(cfg, files / "one.json")
    task.write_report(cfg, files / "one.json", tmp_path / "out", dataset, str(folder))
    pages = (tmp_path / "out", made)
    found, expected = (json.loads((page / "report.json").read_text()) for page in pages)
    assert found["groups"] == expected["groups"]
    for key in ("name", "accuracy", "groups"):
        assert found["results"][0][key] == expected["results"][0][key]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[1:], r"1 of the 60 that are asked have no answer \(100\)"),
        (
            lambda r: [entry | {"question_id": entry["question_id"] + 500} for entry in r],
            r"of which 60 are not asked \(question_id 600, 601, 602, and 57 more\).*data set",
        ),
        (lambda r: [*r, r[0]], r"results\[60\]: question_id 100 is there twice"),
        (lambda r: [{**r[0], "answer": 3}, *r[1:]], r"results\[0\]: answer is 3, expected a text"),
        (lambda r: [], "is an empty list"),
    ],
)
def test_results_that_do_not_fit(
    files: Path, tmp_path: Path, change: Callable, message: str
) -> None:
    pytest.importorskip("plotly")
    path = tmp_path / "results.json"
    path.write_text(json.dumps(change(json.loads((files / "one.json").read_text()))))
    questions = files / "questions.json"
    with pytest.raises(InputError, match=message):
        report([path], files / "annotations.json", tmp_path / "out", questions=questions)
    assert not (tmp_path / "out" / "report.html").exists()


def test_images_that_are_missing_are_told(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("plotly")
    given = ([files / "one.json"], files / "annotations.json", tmp_path / "out")
    for images, told in ((tmp_path, True), (None, False)):
        report(*given, images, questions=files / "questions.json")
        assert ("of the 20 images none can be read" in "".join(capsys.readouterr())) is told
        page = (tmp_path / "out" / "report.html").read_text()
        assert '"pictures":{}' in page and "000000000026.jpg" in page


def test_files_that_are_mixed_up(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    one, questions = files / "one.json", files / "questions.json"
    with pytest.raises(InputError, match="questions: name the file"):
        report([one], files / "annotations.json", tmp_path)
    with pytest.raises(InputError, match="has no list 'annotations'"):
        report([one], questions, tmp_path, questions=questions)
    with pytest.raises(InputError, match="no list of results; expected one of detections"):
        report([questions], one, tmp_path)
    with pytest.raises(InputError, match="split: it is not for answers"):
        report([one], files / "annotations.json", tmp_path, split="val")
