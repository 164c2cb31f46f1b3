"""What is found before the first step: data without masks or objects, metrics of other data."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from pycocotools import mask as mask_api

from mmbeit3.apis.testing import test as run_test
from mmbeit3.apis.training import train
from mmbeit3.config.data_checks import check_test_data, check_training_data
from mmbeit3.config.loading import load_config
from mmbeit3.config.option_values import parse_options
from mmbeit3.datasets import CocoDataset, make_shapes
from mmbeit3.utils import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CUSTOM = CONFIGS / "beit3_vitdet/cascade-mask-rcnn_beit3-base_custom.py"
TINY = CONFIGS / "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", 3, 2, 64, seed=0)


@pytest.fixture
def shapes(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "shapes"))


def edit(shapes: Path, split: str, change: object) -> dict:
    """Change every annotation of a split by a function of its number and itself."""
    file = shapes / "annotations" / f"{split}.json"
    data = json.loads(file.read_text())
    for number, annotation in enumerate(data["annotations"]):
        change(number, annotation)
    file.write_text(json.dumps(data))
    return data


def config(shapes: Path, **options: object) -> Config:
    options = {
        "train_dataloader.batch_size": 1,
        "train_cfg.max_iters": 1,
        "train_cfg.val_interval": 1,
        "default_hooks.checkpoint.interval": 1,
        "log_level": "WARNING",
        "model.test_cfg.rcnn.max_per_img": 3,
        **options,
    }
    for split in ("train", "val", "test"):
        options[f"{split}_dataloader.dataset.data_root"] = str(shapes)
    for split in ("val", "test"):
        options.setdefault(f"{split}_evaluator.ann_file", str(shapes / "annotations" / "val.json"))
    return load_config(TINY, options, shapes / "work")


def without_mask(number: int, annotation: dict) -> None:
    annotation["segmentation"] = []


# ---------------------------------------------------------------- boxes without masks


def test_the_lines_of_the_message_make_training_run(shapes: Path) -> None:
    for split in ("train", "val"):
        edit(shapes, split, without_mask)
    with pytest.raises(InputError) as caught:
        train(config(shapes))
    text = str(caught.value)
    assert re.search(r"(\d+) of the \1 objects have no segmentation", text)
    lines = re.search("--cfg-options (.*)", text)[1].split()
    assert lines[:2] == ["model.roi_head.mask_head=None", "model.roi_head.mask_roi_extractor=None"]
    assert "train_dataloader.dataset.pipeline.1.with_mask=False" in lines
    assert "val_evaluator.metric=bbox" in lines
    work_dir = train(config(shapes, **parse_options(lines)))
    metrics = run_test(config(shapes, **parse_options(lines)), work_dir / "iter_1.pth")
    assert "coco/bbox_mAP" in metrics and "coco/segm_mAP" not in metrics


def test_boxes_alone_by_the_config_for_own_data(shapes: Path) -> None:
    """Its crops and its padding know masks; boxes without any pass through them."""
    for split in ("train", "val"):
        edit(shapes, split, without_mask)
    options = {"train_dataloader.batch_size": 2, "train_dataloader.num_workers": 0}
    for split in ("train", "val", "test"):
        options |= {f"{split}_dataloader.dataset.data_root": str(shapes)}
    for split in ("val", "test"):
        options |= {f"{split}_evaluator.ann_file": str(shapes / "annotations" / "val.json")}
    with pytest.raises(InputError) as caught:
        check_training_data(load_config(CUSTOM, options))
    lines = re.search("--cfg-options (.*)", str(caught.value))[1].split()
    cfg = load_config(CUSTOM, options | parse_options(lines))
    check_training_data(cfg)
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        preprocessor = MODELS.build(cfg.model.data_preprocessor)
        batch = preprocessor(pseudo_collate([dataset[index] for index in range(2)]), training=True)
    assert batch["inputs"].shape == (2, 3, 1024, 1024)
    assert not any("masks" in sample.gt_instances for sample in batch["data_samples"])


def test_a_mask_head_without_masks_in_the_pipeline(shapes: Path) -> None:
    cfg = config(shapes, **{"train_dataloader.dataset.pipeline.1.with_mask": False})
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=inner)
    with pytest.raises(InputError) as caught:
        check_training_data(cfg)
    text = str(caught.value)
    assert text.startswith("model.roi_head has a mask_head, but the training pipeline loads no")
    assert "\n  --cfg-options model.roi_head.mask_head=None model.roi_head.mask_roi_ext" in text


def test_some_objects_without_masks_are_counted(shapes: Path) -> None:
    data = edit(shapes, "train", lambda n, one: without_mask(n, one) if n % 3 == 1 else None)
    total = len(data["annotations"])
    number = len(range(1, total, 3))
    with pytest.raises(InputError, match=f"{number} of the {total} objects have no segmentation"):
        check_training_data(config(shapes))


def test_a_metric_of_masks_for_a_model_without(shapes: Path) -> None:
    options = {"model.roi_head.mask_head": None, "model.roi_head.mask_roi_extractor": None}
    cfg = config(shapes, **options)
    for check, split in ((check_training_data, "val"), (check_test_data, "test")):
        with pytest.raises(InputError, match=f"{split}_evaluator scores masks .*segm"):
            check(cfg)


def test_training_by_another_tool_names_the_cure(shapes: Path) -> None:
    from mmbeit3.config.classes import resolve_classes
    from mmbeit3.engine import build_runner

    cfg = config(shapes, **{"train_dataloader.dataset.pipeline.1.with_mask": False})
    resolve_classes(cfg)
    with pytest.raises(InputError, match="loads no masks .*\n  --cfg-options model.roi_head."):
        build_runner(cfg).train()


# ---------------------------------------------------------------- nothing to learn


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (dict(iscrowd=1), "{n} are crowds .* and 0 are left out"),
        (dict(ignore=1), "0 are crowds .* and {n} are left out"),
        (dict(area=0), "0 are crowds .* and {n} are left out"),
        (dict(bbox=[70, 1, 9, 9]), "0 are crowds .* and {n} are left out"),
    ],
)
def test_no_object_is_left_to_learn(shapes: Path, change: dict, counts: str) -> None:
    data = edit(shapes, "train", lambda _, one: one.update(change))
    if "area" in change:  # a file of nothing else is not a usable one
        edit(shapes, "train", lambda n, one: one.update(area=50 * (n == 0), ignore=int(n == 0)))
    number = len(data["annotations"])
    cfg = config(shapes, **{"train_dataloader.dataset.check_meaning": False})
    with pytest.raises(InputError, match=f"of {number} annotated, " + counts.format(n=number)):
        check_training_data(cfg)


def test_crowds_inside_wrappers_are_found(shapes: Path) -> None:
    edit(shapes, "train", lambda _, one: one.update(iscrowd=1))
    cfg = config(shapes)
    balanced = dict(
        type="ClassBalancedDataset", oversample_thr=0.1, dataset=cfg.train_dataloader.dataset
    )
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=3, dataset=balanced)
    with pytest.raises(InputError, match="dataset.dataset.dataset: no object .* are crowds"):
        check_training_data(cfg)


def test_bitmaps_where_polygons_are_learnt(shapes: Path) -> None:
    def change(_: int, annotation: dict) -> None:
        code = mask_api.merge(mask_api.frPyObjects(annotation["segmentation"], 64, 64))
        annotation["segmentation"] = code | {"counts": code["counts"].decode()}

    edit(shapes, "train", change)
    check_training_data(config(shapes, **{"train_dataloader.dataset.pipeline.1.poly2mask": True}))
    with pytest.raises(InputError, match="left out .* or RLE where poly2mask=False"):
        check_training_data(
            config(shapes, **{"train_dataloader.dataset.pipeline.1.poly2mask": False})
        )


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_boxes_of_another_convention(shapes: Path, split: str) -> None:
    def change(_: int, annotation: dict) -> None:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]

    name = "train" if split == "train" else "val"
    edit(shapes, name, change)
    with pytest.raises(InputError, match=rf"{split}_dataloader.dataset: .*\n.*\[x1, y1, x2, y2\]"):
        _check(config(shapes), split)
    allowed = {f"{key}_dataloader.dataset.check_meaning": False for key in ("train", "val", "test")}
    _check(config(shapes, **allowed), split)


@pytest.mark.parametrize("split", ["val", "test"])
def test_no_object_counts_in_evaluation(shapes: Path, split: str) -> None:
    edit(shapes, "val", lambda _, one: one.update(iscrowd=1))
    with pytest.raises(InputError, match=r"all \d+ objects of .* are crowds \(iscrowd=1\)"):
        _check(config(shapes), split)
    _check(config(shapes, **{f"{split}_dataloader.dataset.check_meaning": False}), split)


def _check(cfg: Config, split: str) -> None:
    check_test_data(cfg, load=True) if split == "test" else check_training_data(cfg)


def test_images_without_objects_only(shapes: Path) -> None:
    file = shapes / "annotations" / "train.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    cfg = config(shapes, **{"train_dataloader.dataset.filter_cfg": dict(filter_empty_gt=False)})
    with pytest.raises(InputError, match="the training data have not one object"):
        check_training_data(cfg)


def test_classes_without_an_object_to_learn_are_named(
    shapes: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(number: int, annotation: dict) -> None:
        annotation["category_id"] = (2, 3, 4)[number % 3]
        annotation |= {2: {}, 3: {"iscrowd": 1}, 4: {"ignore": 1}}[annotation["category_id"]]

    data = edit(shapes, "train", change)
    number = sum(annotation["category_id"] == 3 for annotation in data["annotations"])
    lines: list[str] = []
    monkeypatch.setattr("mmbeit3.datasets.coco.print_log", lambda text, *_: lines.append(text))
    CocoDataset(
        data_root=str(shapes), ann_file="annotations/train.json", data_prefix=dict(img="train")
    )
    (text,) = [line for line in lines if "none to learn" in line]
    assert f"triangle ({number} annotated: {number} crowds, 0 left out)" in text
    assert "star (" in text and "square" not in text
    assert logging.root.manager.disable == logging.NOTSET


# ---------------------------------------------------------------- evaluators


def concatenated(shapes: Path, names: list[str], split: str = "val") -> Config:
    """A config that evaluates several sets together, by the first one's annotation file."""
    cfg = config(shapes)
    inner = cfg[f"{split}_dataloader"].dataset
    sets = [
        dict(inner, ann_file=f"annotations/{name}.json", data_prefix=dict(img=name))
        for name in names
    ]
    inside = [sets[0], *(dict(type="RepeatDataset", times=1, dataset=one) for one in sets[1:])]
    cfg[f"{split}_dataloader"].dataset = dict(type="ConcatDataset", datasets=inside)
    cfg[f"{split}_evaluator"].ann_file = str(shapes / "annotations" / f"{names[0]}.json")
    return cfg


