"""Testing a segmentor: metrics, predictions and pictures against what is computed by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor, nn

from mmbeit3.apis import testing
from mmbeit3.cli import build_parser
from mmbeit3.config.classes import resolve_classes
from mmbeit3.config.loading import load_config
from mmbeit3.config.tta import use_tta
from mmbeit3.datasets import make_shapes
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from mmbeit3.visualization.overlay import draw_class_map

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs" / "beit3_mask2former" / "mask2former_beit3-tiny_shapes.py"
CLASSES = ("background", "disk", "square", "triangle", "star", "ring")
SIZE = 128
JPEG_TOLERANCE = 3


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return make_shapes(tmp_path / "shapes", num_train=1, num_val=3, size=SIZE)


def tiny(shapes: Path, **options: object) -> Config:
    options = {
        "test_dataloader.dataset.data_root": str(shapes),
        "test_dataloader.batch_size": 2,
        "train_dataloader.dataset.data_root": str(shapes / "only test data is here"),
        "log_level": "WARNING",
        **options,
    }
    return load_config(TINY, options, shapes.parent / "work")


def random_model(cfg: Config) -> tuple[nn.Module, Path]:
    """The config's model, whose random weights predict several classes, and its checkpoint."""
    init_default_scope("mmseg")
    resolve_classes(cfg)
    torch.manual_seed(1)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for name in ("cls_embed", "query_feat", "mask_embed.4"):
        nn.init.normal_(model.decode_head.get_submodule(name).weight, std=1.0)
    file = Path(cfg.work_dir).parent / "tiny.pth"
    torch.save({"meta": {}, "state_dict": model.state_dict()}, file)
    return model.eval(), file


@torch.no_grad()
def scores(model: nn.Module, image: Path, flip: bool = False) -> Tensor:
    """Scores (num_classes, H, W) of one image on its own."""
    pixels = torch.from_numpy(cv2.imread(str(image))).permute(2, 0, 1)
    sample = SegDataSample(metainfo=dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE)))
    data = dict(inputs=[pixels.flip(2) if flip else pixels], data_samples=[sample])
    model.test_cfg.return_logits = True
    found = model.test_step(data)[0].seg_logits.data
    return found.flip(2) if flip else found


def images_and_labels(shapes: Path) -> list[tuple[Path, np.ndarray]]:
    images = sorted((shapes / "val").rglob("*.jpg"))
    maps = [shapes / "semantic" / image.relative_to(shapes).with_suffix(".png") for image in images]
    return [(image, np.array(Image.open(path))) for image, path in zip(images, maps, strict=True)]


def test_metrics_predictions_and_pictures_are_those_computed_by_hand(shapes: Path) -> None:
    cfg = tiny(shapes)
    model, checkpoint = random_model(cfg)
    out, show_dir = shapes.parent / "predictions", shapes.parent / "pictures"
    metrics = testing.test(cfg, checkpoint, out=out, show_dir=show_dir)

    counts = np.zeros((6, 6))
    palette = [color[::-1] for color in cfg.metainfo.palette]
    for image, labels in images_and_labels(shapes):
        prediction = scores(model, image).argmax(0).numpy()
        written = Image.open(out / f"{image.stem}.png")
        assert written.mode == "L" and np.array_equal(np.array(written), prediction)
        np.add.at(counts, (labels, prediction), 1)
        picture = cv2.imread(str(show_dir / image.name)).astype(int)
        assert picture.shape[0] > 480 and picture.shape[1] == 960  # the legend is below
        picture = picture[:480]
        halves = picture[:, :480], picture[:, 480:]
        for half, drawn in zip(halves, (labels, prediction.astype(np.uint8)), strict=True):
            photo = cv2.imread(str(image))
            want = draw_class_map(photo, drawn, CLASSES, palette, legend=False)
            assert np.abs(half - want).mean() < JPEG_TOLERANCE
    assert (counts.sum(0) > 0).sum() > 2  # several classes are predicted
    right = counts.diagonal()
    iou = 100 * right / (counts.sum(0) + counts.sum(1) - right)
    written = json.loads((Path(cfg.work_dir) / "metrics.json").read_text())
    assert written["metrics"] == metrics and written["checkpoint"] == str(checkpoint)
    assert metrics["mIoU"] == pytest.approx(iou.mean())
    assert metrics["aAcc"] == pytest.approx(100 * right.sum() / counts.sum())
    assert list(written["classes"]) == list(CLASSES)
    assert [row["IoU"] for row in written["classes"].values()] == pytest.approx(iou.tolist())
    accuracy = 100 * right / counts.sum(1)
    assert [row["Acc"] for row in written["classes"].values()] == pytest.approx(accuracy.tolist())


def test_flipped_views_are_averaged(shapes: Path) -> None:
    cfg = tiny(shapes)
    model, checkpoint = random_model(cfg)
    out, show_dir = shapes.parent / "predictions", shapes.parent / "pictures"
    testing.test(cfg, checkpoint, out=out, show_dir=show_dir, tta="flip")
    changed = 0
    for image, _ in images_and_labels(shapes):
        plain = scores(model, image)
        mean = (plain + scores(model, image, flip=True)) / 2
        assert np.array_equal(np.array(Image.open(out / f"{image.stem}.png")), mean.argmax(0))
        changed += int((mean.argmax(0) != plain.argmax(0)).sum())
        assert cv2.imread(str(show_dir / image.name)).shape[1] == 960
    assert changed > 0
    assert json.loads((Path(cfg.work_dir) / "metrics.json").read_text())["tta"] == "flip"


