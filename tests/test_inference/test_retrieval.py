"""Images and texts as features: in memory, over a folder, and what is kept."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmbeit3 import load
from mmbeit3.checkpoint.safetensors_files import SafetensorsFile, write_safetensors
from mmbeit3.cli import main
from mmbeit3.inference.folder import infer_folder
from mmbeit3.inference.image_index import ImageIndex
from mmbeit3.inference.retriever import Retriever
from mmbeit3.utils import InputError
from tests.small_dual_encoder import write_dual_encoder

COLORS = {"red": (0, 0, 220), "green": (0, 200, 0), "blue": (220, 30, 0)}


@pytest.fixture
def files(tmp_path: Path, tokenizer_file: Path) -> tuple[Path, Path]:
    return write_dual_encoder(tmp_path, tokenizer_file)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for index, (name, color) in enumerate(COLORS.items()):
        image = np.full((60 + 10 * index, 90, 3), color, np.uint8)
        image[:20, :30] = generator.integers(0, 256, (20, 30, 3))
        path = folder / ("below" if index else "") / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    return folder


@pytest.fixture
def model(files: tuple[Path, Path]) -> Retriever:
    return load(*files, device="cpu")


def test_features_are_those_of_the_model_on_the_prepared_pixels(
    model: Retriever, photos: Path
) -> None:
    pixels = cv2.resize(cv2.imread(str(photos / "red.png")), (32, 32))
    batch = torch.from_numpy(pixels[..., ::-1].transpose(2, 0, 1).copy()).float()[None] / 127.5 - 1
    ids, padding_mask = model.model.data_preprocessor.tokenizer.batch(["a red circle"])
    with torch.no_grad():
        image = model.model.encode_image(batch)[0].numpy()
        text = model.model.encode_text(ids, padding_mask)[0].numpy()
    np.testing.assert_allclose(model.encode_image(photos / "red.png"), image, atol=1e-5)
    np.testing.assert_allclose(model.encode_text("a red circle"), text, atol=1e-5)
    np.testing.assert_allclose(
        model.similarity(photos / "red.png", "a red circle"), [[image @ text]], atol=1e-5
    )


def test_the_attention_of_its_vision_tower_is_shown(model: Retriever, photos: Path) -> None:
    weights = model.attention(photos / "red.png", layer=1).weights
    assert weights.shape == (4, 4, 4)  # heads, rows and columns of patches
    # What is left of each head's sum of one goes to the CLS token.
    assert (weights.sum((1, 2)) < 1).all() and (weights > 0).all()
    assert model.features(photos / "red.png", layer=0).features.shape == (4, 4, 48)


def test_many_texts_of_unlike_lengths_keep_their_order(model: Retriever) -> None:
    texts = ["two stars", "the large blue square on the left", "a", "a red circle"] * 3
    together = model.encode_text(texts)
    alone = np.stack([model.encode_text(text) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-2


def test_a_search_ranks_as_all_cosines_do(model: Retriever, photos: Path) -> None:
    texts = ["a red circle", "two stars"]
    cosines = model.similarity(photos, texts)
    names = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    found = model.search(texts, photos, top=2)
    for column, hits in enumerate(found):
        order = sorted(range(3), key=lambda row: -cosines[row, column])[:2]
        assert [hit.name for hit in hits] == [model.index(photos).names[row] for row in order]
        assert [hit.score for hit in hits] == pytest.approx(cosines[order, column], abs=1e-6)
        assert all(hit.path.is_file() for hit in hits)
    assert sorted(model.index(photos).names) == sorted(names)
    single = model.search("two stars", model.index(photos), top=2)
    assert [hit.name for hit in single] == [hit.name for hit in found[1]]


def test_equal_scores_are_in_the_order_of_the_index(model: Retriever, photos: Path) -> None:
    for name in ("c.png", "a.png", "b.png"):
        (photos / name).write_bytes((photos / "red.png").read_bytes())
    index = model.index(photos)
    hits = model.search(index.features[index.names.index("a.png")], index, top=4)
    assert [hit.name for hit in hits] == ["a.png", "b.png", "c.png", "red.png"]
    assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_an_index_is_kept_and_stale_entries_are_noticed(
    model: Retriever, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept.safetensors"
    first = model.index(photos, file)
    encoded: list[str] = []
    forward = Retriever._forward
    monkeypatch.setattr(
        Retriever,
        "_forward",
        lambda self, images: (
            encoded.extend(i.source.file_name for i in images) or forward(self, images)
        ),
    )
    again = model.index(photos, file)
    assert not encoded and again.names == first.names
    np.testing.assert_array_equal(again.features, first.features)
    assert [entry.size for entry in again.entries] == [entry.size for entry in first.entries]
    # another content of the same size, one file more, and one less
    changed = cv2.imread(str(photos / "red.png"))
    cv2.imwrite(str(photos / "red.png"), changed[::-1])
    os.utime(photos / "red.png", ns=(1, 1))
    cv2.imwrite(str(photos / "new.png"), changed)
    (photos / "below" / "blue.png").unlink()
    third = model.index(photos, file)
    assert sorted(encoded) == ["new.png", "red.png"]
    assert sorted(third.names) == ["below/green.png", "new.png", "red.png"]
    assert sorted(ImageIndex.read(file).names) == sorted(third.names)


def test_the_features_of_another_model_are_not_used(
    model: Retriever, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "kept.safetensors"
    before = model.index(photos, file)
    with torch.no_grad():
        model.model.vision_head.weight.mul_(-1)
    model._probe = None
    after = model.index(photos, file)
    np.testing.assert_allclose(after.features, -before.features, atol=1e-5)


@pytest.mark.parametrize("damage", ["cut", "bit", "other", "empty"])
def test_a_damaged_index_is_named(
    model: Retriever, photos: Path, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "kept.safetensors"
    model.index(photos, file)
    content = bytearray(file.read_bytes())
    if damage == "bit":
        content[-5] ^= 1
    file.write_bytes(
        {"cut": content[:-9], "bit": content, "other": b"PK\3\4" * 99, "empty": b""}[damage]
    )
    with pytest.raises(InputError, match=re.escape(str(file))):
        model.index(photos, file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("names", ["/etc/passwd", "a.png", "b.png"]),
        ("names", ["../a.png", "b.png", "c.png"]),
        ("names", [1, 2, 3]),
        ("names", ["a.png"]),
        ("features", torch.zeros(3)),
        ("features", torch.full((3, 48), torch.nan)),
        ("sizes", torch.zeros(3, 1, dtype=torch.int32)),
        ("probe", torch.zeros(7)),
    ],
)
def test_an_index_made_up_by_somebody_is_refused(
    model: Retriever, photos: Path, tmp_path: Path, name: str, value: list | torch.Tensor
) -> None:
    file = tmp_path / "kept.safetensors"
    model.index(photos, file)
    made_up = SafetensorsFile(file)
    if isinstance(value, list):
        value = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    weights = {key: weight.clone() for key, weight in made_up.weights().items()} | {name: value}
    meta = {key: made_up.metadata[key] for key in ("format", "folder")}
    with file.open("wb") as out:
        write_safetensors(out, weights, meta)
    with pytest.raises(InputError, match="no index of images"):
        ImageIndex.read(file)


@pytest.mark.parametrize(
    "header", [b"[]", b"1", b'"', b'{"__metadata__":[]}', b'{"__metadata__":null}', b"[" * 10**5]
)
def test_an_index_with_a_made_up_header_is_refused(tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "kept.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match="no index of images"):
        ImageIndex.read(file)


def test_the_index_of_another_folder_is_refused(
    model: Retriever, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "kept.safetensors"
    model.index(photos, file)
    with pytest.raises(InputError, match="is the index of"):
        model.index(photos / "below", file)


def test_names_are_compared_with_images(model: Retriever, photos: Path) -> None:
    names = ["red circle", "star", "blue square"]
    features = model.encode_image(photos)
    model.set_classes(names, ["a photo of a {}.", "the {}"])
    results = model(photos)
    texts = [[f"a photo of a {name}.", f"the {name}"] for name in names]
    classes = np.stack([model.encode_text(pair).mean(0) for pair in texts])
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    scale = model.model.logit_scale.exp().item()
    expected = torch.tensor(scale * features @ classes.T).softmax(1)
    np.testing.assert_allclose([found.scores for found in results], expected, atol=1e-5)
    best = results[0].top(2)
    assert best[0][0] == results[0].name == names[int(expected[0].argmax())]
    assert best[0][1] >= best[1][1]
    assert json.loads(results[0].to_json())["classes"][0]["name"] == results[0].name
    for number in (-1, 0):
        with pytest.raises(InputError, match=f"{number} classes are asked for; expected 1 or"):
            results[0].top(number)


@pytest.mark.parametrize(
    ("names", "templates"), [(["猫", "犬"], ["{}"]), (["star", "circle"], ["a " * 30 + "{}"])]
)
def test_names_that_are_the_same_to_the_model_are_refused(
    model: Retriever, names: list[str], templates: list[str]
) -> None:
    with pytest.raises(InputError, match="have the same tokens"):
        model.set_classes(names, templates)


def test_a_run_over_a_folder_writes_ranking_labels_and_pages(
    files: tuple[Path, Path],
    photos: Path,
    tmp_path: Path,
    model: Retriever,
    capsys: pytest.CaptureFixture,
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    queries = tmp_path / "queries.txt"
    queries.write_text("a red circle\n\n<b>two</b> stars\n")
    names = tmp_path / "names.txt"
    names.write_text("star\nblue square\n")
    out = tmp_path / "out"
    command = ["infer", *map(str, files), str(photos), "--out-dir", str(out), "--device", "cpu"]
    command += ["--texts", str(queries), "--classes", str(names), "--top", "2"]
    assert main(command) == 1  # one image is broken
    assert "known from an earlier run" in capsys.readouterr().out
    (photos / "broken.jpg").unlink()
    ranking = json.loads((out / "ranking.json").read_text())
    hits = model.search(["a red circle", "<b>two</b> stars"], photos, top=2)
    assert [entry["text"] for entry in ranking] == ["a red circle", "<b>two</b> stars"]
    for entry, expected in zip(ranking, hits, strict=True):
        assert [image["file_name"] for image in entry["images"]] == [hit.name for hit in expected]
    with (out / "ranking.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "1", "2"]
    assert rows[2]["text"] == "<b>two</b> stars"
    page = (out / "ranking.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4
    assert "&lt;b&gt;two&lt;/b&gt; stars" in page and "<b>two" not in page
    labels = json.loads((out / "labels.json").read_text())
    results = load(*files, device="cpu", classes=["star", "blue square"])(photos)
    assert [entry["classes"][0]["name"] for entry in labels] == [found.name for found in results]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["num_known"] == 0 and summary["num_failed"] == 1
    assert {image["height"] for image in summary["images"]} == {60, 70, 80}
    # Other questions, the same images: nothing is encoded again, and the sizes are known, too.
    cfg = Config.fromfile(files[0])
    summary = infer_folder(cfg, files[1], photos, out, texts=["a star"], device="cpu")
    assert summary["num_known"] == 3
    assert {image["height"] for image in summary["images"]} == {60, 70, 80}
    [entry] = json.loads((out / "ranking.json").read_text())
    assert [hit.name for hit in model.search("a star", photos)] == [
        image["file_name"] for image in entry["images"]
    ]


def test_features_of_another_folder_with_files_of_these_names_are_not_used(
    files: tuple[Path, Path], photos: Path, tmp_path: Path, model: Retriever
) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    other.mkdir()
    shutil.copy(photos / "below" / "blue.png", other / "red.png")
    cfg = Config.fromfile(files[0])
    infer_folder(cfg, files[1], photos, out, device="cpu")
    summary = infer_folder(cfg, files[1], other, out, device="cpu")
    assert summary["num_known"] == 0
    index = ImageIndex.read(out / "features.safetensors")
    np.testing.assert_allclose(index.features[0], model.encode_image(other / "red.png"), atol=1e-5)


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--texts", None, "there is no file"),
        ("--texts", "\n \n", "holds no text"),
        ("--texts", "a dog\na dog\n", "in line 1 and 2"),
        ("--classes", "alone\n", "two at least"),
        ("--templates", "a {}\n", "no classes are given"),
        ("--score-thr", "0.5", "retrieval"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_the_first_image(
    files: tuple[Path, Path],
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    option: str,
    content: str | None,
    message: str,
) -> None:
    value = content if option == "--score-thr" else str(tmp_path / "list.txt")
    if content is not None:
        (tmp_path / "list.txt").write_text(content)
    out = tmp_path / "out"
    command = ["infer", *map(str, files), str(photos), "--out-dir", str(out), "--device", "cpu"]
    assert main([*command, option, value]) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert not (out / "summary.json").exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model, _: model.encode_image([]), "there are no images"),
        (lambda model, _: model.similarity([], "two stars"), "there are no images"),
        (lambda model, _: model.encode_text(None), "of type NoneType; expected a text"),
        (lambda model, photos: model.search(photos, photos), "expected a text"),
        (lambda model, photos: model.search("two stars", photos, top=-1), "top is -1"),
        (lambda model, photos: model.search("two stars", photos, top=0), "top is 0"),
        (lambda model, photos: model.search("two stars", photos, top=None), "top is None"),
        (lambda model, _: model.set_classes(["a", "b"], templates=None), "templates is None"),
        (lambda model, _: model.set_classes(["a", "b"], templates=[1]), "number 1 is 1; expected"),
        (lambda model, photos: model.index([photos]), "the folder is of type list"),
        (lambda model, photos: model.index(photos / "red.png"), "is a file; expected a folder"),
        (lambda model, _: model.similarity(np.ones((2, 7)), "two stars"), "shape (2, 7)"),
        (lambda model, photos: model.similarity(photos, np.ones(7)), "shape (7,)"),
        (
            lambda model, _: model.set_classes(["a", "b"], templates="a photo of a {}"),
            "expected a list: ['a photo of a {}']",
        ),
    ],
)
def test_what_is_not_images_or_texts_is_said(
    model: Retriever, photos: Path, call: Callable[[Retriever, Path], object], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        call(model, photos)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_features_of_any_precision_are_features(
    model: Retriever, photos: Path, dtype: type[np.floating]
) -> None:
    images, texts = model.encode_image(photos), model.encode_text(["a red circle", "two stars"])
    found = model.similarity(images.astype(dtype), texts.astype(dtype))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, images @ texts.T, atol=2e-3)
    named = model.similarity(photos, np.array(["a red circle", "two stars"]))
    np.testing.assert_allclose(named, images @ texts.T, atol=1e-5)
