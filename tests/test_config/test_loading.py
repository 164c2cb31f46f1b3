from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from mmengine.config import Config

from mmbeit3.apis.training import use_amp
from mmbeit3.config.classes import follow_checkpoint, resolve_classes
from mmbeit3.config.loading import load_config
from mmbeit3.config.option_values import parse_options
from mmbeit3.utils import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

TOY = """
data_root = "data/"
max_iters = 10
train_pipeline = [dict(type="LoadImageFromFile"), dict(type="PackDetInputs")]
model = dict(
    type="Toy",
    backbone=dict(type="Net", depth=12, init_cfg=None),
    test_cfg=dict(rcnn=dict(score_thr=0.05)),
)
train_dataloader = dict(
    batch_size=2, dataset=dict(type="Data", data_root=data_root, pipeline=train_pipeline)
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.1))
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "toy_config.py").write_text(TOY)
    return tmp_path / "toy_config.py"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the module logs; mmengine's handlers keep the stream of the test that made them."""
    lines: list[str] = []

    def keep(text: str, logger: str | None = None, level: int = logging.INFO) -> None:
        if level == logging.WARNING:
            lines.append(text)

    monkeypatch.setattr("mmengine.logging.print_log", keep)
    return lines


def coco_file(path: Path, *classes: str) -> str:
    categories = [{"id": 10 * index, "name": name} for index, name in enumerate(classes, start=1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    return str(path)


def detector(root: Path, **metainfo: object) -> Config:
    def dataset(name: str) -> dict:
        return {
            "type": "mmbeit3.CocoDataset",
            "data_root": str(root),
            "ann_file": f"annotations/{name}.json",
        }

    train = {"type": "RepeatDataset", "times": 2, "dataset": dataset("train")}
    if metainfo:
        train["dataset"]["metainfo"] = metainfo
    head = {"type": "BBoxHead", "num_classes": 80}
    return Config(
        {
            "model": {
                "rpn_head": {"type": "RPNHead", "num_classes": 1},
                "roi_head": {
                    "bbox_head": [dict(head), dict(head)],
                    "mask_head": {"type": "FCNMaskHead", "num_classes": 80},
                },
            },
            "train_dataloader": {"dataset": train},
            "val_dataloader": {"dataset": {"type": "Concat", "datasets": [dataset("val")]}},
            "test_dataloader": {"dataset": dataset("val")},
        }
    )


def class_numbers(cfg: Config) -> list[int]:
    roi_head = cfg.model.roi_head
    heads = [cfg.model.rpn_head, *roi_head.bbox_head, roi_head.mask_head]
    return [head.num_classes for head in heads]


def test_options_replace_values_and_may_extend(toy: Path) -> None:
    options = parse_options(
        [
            "model.backbone.depth=24",
            "model.backbone.drop_path_rate=0.1",
            "train_dataloader.dataset.pipeline.1.meta_keys=(img_id,scale)",
            "model.backbone.init_cfg.checkpoint=weights.pth",
            "load_from=None",
        ]
    )
    cfg = load_config(toy, options)
    assert cfg.model.backbone.depth == 24 and cfg.model.backbone.drop_path_rate == 0.1
    assert cfg.train_dataloader.dataset.pipeline[1].meta_keys == ("img_id", "scale")
    assert cfg.model.backbone.init_cfg == {"checkpoint": "weights.pth"}
    assert cfg.load_from is None


def test_the_task_may_be_named_by_an_option(toy: Path) -> None:
    assert load_config(toy, {"task": "segmentation"}).task == "segmentation"


def test_the_work_dir_is_given_or_the_configs_or_named_after_it(toy: Path) -> None:
    assert load_config(toy).work_dir == "work_dirs/toy_config"
    assert load_config(toy, {"work_dir": "here"}).work_dir == "here"
    assert load_config(toy, {"work_dir": "here"}, work_dir="there").work_dir == "there"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.bakbone.depth=1", "model has no 'bakbone'; did you mean 'model.backbone.depth'"),
        ("optim_wraper.optimizer.lr=1", "did you mean 'optim_wrapper.optimizer.lr'"),
        ("optim_wraper=1", "did you mean 'optim_wrapper'"),
        ("model.test_cfg.rcnn.score_th=0", "did you mean 'model.test_cfg.rcnn.score_thr'"),
        ("nothing.like.it=1", "the config has no 'nothing'; it has data_root, max_iters"),
        ("model.test_cfg.rpn.nms_pre=1", "model.test_cfg has no 'rpn'; it has rcnn"),
        ("model.backbone.depth.x=1", "model.backbone.depth is 12, not a dict or list"),
        ("train_pipeline.2.type=X", "'2' stands where a list has 2 entries"),
        ("train_pipeline.x.type=X", "expected a number from 0 to 1"),
        ("model.backbone.depth", "takes key=value; found 'model.backbone.depth'"),
        ("model.backbone.depth=[1,2", "Imbalanced brackets"),
    ],
)
def test_misspelled_options_are_errors(toy: Path, option: str, message: str) -> None:
    with pytest.raises(InputError, match="cfg_options: .*") as caught:
        load_config(toy, parse_options([option]))
    assert message in str(caught.value)


