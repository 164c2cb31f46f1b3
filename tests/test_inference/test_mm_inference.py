"""mmdet's and mmseg's own Python API with our checkpoints, the annotation files gone."""

from __future__ import annotations

import inspect
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import mmengine
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner as PlainRunner
from mmengine.runner import load_checkpoint
from mmseg.apis import MMSegInferencer, inference_model, init_model
from PIL import Image

from mmbeit3 import accelerate, load
from mmbeit3.apis.testing import test as run_test
from mmbeit3.apis.training import train
from mmbeit3.checkpoint import load_safely, read_checkpoint, save_checkpoint
from mmbeit3.config.classes import resolve_classes
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.inference.detector import Detector
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.inferencer import Inferencer
from mmbeit3.inference.segmentor import Segmentor
from mmbeit3.utils import InputError

# The original mmengine asks torch 2.6 and newer for what that refuses to build.
READS_ITS_OWN = "weights_only" in inspect.getsource(mmengine.runner.checkpoint)
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = ("square", "circle", "star")  # in the order of the category ids, which is no other
DETECTOR = """
_base_ = {base!r}
data_root = {data!r}
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(data_root=data_root))
val_dataloader = dict(num_workers=0, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "/annotations/val.json")
test_evaluator = val_evaluator
# 80 classes, as in a config that leaves them to the annotation file.
model = dict(
    roi_head=dict(
        bbox_head=[
            dict(
                type="Shared4Conv1FCBBoxHead",
                in_channels=64,
                conv_out_channels=64,
                fc_out_channels=256,
                norm_cfg=dict(type="mmbeit3.LN2d", eps=1e-6),
                roi_feat_size=7,
                num_classes=80,
                reg_class_agnostic=True,
                bbox_coder=dict(
                    type="DeltaXYWHBBoxCoder",
                    target_means=[0.0] * 4,
                    target_stds=[0.1, 0.1, 0.2, 0.2],
                ),
                loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type="L1Loss", loss_weight=1.0),
            )
            for _ in range(3)
        ],
        mask_head=dict(num_classes=80, class_agnostic=False),
    )
)
train_cfg = dict(max_iters=1, val_interval=1000)
custom_hooks = []
"""
SEGMENTOR = """
_base_ = {base!r}
data_root = {data!r}
dataset = dict(data_root=data_root, metainfo=None, classes_file="classes.txt")
train_dataloader = dict(batch_size=2, dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
model = dict(decode_head=dict(num_classes=150, loss_cls=dict(class_weight=[1.0] * 150 + [0.1])))
train_cfg = dict(max_iters=1, val_interval=1000)
"""


class Trained(NamedTuple):
    """What somebody takes to another machine, without the data."""

    config: Path
    checkpoint: Path
    image: Path


def train_and_move(folder: Path, base: str, text: str, prepare: Callable[[Path], None]) -> Trained:
    data = make_shapes(folder / "shapes", 4, 2, 128, seed=0)
    prepare(data)
    config = folder / "config.py"
    config.write_text(text.format(base=str(CONFIGS / base), data=str(data)))
    cfg = load_config(config, work_dir=folder / "work_dir")
    train(cfg)
    image = folder / "image.png"  # of 12 bits in 16, which mmcv would read as nearly black
    gray = cv2.imread(str(next((data / "val").iterdir())), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(image), gray.astype(np.uint16) * 16)
    shutil.move(data, folder / "elsewhere")
    checkpoint = sharpen(folder / "work_dir" / "iter_1.pth")
    return Trained(config, checkpoint, image)


def sharpen(path: Path) -> Path:
    """Give the heads of a checkpoint weights by which classes and scores differ."""
    content = read_checkpoint(path)
    generator = torch.Generator().manual_seed(0)
    for name, weight in content["state_dict"].items():
        if weight.dim() > 1 and name.startswith(("roi_head", "decode_head")):
            weight.normal_(std=0.1 if name.startswith("roi_head") else 1.0, generator=generator)
    save_checkpoint(content, path)
    return path


def three_categories(data: Path) -> None:
    for file in (data / "annotations" / name for name in ("train.json", "val.json")):
        content = json.loads(file.read_text())
        content["categories"] = [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)]
        for annotation in content["annotations"]:
            annotation["category_id"] = annotation["category_id"] % 3 + 1
        file.write_text(json.dumps(content))


def three_values(data: Path) -> None:
    (data / "classes.txt").write_text("\n".join(NAMES))
    for file in (data / "semantic").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(file)) % 3).save(file)


