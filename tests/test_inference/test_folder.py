"""A folder of images through models whose answers are known, and the command for it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import MODELS
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmbeit3.cli import main as command_line
from mmbeit3.inference.detection_writer import DetectionWriter
from mmbeit3.inference.folder import infer_folder, print_summary
from mmbeit3.inference.image_list import list_sources
from mmbeit3.models import acceleration
from mmbeit3.utils import InputError

TOOL = Path(__file__).resolve().parents[2] / "tools" / "infer.py"
RED, GREEN = (2, 3, 12, 9), (15, 10, 25, 18)  # x1 y1 x2 y2


def picture(path: Path, *, red: bool = True, green: bool = True, **options: object) -> Path:
    image = Image.new("RGB", (30, 20))
    if red:
        image.paste("red", RED)
    if green:
        image.paste("lime", GREEN)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five good images in three folders, two of them with names that clash, and two bad ones."""
    folder = tmp_path / "images"
    picture(folder / "a.png")
    picture(folder / "a.bmp", green=False)
    picture(folder / "b" / "a.png", red=False)
    picture(folder / "b" / "nothing.PNG", red=False, green=False)
    picture(folder / "c" / "d" / "e.webp", lossless=True)
    (folder / "b" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (folder / "empty.png").touch()
    return folder


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_results(tmp_path, folder, color_cfg, color_checkpoint):
    infer_folder(color_cfg, color_checkpoint, folder, tmp_path / "out")
    results = read(tmp_path / "out" / "results.json")
    found = [(result["file_name"], result["category"]) for result in results]
    assert found == [
        ("a.bmp", "red thing"),
        ("a.png", "red thing"),
        ("a.png", "green thing"),
        ("b/a.png", "green thing"),
        ("c/d/e.webp", "red thing"),
        ("c/d/e.webp", "green thing"),
    ]
    assert [result["image_id"] for result in results] == [1, 2, 2, 3, 6, 6]
    red, green = results[1:3]
    assert (red["category_id"], green["category_id"]) == (1, 2)
    assert red["bbox"] == [2, 3, 10, 6]
    assert red["score"] == pytest.approx(0.9)
    expected = np.zeros((20, 30), np.uint8)
    expected[3:9, 2:12] = 1
    np.testing.assert_array_equal(coco_mask.decode(red["segmentation"]), expected)


def test_summary(tmp_path, folder, color_cfg, color_checkpoint):
    out = tmp_path / "out"
    returned = infer_folder(color_cfg, color_checkpoint, folder, out, device="cpu")
    summary = read(out / "summary.json")
    assert summary == returned
    numbers = {"num_images": 7, "num_done": 5, "num_failed": 2, "num_results": 6}
    assert summary.items() >= numbers.items()
    assert summary["num_detections"] == 3  # the green ones are below the threshold of 0.3
    assert summary["detections"] == {"red thing": 3, "green thing": 0}
    assert summary["score_thr"] == 0.3
    assert summary["interrupted"] is False
    assert summary["device"] == "cpu"
    assert summary["checkpoint"] == str(color_checkpoint)
    assert summary["seconds"] > 0
    assert summary["versions"].keys() >= {"mmbeit3", "torch", "mmdet"}
    failed = {entry["file_name"]: entry["reason"] for entry in summary["failed"]}
    assert failed.keys() == {"b/broken.jpg", "empty.png"}
    assert "0 bytes" in failed["empty.png"]
    image = {"id": 3, "file_name": "b/a.png", "width": 30, "height": 20}
    assert summary["images"][2] == image | {"overlay": "overlays/b/a.jpg"}


def test_coco_tools_read_the_results(tmp_path, folder, color_cfg, color_checkpoint):
    infer_folder(color_cfg, color_checkpoint, folder, tmp_path)
    results = COCO(tmp_path / "summary.json").loadRes(str(tmp_path / "results.json"))
    assert len(results.getAnnIds()) == 6
    assert len(results.getAnnIds(imgIds=[2], catIds=[2])) == 1


@pytest.mark.parametrize(
    ("config", "option", "expected"),
    [(None, None, None), (True, None, True), (False, None, False), (True, False, False)],
)
def test_the_visualizer_of_the_config_decides_unless_an_option_does(
    tmp_path, folder, color_cfg, color_checkpoint, monkeypatch, config, option, expected
):
    if config is not None:
        color_cfg.visualizer = dict(type="mmbeit3.Visualizer", hide_duplicates=config)
    given = []

    def writer(*args, hide_duplicates=None, **options):
        given.append(hide_duplicates)
        return DetectionWriter(*args, **options)

    monkeypatch.setattr("mmbeit3.inference.detection_task.DetectionWriter", writer)
    out = tmp_path / "out"
    infer_folder(color_cfg, color_checkpoint, folder, out, hide_duplicates=option)
    assert given == [expected]


def test_overlays(tmp_path, folder, color_cfg, color_checkpoint):
    infer_folder(color_cfg, color_checkpoint, folder, tmp_path / "out")
    overlays = tmp_path / "out" / "overlays"
    names = sorted(path.relative_to(overlays).as_posix() for path in overlays.rglob("*.*"))
    # a.bmp comes before a.png
    assert names == ["a.jpg", "a.png.jpg", "b/a.jpg", "b/nothing.jpg", "c/d/e.jpg"]
    only_red, both = (cv2.imread(str(overlays / name)) for name in ("a.jpg", "b/a.jpg"))
    assert only_red.shape == (480, 720, 3)
    assert both[350, 480, 1] > 200  # green below the threshold: seen, not drawn
    assert only_red[180, 160, 2] < 250


def test_no_overlays(tmp_path, folder, color_cfg, color_checkpoint):
    out = tmp_path / "out"
    summary = infer_folder(color_cfg, color_checkpoint, folder, out, overlays=False)
    assert sorted(path.name for path in out.iterdir()) == ["results.json", "summary.json"]
    assert not any("overlay" in image for image in summary["images"])


def test_slow_bfloat16_is_refused_unless_forced(
    tmp_path, folder, color_cfg, color_checkpoint, monkeypatch
):
    monkeypatch.setattr(acceleration, "bfloat16_obstacle", lambda: "no instructions")
    arguments = (color_cfg, color_checkpoint, folder, tmp_path / "out")
    with pytest.raises(InputError, match="dtype: no instructions, and bfloat16 is slower"):
        infer_folder(*arguments, dtype="bfloat16", device="cpu")
    summary = infer_folder(*arguments, dtype="bfloat16", device="cpu", force=True)
    assert summary["dtype"] == "bfloat16"


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 1), (3, 2), (100, 4)])
def test_batches_and_threads_change_nothing(
    tmp_path, folder, color_cfg, color_checkpoint, batch_size, num_workers
):
    arguments = (color_cfg, color_checkpoint, folder)
    expected = infer_folder(*arguments, tmp_path / "expected")
    options = {"batch_size": batch_size, "num_workers": num_workers}
    summary = infer_folder(*arguments, tmp_path / "out", **options)
    results = [(tmp_path / name / "results.json").read_bytes() for name in ("expected", "out")]
    assert results[0] == results[1]
    for key in ("images", "failed", "detections"):
        assert summary[key] == expected[key]


