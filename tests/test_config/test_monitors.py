from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from mmbeit3.apis.training import train
from mmbeit3.config import check_monitors, monitors
from mmbeit3.config.loading import load_config
from mmbeit3.utils import InputError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
BOXES = {"type": "mmbeit3.CocoMetric", "metric": "bbox"}
BOTH = {"type": "mmbeit3.CocoMetric", "metric": ["bbox", "segm"]}
MASKS = {"type": "mmbeit3.CocoMetric", "metric": ["segm"]}
IOU = {"type": "mmbeit3.IoUMetric", "iou_metrics": ["mIoU", "mFscore"]}


def config(
    evaluator: object, save_best: object = None, classes: object = None, **others: object
) -> Config:
    dataset = {"metainfo": {"classes": classes}} if classes else {}
    hooks = {"checkpoint": {"type": "CheckpointHook", "save_best": save_best}, "logger": None}
    return Config(
        {
            "default_scope": "mmdet",
            "val_dataloader": {"dataset": {"type": "Concat", "datasets": [dataset]}},
            "val_cfg": {"type": "ValLoop"},
            "val_evaluator": evaluator,
            "default_hooks": hooks,
        }
        | others
    )


@pytest.mark.parametrize(
    ("evaluator", "save_best"),
    [
        (BOTH, "coco/segm_mAP_50"),
        (BOXES, ["coco/bbox_mAP", "coco/bbox_AR_s@100"]),
        (BOXES, "auto"),
        (BOXES, None),
        (BOXES | {"prefix": "val"}, "val/bbox_mAP"),
        (BOXES | {"proposal_nums": (10, 300)}, "coco/bbox_AR@300"),
        (BOXES | {"classwise": True}, "coco/bbox_anything"),  # classes that are not known
        (IOU, "mPrecision"),
        ([BOXES, IOU], "mIoU"),
        ({"metrics": [BOXES, IOU]}, "mIoU"),
        ({"type": "mmdet.CocoMetric", "metric": "proposal"}, "coco/AR@100"),
        ([BOXES, {"type": "mmdet.VOCMetric"}], "pascal_voc/mAP"),
        (
            {
                "type": "mmdet.MultiDatasetsEvaluator",
                "metrics": [BOXES, BOXES],
                "dataset_prefixes": ["day", "night"],
            },
            "night/coco/bbox_mAP",
        ),
    ],
)
def test_metrics_that_will_be_there(evaluator: object, save_best: object) -> None:
    check_monitors(config(evaluator, save_best))