def another(shapes: Path, name: str, shift: int) -> None:
    """A copy of the validation set with other ids."""
    shutil.copytree(shapes / "val", shapes / name)
    data = json.loads((shapes / "annotations" / "val.json").read_text())
    for image in data["images"]:
        image["id"] += shift
    for annotation in data["annotations"]:
        annotation["image_id"] += shift
    (shapes / "annotations" / f"{name}.json").write_text(json.dumps(data))


@pytest.mark.parametrize("split", ["val", "test"])
def test_sets_whose_ids_clash(shapes: Path, split: str) -> None:
    another(shapes, "b", 10)
    another(shapes, "c", 11)
    check = check_training_data if split == "val" else check_test_data
    with pytest.raises(InputError) as caught:
        check(concatenated(shapes, ["val", "b", "c"], split))
    text = str(caught.value)
    assert f"{split}_evaluator: 1 image ids stand for two images, the first is 12: " in text
    assert "MultiDatasetsEvaluator" in text


def test_a_set_that_the_metric_does_not_know(shapes: Path) -> None:
    another(shapes, "b", 10)
    with pytest.raises(InputError, match="2 of the 2 images of .*b.json.* are not in ann_file"):
        check_test_data(concatenated(shapes, ["val", "b"], "test"))


def test_one_set_and_the_file_of_another(shapes: Path) -> None:
    another(shapes, "b", 0)
    file = shapes / "annotations" / "b.json"
    file.write_text(file.read_text().replace("000001.jpg", "000009.jpg"))
    cfg = config(shapes, **{"val_evaluator.ann_file": str(file)})
    with pytest.raises(InputError, match="1 of the 2 images .* not in ann_file of the metric"):
        check_training_data(cfg)
    cfg = config(shapes, **{"val_evaluator.ann_file": str(shapes / "no.json")})
    with pytest.raises(InputError, match="val_evaluator: there is no file .*no.json"):
        check_training_data(cfg)