def test_boxes_alone(tmp_path, folder, color_cfg, color_checkpoint):
    color_cfg.model.masks = False
    infer_folder(color_cfg, color_checkpoint, folder, tmp_path / "out")
    results = read(tmp_path / "out" / "results.json")
    assert len(results) == 6
    assert not any("segmentation" in result for result in results)


def test_exif_rotation_reaches_the_results(tmp_path, color_cfg, color_checkpoint):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture(tmp_path / "turned.png", green=False, exif=exif)
    summary = infer_folder(color_cfg, color_checkpoint, path, tmp_path / "out")
    assert (summary["images"][0]["width"], summary["images"][0]["height"]) == (20, 30)
    [result] = read(tmp_path / "out" / "results.json")
    # clockwise: x' = height - y2, y' = x1
    assert result["bbox"] == [20 - 9, 2, 6, 10]


def test_one_image(tmp_path, folder, color_cfg, color_checkpoint):
    summary = infer_folder(color_cfg, color_checkpoint, folder / "b" / "a.png", tmp_path / "out")
    assert [image["file_name"] for image in summary["images"]] == ["a.png"]
    assert (tmp_path / "out" / "overlays" / "a.jpg").is_file()


def test_output_inside_the_folder_is_no_input(folder, color_cfg, color_checkpoint):
    for out in (folder, folder / "out"):
        first = infer_folder(color_cfg, color_checkpoint, folder, out)
        second = infer_folder(color_cfg, color_checkpoint, folder, out)
        assert first["images"] == second["images"]
        for path in (folder / "overlays").rglob("*.jpg"):
            path.unlink()