def test_an_option_for_a_used_variable_is_an_error(toy: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_config(toy, {"max_iters": 20, "model.backbone.depth": 24})
    assert str(caught.value) == (
        "cfg_options: max_iters: max_iters is a variable of the config file, which has used it "
        "already; set instead train_cfg.max_iters=20"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model = dict()\noptim_wraper = dict()\n",
            "unknown key 'optim_wraper'; did you mean 'opt",
        ),
        ("model = dict()\ntrain_dataloder = dict()\n", "did you mean 'train_dataloader'"),
        ("modle = dict()\n", "has no 'model'; its keys are modle"),
        ("model = dict(\n    a=1\n    b=2)\n", r"wrong.py, line 2: SyntaxError"),
        ("model = dict()\nx = nope\n", r"wrong.py, line 2: NameError: name 'nope'"),
        ("_base_ = ['toy_config.py', 'absent.py']\n", "its _base_ .*absent.py does not exist"),
        ("_base_ = ['toy_config.py']\nmodel = dict(backbone=dict(depth=dict()))\n", "depth"),
        (
            "model = dict()\ncustom_imports = dict(imports=['not_there'])\n",
            "Failed to import not_t",
        ),
    ],
)
def test_errors_in_a_config_name_file_and_line(toy: Path, text: str, message: str) -> None:
    file = toy.parent / "wrong.py"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(file)


def test_an_error_in_a_base_names_the_base(toy: Path) -> None:
    toy.write_text(f"{TOY}\nx = nope\n")
    (toy.parent / "leaf.py").write_text("_base_ = 'toy_config.py'\n")
    with pytest.raises(InputError, match=r"toy_config.py, line \d+: NameError"):
        load_config(toy.parent / "leaf.py")
    toy.write_text("model = dict(a=1 b=2)\n")
    with pytest.raises(InputError, match=r"toy_config.py, line 1: SyntaxError"):
        load_config(toy.parent / "leaf.py")


def test_an_absent_config_brings_up_its_neighbors(toy: Path) -> None:
    with pytest.raises(InputError, match="does not exist; similar files there: toy_config.py"):
        load_config(toy.parent / "toyconfig.py")
    with pytest.raises(InputError, match="is a folder"):
        load_config(toy.parent)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("beit3_*/*.py")), ids=lambda path: path.stem)
def test_the_configs_of_the_project_pass_the_checks(path: Path) -> None:
    load_config(path)


def test_classes_come_from_the_training_annotations(tmp_path: Path) -> None:
    coco_file(tmp_path / "annotations/train.json", "cat", "dog", "owl")
    coco_file(tmp_path / "annotations/val.json", "owl", "cat")  # never read for the classes
    cfg = detector(tmp_path)
    assert resolve_classes(cfg) == ("cat", "dog", "owl")
    assert class_numbers(cfg) == [1, 3, 3, 3]
    assert cfg.train_dataloader.dataset.dataset.metainfo.classes == ("cat", "dog", "owl")
    assert cfg.val_dataloader.dataset.datasets[0].metainfo.classes == ("cat", "dog", "owl")
    assert cfg.test_dataloader.dataset.metainfo.classes == ("cat", "dog", "owl")