@pytest.fixture(autouse=True)
def original_mmengine_reads_checkpoints() -> None:
    if not READS_ITS_OWN:
        load_safely()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("detector")
    base = "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
    return train_and_move(folder, base, DETECTOR, three_categories)


@pytest.fixture(scope="module")
def segmentor(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("segmentor")
    base = "beit3_mask2former/mask2former_beit3-tiny_shapes.py"
    return train_and_move(folder, base, SEGMENTOR, three_values)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def saved_config(trained: Trained) -> Config:
    """The config inside the checkpoint."""
    meta = read_checkpoint(trained.checkpoint)["meta"]
    return Config.fromstring(meta["cfg"], file_format=".py")


def user_config(trained: Trained) -> Config:
    return Config.fromfile(trained.config)


BOTH_CONFIGS = pytest.mark.parametrize("config", [user_config, saved_config])


def predict(kind: type[Inferencer], trained: Trained) -> Any:
    predictor = kind(load_config(trained.config), trained.checkpoint, "cpu")
    assert predictor.classes == NAMES
    source = Source(1, trained.image, trained.image.name, None)
    [found] = predictor.predict([predictor.load(source)], 1)
    return found


def altered(trained: Trained, folder: Path, change: Callable[[dict], Any]) -> str:
    """A checkpoint in which something differs."""
    content = read_checkpoint(trained.checkpoint)
    change(content)
    torch.save(content, folder / "altered.pth")
    return str(folder / "altered.pth")


@pytest.mark.parametrize("kind", ["detector", "segmentor"])
def test_a_test_needs_the_test_data_only(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    trained = request.getfixturevalue(kind)
    data = Path(shutil.copytree(trained.config.parent / "elsewhere", tmp_path / "data"))
    for lost in ("train", "semantic/train", "annotations/train.json", "classes.txt"):
        path = data / lost
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    options = {"test_dataloader.dataset.data_root": str(data)}
    if kind == "detector":
        options["test_evaluator.ann_file"] = str(data / "annotations" / "val.json")
    metrics = run_test(
        load_config(trained.config, options, tmp_path / "work_dir"), trained.checkpoint
    )
    assert {"coco/segm_mAP", "mIoU"} & set(metrics)


@BOTH_CONFIGS
def test_init_detector_finds_what_infer_finds(
    detector: Trained, config: Callable[[Trained], Config]
) -> None:
    expected = predict(Detector, detector)
    model = init_detector(config(detector), str(detector.checkpoint), device="cpu")
    accelerate(model)
    found = inference_detector(model, str(detector.image)).pred_instances.numpy()
    assert model.dataset_meta["classes"] == NAMES
    assert len(set(expected.labels.tolist())) > 1 and len(expected.scores) > 10
    assert found.scores.tolist() == expected.scores.tolist()
    assert found.labels.tolist() == expected.labels.tolist()
    assert np.array_equal(found.bboxes, expected.boxes)
    assert np.array_equal(found.masks, expected.masks)


def of_the_checkpoint(_: Trained) -> None:
    """No config: the inferencer runs the text in the checkpoint, which our reader leaves out."""
    if not READS_ITS_OWN:
        pytest.skip("this mmengine reads no checkpoint but by our reader")


@pytest.mark.parametrize("config", [user_config, saved_config, of_the_checkpoint])
def test_det_inferencer_finds_what_infer_finds(
    detector: Trained, config: Callable[[Trained], Config | None]
) -> None:
    expected = predict(Detector, detector)
    inferencer = DetInferencer(config(detector), str(detector.checkpoint), device="cpu")
    accelerate(inferencer.model)
    [found] = inferencer(str(detector.image), no_save_vis=True)["predictions"]
    assert inferencer.visualizer.dataset_meta["classes"] == NAMES
    assert found["scores"] == pytest.approx(expected.scores.tolist(), abs=1e-7)
    assert found["labels"] == expected.labels.tolist()


@BOTH_CONFIGS
def test_init_model_finds_what_infer_finds(
    segmentor: Trained, config: Callable[[Trained], Config]
) -> None:
    expected = predict(Segmentor, segmentor)
    model = init_model(config(segmentor), str(segmentor.checkpoint), device="cpu")
    accelerate(model)
    found = inference_model(model, str(segmentor.image)).pred_sem_seg.data[0].numpy()
    assert model.dataset_meta["classes"] == NAMES
    assert len(np.unique(expected.label_map)) > 1
    assert np.array_equal(found, expected.label_map)


@pytest.mark.parametrize("config", [user_config, saved_config, of_the_checkpoint])
def test_mmseg_inferencer_finds_what_infer_finds(
    segmentor: Trained, config: Callable[[Trained], Config | None]
) -> None:
    expected = predict(Segmentor, segmentor)
    inferencer = MMSegInferencer(config(segmentor), str(segmentor.checkpoint), device="cpu")
    accelerate(inferencer.model)
    found = inferencer(str(segmentor.image))["predictions"]
    assert inferencer.model.dataset_meta["classes"] == NAMES
    assert np.array_equal(found, expected.label_map)


@pytest.mark.parametrize("with_config", [True, False])
def test_load_finds_what_infer_finds(
    detector: Trained, segmentor: Trained, with_config: bool
) -> None:
    def find(trained: Trained, image: Any) -> Any:
        files = (trained.config, trained.checkpoint) if with_config else (trained.checkpoint,)
        model = load(*files, device="cpu")
        assert model.classes == NAMES
        return model(image)

    expected = predict(Detector, detector)
    for image in (detector.image, expected.image):
        found = find(detector, image)
        for name in ("boxes", "scores", "labels", "masks"):
            assert np.array_equal(getattr(found, name), getattr(expected, name))
    expected = predict(Segmentor, segmentor)
    assert np.array_equal(find(segmentor, segmentor.image).label_map, expected.label_map)


def test_arrays_give_what_mmdet_and_mmseg_find_in_them(
    detector: Trained, segmentor: Trained
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (100, 128, 3), np.uint8)
    inferencer = DetInferencer(user_config(detector), str(detector.checkpoint), device="cpu")
    accelerate(inferencer.model)
    [expected] = inferencer(image, no_save_vis=True)["predictions"]
    found = load(detector.checkpoint, device="cpu")(image)
    assert found.labels.tolist() == expected["labels"]
    assert expected["scores"] == pytest.approx(found.scores.tolist(), abs=1e-7)
    inferencer = MMSegInferencer(user_config(segmentor), str(segmentor.checkpoint), device="cpu")
    accelerate(inferencer.model)
    expected = inferencer(image)["predictions"]
    assert np.array_equal(load(segmentor.checkpoint, device="cpu")(image).label_map, expected)


@pytest.mark.parametrize(
    "name",
    [
        "rpn_head.rpn_cls.weight",
        "roi_head.mask_head.conv_logits.bias",
        "neck.output_convs.0.conv.weight",
        "backbone.pos_embed",
    ],
)
def test_no_weight_may_be_missing(detector: Trained, tmp_path: Path, name: str) -> None:
    def drop(content: dict) -> None:
        names = [key for key in content["state_dict"] if key.startswith(name.split(".")[0])]
        content["state_dict"].pop(name if name in names else names[0])

    file = altered(detector, tmp_path, drop)
    with pytest.raises(InputError, match="1 in the model but not in the file"):
        init_detector(user_config(detector), file, device="cpu")
    with pytest.raises(InputError, match="1 in the model but not in the file"):
        DetInferencer(user_config(detector), file, device="cpu")


def test_no_weight_of_a_segmentor_may_be_missing(segmentor: Trained, tmp_path: Path) -> None:
    name = "decode_head.cls_embed.weight"
    file = altered(segmentor, tmp_path, lambda content: content["state_dict"].pop(name))
    with pytest.raises(InputError, match=name):
        init_model(user_config(segmentor), file, device="cpu")


def test_a_model_of_another_size_is_refused(detector: Trained) -> None:
    cfg = user_config(detector)
    cfg.model.roi_head.bbox_head[1].fc_out_channels = 128
    with pytest.raises(InputError, match=r"roi_head\.bbox_head\.1\.fc_cls\.weight \(4, 256\)"):
        init_detector(cfg, str(detector.checkpoint), device="cpu")


def test_names_that_mmdet_guesses_are_refused(detector: Trained, tmp_path: Path) -> None:
    file = altered(detector, tmp_path, lambda content: content.pop("meta"))
    with pytest.raises(InputError, match="weights are of 3 classes, and 80 are named"):
        init_detector(user_config(detector), file, device="cpu")


def test_heads_of_the_checkpoints_size_do_not_train(detector: Trained, segmentor: Trained) -> None:
    for scope, trained in (("mmdet", detector), ("mmseg", segmentor)):
        init_default_scope(scope)
        model = MODELS.build(user_config(trained).model)
        load_checkpoint(model, str(trained.checkpoint))
        with pytest.raises(InputError, match="must not be trained. Set num_classes of all heads"):
            model.loss(torch.zeros(1, 3, 64, 64), [])


def plain_runner(trained: Trained, folder: Path, **changes: Any) -> PlainRunner:
    """mmengine's own Runner on the data that are back at their place."""
    cfg = load_config(trained.config, work_dir=folder / "work_dir")
    shutil.copytree(trained.config.parent / "elsewhere", folder / "data")
    old, new = str(trained.config.parent / "shapes"), str(folder / "data")
    text = cfg.pretty_text.replace(old, new)
    cfg = Config.fromstring(text, file_format=".py")
    cfg.work_dir = str(folder / "work_dir")
    cfg.merge_from_dict(changes)
    return PlainRunner.from_cfg(for_plain_runner(cfg))


def for_plain_runner(cfg: Config) -> Config:
    """Name mmengine's loop and sampler, as this project's loop asks for its Runner."""
    cfg.train_cfg.type = "IterBasedTrainLoop"
    cfg.train_dataloader.sampler.type = "InfiniteSampler"
    return cfg


def test_plain_runner_tests_with_the_checkpoints_heads(detector: Trained, tmp_path: Path) -> None:
    runner = plain_runner(detector, tmp_path, load_from=str(detector.checkpoint))
    assert "coco/bbox_mAP" in runner.test()


@pytest.mark.parametrize("kind", ["detector", "segmentor"])
def test_plain_runner_does_not_test_classes_in_another_order(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    trained = request.getfixturevalue(kind)

    def reverse(content: dict) -> None:
        content["meta"]["dataset_meta"]["classes"] = NAMES[::-1]

    file = altered(trained, tmp_path, reverse)
    runner = plain_runner(trained, tmp_path, load_from=file)
    with pytest.raises(InputError, match="first difference is class 0, 'square' and 'star'"):
        runner.test()


def test_plain_runner_does_not_train_heads_of_another_size(
    detector: Trained, tmp_path: Path
) -> None:
    runner = plain_runner(detector, tmp_path)
    with pytest.raises(InputError, match="heads have 80 classes, and the training set 3"):
        runner.train()


def test_plain_runner_does_not_train_on_with_heads_of_another_size(
    detector: Trained, tmp_path: Path
) -> None:
    runner = plain_runner(detector, tmp_path, load_from=str(detector.checkpoint))
    with pytest.raises(InputError, match="heads have 80 classes, and the training set 3"):
        runner.train()


@pytest.mark.parametrize("hooks", [[], [dict(type="EMAHook")]], ids=["plain", "averaged"])
def test_plain_runner_fine_tunes_on_other_classes(
    detector: Trained, tmp_path: Path, hooks: list[dict]
) -> None:
    data = make_shapes(tmp_path / "data", 4, 2, 128, seed=0)  # of 5 classes
    (tmp_path / "config.py").write_text(DETECTOR.format(base=str(detector.config), data=str(data)))
    cfg = load_config(tmp_path / "config.py", work_dir=tmp_path / "work_dir")
    resolve_classes(cfg)
    cfg.load_from, cfg.custom_hooks = str(detector.checkpoint), hooks
    cfg.optim_wrapper.optimizer.update(lr=0.0, weight_decay=0.0)  # so that weights stay
    runner = PlainRunner.from_cfg(for_plain_runner(cfg))
    runner.train()
    found = runner.model.state_dict()
    before = read_checkpoint(detector.checkpoint)["state_dict"]
    assert len(found["roi_head.bbox_head.0.fc_cls.bias"]) == 6
    shared = [name for name, value in before.items() if value.shape == found[name].shape]
    assert len(before) - len(shared) == 8  # class layers of three stages, and of the masks
    assert all(torch.equal(found[name], before[name]) for name in shared)


def test_fine_tuning_on_other_classes_with_averages_starts_their_heads_anew(
    detector: Trained, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", 4, 2, 128, seed=0)  # of 5 classes
    config = tmp_path / "config.py"
    base = str(detector.config)
    config.write_text(DETECTOR.format(base=base, data=str(data)))
    cfg = load_config(config, work_dir=tmp_path / "work_dir")
    cfg.load_from = str(detector.checkpoint)
    cfg.custom_hooks = [dict(type="EMAHook")]
    train(cfg)
    content = read_checkpoint(tmp_path / "work_dir" / "iter_1.pth")
    assert len(content["state_dict"]["roi_head.bbox_head.0.fc_cls.bias"]) == 6
    assert len(content["meta"]["dataset_meta"]["classes"]) == 5