def test_input_is_never_overwritten(tmp_path, color_cfg, color_checkpoint):
    path = picture(tmp_path / "overlays" / "a.png")
    for folder in (path, path.parent):
        with pytest.raises(InputError, match="choose another out_dir"):
            infer_folder(color_cfg, color_checkpoint, folder, tmp_path)


def test_output_folder_that_cannot_be(tmp_path, folder, color_cfg, color_checkpoint):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="the folder .* cannot be made"):
        infer_folder(color_cfg, color_checkpoint, folder, tmp_path / "file")


def test_names_that_clash(tmp_path):
    for name in ("a.jpg", "A.png", "a.png", "a.png.jpg", "A.PNG.bmp", "b/a.jpg"):
        picture(tmp_path / name)
    sources = list_sources(tmp_path, tmp_path / "out", overlays=True)
    overlays = [source.overlay for source in sources]
    assert len({overlay.lower() for overlay in overlays}) == 6
    assert all(overlay.endswith(".jpg") for overlay in overlays)
    assert {Path(overlay).parent.as_posix() for overlay in overlays} == {"overlays", "overlays/b"}


def test_interrupt_keeps_what_is_done(tmp_path, folder, color_cfg, color_checkpoint):
    color_cfg.model.fails = "KeyboardInterrupt"
    out = tmp_path / "out"
    summary = infer_folder(color_cfg, color_checkpoint, folder, out, batch_size=1)
    assert summary["interrupted"] is True
    assert [image["file_name"] for image in summary["images"]] == ["a.bmp", "a.png"]
    assert {result["image_id"] for result in read(out / "results.json")} == {1, 2}
    assert read(out / "summary.json") == summary


def test_a_crash_keeps_what_is_done(tmp_path, folder, color_cfg, color_checkpoint):
    color_cfg.model.fails = "RuntimeError"
    out = tmp_path / "out"
    with pytest.raises(RuntimeError):
        infer_folder(color_cfg, color_checkpoint, folder, out, batch_size=1)
    assert {result["image_id"] for result in read(out / "results.json")} == {1, 2}
    summary = read(out / "summary.json")
    assert (summary["interrupted"], summary["error"]) == (True, "RuntimeError: ")


def test_sigterm_keeps_what_is_done(tmp_path, folder, color_cfg, color_checkpoint, monkeypatch):
    detector = MODELS.get("ColorDetector")
    test_step = detector.test_step

    def terminated(self, data):
        if data["data_samples"][0].img_id == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return test_step(self, data)

    monkeypatch.setattr(detector, "test_step", terminated)
    out = tmp_path / "out"
    summary = infer_folder(color_cfg, color_checkpoint, folder, out, batch_size=1)
    assert (summary["interrupted"], summary["error"]) == (True, None)
    assert [image["file_name"] for image in summary["images"]] == ["a.bmp", "a.png"]
    assert {result["image_id"] for result in read(out / "results.json")} == {1, 2}


def class_map(*, red: bool = True, green: bool = True) -> np.ndarray:
    """What the segmentor above finds in :func:`picture`."""
    labels = np.zeros((20, 30), np.uint8)
    for number, (seen, (x1, y1, x2, y2)) in enumerate(((red, RED), (green, GREEN)), 1):
        labels[y1:y2, x1:x2] = number * seen
    return labels