HEADS = """
model = dict(roi_head=dict(bbox_head=dict(num_classes=80), mask_head=dict(num_classes=80)))
train_dataloader = dict(
    dataset=dict(type="mmbeit3.CocoDataset", ann_file="train.json", data_root="")
)
"""


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("", {}, None),  # 80 is the base's default
        ("model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))", {}, None),
        ("model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))", {}, None),  # as in the data
        (
            "model = dict(roi_head=dict(bbox_head=dict(num_classes=5)))",
            {},
            "model.roi_head.bbox_head.num_classes=5: becomes 3, the number of classes of "
            "train_dataloader.dataset.ann_file; to train on other classes name them in "
            "train_dataloader.dataset.metainfo.classes",
        ),
        (
            "number = 4\nmodel = dict(roi_head=dict(bbox_head=[dict(num_classes=number)] * 2, "
            "mask_head=dict(num_classes=number)))",
            {},
            "model.roi_head.bbox_head.0.num_classes=4, model.roi_head.bbox_head.1.num_classes=4, "
            "model.roi_head.mask_head.num_classes=4: becomes 3",
        ),
        (
            "",
            {"model.roi_head.mask_head.num_classes": 7},
            "model.roi_head.mask_head.num_classes=7: becomes 3",
        ),
    ],
)
def test_a_number_of_classes_set_by_the_user_gives_way_with_a_remark(
    tmp_path: Path, logged: list[str], text: str, options: dict, expected: str | None
) -> None:
    coco_file(tmp_path / "train.json", "cat", "dog", "owl")
    package = tmp_path / "package/.mim/configs"
    package.mkdir(parents=True)
    (package / "base.py").write_text(HEADS)
    (tmp_path / "child.py").write_text(f"_base_ = {str(package / 'base.py')!r}\n{text}\n")
    options = options | {"train_dataloader.dataset.data_root": str(tmp_path)}
    cfg = load_config(tmp_path / "child.py", options)
    resolve_classes(cfg)
    assert cfg.model.roi_head.mask_head.num_classes == 3
    assert len(logged) == (expected is not None)
    assert not expected or logged[0].startswith(expected)
    resolve_classes(cfg)  # now they are those of the data
    assert len(logged) == (expected is not None)


def test_classes_that_the_config_names_are_kept(tmp_path: Path) -> None:
    cfg = detector(tmp_path, classes=("dog", "cat"), palette=[(0, 0, 0), (1, 1, 1)])
    assert resolve_classes(cfg) == ("dog", "cat")
    assert class_numbers(cfg) == [1, 2, 2, 2]
    assert cfg.train_dataloader.dataset.dataset.metainfo.palette == [(0, 0, 0), (1, 1, 1)]
    assert cfg.test_dataloader.dataset.metainfo.classes == ("dog", "cat")


@pytest.mark.parametrize("trained", [("cat", "dog"), ("dog",), ("dog", "cat", "owl")])
def test_a_test_needs_the_classes_of_the_checkpoint(tmp_path: Path, trained: tuple) -> None:
    cfg = detector(tmp_path, classes=("dog", "cat"))
    with pytest.raises(InputError, match="the checkpoint .*the first difference is class"):
        resolve_classes(cfg, {"dataset_meta": {"classes": trained}})


def test_to_predict_needs_no_file_of_the_data(tmp_path: Path) -> None:
    cfg = detector(tmp_path)
    for file in tmp_path.rglob("*.json"):
        file.unlink()
    follow_checkpoint(cfg, ("a", "b", "c", "d"))
    assert class_numbers(cfg) == [1, 4, 4, 4]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("dog", "cat"), "has 2 classes, {} 2; the first difference is class 0, 'dog' and 'cat'"),
        (("cat", "dog", "owl"), "has 3 classes, {} 2; the first .* is class 2, 'owl' and none"),
        (("cat",), "has 1 classes, {} 2; the first .* is class 1, none and 'dog'. Scores .*order"),
    ],
)
def test_other_classes_than_those_of_training_are_errors(
    tmp_path: Path, classes: tuple[str, ...], message: str
) -> None:
    coco_file(tmp_path / "annotations/train.json", "cat", "dog")
    place = "val_dataloader.dataset.datasets.0.metainfo.classes "
    train = "train_dataloader.dataset.dataset"
    meta = {"dataset_meta": {"classes": ["cat", "dog"]}}
    for metainfo, found, source in (
        ({"classes": ("cat", "dog")}, None, f"{train}.metainfo.classes"),
        ({}, None, f"{train}.ann_file"),
        ({}, meta, "the checkpoint"),
    ):
        cfg = detector(tmp_path, **metainfo)
        cfg.val_dataloader.dataset.datasets[0].metainfo = {"classes": classes}
        with pytest.raises(InputError, match=place + message.format(source)):
            resolve_classes(cfg, found)


def test_classes_may_be_named_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    cfg = detector(tmp_path, classes=str(tmp_path / "names.txt"))
    cfg.test_dataloader.dataset.metainfo = {"classes": ["cat", "dog"]}
    assert resolve_classes(cfg) == ("cat", "dog")
    assert class_numbers(cfg) == [1, 2, 2, 2]


