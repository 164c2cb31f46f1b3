"""What newcomers do wrong: one message of at most five lines, which names the cure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from mmbeit3.cli import main
from mmbeit3.config import load_config
from mmbeit3.config.classes import resolve_classes
from mmbeit3.datasets.shapes import CLASSES, make_shapes

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 5
TRAIN = "shapes/annotations/train.json"
FOLDERS = "--images shapes/train --masks shapes/semantic/train"
INFER = "--out-dir out"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a detector and a segmentor of them, and untrained weights of both."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_shapes("shapes", 6, 2, 64, seed=0)
        Path("names.txt").write_text("\n".join(("background", *CLASSES)))
        val = "--val-images shapes/val"
        annotations = f"--coco {TRAIN} --images shapes/train --val shapes/annotations/val.json"
        masks = f"{FOLDERS} --classes names.txt --val-masks shapes/semantic/val"
        assert main(f"new-config {annotations} {val} --out det.py".split()) == 0
        assert main(f"new-config {masks} {val} --out seg.py".split()) == 0
        for name in ("det", "seg"):
            cfg = load_config(f"{name}.py")
            meta = {"dataset_meta": {"classes": resolve_classes(cfg)}}
            with DefaultScope.overwrite_default_scope(cfg.default_scope):
                weights = MODELS.build(cfg.model).state_dict()
            torch.save({"meta": meta, "state_dict": weights}, f"{name}.pth")
            own = {key: value for key, value in weights.items() if key.startswith("backbone.")}
            torch.save({"meta": {}, "state_dict": own}, f"{name}_backbone.pth")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = Path(shutil.copytree(made, tmp_path / "work"))
    monkeypatch.chdir(work)
    for config in ("det.py", "seg.py"):
        replace(config, str(made), str(work))
    return work


def replace(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))


def write(file: str, content: str) -> Callable[[], None]:
    return lambda: Path(file).write_text(content) and None


def change_masks(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[], None]:
    def prepare() -> None:
        for file in Path("shapes/semantic/train").iterdir():
            Image.fromarray(change(np.array(Image.open(file)))).save(file)

    return prepare


def change_annotations(change: Callable[[dict], object]) -> Callable[[], None]:
    def prepare() -> None:
        content = json.loads(Path(TRAIN).read_text())
        for annotation in content["annotations"]:
            change(annotation)
        Path(TRAIN).write_text(json.dumps(content))

    return prepare


def weights_without_data() -> None:
    weights = torch.load("seg.pth", weights_only=False)["state_dict"]
    torch.save({"state_dict": weights}, "weights.pth")
    shutil.rmtree("shapes/annotations")


def other_names() -> None:
    for split in ("train", "val"):
        replace(f"shapes/annotations/{split}.json", '"disk"', '"disc"')


class Mistake(NamedTuple):
    """A command, what went wrong before, and what the message must have in this order."""

    command: str
    said: tuple[str, ...]
    prepare: Callable[[], object] = lambda: None


MISTAKES = {
    # ------------------------------------------------------------ the command line
    "a command is misspelled": Mistake("trian det.py", ("'trian'", "did you mean train?")),
    "an option is misspelled": Mistake(
        "train det.py --wrok-dir out",
        ("--wrok-dir", "did you mean --work-dir?", "`mmbeit3 train --help`"),
    ),
    "an argument is left out": Mistake(
        "infer det.py det.pth shapes/val",
        (
            "required: --out-dir",
            "usage: mmbeit3 infer [options] config checkpoint",
        ),
    ),
    "a size that does not exist": Mistake(
        f"new-config --coco {TRAIN} --images shapes/train --size tin",
        ("'tin'", "'tiny', 'small', 'base', 'large'", "did you mean tiny?"),
    ),
    "config and checkpoint are swapped": Mistake(
        f"infer det.pth det.py shapes/val {INFER}",
        ("det.pth ends in .pth", "expected a .py", "the config comes first"),
    ),
    # ------------------------------------------------------------ configs
    "the name of a config is misspelled": Mistake(
        "train cascade-mask-rcnn_beit3-tiny_shape",
        ("does not exist", "did you mean cascade-mask-rcnn_beit3-tiny_shapes", "mmbeit3 configs"),
    ),
    "a config that is not there": Mistake(
        "train dett.py", ("dett.py does not exist", "there: det")
    ),
    "a key of the config is misspelled": Mistake(
        "train det.py --work-dir out",
        ("no argument 'image_size'", "did you mean 'img_size'?"),
        lambda: replace("det.py", "img_size=image_size", "image_size=image_size"),
    ),
    "an option for the config is misspelled": Mistake(
        "train det.py --cfg-options train_cfg.max_iter=10",
        ("train_cfg has no argument 'max_iter'", "did you mean 'max_iters'?"),
    ),
    "a text in place of a number": Mistake(
        "train det.py --cfg-options train_cfg.max_iters=many",
        ("train_cfg.max_iters is 'many'", "expected a whole number"),
    ),
    "no images in a batch": Mistake(
        "train det.py --cfg-options train_dataloader.batch_size=0",
        ("train_dataloader.batch_size is 0", "of at least 1"),
    ),
    # ------------------------------------------------------------ checkpoints
    "a checkpoint that is not there": Mistake(
        f"infer det.py dett.pth shapes/val {INFER}", ("dett.pth does not exist", "there: det.pth")
    ),
    "a detector's checkpoint for a segmentor": Mistake(
        f"infer seg.py det.pth shapes/val {INFER}",
        ("is of another model", "the file is a detector, the config's model a segmentor: give the"),
    ),
    "a segmentor's checkpoint for a detector": Mistake(
        "test det.py seg.pth --work-dir out",
        ("'background'", "The checkpoint was trained on", "give the config and the data"),
    ),
    "a segmentor's weights for a detector whose data are not there": Mistake(
        f"infer det.py weights.pth shapes/val {INFER}",
        ("is of another model", "the file is a segmentor, the config's model a detector: give the"),
        weights_without_data,
    ),
    "two checkpoints for a pattern": Mistake(
        "test det.py det.pth seg.pth",
        ("unrecognized arguments: seg.pth", "2 files of weights are given", "best_*.pth", "one"),
    ),
    "a backbone in place of a checkpoint": Mistake(
        f"infer det.py det_backbone.pth shapes/val {INFER}",
        ("67 weights fit", "not in the file: neck", "backbone alone", "set load_from"),
    ),
    "a checkpoint of another size": Mistake(
        f"infer det.py det.pth shapes/val {INFER}",
        ("(192,) -> (384,)", "give the config it was trained with"),
        lambda: replace("det.py", "tiny_sfp", "small_sfp"),
    ),
    "a checkpoint of other classes": Mistake(
        "test det.py det.pth --work-dir out",
        ("'disk' (did you mean 'disc'?)", "The checkpoint was trained on disk", "give the config"),
        other_names,
    ),
    "a pointer of Git LFS in place of weights": Mistake(
        f"infer det.py lfs.pth shapes/val {INFER}",
        ("lfs.pth is a Git LFS pointer", "git lfs pull"),
        write("lfs.pth", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
    ),
    "resuming from weights alone": Mistake(
        "train det.py --work-dir out --resume det.pth",
        ("cannot be resumed", "no message_hub, optimizer", "set load_from"),
    ),
    # ------------------------------------------------------------ data
    "annotations that are not there": Mistake(
        "new-config --coco shapes/train.json --images shapes/train",
        ("--coco: there is no file", "shapes/train.json", "did you mean"),
    ),
    "a list of results in place of annotations": Mistake(
        "new-config --coco results.json --images shapes/train",
        ("top level is a list", "expected an object with 'images'", "is this a results file?"),
        write("results.json", "[]"),
    ),
    "annotations of YOLO": Mistake(
        "new-config --coco labels.txt --images shapes/train",
        ("labels.txt is not valid JSON", "expected annotations in COCO format"),
        write("labels.txt", "0 0.5 0.5 0.1 0.1\n"),
    ),
    "boxes of corners": Mistake(
        "train det.py --work-dir out",
        ("hold corners", "Give width x2 - x1 and height y2 - y1"),
        change_annotations(
            lambda one: one["bbox"].__setitem__(
                slice(2, 4), [one["bbox"][0] + one["bbox"][2], one["bbox"][1] + one["bbox"][3]]
            )
        ),
    ),
    "category ids that are no categories": Mistake(
        "train det.py --work-dir out",
        ("category_id", "is not in categories (1..5)", "more"),
        change_annotations(lambda one: one.update(category_id=one["category_id"] + 10)),
    ),
    "objects without masks for a mask head": Mistake(
        "train det.py --work-dir out",
        ("have no segmentation", "--cfg-options model.roi_head.mask_head=None"),
        change_annotations(lambda one: one.pop("segmentation")),
    ),
    "another folder of images": Mistake(
        f"new-config --coco {TRAIN} --images shapes/val",
        ("the 6 images", "are not in", "shapes/val; they are in", "give --images", "shapes/train"),
        lambda: [file.unlink() for file in Path("shapes/val").iterdir()],
    ),
    "a folder of images in a config that is not there": Mistake(
        "train det.py --work-dir out",
        ("6 of the 6 images", "did you mean", "shapes/train/000000.jpg", "data_prefix"),
        lambda: replace("det.py", "shapes/train/'", "shapes/trian/'"),
    ),
    "a class that is misspelled": Mistake(
        "train det.py --work-dir out --cfg-options "
        "train_dataloader.dataset.metainfo.classes=disc,square",
        ("'disc' (did you mean 'disk'?)", "Correct metainfo.classes"),
    ),
    "a broken image": Mistake(
        "train det.py --work-dir out",
        ("1 of the 6 images", "000000.jpg cannot be read", "Copy damaged files anew"),
        write("shapes/train/000000.jpg", "no image"),
    ),
    "a mask that is missing": Mistake(
        "train seg.py --work-dir out",
        ("1 of 6 images", "have no label map", "000003.jpg", "The same path below both folders"),
        lambda: Path("shapes/semantic/train/000003.png").unlink(),
    ),
    "masks of 0 and 255": Mistake(
        "train seg.py --work-dir out",
        ("'background' or ignored (255", "replace 255 by the number of its class"),
        change_masks(lambda mask: (mask > 0).astype(np.uint8) * 255),
    ),
    "masks with values that are no class": Mistake(
        f"new-config {FOLDERS} --classes names.txt",
        ("the 6 classes: 40, 80, 120", "Expected 0..5", "name their classes"),
        change_masks(lambda mask: mask * 40),
    ),
    "too few classes, of all data sets": Mistake(
        "train seg.py --work-dir out",
        ("the 3 classes: 3, 4, 5", "Expected 0..2", "name their classes", "val_dataloader.dataset"),
        write("names.txt", "background\ndisk\nsquare\n"),
    ),
    "masks of colors": Mistake(
        f"new-config {FOLDERS} --classes names.txt",
        ("6 of 6 pairs", "has colors", "replace every color by the number of its class"),
        change_masks(lambda mask: np.stack([mask] * 3, -1)),
    ),
    "masks of another size": Mistake(
        "train seg.py --work-dir out",
        ("6 of 6 pairs", "000000.png is 64 x 32", "is 64 x 64", "or one of its size"),
        change_masks(lambda mask: mask[:32]),
    ),
    "masks without names": Mistake(
        f"new-config {FOLDERS}", ("--masks needs --classes", "one class a line")
    ),
    # ------------------------------------------------------------ folders and devices
    "a folder without images": Mistake(
        f"infer det.py det.pth empty {INFER}",
        ("no images in empty", "looked for files ending in jpg"),
        lambda: Path("empty").mkdir(),
    ),
    "a folder that is not there": Mistake(
        f"infer det.py det.pth photos {INFER}",
        ("no such folder or image: photos", "expected a folder"),
    ),
    "the folder before the checkpoint": Mistake(
        f"infer det.py shapes/val det.pth {INFER}",
        ("shapes/val is a folder", "expected the config, the checkpoint, then the folder"),
    ),
    "results into a file": Mistake(
        "infer det.py det.pth shapes/val --out-dir names.txt",
        ("names.txt cannot be made", "File exists", "give the name of a folder"),
    ),
    "a work dir that is a file": Mistake(
        "train det.py --work-dir names.txt",
        ("--work-dir: names.txt is a file", "expected a folder"),
    ),
    "a device that is not known": Mistake(
        f"infer det.py det.pth shapes/val {INFER} --device gpu",
        ("device 'gpu' cannot be used here", "expected cpu, cuda"),
    ),
}


def check(mistake: Mistake, status: int, message: str) -> None:
    assert status == 2, message
    assert len(message.splitlines()) <= MAX_LINES and "Traceback" not in message, message
    assert message.startswith("error: ")
    place = 0
    for text in mistake.said:
        found = message.find(text, place)
        assert found >= 0, f"no {text!r} there in\n{message}"
        place = found


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_message_with_its_cure(
    name: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mistake = MISTAKES[name]
    mistake.prepare()
    capfd.readouterr()
    try:
        status = main(mistake.command.split())
    except SystemExit as end:
        status = end.code
    check(mistake, status, capfd.readouterr().err)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = f"infer det.py det.pth shapes/val {INFER} --device cuda"
    status = main(command.split())
    said = ("device 'cuda' cannot be used here", "expected cpu, cuda", "auto")
    check(Mistake(command, said), status, capfd.readouterr().err)


@pytest.mark.parametrize(
    "name",
    [
        "an option is misspelled",
        "the name of a config is misspelled",
        pytest.param("masks of colors", marks=pytest.mark.slow),
    ],
)
def test_the_same_of_a_process(name: str, folder: Path) -> None:
    mistake = MISTAKES[name]
    mistake.prepare()
    done = subprocess.run(
        [sys.executable, "-m", "mmbeit3", *mistake.command.split()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    check(mistake, done.returncode, done.stderr)