class TestSegmentation:
    """The same folder through a segmentor."""

    @pytest.fixture
    def infer(self, tmp_path, folder, seg_cfg, seg_checkpoint):
        def infer(out="out", source=folder, **options):
            return infer_folder(seg_cfg, seg_checkpoint, source, tmp_path / out, **options)

        return infer

    def test_labels(self, tmp_path, infer):
        infer()
        labels = tmp_path / "out" / "labels"
        maps = {
            path.relative_to(labels).as_posix(): np.asarray(Image.open(path))
            for path in labels.rglob("*.png")
        }
        expected = {
            "a.png": class_map(green=False),  # of a.bmp, which comes before a.png
            "a.png.png": class_map(),
            "b/a.png": class_map(red=False),
            "b/nothing.png": class_map(red=False, green=False),
            "c/d/e.png": class_map(),
        }
        assert maps.keys() == expected.keys()
        for name, labels in expected.items():
            np.testing.assert_array_equal(maps[name], labels)

    def test_summary(self, tmp_path, infer, seg_checkpoint):
        returned = infer(device="cpu")
        summary = read(tmp_path / "out" / "summary.json")
        assert summary == returned
        numbers = {"task": "segmentation", "num_images": 7, "num_done": 5, "num_failed": 2}
        assert summary.items() >= numbers.items()
        assert summary["checkpoint"] == str(seg_checkpoint)
        assert summary["versions"].keys() == {"mmbeit3", "torch", "mmcv", "mmseg", "mmengine"}
        assert "i + 1" in summary["label_values"]  # the checkpoint says reduce_zero_label
        assert not {"score_thr", "categories", "detections"} & summary.keys()
        reds, greens = 3 * 10 * 6, 3 * 10 * 8
        shares = {entry["name"]: entry["share"] for entry in summary["classes"]}
        assert shares["red thing"] == pytest.approx(reds / 3000)
        assert shares["green thing"] == pytest.approx(greens / 3000)
        assert sum(shares.values()) == pytest.approx(1)
        image = {"id": 3, "file_name": "b/a.png", "width": 30, "height": 20}
        files = {"overlay": "overlays/b/a.jpg", "label": "labels/b/a.png"}
        shares = {"dark": pytest.approx(520 / 600, abs=1e-6), "green thing": 0.133333}
        assert summary["images"][2] == image | files | {"shares": shares}
        assert {entry["file_name"] for entry in summary["failed"]} == {"b/broken.jpg", "empty.png"}

    def test_overlays(self, tmp_path, infer):
        infer()
        overlays = tmp_path / "out" / "overlays"
        both = cv2.imread(str(overlays / "c" / "d" / "e.jpg"))
        assert both.shape[0] > 480 and both.shape[1] == 720  # the legend is below
        # half the pixel, half its class: away from names, which stand in the middle of a region
        np.testing.assert_allclose(both[100, 80], [0, 0, 228], atol=6)
        np.testing.assert_allclose(both[400, 400], [0, 228, 0], atol=6)
        np.testing.assert_allclose(both[470, 10], [15, 10, 5], atol=6)

    @pytest.mark.parametrize("legend", [True, False])
    def test_the_visualizer_of_the_config_decides_on_the_legend(
        self, tmp_path, infer, seg_cfg, legend
    ):
        seg_cfg.visualizer = dict(type="mmbeit3.Visualizer", legend=legend)
        infer()
        both = cv2.imread(str(tmp_path / "out" / "overlays" / "c" / "d" / "e.jpg"))
        assert (both.shape[0] > 480) is legend

    @pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 1), (100, 4)])
    def test_batches_and_threads_change_nothing(self, tmp_path, infer, batch_size, num_workers):
        expected = infer("expected")
        summary = infer("out", batch_size=batch_size, num_workers=num_workers)
        for key in ("images", "failed", "classes"):
            assert summary[key] == expected[key]
        for image in summary["images"]:
            for name in (image["label"], image["overlay"]):
                written = [(tmp_path / run / name).read_bytes() for run in ("expected", "out")]
                assert written[0] == written[1]

    def test_exif_rotation_reaches_the_labels(self, tmp_path, infer):
        exif = Image.Exif()
        exif[0x0112] = 6
        infer(source=picture(tmp_path / "turned.png", exif=exif))
        labels = np.asarray(Image.open(tmp_path / "out" / "labels" / "turned.png"))
        np.testing.assert_array_equal(labels, np.rot90(class_map(), -1))

    def test_no_overlays(self, tmp_path, infer):
        infer(overlays=False)
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["labels", "summary.json"]

    def test_output_inside_the_folder_is_no_input(self, tmp_path, infer, folder):
        first = infer(folder.relative_to(tmp_path))
        second = infer(folder.relative_to(tmp_path))
        assert len(first["images"]) == 5
        assert first["images"] == second["images"]

    def test_labels_of_the_data_set_are_not_overwritten(self, tmp_path, infer, folder):
        mask = picture(tmp_path / "labels" / "a.png")
        before = mask.read_bytes()
        with pytest.raises(InputError, match="nothing was overwritten"):
            infer(".")
        assert mask.read_bytes() == before

    @pytest.mark.parametrize("error", ["KeyboardInterrupt", "RuntimeError"])
    def test_what_is_done_is_kept(self, tmp_path, infer, seg_cfg, error):
        seg_cfg.model.fails = error
        if error == "KeyboardInterrupt":
            infer(batch_size=1)
        else:
            with pytest.raises(RuntimeError):
                infer(batch_size=1)
        summary = read(tmp_path / "out" / "summary.json")
        assert summary["interrupted"] is True
        assert [image["file_name"] for image in summary["images"]] == ["a.bmp", "a.png"]
        assert len(list((tmp_path / "out" / "labels").rglob("*.png"))) == 2

    def test_a_score_threshold_is_refused(self, infer):
        with pytest.raises(InputError, match="score_thr: it is not for .*, segmentation"):
            infer(score_thr=0.5)

    def test_printed_table(self, infer, capsys):
        print_summary(infer(), "the folder")
        printed = capsys.readouterr().out
        assert re.search(r"images .* 5 of 7", printed)
        assert re.search(
            r"dark .* 86.00%.*\n.*green thing .* 8.00%.*\n.*red thing .* 6.00%", printed
        )
        assert "failed: empty.png: the file is empty (0 bytes)" in printed
        assert "results are in the folder: labels, summary.json, overlays" in printed


