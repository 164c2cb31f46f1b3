"""Captions, answers and judgments: in memory, over a folder, and what is refused."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmbeit3 import load
from mmbeit3.cli import main
from mmbeit3.datasets.transforms.loading import LoadImageFromFile, load_image
from mmbeit3.inference.asked_images import AskedSource, LastImages
from mmbeit3.inference.evaluation_outputs import EvaluationOutputs
from mmbeit3.inference.folder import print_summary
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.task import named_task
from mmbeit3.utils import InputError
from tests.small_speakers import ANSWERS, write_speaker

QUESTIONS = ["a red circle", 'how <b>many</b> "stars" & squares are on the left of two', "größe"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> dict[str, tuple]:
    folder = tmp_path_factory.mktemp("speakers")
    tasks = ("vqa", "nlvr2", "captioning")
    return {task: write_speaker(folder, tokenizer_file, task) for task in tasks}


@pytest.fixture
def model(request: pytest.FixtureRequest, models: dict[str, tuple]) -> Any:
    return load(*models[request.param], device="cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A color picture, a gray one, one with a name that a spreadsheet would run, a narrow one."""
    draw, folder = np.random.default_rng(0), tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for name, shape in {
        "a.jpg": (60, 90, 3),
        "=cmd.png": (40, 30),
        "below/größe.png": (50, 50, 3),
        "below/narrow.png": (200, 9, 3),
    }.items():
        content = cv2.imencode(Path(name).suffix, draw.integers(0, 256, shape, np.uint8))[1]
        (folder / name).write_bytes(content.tobytes())
    return folder


def prepared(*paths: Path) -> torch.Tensor:
    """What the models are given of images."""
    pixels = [cv2.resize(cv2.imdecode(np.fromfile(path, np.uint8), 1), (32, 32)) for path in paths]
    batch = np.stack([image[..., ::-1].transpose(2, 0, 1) for image in pixels])
    return torch.from_numpy(batch.copy()).float() / 127.5 - 1


def infer(models: dict, task: str, photos: Path, out: Path, *options: str) -> int:
    command = ["infer", *map(str, models[task]), str(photos), "--out-dir", str(out)]
    return main([*command, "--device", "cpu", *options])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("model", ["captioning"], indirect=True)
def test_captions_are_those_of_the_model(model: Any, photos: Path) -> None:
    paths = [photos / "a.jpg", photos / "below/größe.png"]
    written = model.model.generate(prepared(*paths))
    assert model.caption(paths) == [caption.text for caption in written]
    assert model.caption(paths[0]) == written[0].text
    assert model(paths[0]).score == pytest.approx(written[0].score, abs=1e-4)
    assert model(paths[1]).to_coco(17) == [{"image_id": 17, "caption": written[1].text}]
    assert len(model.caption(photos)) == 4


@pytest.mark.parametrize("model", ["captioning"], indirect=True)
def test_captions_are_written_by_the_options_of_the_call_alone(model: Any, photos: Path) -> None:
    image, before = photos / "a.jpg", model.model.decoding
    options = dict(beams=1, max_length=4, length_penalty=0.0)
    [short] = model.model.generate(prepared(image), **options)
    assert model.caption(image, **options) == short.text
    assert len(short.ids) <= 2 and model.caption(image) != short.text
    with pytest.raises(InputError, match="beams of the generation is 0"):
        model.caption(image, beams=0)
    with pytest.raises(InputError, match="absent"):
        model.caption([image, photos / "absent.jpg"], beams=1)
    assert model.model.decoding == before


@pytest.mark.parametrize("model", ["vqa"], indirect=True)
def test_answers_are_those_of_the_model(model: Any, photos: Path) -> None:
    paths = [photos / "a.jpg", photos / "below/größe.png", photos / "below/narrow.png"]
    ids, mask = model.model.data_preprocessor.tokenizer.batch(QUESTIONS)
    with torch.no_grad():
        scores = model.model.logits(prepared(*paths), ids, mask).sigmoid().numpy()
    found = model.answer(paths, QUESTIONS)
    for pairs, row in zip(found, scores, strict=True):
        order = np.argsort(-row)
        assert [answer for answer, _ in pairs] == [ANSWERS[label] for label in order]
        assert [score for _, score in pairs] == pytest.approx(row[order], abs=1e-5)
    assert model.answer(paths[0], QUESTIONS[0], top=2) == [
        (answer, pytest.approx(score, abs=1e-5)) for answer, score in found[0][:2]
    ]
    alike = [len(model.answer(paths, "a star")), len(model.answer(paths[0], QUESTIONS[:2]))]
    assert alike == [3, 2]