def test_sets_that_belong_together_pass(shapes: Path) -> None:
    another(shapes, "b", 10)
    merged = json.loads((shapes / "annotations" / "val.json").read_text())
    second = json.loads((shapes / "annotations" / "b.json").read_text())
    for key in ("images", "annotations"):
        merged[key] += second[key]
    for number, annotation in enumerate(merged["annotations"]):
        annotation["id"] = number
    (shapes / "annotations" / "both.json").write_text(json.dumps(merged))
    cfg = concatenated(shapes, ["val", "b"])
    cfg.val_evaluator.ann_file = str(shapes / "annotations" / "both.json")
    check_training_data(cfg)
    one_each = [
        dict(cfg.val_evaluator, ann_file=str(shapes / "annotations" / f"{name}.json"))
        for name in ("val", "b")
    ]
    cfg.val_evaluator = dict(
        type="MultiDatasetsEvaluator", metrics=one_each, dataset_prefixes=["a", "b"]
    )
    check_training_data(cfg)


# ---------------------------------------------------------------- order, and files of results


def test_data_are_checked_before_weights_are_downloaded(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("mmbeit3.engine.prepare.check_checkpoint", lambda at: asked.append(str(at)))
    monkeypatch.setattr("mmbeit3.engine.prepare.read_checkpoint", lambda at: asked.append(str(at)))
    edit(shapes, "train", lambda _, one: one.update(iscrowd=1))
    (shapes / "val" / "000001.jpg").unlink()
    address = "https://host.invalid/weights.pth"
    with pytest.raises(InputError, match="are crowds"):
        train(config(shapes, load_from=address))
    with pytest.raises(InputError, match="000001.jpg"):
        run_test(config(shapes), address)
    assert asked == []
    with pytest.raises(InputError, match="are crowds"):
        train(config(shapes, load_from="here.pth"))
    assert asked == ["here.pth"]  # a file that is not there is found at once


def test_pictures_of_images_of_one_name(shapes: Path, tmp_path: Path) -> None:
    """Two sets, and folders inside of one, whose images have the same names."""
    another(shapes, "b", 10)
    (shapes / "val" / "deep").mkdir()
    (shapes / "val" / "000001.jpg").rename(shapes / "val" / "deep" / "000000.jpg")
    for name in ("val", "both"):
        merged = json.loads((shapes / "annotations" / "val.json").read_text())
        merged["images"][1]["file_name"] = "deep/000000.jpg"
        if name == "both":
            second = json.loads((shapes / "annotations" / "b.json").read_text())
            merged["images"] += second["images"]
        (shapes / "annotations" / f"{name}.json").write_text(json.dumps(merged))
    work_dir = train(config(shapes))
    cfg = concatenated(shapes, ["val", "b"], "test")
    cfg.test_evaluator.ann_file = str(shapes / "annotations" / "both.json")
    show_dir = tmp_path / "pictures"
    run_test(cfg, work_dir / "iter_1.pth", show_dir=show_dir)
    pictures = {str(path.relative_to(show_dir)) for path in show_dir.rglob("*.jpg")}
    names = {"b/000000.jpg", "b/000001.jpg", "val/000000.jpg", "val/deep/000000.jpg"}
    assert pictures == names
