"""Inference where files cannot be written, folders cannot be read, or two runs meet."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbeit3.inference.folder import infer_folder, print_summary
from mmbeit3.inference.image_list import list_sources
from mmbeit3.inference.staging import NEW
from mmbeit3.utils import InputError, whole_files
from mmbeit3.utils import image_folders as images
from tests.damaged_jpegs import END, encode, photograph
from tests.special_files import SPECIAL
from tests.test_datasets.fuzzing import time_limit


def picture(path: Path, seed: int = 0) -> Path:
    """Noise, whose overlay is large, with a red thing on it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 60, (40, 60, 3), np.uint8)
    pixels[3:9, 2:12] = (255, 0, 0)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(params=["detection", "segmentation"])
def infer(request, tmp_path):
    """Run either model over a folder; the results go to ``out``."""
    kind = {"detection": "color", "segmentation": "seg"}[request.param]
    cfg = request.getfixturevalue(f"{kind}_cfg")
    checkpoint = request.getfixturevalue(f"{kind}_checkpoint")

    def infer(folder: Path, out: Path = tmp_path / "out", **options: object) -> dict:
        fails = options.pop("fails", None)
        cfg.model.fails = fails
        return infer_folder(cfg, checkpoint, folder, out, device="cpu", **options)

    infer.task, infer.cfg = request.param, cfg
    return infer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        picture(tmp_path / "images" / f"{number}.png", number)
    return tmp_path / "images"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def fill_disk(monkeypatch: pytest.MonkeyPatch, match: str, number: int) -> None:
    """Have no room for the rest of files whose path has ``match``, from the given one on."""
    write_bytes, write_all = Path.write_bytes, whole_files.write_all
    met = 0

    def is_full(path: str) -> bool:
        nonlocal met
        met += match in path
        return match in path and met >= number

    def some_bytes(path: Path, content: bytes) -> int:
        if is_full(str(path)):
            write_bytes(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")  # without a name, as write(2)
        return write_bytes(path, content)

    def all_bytes(file: io.FileIO, content: bytes) -> None:
        if is_full(str(file.name)):
            file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        write_all(file, content)

    monkeypatch.setattr(Path, "write_bytes", some_bytes)
    monkeypatch.setattr("mmbeit3.inference.pipeline.write_all", all_bytes)


@pytest.mark.parametrize(
    ("match", "number"),
    [("overlays", 1), ("overlays", 3), ("results.json", 2), ("results.json", 8), ("summary", 1)],
)
def test_a_full_disk_leaves_the_results_before(
    infer, folder: Path, tmp_path: Path, monkeypatch, match: str, number: int
) -> None:
    if match == "results.json" and infer.task == "segmentation":
        pytest.skip("segmentors write no results.json")
    out = tmp_path / "out"
    infer(folder)
    before = contents(out)
    picture(folder / "0.png", 9)  # all results would be others
    fill_disk(monkeypatch, match, number)
    with pytest.raises(InputError, match="No space left on device") as caught:
        infer(folder)
    assert f"{out}/{match}" in str(caught.value) and NEW not in str(caught.value)
    after = contents(out)
    assert before == {name: after[name] for name in before}
    assert not (out / NEW).exists()
    for name in after.keys() - before.keys():
        assert name.startswith("unfinished_")
    for aside in out.glob("unfinished_*"):  # a whole picture for each image that it tells of
        summary = json.loads((aside / "summary.json").read_text())
        assert summary["error"] and summary["num_done"] > 0
        for image in summary["images"]:
            Image.open(aside / image["overlay"]).load()
        if infer.task == "detection":
            assert json.loads((aside / "results.json").read_text())


def test_a_full_disk_in_an_empty_folder_leaves_no_empty_results(
    infer, folder: Path, tmp_path: Path, monkeypatch
) -> None:
    fill_disk(monkeypatch, "overlays", 1)
    with pytest.raises(InputError, match="overlays/0.jpg cannot be written"):
        infer(folder)
    assert contents(tmp_path / "out") == {}


def test_what_was_done_before_the_disk_was_full_is_kept(
    infer, folder: Path, tmp_path: Path, monkeypatch
) -> None:
    fill_disk(monkeypatch, "overlays", 4)
    with pytest.raises(InputError, match="cannot be written"):
        infer(folder, num_workers=1)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [image["file_name"] for image in summary["images"]] == ["0.png", "1.png", "2.png"]
    assert summary["interrupted"] and "3.jpg cannot be written" in summary["error"]


@pytest.mark.parametrize("fails", ["KeyboardInterrupt", "RuntimeError"])
def test_a_run_that_ends_early_leaves_the_whole_results(
    infer, folder: Path, tmp_path: Path, fails: str, capsys
) -> None:
    out = tmp_path / "out"
    infer(folder)
    before = contents(out)
    for _ in range(2):
        try:
            summary = infer(folder, fails=fails, batch_size=1)
        except RuntimeError:
            continue
        print_summary(summary, out)
        assert "those of an earlier run" in capsys.readouterr().out
    asides = sorted(out.glob("unfinished_*"))
    assert len(asides) == 2
    for aside in asides:
        summary = json.loads((aside / "summary.json").read_text())
        assert summary["num_done"] == 2 and summary["results_in"] == aside.name
    after = contents(out)
    assert before == {name: after[name] for name in before}
    again = infer(out.parent / "images", out)
    assert again["num_done"] == 6 and again["results_in"] == "."


def test_a_file_that_cannot_be_written_is_that_images_failure(
    infer, folder: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    (out / "overlays" / "1.jpg").mkdir(parents=True)  # where a file goes
    (out / "overlays" / "sub").touch()  # where a folder goes
    picture(folder / "sub" / "a.png")
    picture(folder / ("x" * 251 + ".bmp"))
    picture(folder / ("x" * 251 + ".png"))  # with the name above, one that is too long
    picture(folder / ("ä" * 125 + ".webp"))
    summary = infer(folder)
    reasons = {entry["file_name"]: entry["reason"] for entry in summary["failed"]}
    assert reasons.keys() == {"1.png", "sub/a.png", "x" * 251 + ".png"}
    assert "overlays/1.jpg cannot be written (Is a directory)" in reasons["1.png"]
    assert "Not a directory" in reasons["sub/a.png"]
    assert "File name too long" in reasons["x" * 251 + ".png"]
    assert summary["num_done"] == 7 and not summary["interrupted"]
    if infer.task == "detection":
        results = json.loads((out / "results.json").read_text())
        assert not reasons.keys() & {result["file_name"] for result in results}
    print_summary(summary, out)
    assert "failed: 1.png: " in capsys.readouterr().out


def test_a_picture_beside_a_folder_of_its_overlays_name(infer, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg/b.png", "c/A.png", "c/a.PNG/d.png", "c/a.jpg/e.png"):
        picture(tmp_path / "images" / name)
    summary = infer(tmp_path / "images")
    assert (summary["num_done"], summary["num_failed"]) == (5, 0)
    for image in summary["images"]:
        assert (tmp_path / "out" / image["overlay"]).is_file()


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ELOOP])
def test_folders_that_cannot_be_read_are_named(
    infer, folder: Path, tmp_path: Path, monkeypatch, error: int, capsys
) -> None:
    picture(folder / "closed" / "a.png")
    picture(folder / "open" / "inner" / "a.png")
    scandir = os.scandir

    def closed(path):
        if isinstance(path, (str, Path)) and Path(path).name in ("closed", "inner"):
            raise OSError(error, os.strerror(error), str(path))
        return scandir(path)

    monkeypatch.setattr(images.os, "scandir", closed)
    with pytest.raises(InputError, match="closed cannot be read"):
        images.find_images(folder)
    summary = infer(folder)
    failed = {entry["file_name"]: entry["reason"] for entry in summary["failed"]}
    assert failed.keys() == {"closed/", "open/inner/"}
    assert os.strerror(error) in failed["closed/"]
    assert (summary["num_done"], summary["num_failed"]) == (6, 2)
    print_summary(summary, tmp_path / "out")
    assert "failed: closed/: the folder cannot be read" in capsys.readouterr().out


def test_names_that_are_not_utf8(infer, tmp_path: Path, monkeypatch) -> None:
    names = [b"caf\xe9.png", b"\xff\xfe/\x80.png", b"sound.png"]
    folder = tmp_path / os.fsdecode(b"b\xe4d")
    for name in names:
        picture(folder / os.fsdecode(name))
    broken = folder / os.fsdecode(b"br\xf6ken.png")
    broken.write_bytes(b"no image")
    out = tmp_path / os.fsdecode(b"\xf6ut")
    summary = infer(folder, out)
    assert summary["num_done"] == 3
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == summary
    assert {image["file_name"] for image in summary["images"]} == set(map(os.fsdecode, names))
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", printed)
    print_summary(summary, out)
    printed.flush()
    assert b"failed: br\\udcf6ken.png" in printed.buffer.getvalue()


def test_pictures_of_earlier_runs_are_no_input(infer, folder: Path, tmp_path: Path, capsys) -> None:
    infer(folder, folder / "first")
    infer(folder, folder / "deep" / "second")
    (folder / "report" / "samples").mkdir(parents=True)
    picture(folder / "report" / "samples" / "0-000000.png")
    (folder / "report" / "report.json").write_text('[{"place": "val", "pictures": []}]')
    picture(folder / "overlays" / "mine.png")  # of the user: no summary beside it
    (folder / "user").mkdir()
    (folder / "user" / "summary.json").write_text('["of something else"]')
    picture(folder / "user" / "labels" / "mine.png")
    summary = infer(folder)
    found = {image["file_name"] for image in summary["images"]}
    assert found == {*(f"{n}.png" for n in range(6)), "overlays/mine.png", "user/labels/mine.png"}
    maps = ["labels/"] * (infer.task == "segmentation")
    expected = {
        f"{run}/{name}" for run in ("first", "deep/second") for name in ("overlays/", *maps)
    }
    assert set(summary["left_out"]) == expected | {"report/samples/"}
    print_summary(summary, tmp_path / "out")
    assert (
        "left out: first/overlays/: pictures that an earlier run wrote" in capsys.readouterr().out
    )
    with pytest.raises(InputError, match="pictures that an earlier run wrote, left out"):
        list_sources(folder / "first", tmp_path / "out", overlays=True)


def test_a_second_run_into_the_same_folder_is_refused(infer, folder: Path, tmp_path: Path) -> None:
    out, started, go_on = tmp_path / "out", threading.Event(), threading.Event()
    refused = []

    def other() -> None:
        started.wait(60)
        try:
            infer(folder, out)
        except InputError as error:
            refused.append(str(error))
        go_on.set()

    write = whole_files.write_whole

    def waiting(path, content):
        started.set()
        assert go_on.wait(60)
        write(path, content)

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmbeit3.visualization.pictures.write_whole", waiting)
        summary = infer(folder, out)
    thread.join()
    assert summary["num_done"] == 6
    assert f"{out} is in use: an inference by process {os.getpid()}" in refused[0]
    assert not list(out.glob(".*"))


def test_what_a_killed_run_left_half_done_goes(infer, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / NEW / "overlays").mkdir(parents=True)
    (tmp_path / "out" / NEW / "overlays" / "other.jpg").write_bytes(b"\xff\xd8 cut")
    infer(folder)
    assert not (tmp_path / "out" / NEW).exists()
    assert not (tmp_path / "out" / "overlays" / "other.jpg").exists()


def test_an_image_that_is_resized_to_nothing_is_named(infer, tmp_path: Path) -> None:
    resize = dict(type="mmcv.Resize", scale=(64, 64), keep_ratio=True)
    infer.cfg.test_dataloader.dataset.pipeline.insert(1, resize)
    (tmp_path / "in").mkdir()
    Image.new("RGB", (3000, 2)).save(tmp_path / "in" / "narrow.png")
    [failed] = infer(tmp_path / "in")["failed"]
    assert failed["file_name"] == "narrow.png"
    assert failed["reason"].startswith("it is too narrow: ")


@pytest.mark.parametrize("ours", [True, False])
def test_a_damaged_image_is_predicted_and_named(
    infer, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, ours: bool
) -> None:
    pytest.importorskip("simplejpeg")
    dark = photograph().point(lambda value: value // 3)  # nothing red, nothing green
    content = encode(dark, "baseline").removesuffix(END) + b"\x11" * 40 + END
    (folder / "3 damaged.jpg").write_bytes(content)
    if ours:
        loader = infer.cfg.test_dataloader.dataset.pipeline[0]
        loader.update(_scope_="mmbeit3")
    summary = infer(folder)
    capsys.readouterr()
    print_summary(summary, tmp_path / "out")
    said = capsys.readouterr()
    assert (summary["num_done"], summary["num_failed"]) == (7, 0)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    if not ours:  # OpenCV tells nothing
        assert summary["damaged"] == [] and summary["num_damaged"] == 0
        return
    reason = "Corrupt JPEG data: 35 extraneous bytes before marker 0xd9"
    assert summary["damaged"] == [{"file_name": "3 damaged.jpg", "reason": reason}]
    assert summary["num_damaged"] == 1
    assert f"damaged: 3 damaged.jpg: {reason}; the results are those of what could be" in said.out
    assert "done, but damaged" in said.out


@pytest.mark.parametrize("name", ["summary.json", "results.json", ".mmbeit3-lock", "overlays"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_an_output_folder_may_hold_anything(kind, name, color_cfg, color_checkpoint, tmp_path):
    picture(tmp_path / "images" / "a.png")
    for place in (tmp_path / "images" / "deep", tmp_path / "out"):
        place.mkdir()
        SPECIAL[kind](place / name)
    (tmp_path / "images" / "deep" / "overlays").mkdir(exist_ok=True) if name[0] == "s" else None
    with time_limit(0):
        try:
            infer_folder(
                color_cfg, color_checkpoint, tmp_path / "images", tmp_path / "out", device="cpu"
            )
        except InputError as error:  # where a folder or a loop is in the way
            assert str(tmp_path / "out" / name) in str(error)
            return
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["num_images"] == 1
