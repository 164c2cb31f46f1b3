from __future__ import annotations

from pathlib import Path

import mmdet
import mmseg
import pytest
from mmengine.config import Config

from mmbeit3.apis.testing import test as run_test
from mmbeit3.apis.training import train
from mmbeit3.config import check_arguments
from mmbeit3.config.loading import load_config
from mmbeit3.inference.inferencer import Inferencer
from mmbeit3.utils import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DETECTOR = CONFIGS / "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
SEGMENTOR = CONFIGS / "beit3_mask2former/mask2former_beit3-tiny_shapes.py"

DETECTOR_MISTAKES = {
    "optim_wrapper=dict(lr=1e-4)": (
        "optim_wrapper has no argument 'lr'; did you mean optim_wrapper.optimizer.lr? "
        "OptimWrapper takes"
    ),
    "optim_wrapper=dict(optimizer=dict(learning_rate=1e-4))": (
        "optim_wrapper.optimizer has no argument 'learning_rate'; AdamW takes lr, betas"
    ),
    "optim_wrapper=dict(optimizer=dict(type='Adamw'))": (
        "optim_wrapper.optimizer.type is 'Adamw': the OPTIMIZERS registry of mmdet has none of "
        "this name; did you mean 'AdamW'"
    ),
    "optim_wrapper=dict(constructor='LayerDecayConstructor')": (
        "optim_wrapper.constructor is 'LayerDecayConstructor': the OPTIM_WRAPPER_CONSTRUCTORS "
        "registry of mmdet has none of this name; did you mean 'mmbeit3.LayerDecayConstructor'?"
    ),
    "optim_wrapper=dict(paramwise_cfg=dict(layer_decay=0.7))": (
        "optim_wrapper.paramwise_cfg has no argument 'layer_decay'; did you mean "
        "'layer_decay_rate'? LayerDecayConstructor takes"
    ),
    "optim_wrapper=dict(paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mul=0.0))))": (
        "optim_wrapper.paramwise_cfg.custom_keys['norm'] has no argument 'decay_mul'; did you "
        "mean 'decay_mult'?"
    ),
    "optim_wrapper=dict(constructor='DefaultOptimWrapperConstructor', "
    "paramwise_cfg=dict(_delete_=True, norm_decay_mul=0.0))": (
        "has no argument 'norm_decay_mul'; did you mean 'norm_decay_mult'?"
    ),
    "train_cfg=dict(max_iter=10)": (
        "train_cfg has no argument 'max_iter'; did you mean 'max_iters'? TrainLoop takes "
        "max_iters, val_begin, val_interval"
    ),
    "train_cfg=dict(_delete_=True, by_epoch=True, max_iters=10)": (
        "train_cfg has no argument 'max_iters'"
    ),
    "val_cfg=dict(interval=10)": "val_cfg has no argument 'interval'; ValLoop takes fp16",
    "train_dataloader=dict(batchsize=2)": (
        "train_dataloader has no argument 'batchsize'; did you mean 'batch_size'? DataLoader takes"
    ),
    "train_dataloader=dict(ann_file='train.json')": (
        "train_dataloader has no argument 'ann_file'; did you mean "
        "train_dataloader.dataset.ann_file?"
    ),
    "train_dataloader=dict(sampler=dict(shufle=False))": (
        "train_dataloader.sampler has no argument 'shufle'; did you mean 'shuffle'?"
    ),
    "train_dataloader=dict(sampler=dict(_delete_=True))": "train_dataloader.sampler",
    "val_dataloader=dict(dataset=dict(annotation='val.json'))": (
        "val_dataloader.dataset has no argument 'annotation'"
    ),
    "val_dataloader=dict(dataset=dict(type='CocoDatset'))": "did you mean 'CocoDataset'",
    "train_dataloader=dict(dataset=dict(pipeline=[dict(type='Resize', size=(64, 64))]))": (
        "train_dataloader.dataset.pipeline.0 has no argument 'size'; "
    ),
    "train_dataloader=dict(dataset=dict(pipeline=[dict(type='RandomFilp', prob=0.5)]))": (
        "train_dataloader.dataset.pipeline.0.type is 'RandomFilp': the TRANSFORMS registry of "
        "mmdet has none of this name; did you mean 'RandomFlip'"
    ),
    "train_dataloader=dict(dataset=dict(pipeline=[dict(type='RandomChoice', transforms="
    "[[dict(type='RandomFlip', probability=1)]])]))": (
        "train_dataloader.dataset.pipeline.0.transforms.0.0 has no argument 'probability'; did "
        "you mean 'prob'?"
    ),
    "train_dataloader=dict(dataset=dict(_delete_=True, type='RepeatDataset', time=2, "
    "dataset=dict(type='mmbeit3.CocoDataset', an_file='x')))": (
        "train_dataloader.dataset.dataset has no argument 'an_file'; did you mean 'ann_file'?"
    ),
    "val_evaluator=dict(metrik='bbox')": "val_evaluator has no argument 'metrik'",
    "val_evaluator=dict(class_wise=True)": (
        "val_evaluator has no argument 'class_wise'; did you mean 'classwise'? CocoMetric takes"
    ),
    "val_evaluator=[dict(type='mmdet.CocoMetric', metrik='bbox')]": (
        "val_evaluator.0 has no argument 'metrik'; did you mean 'metric'?"
    ),
    "model=dict(backbone=dict(num_frozen=1))": (
        "model.backbone has no argument 'num_frozen'; BEiT3 takes arch, img_size, patch_size"
    ),
    "model=dict(backbone=dict(init_cfg=dict(_delete_=True, type='Pretrained', checkpint='x')))": (
        "model.backbone.init_cfg has no argument 'checkpint'; did you mean 'checkpoint'?"
    ),
    "model=dict(backbone=dict(type='BEiT3'))": "did you mean 'mmbeit3.BEiT3'?",
    "model=dict(backbone=dict(type='mine.Net'))": "the package 'mine' is not installed here",
    "model=dict(backbone=dict(_delete_=True, type='MyNet'))": (
        "A class of your own needs custom_imports = dict(imports=['its.module'])"
    ),
    "model=dict(bakbone=dict(depth=1))": "model has no argument 'bakbone'; did you mean 'backbone'",
    "model=dict(neck=dict(out_chanels=1))": "model.neck has no argument 'out_chanels'; did you me",
    "model=dict(rpn_head=dict(anchor_generator=dict(scale=[4])))": (
        "model.rpn_head.anchor_generator has no argument 'scale'; did you mean 'scales'?"
    ),
    "model=dict(roi_head=dict(mask_head=dict(loss_mask=dict(weight=1))))": (
        "model.roi_head.mask_head.loss_mask has no argument 'weight'"
    ),
    "model=dict(train_cfg=dict(rpn=dict(assigner=dict(pos_iou_threshold=0.5))))": (
        "model.train_cfg.rpn.assigner has no argument 'pos_iou_threshold'; did you mean "
        "'pos_iou_thr'?"
    ),
    "model=dict(data_preprocessor=dict(batch_augments=[dict(type='mmbeit3.BatchFixedSizePad', "
    "sizes=(64, 64))]))": "model.data_preprocessor.batch_augments.0 has no argument 'sizes'",
    "default_hooks=dict(checkpoint=dict(save_bset='auto'))": "did you mean 'save_best'?",
    "default_hooks=dict(checkpint=dict(interval=5))": (
        "default_hooks.checkpint has no type; did you mean 'checkpoint'?"
    ),
    "custom_hooks=[dict(type='EarlyStoppingHook', monitor='loss', patients=3)]": (
        "custom_hooks.0 has no argument 'patients'; did you mean 'patience'?"
    ),
    "custom_hooks=[dict(type='EarlyStoppingHook')]": (
        "custom_hooks.0 lacks monitor, which EarlyStoppingHook needs"
    ),
    "param_scheduler=[dict(type='LinearLR', warmup_iters=5)]": (
        "param_scheduler.0 has no argument 'warmup_iters'; LinearLR takes"
    ),
    "visualizer=dict(vis_backends=[dict(type='TensorboardVisBackend', dir='x')])": (
        "visualizer.vis_backends.0 has no argument 'dir'"
    ),
    "visualizer=dict(legends=False)": "visualizer has no argument 'legends'; did you mean 'legend",
    "log_processor=dict(windows_size=2)": "did you mean 'window_size'?",
    "env_cfg=dict(cudnn_benchmrk=True)": "env_cfg has no argument 'cudnn_benchmrk'; did you mean",
    "env_cfg=dict(mp_cfg=dict(start_method='fork'))": "did you mean 'mp_start_method'?",
    "randomness=dict(sed=1)": "randomness has no argument 'sed'; did you mean 'seed'?",
    "auto_scale_lr=dict(base_batchsize=16)": "did you mean 'base_batch_size'?",
    "optim_wrapper=dict(clip_grad=dict(maxnorm=3))": (
        "optim_wrapper.clip_grad has no argument 'maxnorm'; did you mean 'max_norm'? "
        "clip_grad_norm_ takes"
    ),
    "optim_wrapper=dict(clip_grad=dict(_delete_=True, type='value', max_norm=3))": (
        "optim_wrapper.clip_grad has no argument 'max_norm'; clip_grad_value_ takes clip_value"
    ),
    "optim_wrapper=dict(optimizer=dict(lr='1e-4'))": "optimizer.lr is the text '1e-4', expected a",
    "val_evaluator=dict(metrics='bbox')": "has no argument 'metrics'; did you mean 'metric'?",
    "model=dict(roi_head=dict(bbox_head=[dict(num_classes=3)] * 3))": (
        "model.roi_head.bbox_head.0 has no type; its keys are num_classes (a list replaces that of "
        "a base as a whole)"
    ),
    "model=dict(test_cfg=dict(rcnn=dict(score_threshold=0.3)))": (
        "model.test_cfg.rcnn has no key 'score_threshold'; did you mean 'score_thr'?"
    ),
    "model=dict(test_cfg=dict(rpn=dict(nms_per=100)))": "has no key 'nms_per'; did you mean 'nms_p",
    "model=dict(train_cfg=dict(rpn_propsal=dict(nms_pre=100)))": (
        "model.train_cfg has no key 'rpn_propsal'; did you mean 'rpn_proposal'?"
    ),
    "train_dataloader=dict(dataset=dict(metainfo=dict(CLASSES=('disk',))))": (
        "train_dataloader.dataset.metainfo has no key 'CLASSES'; did you mean 'classes'?"
    ),
    "train_dataloader=dict(dataset=dict(filter_cfg=dict(filter_empty=True)))": (
        "train_dataloader.dataset.filter_cfg has no key 'filter_empty'; did you mean"
    ),
    "train_dataloader=dict(dataset=dict(data_prefix=dict(folder='x')))": (
        "train_dataloader.dataset.data_prefix has no key 'folder'; mmbeit3.CocoDataset reads img"
    ),
}
SEGMENTOR_MISTAKES = {
    "model=dict(decode_head=dict(num_querys=5))": "did you mean 'num_queries'?",
    "model=dict(decode_head=dict(loss_dice=dict(epsilon=1)))": (
        "model.decode_head.loss_dice has no argument 'epsilon'"
    ),
    "val_evaluator=dict(iou_metric=['mIoU'])": "did you mean 'iou_metrics'?",
    "train_dataloader=dict(dataset=dict(seg_map_sufix='.png'))": "did you mean 'seg_map_suffix'?",
    "default_hooks=dict(visualization=dict(intervall=2))": "did you mean 'interval'?",
}


