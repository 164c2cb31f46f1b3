from __future__ import annotations

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from mmbeit3.datasets.checks.coco import check_coco
from mmbeit3.datasets.shapes import CLASSES, MIN_AREA, make_shapes, mask_to_polygons
from mmbeit3.utils import InputError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "shapes"
    return make_shapes(out, num_train=12, num_val=4, size=160, seed=3)


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_same_seed_gives_the_same_bytes(shapes: Path, tmp_path: Path) -> None:
    first = _contents(shapes)
    assert len(first) == 2 * (12 + 4) + 2 + 3 + 7 + 1  # captions, questions, lines
    assert _contents(make_shapes(tmp_path / "a", 12, 4, 160, seed=3)) == first
    other = _contents(make_shapes(tmp_path / "b", 12, 4, 160, seed=4))
    assert other.keys() == first.keys()
    same = {name for name in first if other[name] == first[name]}
    assert same == {"annotations/answer_list.txt"}


def test_an_image_does_not_depend_on_the_number_of_images(shapes: Path, tmp_path: Path) -> None:
    few = _contents(make_shapes(tmp_path / "few", 2, 1, 160, seed=3))
    first = _contents(shapes)
    assert all(few[name] == first[name] for name in few if not name.startswith("annotations/"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_annotations_agree_with_the_class_maps(shapes: Path, split: str) -> None:
    ann_file = shapes / "annotations" / f"{split}.json"
    report = check_coco(json.loads(ann_file.read_text()))
    assert not report.errors and not report.warnings
    coco = COCO(str(ann_file))
    for image in coco.dataset["images"]:
        class_map = Image.open(shapes / "semantic" / split / f"{image['file_name'][:-4]}.png")
        assert class_map.mode == "P"
        painted = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.imgToAnns[image["id"]]:
            mask = coco.annToMask(annotation).astype(bool)
            assert not painted[mask].any(), "visible masks never overlap"
            painted[mask] = annotation["category_id"]
            assert annotation["area"] == pytest.approx(mask.sum(), rel=0.02)
            assert annotation["area"] >= MIN_AREA
            box = mask_api.toBbox(coco.annToRLE(annotation))
            np.testing.assert_allclose(annotation["bbox"], box, atol=1)
        # Polygons are rounded to a fraction of a pixel: a pixel in a thousand may differ.
        assert (painted != np.array(class_map)).mean() < 1e-3


def test_color_does_not_tell_the_class(tmp_path: Path) -> None:
    root = make_shapes(tmp_path / "shapes", 60, 1, 96, seed=0)
    colors: dict[int, list[np.ndarray]] = {}
    for path in sorted((root / "train").iterdir()):
        image = cv2.imread(str(path))
        class_map = np.array(Image.open(root / "semantic" / "train" / f"{path.stem}.png"))
        for label in np.unique(class_map[class_map > 0]):
            colors.setdefault(int(label), []).append(image[class_map == label].mean(axis=0))
    assert sorted(colors) == [1, 2, 3, 4, 5]
    means = np.array([np.mean(values, axis=0) for values in colors.values()])
    spread = np.mean([np.std(values, axis=0) for values in colors.values()])
    assert spread > 40  # within a class colors range widely ...
    assert np.ptp(means, axis=0).max() < spread  # ... and classes differ by less than that


def test_a_hole_stays_open() -> None:
    mask = np.zeros((40, 50), bool)
    cv2_mask = mask.astype(np.uint8)
    cv2.circle(cv2_mask, (25, 20), 15, 1, -1)
    cv2.circle(cv2_mask, (25, 20), 7, 0, -1)
    cv2_mask[2:5, 2:6] = 1
    polygons = mask_to_polygons(cv2_mask.astype(bool))
    assert len(polygons) == 2
    decoded = mask_api.decode(mask_api.merge(mask_api.frPyObjects(polygons, 40, 50)))
    assert (decoded != cv2_mask).sum() <= 4
    assert decoded[20, 25] == 0


def test_five_classes_of_similar_number(tmp_path: Path) -> None:
    root = make_shapes(tmp_path / "shapes", 100, 1, 64, seed=1)
    data = json.loads((root / "annotations" / "train.json").read_text())
    assert [category["name"] for category in data["categories"]] == list(CLASSES)
    counts = np.bincount([a["category_id"] for a in data["annotations"]], minlength=6)[1:]
    assert counts.min() > 0.6 * counts.max()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    keep = tmp_path / "coco" / "annotations" / "train.json"
    keep.parent.mkdir(parents=True)
    keep.write_text('{"images": []}')
    with pytest.raises(InputError, match="was not made by this command"):
        make_shapes(tmp_path / "coco", 1, 1)
    assert keep.read_text() == '{"images": []}'


def test_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", 3, 1, 64)
    make_shapes(tmp_path / "shapes", 1, 1, 64)
    assert [path.name for path in (tmp_path / "shapes" / "train").iterdir()] == ["000000.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


@pytest.mark.parametrize("wrong", [{"num_train": 0}, {"size": 32}, {"seed": -1}])
def test_arguments_out_of_range(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        make_shapes(tmp_path / "shapes", **({"num_val": 1, "num_train": 1} | wrong))
    assert not (tmp_path / "shapes").exists()


def test_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = Path(__file__).resolve().parents[2] / "tools" / "misc" / "make_shapes.py"
    out = tmp_path / "shapes"
    arguments = ["make_shapes.py", "--out", str(out), "--train", "2", "--val", "1", "--size", "64"]
    monkeypatch.setattr("sys.argv", [*arguments, "--seed", "5"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(tool), run_name="__main__")
    assert end.value.code is None
    assert str(out) in capsys.readouterr().out
    found = _contents(out)
    assert found.pop("captions.spm")
    assert found == _contents(make_shapes(tmp_path / "again", 2, 1, 64, seed=5))
    monkeypatch.setattr("sys.argv", [*arguments, "--val", "0"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(tool), run_name="__main__")
    assert end.value.code == 2
    assert "at least 1 image" in capsys.readouterr().err


def test_a_folder_with_binary_annotations_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="was not made by this command"):
        make_shapes(tmp_path)