@pytest.mark.parametrize("model", ["nlvr2"], indirect=True)
def test_judgments_are_those_of_the_model(model: Any, photos: Path) -> None:
    paths = [photos / "a.jpg", photos / "=cmd.png"]
    ids, mask = model.model.data_preprocessor.tokenizer.batch(QUESTIONS[:1])
    with torch.no_grad():
        scores = model.model.logits(prepared(*paths)[None], ids, mask).softmax(1)[0].numpy()
    found = model.judge(*paths, QUESTIONS[0])
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    assert bool(found) == (scores[1] > scores[0])
    assert found.score == pytest.approx(scores.max(), abs=1e-5)
    assert json.loads(found.to_json())["judgment"] is bool(found)
    arrays = [cv2.imdecode(np.fromfile(path, np.uint8), 1)[..., ::-1] for path in paths]
    again = model.judge(*arrays, f" {QUESTIONS[0]} ", channels="rgb")
    np.testing.assert_array_equal(again.scores, found.scores)
    assert found.draw().shape[1] > 2 * found.image.shape[0]  # side by side


@pytest.mark.parametrize("model", ["vqa"], indirect=True)
@pytest.mark.parametrize("layer", [0, 1, -1])
def test_the_attention_of_an_answer_sums_to_one_and_is_that_of_the_layer(
    model: Any, photos: Path, layer: int
) -> None:
    expert = model.model.encoder.vision.layers[layer]
    words = model.model.encoder.text.layers[layer]
    seen: dict[str, torch.Tensor] = {}
    expert.attn.norm.register_forward_pre_hook(lambda _, args: seen.update(mixed=args[0]))
    for name, layer_of in (("image", expert), ("words", words)):
        layer_of.attn.qkv.register_forward_hook(
            lambda _, args, output, name=name: seen.setdefault(name, output)
        )
    found = model.attention(photos / "below/narrow.png", layer, question=QUESTIONS[1])
    assert found.weights.shape == (4, 4, 4) and min(found.weights.min(), found.words.min()) >= 0
    assert found.words.shape == (4, len(found.tokens)) and found.tokens[0] == "<s>"
    total = found.weights.sum((1, 2)) + found.cls + found.words.sum(1)
    np.testing.assert_allclose(total, 1, atol=1e-5)
    parts = (found.cls[:, None], found.weights.reshape(4, -1), found.words)
    weights = torch.from_numpy(np.concatenate(parts, 1))
    values = torch.cat([seen["image"][0], seen["words"][0]])[:, 2 * 48 :].unflatten(-1, (4, 12))
    mixed = torch.einsum("hn,nhd->hd", weights, values).flatten()
    torch.testing.assert_close(mixed, seen["mixed"][0, 0], atol=1e-4, rtol=1e-4)
    assert not any(m._forward_pre_hooks for m in (expert, words))


def test_bfloat16_answers_and_its_attention_sums_to_one(models: dict, photos: Path) -> None:
    model = load(*models["vqa"], device="cpu", dtype="bfloat16")
    found = model.attention(photos / "a.jpg", question=QUESTIONS[1])
    total = found.weights.sum((1, 2)) + found.cls + found.words.sum(1)
    np.testing.assert_allclose(total, 1, atol=1e-5)
    exact = dict(load(*models["vqa"], device="cpu").answer(photos / "a.jpg", "a star"))
    for answer, score in model.answer(photos / "a.jpg", "a star"):
        assert score == pytest.approx(exact[answer], abs=0.05)


@pytest.mark.parametrize("model", ["vqa"], indirect=True)
def test_attention_does_not_depend_on_longer_questions_beside_it(model: Any, photos: Path) -> None:
    image = photos / "a.jpg"
    alone = model.attention(image, question="a")
    with pytest.raises(InputError, match="at is for an image without"):
        model.attention(image, question="a", at=(1, 1))
    model.show_attention()
    loaded = [model.load(source) for source in asked(image, "a", QUESTIONS[1])]
    first, second = model.predict(loaded, 2)
    np.testing.assert_allclose(first.attention.weights, alone.weights, atol=1e-5)
    np.testing.assert_allclose(first.attention.words, alone.words, atol=1e-5)
    assert len(second.attention.tokens) > len(first.attention.tokens) == 3
    assert first.draw().shape[0] > first.attention.draw().shape[0]
    assert model.attention(image, layer=1).weights.shape == (4, 4, 4)  # of the image alone