def test_views_of_several_scales_run_inside_a_concatenation(shapes: Path) -> None:
    cfg = tiny(shapes)
    _, checkpoint = random_model(cfg)
    inner = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(type="ConcatDataset", datasets=[inner, inner])
    metrics = testing.test(cfg, checkpoint, tta="multi-scale")
    assert {"aAcc", "mIoU", "mAcc"} == metrics.keys()
    use_tta(cfg, "multi-scale")
    assert [part.type for part in inner.pipeline] == ["LoadImageFromFile", "TestTimeAug"]


def test_zero_as_no_label_is_counted_back_and_left_unpainted(shapes: Path) -> None:
    metainfo = dict(classes=CLASSES[1:], palette=[(250, 50 * i, 0) for i in range(5)])
    cfg = tiny(shapes, **{"test_dataloader.dataset.reduce_zero_label": True})
    for name in ("train", "val", "test"):
        cfg[f"{name}_dataloader"].dataset.metainfo = metainfo
    model, checkpoint = random_model(cfg)
    out, show_dir = shapes.parent / "predictions", shapes.parent / "pictures"
    testing.test(cfg, checkpoint, out=out, show_dir=show_dir)
    for image, labels in images_and_labels(shapes):
        written = np.array(Image.open(out / f"{image.stem}.png"))
        assert np.array_equal(written, scores(model, image).argmax(0).numpy() + 1)
        photo = cv2.resize(cv2.imread(str(image)), (480, 480), interpolation=cv2.INTER_CUBIC)
        left = cv2.imread(str(show_dir / image.name))[:480, :480].astype(int)
        unlabeled = cv2.resize((labels == 0).view(np.uint8), (480, 480))
        unlabeled = cv2.erode(unlabeled, np.ones((49, 49), np.uint8)).view(bool)  # no names there
        assert unlabeled.any()
        assert np.abs(left - photo)[unlabeled].mean() < 3


def test_the_folders_of_the_images_are_kept(shapes: Path) -> None:
    for folder in (shapes / "val", shapes / "semantic" / "val"):
        for name in ("a", "b"):
            (folder / name).mkdir()
            for file in folder.glob("000000.*"):
                shutil.copy(file, folder / name / file.name)
    cfg = tiny(shapes)
    _, checkpoint = random_model(cfg)
    out, show_dir = shapes.parent / "predictions", shapes.parent / "pictures"
    testing.test(cfg, checkpoint, out=out, show_dir=show_dir)
    names = {"000000", "000001", "000002", "a/000000", "b/000000"}
    for folder, suffix in ((out, ".png"), (show_dir, ".jpg")):
        files = {file.relative_to(folder).as_posix() for file in folder.rglob(f"*{suffix}")}
        assert files == {name + suffix for name in names}


@pytest.mark.parametrize("argument", ["out", "show_dir"])
def test_the_data_is_never_overwritten(shapes: Path, argument: str) -> None:
    folder = shapes / {"out": "semantic/val", "show_dir": "val"}[argument]
    before = {file: file.read_bytes() for file in folder.iterdir()}
    cfg = tiny(shapes)
    _, checkpoint = random_model(cfg)
    with pytest.raises(InputError, match=r"is part of the data, and results in .* overwrite it"):
        testing.test(cfg, checkpoint, **{argument: folder})
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {"out": "val.pkl"}, r"val.pkl names a file; .* a PNG for each image: give a folder"),
        ({}, {"out": "val.json"}, r"val.json names a file"),
        ({}, {"out": "tiny.pth"}, r"tiny.pth names a file"),
        (
            {"test_evaluator.type": "IoUMetric"},
            {"out": "predictions"},
            r"written by mmbeit3.IoUMetric, and test_evaluator has the type IoUMetric; set test_ev",
        ),
        (
            {"tta_pipeline": None},
            {"tta": "multi-scale", "show_dir": "pictures"},
            r"no tta_pipeline; of the keys .* it has .*tta_pipeline_flip\. .* or use flip",
        ),
        ({"model.backbone.img_size": 320}, {"tta": "flip"}, "only the position table differs"),
    ],
)
def test_what_cannot_be_done_is_said(
    shapes: Path, changes: dict, arguments: dict, message: str
) -> None:
    cfg = tiny(shapes)
    _, checkpoint = random_model(cfg)
    cfg.merge_from_dict(changes)
    for key in {"out", "show_dir"} & arguments.keys():
        arguments = arguments | {key: shapes.parent / arguments[key]}
    with pytest.raises(InputError, match=message):
        testing.test(cfg, checkpoint, **arguments)
    assert {"shapes", "tiny.pth", "work"} >= {path.name for path in shapes.parent.iterdir()}


@pytest.mark.parametrize(
    ("words", "views"), [([], None), (["--tta"], "multi-scale"), (["--tta", "flip"], "flip")]
)
@pytest.mark.parametrize("command", [["test"], ["infer", "--out-dir", "out", "folder"]])
def test_the_commands_know_the_views(
    command: list[str], words: list[str], views: str | None
) -> None:
    arguments = build_parser().parse_args([*command, "config.py", "weights.pth", *words])
    assert arguments.tta == views


def test_a_report_has_the_metrics(shapes: Path) -> None:
    pytest.importorskip("plotly")
    cfg = tiny(shapes)
    _, checkpoint = random_model(cfg)
    folder = shapes.parent / "report"
    metrics = testing.test(cfg, checkpoint, report=folder)
    content = json.loads((folder / "report.json").read_text())
    assert content["results"][0]["metrics"] == pytest.approx(
        {name: value for name, value in metrics.items()}, abs=1e-9
    )
    assert [row["name"] for row in content["results"][0]["classes"]] == list(CLASSES)
    assert len(list((folder / "labels").rglob("*.png"))) == 3
    page = (folder / "report.html").read_text()
    assert all(f'"{image}":["' in page.partition('"pictures":{')[2] for image in range(3))
