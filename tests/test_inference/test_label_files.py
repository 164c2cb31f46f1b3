"""What a detector finds, as labels for other programs: ``mmbeit3 infer --format``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbeit3.apis import convert_labels
from mmbeit3.cli import main
from mmbeit3.datasets.label_formats import FILE_NAMES, WRITTEN, read_labels
from mmbeit3.inference.folder import infer_folder
from mmbeit3.utils import InputError

RED, GREEN = (2, 3, 12, 9), (15, 10, 25, 18)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name, colors in (("a b.png", {"red": RED, "lime": GREEN}), ("c/ü.png", {})):
        image = Image.new("RGB", (30, 20))
        for color, box in colors.items():
            image.paste(color, box)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return folder


def test_all_formats(tmp_path, folder, color_cfg, color_checkpoint, capsys):
    out = tmp_path / "out"
    infer_folder(color_cfg, color_checkpoint, folder, out, formats=WRITTEN, score_thr=0.05)
    said = capsys.readouterr().out
    assert said.count("labels from 0.05: ") == len(WRITTEN)
    assert f"{out}/voc; objects with a mask, of which Pascal VOC holds the box alone: 2" in said
    for name in WRITTEN:
        if name == "png":
            continue
        labels = read_labels(out / name / FILE_NAMES.get(name, ""), name, images=folder)
        assert [image.name for image in labels.images] == ["a b.png", "c/ü.png"]
        red, green = sorted(labels.objects(), key=lambda found: found.box)
        assert (red.name, green.name) == ("red thing", "green thing")
        np.testing.assert_allclose([red.box, green.box], [RED, GREEN], atol=1e-4)
        assert labels.are_predictions == (name == "label-studio")
    pixels = np.array(Image.open(out / "png/masks/a b.png"))
    assert (pixels[4, 4], pixels[12, 20], pixels[0, 0]) == (1, 2, 0)


def test_labels_are_from_the_threshold_on(tmp_path, folder, color_cfg, color_checkpoint):
    infer_folder(color_cfg, color_checkpoint, folder, tmp_path / "out", formats=["csv"])
    table = tmp_path / "out/csv/labels.csv"
    assert [found.name for found in read_labels(table).objects()] == ["red thing"]
    convert_labels(tmp_path / "out", tmp_path / "all.csv", score_thr=0.0)
    assert len(list(read_labels(tmp_path / "all.csv").objects())) == 2
    convert_labels(tmp_path / "out", tmp_path / "some.csv")
    assert (tmp_path / "some.csv").read_text() == table.read_text()


def test_corrected_labels_are_not_replaced(tmp_path, folder, color_cfg, color_checkpoint):
    out = tmp_path / "out"
    infer_folder(color_cfg, color_checkpoint, folder, out, formats=["yolo"])
    corrected = out / "yolo/labels/a b.txt"
    corrected.write_text("1 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match=r"formats: .*yolo exists already and may have been"):
        infer_folder(color_cfg, color_checkpoint, folder, out, formats=["coco", "yolo"])
    assert corrected.read_text() == "1 0.5 0.5 0.1 0.1\n"
    assert not (out / "coco").exists()
    infer_folder(color_cfg, color_checkpoint, folder, out)  # nor by a run without them
    assert corrected.is_file()


def test_two_images_of_one_name(tmp_path, folder, color_cfg, color_checkpoint):
    Image.new("RGB", (30, 20)).save(folder / "a b.jpg")
    arguments = (color_cfg, color_checkpoint, folder, tmp_path / "out")
    with pytest.raises(InputError, match=r"a b.jpg and a b.png would both have their labels"):
        infer_folder(*arguments, formats=["csv", "voc"])
    assert infer_folder(*arguments, formats=["csv"])["num_done"] == 3


def test_segmentors_have_no_such_labels(tmp_path, folder, seg_cfg, seg_checkpoint):
    with pytest.raises(InputError, match="formats: it is not for the task of this config"):
        infer_folder(seg_cfg, seg_checkpoint, folder, tmp_path / "out", formats=["coco"])


def test_command(tmp_path, folder, color_cfg, color_checkpoint, capsys):
    color_cfg.dump(tmp_path / "config.py")
    words = ["infer", tmp_path / "config.py", color_checkpoint, folder, "--out-dir"]
    words = [*map(str, words), str(tmp_path / "out"), "--format", "cvat", "label-studio"]
    assert main(words) == 0
    tasks = json.loads((tmp_path / "out/label-studio/tasks.json").read_text())
    (region,) = tasks[0]["predictions"][0]["result"]
    assert region["score"] == pytest.approx(0.9)
    assert (tmp_path / "out/cvat/annotations.xml").is_file()
    assert main(words) == 2
    assert "cvat exists already and may have been corrected" in capsys.readouterr().err