class TestCommand:
    """``mmbeit3 infer``, run in this process, where the models above are registered."""

    @pytest.fixture
    def status(self, tmp_path, color_cfg, color_checkpoint):
        config = tmp_path / "config.py"
        Config(color_cfg.to_dict()).dump(config)

        def status(folder: Path, *options: str, config=config, checkpoint=color_checkpoint) -> int:
            arguments = [str(config), str(checkpoint), str(folder), "--out-dir"]
            arguments += [str(tmp_path / "out"), *options]
            try:
                return command_line(["infer", *arguments])
            except SystemExit as left:  # by argparse
                return left.code

        return status

    def test_failures(self, status, folder, tmp_path, capsys):
        assert status(folder) == 1
        printed = capsys.readouterr().out
        assert "failed: b/broken.jpg: " in printed
        assert "failed: empty.png: the file is empty (0 bytes)" in printed
        assert re.search(r"images .* 5 of 7", printed)
        assert re.search(r"red thing .* 3", printed)
        assert str(tmp_path / "out") in printed

    def test_success(self, status, tmp_path, capsys):
        picture(tmp_path / "images" / "a.png")
        options = ("--score-thr", "0.1", "--batch-size", "3", "--num-workers", "2", "--no-overlays")
        assert status(tmp_path / "images", *options, "--device", "cpu") == 0
        assert "failed:" not in capsys.readouterr().out
        summary = read(tmp_path / "out" / "summary.json")
        assert summary["detections"] == {"red thing": 1, "green thing": 1}
        assert (summary["batch_size"], summary["device"]) == (3, "cpu")
        assert not (tmp_path / "out" / "overlays").exists()

    def test_config_options(self, status, tmp_path):
        picture(tmp_path / "images" / "a.png")
        assert status(tmp_path / "images", "--cfg-options", "test_dataloader.batch_size=5") == 0
        assert read(tmp_path / "out" / "summary.json")["batch_size"] == 5

    def test_segmentation(self, status, folder, tmp_path, seg_cfg, seg_checkpoint, capsys):
        config = tmp_path / "segmentation.py"
        Config(seg_cfg.to_dict()).dump(config)
        assert status(folder, config=config, checkpoint=seg_checkpoint) == 1
        assert "failed: empty.png" in capsys.readouterr().out
        (folder / "empty.png").unlink()
        (folder / "b" / "broken.jpg").unlink()
        assert status(folder, config=config, checkpoint=seg_checkpoint) == 0
        assert (tmp_path / "out" / "labels" / "b" / "a.png").is_file()
        options = ("--score-thr", "0.5")
        assert status(folder, *options, config=config, checkpoint=seg_checkpoint) == 2

    def test_interrupt(self, status, folder, capsys):
        assert status(folder, "--cfg-options", "model.fails=KeyboardInterrupt") == 130
        assert "interrupted" in capsys.readouterr().out

    def test_no_folder_and_no_images(self, status, tmp_path, capsys):
        assert status(tmp_path / "absent") == 2
        assert "no such folder" in capsys.readouterr().err
        (tmp_path / "bare").mkdir()
        assert status(tmp_path / "bare") == 2
        assert "looked for files ending in jpg" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "option", ["--score-thr=2", "--score-thr=x", "--batch-size=0", "--num-workers=-1"]
    )
    def test_wrong_arguments(self, status, folder, option, capsys):
        assert status(folder, option) == 2
        assert "expected a" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = f"""
import runpy, sys
sys.argv = ["infer.py", "--help"]
try:
    runpy.run_path({str(TOOL)!r}, run_name="__main__")
except SystemExit as left:
    print(left.code, *{{"torch", "mmengine", "cv2", "numpy", "rich"}} & set(sys.modules))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOOL.parents[1])
    assert done.stdout.splitlines()[-1] == "0", done.stdout + done.stderr