@pytest.mark.parametrize(
    ("evaluator", "save_best", "message"),
    [
        (
            MASKS,
            "coco/bbox_mAP",
            "default_hooks.checkpoint.save_best is 'coco/bbox_mAP', but val_evaluator gives "
            "coco/segm_mAP, coco/segm_mAP_50, coco/segm_mAP_75, coco/segm_mAP_s, coco/segm_mAP_m, "
            "coco/segm_mAP_l, and 6 more; set it to 'coco/segm_mAP'",
        ),
        (BOXES, "bbox_mAP", "set it to 'coco/bbox_mAP'"),
        (BOXES, ["coco/bbox_mAP", "coco/bbox_map_50"], "set it to 'coco/bbox_mAP_50'"),
        (BOXES | {"prefix": "val"}, "coco/bbox_mAP", "val_evaluator gives val/bbox_mAP"),
        (BOXES | {"proposal_nums": (10, 300)}, "coco/bbox_AR@100", "'coco/bbox_AR@"),
        (IOU | {"iou_metrics": "mDice"}, "mIoU", "but val_evaluator gives aAcc, mDice, mAcc"),
        ([BOXES, IOU], "mDice", "but val_evaluator gives coco/bbox_mAP"),
        (BOXES | {"format_only": True}, "coco/bbox_mAP", "but val_evaluator gives no metrics"),
    ],
)
def test_save_best_of_a_metric_that_will_not_be_there(
    evaluator: object, save_best: object, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_monitors(config(evaluator, save_best))
    assert message in str(caught.value)


def test_metrics_of_each_class() -> None:
    evaluator = BOXES | {"classwise": True}
    check_monitors(config(evaluator, "coco/bbox_dog_precision", ("cat", "dog")))
    with pytest.raises(InputError, match="set it to 'coco/bbox_cat_precision'"):
        check_monitors(config(evaluator, "coco/bbox_cats_precision", ("cat", "dog")))


@pytest.mark.parametrize(
    ("others", "place"),
    [
        (
            {"custom_hooks": [{"type": "EarlyStoppingHook", "monitor": "coco/bbox_AP"}]},
            "custom_hooks.0.monitor is 'coco/bbox_AP'",
        ),
        (
            {"default_hooks": {"stop": {"type": "mmengine.EarlyStoppingHook", "monitor": "mIoU"}}},
            "default_hooks.stop.monitor is 'mIoU'",
        ),
        (
            {"param_scheduler": {"type": "ReduceOnPlateauLR"}},
            "param_scheduler.monitor is 'loss'",
        ),
        (
            {"param_scheduler": [{"type": "ReduceOnPlateauLR", "monitor": "acc"}]},
            "param_scheduler.0.monitor is 'acc'",
        ),
    ],
)
def test_what_else_watches_a_metric(others: dict, place: str) -> None:
    for evaluator in (BOXES, None):
        with pytest.raises(InputError) as caught:
            check_monitors(config(evaluator, **others))
        assert str(caught.value).startswith(place)
    assert "it needs val_dataloader, val_cfg and val_evaluator" in str(caught.value)


def test_the_loss_of_the_validation() -> None:
    stop = {"type": "mmbeit3.EarlyStoppingHook", "monitor": "val/loss"}
    with pytest.raises(InputError, match="which nothing computes: add dict.type='mmbeit3.Valida"):
        check_monitors(config(BOXES, custom_hooks=[stop]))
    loss = {"type": "mmbeit3.ValidationLossHook"}
    check_monitors(config(BOXES, custom_hooks=[loss, stop]))
    best = {"checkpoint": {"save_best": "val/loss", "rule": "greater"}}
    with pytest.raises(InputError, match="set default_hooks.checkpoint.rule='less'"):
        check_monitors(config(BOXES, custom_hooks=[loss], default_hooks=best))


def test_save_best_without_validation_is_remarked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(monitors, "print_log", lambda text, *_: lines.append(text))
    check_monitors(config(None, "coco/bbox_mAP"))
    check_monitors(config(None, "auto"))
    check_monitors(config(BOXES, "coco/bbox_mAP"))
    (line,) = lines
    assert "the config has no validation: no best checkpoint will be kept" in line


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("beit3_*/*.py")), ids=lambda path: path.stem)
def test_the_configs_of_the_project_watch_what_is_there(path: Path) -> None:
    check_monitors(Config.fromfile(path))


def test_the_case_of_masks_alone(tmp_path: Path) -> None:
    case = ROOT.parent / "shared/cases/segm_only_save_best/config.py"
    if not case.is_file():
        pytest.skip(f"the case is not at {case}")
    text = case.read_text().replace("../../REPO", str(ROOT))
    (tmp_path / "config.py").write_text(text)
    with pytest.raises(InputError, match="save_best is 'coco/bbox_mAP', but val_evaluator gives c"):
        check_monitors(load_config(tmp_path / "config.py"))


def test_training_is_refused_before_the_data_are_checked(tmp_path: Path) -> None:
    path = CONFIGS / "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
    classes = [{"id": 1, "name": "disk"}]
    content = {"images": [], "annotations": [], "categories": classes}
    (tmp_path / "train.json").write_text(json.dumps(content))
    options = {
        "train_dataloader.dataset.data_root": str(tmp_path),
        "train_dataloader.dataset.ann_file": "train.json",
        "val_evaluator.metric": "segm",
    }
    with pytest.raises(InputError, match="default_hooks.checkpoint.save_best is 'coco/bbox_mAP'"):
        train(load_config(path, options, tmp_path / "work"))
