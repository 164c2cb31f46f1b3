from __future__ import annotations

import errno
import json
import pickle
from pathlib import Path

import cv2
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.fileio import LocalBackend

from mmbeit3.apis import testing
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.models import acceleration
from mmbeit3.utils import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = CONFIGS / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py"
CLASSES = ("disk", "square", "triangle", "star", "ring")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", num_train=1, num_val=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the trial detector, as they are before training."""
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    model = MODELS.build(load_config(TINY).model)
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    meta = {"dataset_meta": {"classes": CLASSES}}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, file)
    return file


def tiny(shapes: Path, work_dir: Path, **options: object) -> Config:
    options = {
        "model.test_cfg.rcnn.max_per_img": 3,
        "test_dataloader.dataset.data_root": str(shapes),
        "test_evaluator.ann_file": str(shapes / "annotations" / "val.json"),
        "train_dataloader.dataset.data_root": str(shapes / "only test data is here"),
        "default_hooks.visualization.score_thr": 0.0,
        "log_level": "WARNING",
        **options,
    }
    return load_config(TINY, options, work_dir)


def test_metrics_predictions_and_pictures_are_written(
    shapes: Path, checkpoint: Path, tmp_path: Path
) -> None:
    work_dir, show_dir = tmp_path / "work", tmp_path / "pictures"
    out = tmp_path / "predictions" / "val.json"
    metrics = testing.test(tiny(shapes, work_dir), checkpoint, out=out, show_dir=show_dir)

    written = json.loads((work_dir / "metrics.json").read_text())
    assert written["metrics"] == metrics and written["checkpoint"] == str(checkpoint)
    assert {"coco/bbox_mAP", "coco/segm_mAP_50"} <= metrics.keys()
    boxes = json.loads((out.parent / "val.bbox.json").read_text())
    masks = json.loads((out.parent / "val.segm.json").read_text())
    assert len(boxes) == len(masks) == 6 and {box["image_id"] for box in boxes} == {1, 2}
    assert {"size", "counts"} == masks[0]["segmentation"].keys()
    pictures = sorted(show_dir.iterdir())
    assert len(pictures) == 2
    assert cv2.imread(str(pictures[0])).shape == (480, 960, 3)  # ground truth | prediction