def asked(image: Path, *questions: str) -> list:
    pairs = enumerate(questions, 1)
    return [AskedSource.of(n, (Source(n, image, "a", None),), text) for n, text in pairs]


def test_a_folder_is_captioned(models: dict, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    assert infer(models, "captioning", photos, out) == 1
    expected = load(*models["captioning"], device="cpu")
    summary = json.loads((out / "summary.json").read_text())
    captions = {image["file_name"]: image["caption"] for image in summary["images"]}
    assert list(captions) == ["=cmd.png", "a.jpg", "below/größe.png", "below/narrow.png"]
    assert captions["a.jpg"] == expected.caption(photos / "a.jpg")
    results = json.loads((out / "captions.json").read_text())
    ids = {image["id"]: image["caption"] for image in summary["images"]}
    assert {entry["image_id"]: entry["caption"] for entry in results} == ids
    rows = rows_of(out / "captions.csv")
    assert [row["file_name"] for row in rows] == ["'=cmd.png", *list(captions)[1:]]
    assert [row["caption"] for row in rows] == list(captions.values())
    assert all(float(row["score"]) < 0 for row in rows)  # numbers stay numbers
    assert (out / "captions.html").read_text().count("data:image/jpeg;base64,") == 4
    picture = cv2.imread(str(out / "overlays" / "a.jpg"))
    assert picture.shape[0] > 480 and picture.shape[1] == 720
    assert [failure["file_name"] for failure in summary["failed"]] == ["broken.jpg"]
    again = tmp_path / "again"
    assert infer(models, "captioning", out, again, "--no-overlays") == 2  # overlays are no input
    assert infer(models, "captioning", photos / "a.jpg", again, "--no-overlays") == 0
    assert not (again / "overlays").exists()


def test_every_question_is_asked_about_every_image(
    models: dict, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "questions.txt").write_text("\n\n".join(QUESTIONS), encoding="utf-8")
    out = tmp_path / "out"
    options = ("--questions", str(tmp_path / "questions.txt"))
    assert infer(models, "vqa", photos, out, *options) == 0
    assert "12 of 12" in capsys.readouterr().out
    found = json.loads((out / "answers.json").read_text())
    assert [entry["question"] for entry in found] == QUESTIONS * 4
    expected = load(*models["vqa"], device="cpu").answer(photos / "a.jpg", QUESTIONS)
    for entry, pairs in zip(found[3:6], expected, strict=True):
        assert entry["file_name"] == "a.jpg"
        assert [one["answer"] for one in entry["answers"]] == [answer for answer, _ in pairs]
        scores = [one["score"] for one in entry["answers"]]
        assert scores == pytest.approx([score for _, score in pairs], abs=1e-5)
    rows = rows_of(out / "answers.csv")
    answers = {row[f"answer_{n}"] for row in rows for n in range(1, 6)}
    assert answers == {*ANSWERS, f"'{ANSWERS[3]}"} - {ANSWERS[3]}
    page = (out / "answers.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4  # an image with all its questions
    assert "&lt;b&gt;two&lt;/b&gt;" in page and "<b>two" not in page and "<b>many" not in page
    assert not (out / "overlays").exists()


@pytest.mark.parametrize("answer", ["[/b]", "[red]", ":dog:", "größe"])
def test_answers_are_no_markup_of_the_terminal(answer: str, capsys: pytest.CaptureFixture) -> None:
    counts = dict(num_done=1, num_images=1, num_failed=0, num_damaged=0)
    rates = dict(seconds=1.0, images_per_second=1.0, error=None, interrupted=False)
    lists = dict.fromkeys(("failed", "damaged", "left_out", "images"), [])
    summary = dict(task="vqa", files="answers.json", results_in=".", answers={answer: 3})
    print_summary(counts | rates | lists | summary, "out")
    assert answer in capsys.readouterr().out


def test_a_table_has_questions_of_its_own_and_attention_is_drawn(
    models: dict, photos: Path, tmp_path: Path
) -> None:
    table = tmp_path / "questions.csv"
    text = 'question,image,note\na star,a.jpg,\n"two, or three",a.jpg,\n=1+1?,below/größe.png,\n'
    table.write_text(text, encoding="utf-8-sig")
    (photos / "a.1.jpg").write_bytes((photos / "a.jpg").read_bytes())
    out, options = tmp_path / "out", ("--questions", str(table), "--show-attention")
    assert infer(models, "vqa", photos, out, *options) == 0
    found = json.loads((out / "answers.json").read_text())
    assert [(e["file_name"], e["question"]) for e in found] == [
        ("a.jpg", "a star"),
        ("a.jpg", "two, or three"),
        ("below/größe.png", "=1+1?"),
    ]
    drawn = sorted(p.relative_to(out / "overlays").as_posix() for p in out.rglob("*.jpg"))
    assert drawn == ["a.1.jpg", "a.2.jpg", "below/größe.1.jpg"]
    assert (out / "answers.html").read_text().count("data:image/jpeg;base64,") == 3
    assert rows_of(out / "answers.csv")[2]["question"] == "'=1+1?"
    assert infer(models, "vqa", photos, out, *options, "--no-overlays") == 0


def test_statements_are_judged(models: dict, photos: Path, tmp_path: Path) -> None:
    entries = [
        dict(left="a.jpg", right="below/größe.png", text="a <b>red</b> circle"),
        dict(left="=cmd.png", right="broken.jpg", text="two stars"),
        dict(left="below/narrow.png", right="=cmd.png", text="two stars", label="True"),
    ]
    table, out = tmp_path / "statements.jsonl", tmp_path / "out"
    table.write_text("\n".join(map(json.dumps, entries)))
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    assert infer(models, "nlvr2", photos, out, "--statements", str(table)) == 1
    found = json.loads((out / "judgments.json").read_text())
    judge = load(*models["nlvr2"], device="cpu").judge
    for entry, given in zip(found, (entries[0], entries[2]), strict=True):
        expected = judge(photos / given["left"], photos / given["right"], given["text"])
        assert entry["judgment"] is bool(expected)
        assert entry["score"] == pytest.approx(expected.score, abs=1e-5)
        assert {key: entry[key] for key in ("left", "right", "text")} == {
            key: given[key] for key in ("left", "right", "text")
        }
    page = (out / "judgments.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4 and "a <b>red" not in page
    assert rows_of(out / "judgments.csv")[1]["right"] == "'=cmd.png"
    summary = json.loads((out / "summary.json").read_text())
    [failure] = summary["failed"]
    assert failure["file_name"] == "=cmd.png, broken.jpg"
    assert failure["reason"].startswith("broken.jpg: ")
    assert sum(summary["judgments"].values()) == 2


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are read, each time."""
    names: list[str] = []

    def counted(loader: Callable, results: dict) -> dict:
        names.append(Path(results["img_path"]).name)
        return load_image(loader, results)

    monkeypatch.setattr("mmbeit3.inference.image_list.load_image", counted)
    return names


@pytest.mark.parametrize("model", ["vqa"], indirect=True)
def test_an_image_with_several_questions_is_read_once(
    model: Any, models: dict, photos: Path, tmp_path: Path, read: list[str]
) -> None:
    expected = [model.answer(photos / "a.jpg", question) for question in QUESTIONS]
    read.clear()
    assert model.answer(photos / "a.jpg", QUESTIONS) == [
        [(answer, pytest.approx(score, abs=1e-5)) for answer, score in pairs] for pairs in expected
    ]
    assert read == ["a.jpg"]
    read.clear()
    (tmp_path / "q.txt").write_text("\n".join("abcdefg"))
    assert infer(models, "vqa", photos, tmp_path / "out", "--questions", f"{tmp_path}/q.txt") == 0
    assert sorted(read) == ["=cmd.png", "a.jpg", "größe.png", "narrow.png"]
    read.clear()
    rows = "".join(f"{file},a.jpg,{text}\n" for file in ("=cmd.png", "a.jpg") for text in "abc")
    (tmp_path / "s.csv").write_text("left,right,text\n" + rows)
    assert infer(models, "nlvr2", photos, tmp_path / "o", "--statements", f"{tmp_path}/s.csv") == 0
    assert sorted(read) == ["=cmd.png", "a.jpg"]


def test_images_that_are_kept_for_questions_are_few_and_cannot_be_written_into(
    photos: Path, read: list[str]
) -> None:
    loader, last = LoadImageFromFile(), LastImages()
    sources = [Source(n, photos / "a.jpg", f"{n}", None) for n in range(20)]
    before = last.load(sources[0], loader)["img"].copy()
    last.load(sources[0], loader)["img"][:] = 0
    np.testing.assert_array_equal(last.load(sources[0], loader)["img"], before)
    assert len(read) == 1
    for source in sources:
        last.load(source, loader)
    assert len(read) == 20
    last.load(sources[-2], loader)
    pickle.loads(pickle.dumps(last)).load(sources[-1], loader)
    last.load(sources[0], loader)
    assert len(read) == 22
    missing = Source(1, photos / "no.jpg", "no.jpg", None)
    for _ in range(2):
        with pytest.raises(InputError):
            last.load(missing, loader)
    assert len(read) == 23


def test_a_folder_is_not_walked_for_a_table(
    models: dict, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise InputError("a folder cannot be read")

    monkeypatch.setattr("mmbeit3.inference.image_list.find_images", refuse)
    for name, text, status in (("q.tsv", "image\tquestion\na.jpg\tb\n", 0), ("q.txt", "b\n", 2)):
        (tmp_path / name).write_text(text)
        options = ("--questions", str(tmp_path / name))
        assert infer(models, "vqa", photos, tmp_path / "out", *options) == status


def test_questions_of_a_table_are_not_about_pictures_that_would_be_overwritten(
    models: dict, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "q.csv").write_text("image,question\na.jpg,b\n")
    (tmp_path / "out").mkdir()
    photos = photos.rename(tmp_path / "out" / "overlays")
    options = ("--questions", str(tmp_path / "q.csv"), "--show-attention")
    assert infer(models, "vqa", photos, tmp_path / "out", *options) == 2
    assert "where results are written" in " ".join(capsys.readouterr().err.split())


def test_images_of_statements_lie_beside_the_one_that_is_given(
    models: dict, photos: Path, tmp_path: Path
) -> None:
    table, out = tmp_path / "statements.csv", tmp_path / "out"
    table.write_text("left,right,text\n=cmd.png,a.jpg,two stars\n")
    assert infer(models, "nlvr2", photos / "a.jpg", out, "--statements", str(table)) == 0
    assert len(json.loads((out / "judgments.json").read_text())) == 1


@pytest.mark.parametrize(
    ("task", "option", "name", "content", "message"),
    [
        ("vqa", "", "", "", "name a file of them"),
        ("nlvr2", "", "", "", "name a file of them"),
        ("vqa", "--questions", "q.txt", None, "there is no file"),
        ("vqa", "--questions", "q.csv", None, "there is no file"),
        ("vqa", "--questions", "q.txt", " \n", "holds no text"),
        ("vqa", "--questions", "q.csv", "image,question\n", "it has no rows"),
        ("vqa", "--questions", "q.csv", "file,question\na.jpg,why\n", "no column 'image'"),
        ("vqa", "--questions", "q.csv", "image;question\na.jpg;why\n", "save it with commas"),
        ("vqa", "--questions", "q.csv", "image,question\na.jpg, \n", "line 2: question is ' '"),
        ("vqa", "--questions", "q.csv", "image,question\nA.jpg,b\n", "did you mean"),
        ("vqa", "--questions", "q.csv", "image,question\n../photos/a.jpg,b\n", "expected the path"),
        ("vqa", "--questions", "q.csv", "image,question\n/a.jpg,b\n", "below"),
        ("vqa", "--questions", "q.jsonl", '{"image": 1, "question": "b"}', "image is 1"),
        ("vqa", "--questions", "q.jsonl", '{"image": "a.jpg"}', "name them image, question"),
        ("vqa", "--statements", "s.csv", "left,right,text\n", "which takes questions"),
        ("nlvr2", "--statements", "s.txt", "a star\n", "the suffix '.txt'"),
        (
            "nlvr2",
            "--statements",
            "s.csv",
            "left,right,text\na.jpg,a.jpg,b\na.jpg,no.jpg,b\nno.jpg,a.jpg,\n",
            "2 errors",
        ),
        ("captioning", "--questions", "q.txt", "why\n", "no options of its own"),
    ],
)
def test_lists_that_cannot_be_used_are_refused_before_the_first_image(
    models: dict,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    task: str,
    option: str,
    name: str,
    content: str | None,
    message: str,
) -> None:
    file, out = tmp_path / name, tmp_path / "out"
    if name and content is not None:
        file.write_text(content)
    options = (option, str(file)) if option else ()
    assert infer(models, task, photos, out, *options) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert message in printed and "Traceback" not in printed
    assert not (out / "summary.json").exists()


@pytest.mark.parametrize(
    ("model", "call", "message"),
    [
        ("vqa", lambda m, image: m(image), "model.answer"),
        ("vqa", lambda m, image: m.answer(image, " "), "question 1 is ' '"),
        ("vqa", lambda m, image: m.answer(image, []), r"questions are \[\]"),
        ("vqa", lambda m, image: m.answer(image, None), "questions are None"),
        ("vqa", lambda m, image: m.answer([image] * 2, ["a"] * 3), "2 images and 3 questions"),
        ("vqa", lambda m, image: m.answer(image, "a", top=0), "top is 0"),
        ("vqa", lambda m, image: m.answer([image, 7], "a"), "of type int"),
        ("vqa", lambda m, image: m.attention(image, 3, question="a"), "layer is 3"),
        ("nlvr2", lambda m, image: m([image, image]), "model.judge"),
        ("nlvr2", lambda m, image: m.judge(image, image, ""), "text is ''"),
        ("nlvr2", lambda m, image: m.judge(image, None, "a"), "the image is None"),
        ("nlvr2", lambda m, image: m.judge(image, image.parent, "a"), "holds several images"),
        ("captioning", lambda m, image: m.caption([]), "there are no images"),
        ("captioning", lambda m, image: m.caption(image, max_length=99), "positions of text"),
    ],
    indirect=["model"],
)
def test_what_cannot_be_asked_is_said(
    model: Any, photos: Path, call: Callable[[Any, Path], object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(model, photos / "a.jpg")


def test_answers_without_names_are_numbers_until_they_are_given(
    models: dict, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmbeit3.inference.classifier.IMAGENET", len(ANSWERS))  # no photographs
    config, checkpoint = models["vqa"]
    weights = {"state_dict": torch.load(checkpoint)["state_dict"]}
    torch.save(weights, tmp_path / "weights.pth")
    model = load(config, tmp_path / "weights.pth", device="cpu")
    numbers = [answer for answer, _ in model.answer(photos / "a.jpg", "a star")]
    model.set_classes(ANSWERS)
    named = [answer for answer, _ in model.answer(photos / "a.jpg", "a star")]
    assert named == [ANSWERS[int(number)] for number in numbers]
    with pytest.raises(InputError, match="there are 1 names"):
        model.set_classes(["yes"])


@pytest.mark.parametrize(
    ("task", "name"),
    [("captioning", "caps.csv"), ("vqa", "answers"), ("nlvr2", "judgments.json")],
)
def test_the_file_of_a_server_has_its_suffix(task: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the suffix .(json|csv), as results"):
        outputs = EvaluationOutputs(Config(), ExitStack())
        named_task(task).keep_predictions(Config(), tmp_path / name, outputs)


@pytest.mark.parametrize("model", ["nlvr2"], indirect=True)
def test_a_judge_shows_no_attention_and_no_features(model: Any, photos: Path) -> None:
    for show in (model.attention, model.features):
        with pytest.raises(InputError, match="judges statements about two images"):
            show(photos / "a.jpg")


@pytest.mark.parametrize("model", ["vqa", "nlvr2"], indirect=True)
def test_texts_that_are_cut_are_said_once(
    model: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("mmbeit3.inference.asked_model.warn", said.append)
    image, limit = photos / "a.jpg", model.model.data_preprocessor.tokenizer.max_length
    if hasattr(model, "judge"):
        model.judge(image, image, "a star")
        assert not said
        model.judge(image, image, "a star " * limit)
        assert said.pop().startswith(f"1 of 1 texts are longer than {limit} tokens, and are cut")
    else:
        model.answer(image, "a star")
        assert not said
        model.answer([image, photos / "=cmd.png"], "a star " * limit)
        model.attention(image, question="a star " * limit)
        model.answer(image, ["a star " * limit, "a star " * 99 * limit, "a"])
        numbers = [text.split(" texts are longer than ")[0] for text in said]
        assert numbers == ["1 of 1", "1 of 1", "2 of 3"]