def child(tmp_path: Path, base: Path, text: str) -> Config:
    (tmp_path / "child.py").write_text(f"_base_ = {str(base)!r}\n{text}\n")
    return load_config(tmp_path / "child.py")


@pytest.mark.parametrize(
    ("base", "text", "message"),
    [(DETECTOR, *item) for item in DETECTOR_MISTAKES.items()]
    + [(SEGMENTOR, *item) for item in SEGMENTOR_MISTAKES.items()],
)
def test_an_argument_that_no_class_takes_is_refused(
    tmp_path: Path, base: Path, text: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_arguments(child(tmp_path, base, text), "train")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train_dataloader.batchsize", "train_dataloader has no 'batchsize'; did you mean"),
        ("optim_wrapper.lr", "did you mean optim_wrapper.optimizer.lr?"),
        ("train_cfg.max_iter", "did you mean 'max_iters'?"),
        ("model.backbone.num_frozen", "BEiT3 takes arch, img_size"),
        ("val_evaluator.class_wise", "did you mean 'classwise'?"),
    ],
)
def test_an_option_is_checked_as_the_file_is(option: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_arguments(load_config(DETECTOR, {option: 1}), "train")
    assert message in str(caught.value)


def test_every_mistake_is_named_and_the_message_stays_short(tmp_path: Path) -> None:
    text = "train_cfg = dict(a=1, b=2)\noptim_wrapper = dict(c=3)\nval_cfg = dict(d=4, e=5, f=6)"
    with pytest.raises(InputError) as caught:
        check_arguments(child(tmp_path, DETECTOR, text), "train")
    lines = str(caught.value).splitlines()
    assert len(lines) == 6 and lines[-1] == "and 1 more of this kind"


def test_each_entry_checks_the_part_that_it_uses(tmp_path: Path) -> None:
    cfg = child(tmp_path, DETECTOR, "train_cfg = dict(max_iter=1)\nval_evaluator = dict(a=1)")
    check_arguments(cfg, "test")
    check_arguments(cfg, "infer")
    text = "test_dataloader = dict(dataset=dict(pipeline=[dict(type='Resize', size=1)]))"
    for entry in ("test", "infer"):
        with pytest.raises(InputError, match=r"test_dataloader.dataset.pipeline.0 has no .*size"):
            check_arguments(child(tmp_path, DETECTOR, text), entry)
    check_arguments(child(tmp_path, DETECTOR, text), "train")


def test_train_test_and_infer_refuse_before_they_read_anything(tmp_path: Path) -> None:
    cfg = child(tmp_path, DETECTOR, "model = dict(backbone=dict(num_frozen=1))")
    cfg.work_dir = str(tmp_path / "work")

    class Dummy(Inferencer):
        def find_classes(self, *_: object) -> None: ...

        def result(self, *_: object) -> None: ...

    for run in (
        lambda: train(cfg),
        lambda: run_test(cfg, tmp_path / "absent.pth"),
        lambda: Dummy(cfg, tmp_path / "absent.pth", device="cpu"),
    ):
        with pytest.raises(InputError, match="model.backbone has no argument 'num_frozen'"):
            run()
    assert not (tmp_path / "work").exists()


def test_a_class_may_stand_for_its_name(tmp_path: Path) -> None:
    class Hook:
        def __init__(self, interval: int = 1) -> None: ...

    cfg = child(tmp_path, DETECTOR, "")
    cfg.custom_hooks = [dict(type=Hook, interval=2)]
    check_arguments(cfg, "train")
    cfg.custom_hooks = [dict(type=Hook, every=2)]
    with pytest.raises(InputError, match=r"custom_hooks.0 has no argument 'every'; Hook takes int"):
        check_arguments(cfg, "train")


def test_classes_without_a_source_and_keys_of_ones_own_are_accepted(tmp_path: Path) -> None:
    names = {"__name__": "typed_in"}
    exec(
        "from mmengine.optim import DefaultOptimWrapperConstructor as Base\n"
        "class Constructor(Base):\n"
        "    def __init__(self, *args, **kwargs):\n"
        "        super().__init__(*args, **kwargs)\n",
        names,
    )
    text = (
        "model = dict(test_cfg=dict(rcnn=dict(my_rule=1)), train_cfg=dict(rcnn_extra=dict(a=1)))\n"
        "optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, my_option=1))\n"
        "val_dataloader = dict(dataset=dict(metainfo=dict(camera='x')))"
    )
    cfg = child(tmp_path, DETECTOR, text)
    cfg.optim_wrapper.constructor = names["Constructor"]
    check_arguments(cfg, "train")


def packaged(package: object, *patterns: str) -> list[Path]:
    root = Path(package.__file__).parent / ".mim/configs"
    return [path for pattern in patterns for path in sorted(root.glob(pattern))[:2]]


@pytest.mark.parametrize(
    "path",
    [
        *sorted(CONFIGS.glob("beit3_*/*.py")),
        *packaged(
            mmdet,
            *("cascade_rcnn/*.py", "detr/*.py", "gn/*.py", "dcnv2/*.py", "mask2former/*.py"),
            *("rtmdet/*.py", "albu_example/*.py", "vitdet/*.py", "soft_teacher/*.py", "ssd/*.py"),
        ),
        *packaged(mmseg, "beit/*.py", "mask2former/*.py", "segformer/*.py", "ocrnet/*.py"),
    ],
    ids=lambda path: path.stem,
)
def test_configs_that_run_are_not_refused(path: Path) -> None:
    cfg = Config.fromfile(path)
    for entry in ("train", "test", "infer"):
        check_arguments(cfg, entry)