def test_classes_of_the_checkpoint_stand_in_for_absent_annotations(tmp_path: Path) -> None:
    cfg = detector(tmp_path)
    assert resolve_classes(cfg, {"dataset_meta": {"classes": ["cat"]}}) == ("cat",)
    assert class_numbers(cfg) == [1, 1, 1, 1]
    with pytest.raises(InputError, match=r"train\.json"):
        resolve_classes(detector(tmp_path), {"epoch": 3})
    coco_file(tmp_path / "annotations/val.json", "cat", "owl")
    cfg = detector(tmp_path)
    cfg.test_dataloader.dataset.ann_file = "annotations/val.json"
    assert resolve_classes(cfg, {"epoch": 3}) == ("cat", "owl")  # weights alone, test data alone
    with pytest.raises(InputError, match=r"train\.json"):
        resolve_classes(detector(tmp_path))


def segmentor(root: Path, classes_file: str = "classes.txt", **head: object) -> Config:
    def dataset(name: str) -> dict:
        return {
            "type": "mmbeit3.SegFolderDataset",
            "data_root": str(root),
            "classes_file": classes_file,
            "data_prefix": {"img_path": f"images/{name}", "seg_map_path": f"masks/{name}"},
        }

    decode_head = {"num_classes": 150, "loss_cls": {"class_weight": [1.0] * 150 + [0.1]}} | head
    return Config(
        {
            "model": {
                "decode_head": decode_head,
                "auxiliary_head": [{"type": "FCNHead", "num_classes": 150}],
            },
            "train_dataloader": {"dataset": dataset("train")},
            "val_dataloader": {"dataset": dataset("val")},
        }
    )


@pytest.mark.parametrize(
    ("train", "val", "trained", "expected"),
    [
        (True, None, None, (True, True)),
        (False, None, True, (False, False)),
        (None, None, True, (True, True)),
        (None, None, None, (None, None)),
        (None, True, None, (None, True)),
        (True, False, None, (True, False)),
    ],
)
def test_label_maps_of_all_folders_are_read_alike(
    tmp_path: Path, train: bool, val: bool, trained: bool, expected: tuple
) -> None:
    (tmp_path / "classes.txt").write_text("sky\nroad")
    cfg = segmentor(tmp_path)
    datasets = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    for dataset, setting in zip(datasets, (train, val), strict=True):
        if setting is not None:
            dataset.reduce_zero_label = setting
    meta = {"dataset_meta": {"classes": ("sky", "road"), "reduce_zero_label": trained}}
    resolve_classes(cfg, meta)
    assert tuple(dataset.get("reduce_zero_label") for dataset in datasets) == expected