def test_a_report_has_the_metrics(shapes: Path, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    report = tmp_path / "report"
    metrics = testing.test(tiny(shapes, tmp_path / "work"), checkpoint, report=report)
    for kind in ("bbox", "segm"):
        content = json.loads((report / kind / "report.json").read_text())
        assert content["results"][0]["metrics"]["AP"] == metrics[f"coco/{kind}_mAP"]
        page = (report / kind / "report.html").read_text()
        assert all(f'"{image}":["' in page.partition('"pictures":{')[2] for image in (0, 1))
    with pytest.raises(InputError, match="out: .* a report needs predictions as .json"):
        testing.test(tiny(shapes, tmp_path), checkpoint, report=report, out=tmp_path / "a.pkl")


def test_predictions_as_pickle(
    shapes: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceleration, "bfloat16_obstacle", lambda: "no instructions")
    cfg = tiny(shapes, tmp_path)
    with pytest.raises(InputError, match="dtype: no instructions, and bfloat16 is slower"):
        testing.test(cfg, checkpoint, out=tmp_path / "val.pkl", dtype="bfloat16")
    testing.test(cfg, checkpoint, out=tmp_path / "val.pkl", dtype="bfloat16", force=True)
    assert json.loads((tmp_path / "metrics.json").read_text())["dtype"] == "bfloat16"
    results = pickle.loads((tmp_path / "val.pkl").read_bytes())
    assert len(results) == 2
    assert results[0]["pred_instances"]["bboxes"].shape == (3, 4)


@pytest.mark.parametrize(
    ("changes", "out", "message"),
    [
        ({}, "val.txt", r"out: .*val.txt ends with '.txt'; expected .json or .pkl"),
        (
            {"test_evaluator": {"_delete_": True, "type": "VOCMetric"}},
            "val.json",
            "only a CocoMetric writes JSON",
        ),
        ({"test_evaluator": None}, None, "the config cannot test: it has no test_evaluator"),
    ],
)
def test_what_cannot_be_written_is_found_first(
    shapes: Path, checkpoint: Path, tmp_path: Path, changes: dict, out: str | None, message: str
) -> None:
    cfg = tiny(shapes, tmp_path)
    cfg.merge_from_dict(changes)
    with pytest.raises(InputError, match=message):
        testing.test(cfg, checkpoint, out=tmp_path / out if out else None)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_model_is_refused(
    shapes: Path, checkpoint: Path, tmp_path: Path
) -> None:
    cfg = tiny(shapes, tmp_path, **{"model.backbone.img_size": 320})
    with pytest.raises(InputError, match="only the position table differs"):
        testing.test(cfg, checkpoint)


@pytest.mark.parametrize("out", ["kept.json", "kept.pkl"])
@pytest.mark.parametrize("match", ["pictures", "metrics.json", "kept"])
def test_results_of_a_test_before_stay_where_the_disk_is_full(
    shapes: Path, checkpoint: Path, tmp_path: Path, match: str, out: str, monkeypatch
) -> None:
    def contents() -> dict[str, bytes]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        kept = (path for path in files if "metrics" in path.name or path.parent.name != "work")
        return {
            path.relative_to(tmp_path).as_posix(): path.read_bytes()
            for path in kept
            if "work/2" not in str(path)
        }

    arguments = (tiny(shapes, tmp_path / "work"), checkpoint)
    options = {"out": tmp_path / out, "show_dir": tmp_path / "pictures"}
    testing.test(*arguments, **options)
    before = contents()
    write_bytes, put = Path.write_bytes, LocalBackend.put

    def full(*parts: object) -> None:
        if any(match in str(part)[:1000] for part in parts):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", lambda *a: full(a[0]) or write_bytes(*a))
    monkeypatch.setattr(LocalBackend, "put", lambda *a: full(a[2]) or put(*a))
    if match == "kept" and out == "kept.json":
        pytest.skip("written by mmdet through open(), see test_full_disk.py")
    with pytest.raises(InputError, match="cannot be written") as caught:
        testing.test(*arguments, **options)
    assert match in str(caught.value) and ".mmbeit3" not in str(caught.value)
    assert contents() == before


def test_views_are_merged(shapes: Path, checkpoint: Path, tmp_path: Path) -> None:
    out, pictures = tmp_path / "val.json", tmp_path / "pictures"
    found = {}
    for views in (None, "flip", "multi-scale"):
        cfg = tiny(shapes, tmp_path)
        found[views] = testing.test(cfg, checkpoint, out=out, show_dir=pictures, tta=views)
        masks = json.loads((tmp_path / "val.segm.json").read_text())
        assert len(masks) == 6 and len(list(pictures.iterdir())) == 2
        boxes = json.loads((tmp_path / "val.bbox.json").read_text())
        found[views] |= {"boxes": [box["bbox"] for box in boxes]}
        assert json.loads((tmp_path / "metrics.json").read_text()).get("tta") == views
    assert found[None].keys() == found["flip"].keys() == found["multi-scale"].keys()
    assert found[None]["boxes"] != found["flip"]["boxes"] != found["multi-scale"]["boxes"]


def test_without_views_in_the_config_it_is_said(
    shapes: Path, checkpoint: Path, tmp_path: Path
) -> None:
    cfg = tiny(shapes, tmp_path)
    cfg.merge_from_dict({"tta_pipeline": None, "tta_model": None})  # the task has a model for it
    message = r"has no tta_pipeline; of the keys .* has tta_pipeline_flip\. .* COCO .*, or use flip"
    with pytest.raises(InputError, match=message):
        testing.test(cfg, checkpoint, tta="multi-scale")
    with pytest.raises(InputError, match="'scales' are no views; expected multi-scale or flip"):
        testing.test(cfg, checkpoint, tta="scales")