def test_classes_of_label_maps_come_from_the_class_list(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("sky\nroad #ff0000\n")
    cfg = segmentor(tmp_path)
    assert resolve_classes(cfg) == ("sky", "road")
    assert cfg.model.decode_head.num_classes == 2
    assert cfg.model.decode_head.loss_cls.class_weight == [1.0, 1.0, 0.1]
    assert cfg.model.auxiliary_head[0].num_classes == 2
    assert cfg.train_dataloader.dataset.metainfo.classes == ("sky", "road")
    assert cfg.val_dataloader.dataset.metainfo.classes == ("sky", "road")


def test_classes_of_the_checkpoint_stand_in_for_an_absent_class_list(tmp_path: Path) -> None:
    cfg = segmentor(tmp_path)
    assert resolve_classes(cfg, {"dataset_meta": {"classes": ["a", "b", "c"]}}) == ("a", "b", "c")
    assert cfg.model.decode_head.loss_cls.class_weight == [1.0, 1.0, 1.0, 0.1]
    with pytest.raises(InputError, match=r"no file .*classes\.txt"):
        resolve_classes(segmentor(tmp_path))
    with pytest.raises(InputError, match="SegFolderDataset of the config has no classes_file"):
        resolve_classes(segmentor(tmp_path, classes_file=""))


def test_class_weights_that_were_chosen_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    chosen = {"num_classes": 2, "loss_cls": {"class_weight": [1.0, 3.0, 0.2]}}
    cfg = segmentor(tmp_path, **chosen)
    resolve_classes(cfg)
    assert cfg.model.decode_head.loss_cls.class_weight == [1.0, 3.0, 0.2]
    other = {"num_classes": 3, "loss_cls": {"class_weight": [1.0, 3.0, 2.0, 0.2]}}
    with pytest.raises(InputError, match="gives 3 classes different weights, but there are 2 cl"):
        resolve_classes(segmentor(tmp_path, **other))


@pytest.mark.parametrize(
    "name",
    ["mask2former_beit3-base_512_ade20k", "mask2former_beit3-base-adapter_896_coco-stuff164k"],
)
def test_data_sets_with_fixed_classes_leave_their_configs_as_they_are(name: str) -> None:
    cfg = Config.fromfile(CONFIGS / "beit3_mask2former" / f"{name}.py")
    before = cfg.to_dict()
    assert len(resolve_classes(cfg)) == cfg.model.decode_head.num_classes
    assert cfg.to_dict() == before


def fixed(root: Path, train: str, val: str, **metainfo: object) -> Config:
    cfg = segmentor(root)
    for name, kind in (("train", train), ("val", val)):
        cfg[f"{name}_dataloader"]["dataset"] = {"type": f"mmbeit3.{kind}"}
    if metainfo:
        cfg.train_dataloader.dataset.metainfo = metainfo
    return cfg


def test_heads_follow_data_sets_with_fixed_classes(tmp_path: Path) -> None:
    cfg = fixed(tmp_path, "COCOStuffDataset", "COCOStuffDataset")
    assert resolve_classes(cfg)[170] == "wood"
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head[0].num_classes == 171
    assert cfg.model.decode_head.loss_cls.class_weight == [1.0] * 171 + [0.1]
    cfg = fixed(tmp_path, "ADE20KDataset", "ADE20KDataset", classes=["sky", "wall"])
    assert resolve_classes(cfg) == ("sky", "wall")
    assert cfg.model.decode_head.num_classes == 2
    assert cfg.val_dataloader.dataset.metainfo.classes == ("sky", "wall")
    cfg = fixed(tmp_path, "ADE20KDataset", "ADE20KDataset")
    assert resolve_classes(cfg, {"dataset_meta": {"classes": ["wall"]}}) == ("wall",)


def test_fixed_classes_that_are_not_those_of_training(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"val_dataloader.dataset \(mmbeit3.COCOStuffDataset\) has 171 classes, train_datalo"
        r"ader.dataset \(mmbeit3.ADE20KDataset\) 150; the first .* class 0, 'person' and 'wall'",
    ):
        resolve_classes(fixed(tmp_path, "ADE20KDataset", "COCOStuffDataset"))


def test_data_sets_of_other_types_are_left_alone(toy: Path) -> None:
    cfg = load_config(toy)
    before = cfg.to_dict()
    assert resolve_classes(cfg) is None
    assert cfg.to_dict() == before


@pytest.mark.parametrize(
    ("wrapper", "expected"),
    [
        ({"type": "OptimWrapper"}, ("mmbeit3.AmpOptimWrapper", "bfloat16", 1.0)),
        ({}, ("mmbeit3.AmpOptimWrapper", "bfloat16", 1.0)),
        ({"dtype": "float16"}, ("mmbeit3.AmpOptimWrapper", "float16", "dynamic")),
        (
            {"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": 512.0},
            ("AmpOptimWrapper", "float16", 512.0),
        ),
    ],
)
def test_mixed_precision_is_bfloat16_unless_the_config_differs(
    wrapper: dict, expected: tuple
) -> None:
    cfg = Config({"optim_wrapper": wrapper})
    use_amp(cfg)
    assert (
        cfg.optim_wrapper.type,
        cfg.optim_wrapper.dtype,
        cfg.optim_wrapper.loss_scale,
    ) == expected


def test_pipelines_of_augmented_tests_are_keys_of_their_own(toy: Path, logged: list[str]) -> None:
    toy.write_text(TOY + "tta_pipeline = [dict(type='A')]\ntta_pipeline_flip = [dict(type='B')]\n")
    cfg = load_config(toy, {"tta_pipeline_flip.0.type": "C"})
    assert cfg.tta_pipeline_flip[0].type == "C" and not logged


def test_options_may_add_what_the_runner_knows(toy: Path) -> None:
    cfg = load_config(toy, {"model_wrapper_cfg.type": "mmbeit3.FullySharded"})
    assert cfg.model_wrapper_cfg == {"type": "mmbeit3.FullySharded"}


@pytest.mark.parametrize("model", ["5", "None", "[1]", "'x'"])
def test_a_model_that_is_no_dict_is_named(model: str, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(f"model = {model}\n")
    with pytest.raises(InputError, match=r"config.py: model is .*, expected a dict with a type"):
        load_config(tmp_path / "config.py")
