"""Detectors and segmentors by words: next to plain heads, with names they were not trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmbeit3.checkpoint import load_weights
from mmbeit3.models.multimodal.class_embeddings import ClassSimilarity
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from tests.open_vocabulary import CLASSES, CONFIGS, detector_cfg, embeddings_cfg, small_tokenizer

SEGMENTORS = ("mask2former", "upernet")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def build(cfg: Config, scope: str = "mmdet", names: list[str] | None = CLASSES) -> nn.Module:
    init_default_scope(scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, ClassSimilarity):
            nn.init.normal_(module.proj.weight, std=0.3)
    if names:
        model.set_classes(names)
    return model.eval()


def detector_data(labels: list[int] | None = None) -> dict:
    torch.manual_seed(1)
    sample = DetDataSample(
        metainfo=dict(img_shape=(96, 96), ori_shape=(96, 96), scale_factor=(1.0, 1.0))
    )
    masks = torch.zeros(3, 96, 96, dtype=torch.uint8)
    masks[:, 30:60, 20:60] = 1
    boxes = torch.tensor(
        [[8.0, 8.0, 40.0, 40.0], [50.0, 30.0, 90.0, 80.0], [5.0, 60.0, 30.0, 90.0]]
    )
    labels = torch.tensor([0, 1, 2] if labels is None else labels)
    sample.gt_instances = InstanceData(
        bboxes=boxes, labels=labels, masks=BitmapMasks(masks.numpy(), 96, 96)
    )
    return dict(inputs=[torch.randint(0, 255, (3, 96, 96))], data_samples=[sample])


def boxes_cfg(tokenizer: Path, **options: object) -> Config:
    cfg = detector_cfg(tokenizer, **options)
    cfg.model.roi_head.mask_head = cfg.model.roi_head.mask_roi_extractor = None
    return cfg


@torch.no_grad()
def found(model: nn.Module) -> InstanceData:
    return model.test_step(detector_data())[0].pred_instances


@torch.no_grad()
def probabilities(model: nn.Module) -> Tensor:
    """(RoIs, K + 1), averaged over the stages."""
    data = model.data_preprocessor(detector_data(), False)
    return model(**data, mode="tensor")[-1][1][0]


def losses(model: nn.Module, labels: list[int] | None = None) -> dict[str, Tensor]:
    model.train()
    torch.manual_seed(2)
    return model(**model.data_preprocessor(detector_data(labels), True), mode="loss")


class Unit(nn.Module):
    """Scales features to length 1."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


def test_it_finds_what_plain_layers_of_the_same_weights_find(tokenizer: Path) -> None:
    model = build(detector_cfg(tokenizer))
    expected, loss = found(model), losses(model)
    for head in model.roi_head.bbox_head:
        layer = head.fc_cls
        rows = [layer.embeddings(), F.normalize(layer.background.detach(), dim=-1)]
        plain = nn.Linear(32, 4, bias=False)
        plain.weight.data = layer.logit_scale.detach().exp() * torch.cat(rows)
        head.fc_cls = nn.Sequential(layer.proj, Unit(), plain)
    assert len(expected) > 10
    model.eval()
    same = found(model)
    for key in ("bboxes", "scores", "labels", "masks"):
        torch.testing.assert_close(same[key].float(), expected[key].float(), rtol=1e-4, atol=1e-4)
    for key, value in losses(model).items():
        torch.testing.assert_close(value, loss[key], rtol=1e-4, atol=1e-5)


def test_other_names_have_other_numbers(tokenizer: Path) -> None:
    model = build(boxes_cfg(tokenizer))
    before, labels = probabilities(model), found(model).labels
    model.set_classes(["triangle", "disk", "square"])
    torch.testing.assert_close(probabilities(model), before[:, [2, 0, 1, 3]])
    assert found(model).labels.tolist() == [(1, 2, 0)[label] for label in labels]


def test_it_looks_for_names_it_was_not_trained_on(tokenizer: Path) -> None:
    model = build(boxes_cfg(tokenizer))
    losses(model)
    before = probabilities(model.eval())
    model.set_classes(["the blue star", "ring", *CLASSES])
    after = probabilities(model)
    assert before.shape[1] == 4 and after.shape[1] == 6
    assert (after[:, :2] > 0.01).any(0).all()
    assert model.dataset_meta["classes"][1] == "ring"
    assert {head.num_classes for head in model.roi_head.bbox_head} == {5}


@pytest.mark.parametrize("frozen", [True, False])
def test_training_moves_what_it_should(tokenizer: Path, frozen: bool) -> None:
    model = build(boxes_cfg(tokenizer, frozen=frozen))
    for _ in range(2):  # the graph of the first step is gone in the second
        loss = losses(model, [2, 0, 2])
        sum(v for name, v in loss.items() if "loss_cls" in name and "rpn" not in name).backward()
    moved = {name for name, param in model.named_parameters() if param.grad is not None}
    assert {"backbone.patch_embed.proj.weight", "roi_head.bbox_head.2.fc_cls.background"} <= moved
    assert any(name.startswith("class_embeddings.text") for name in moved) is not frozen


def test_a_checkpoint_is_loaded_whole_and_fits_any_names(tokenizer: Path) -> None:
    model, other = build(boxes_cfg(tokenizer)), build(boxes_cfg(tokenizer), names=["star", "ring"])
    for param in model.parameters():
        nn.init.normal_(param, std=0.1)
    expected, state = found(model), model.state_dict()
    found(other)
    load_weights(other, {"state_dict": state})
    other.set_classes(CLASSES)
    torch.testing.assert_close(found(other).scores, expected.scores)

    without = {k: v for k, v in state.items() if not k.startswith("class_embeddings.")}
    with pytest.raises(InputError, match=r"in the model but not in the file: class_embeddings\."):
        load_weights(other, {"state_dict": without})
    plain = boxes_cfg(tokenizer)
    plain.model.class_embeddings = None
    plain = build(plain, names=None)
    with pytest.raises(InputError, match=r"in the file but not in the model.*fc_cls\.background"):
        load_weights(plain, {"state_dict": state})


def test_mmdet_gives_the_names_of_the_checkpoint(tokenizer: Path) -> None:
    model = build(boxes_cfg(tokenizer), names=None)
    model.dataset_meta = {"classes": ("star", "ring"), "palette": [(1, 2, 3), (4, 5, 6)]}
    assert model.class_embeddings.classes == ("star", "ring")
    assert model.dataset_meta["palette"] == [(1, 2, 3), (4, 5, 6)]
    assert found(model).labels.max() <= 1
    model.set_classes(["star", "square"])
    assert model.dataset_meta == {"classes": ("star", "square")}


def test_in_bfloat16_scores_stay_close(tokenizer: Path) -> None:
    model = build(boxes_cfg(tokenizer))
    layer, x = model.roi_head.bbox_head[0].fc_cls, torch.randn(9, 256)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        scores = layer(x.bfloat16())
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, expected, rtol=0.02, atol=0.1)


def test_layers_with_weights_for_each_class_are_refused(tokenizer: Path) -> None:
    cfg = detector_cfg(tokenizer)
    cfg.model.roi_head.mask_head.class_agnostic = False
    with pytest.raises(InputError, match=r"conv_logits has weights for each of 5 classes.*=True"):
        build(cfg)
    cfg = boxes_cfg(tokenizer)
    for head in cfg.model.roi_head.bbox_head:
        head.loss_cls = dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0)
        head.reg_class_agnostic = False
    with pytest.raises(InputError, match=r"fc_reg has weights.*reg_class_agnostic=True"):
        build(cfg)


def test_a_plain_model_keeps_its_classes(tokenizer: Path) -> None:
    cfg = boxes_cfg(tokenizer)
    cfg.model.class_embeddings = None
    model = build(cfg, names=None)
    with pytest.raises(InputError, match=r"classes of this model are fixed.*class_embeddings"):
        model.set_classes(["star"])


# ------------------------------------------------------------------- segmentation


def segmentor_cfg(tokenizer: Path, kind: str) -> Config:
    cfg = Config.fromfile(CONFIGS / "beit3_mask2former" / "mask2former_beit3-tiny_shapes.py")
    if kind == "upernet":
        base = Config.fromfile(CONFIGS / "_base_" / "models" / "upernet_beit3_sfp.py").model
        norm = dict(type="GN", num_groups=4)
        cfg.model.decode_head = base.decode_head
        cfg.model.decode_head.update(in_channels=[64] * 4, channels=32, norm_cfg=norm)
        cfg.model.auxiliary_head = base.auxiliary_head
        cfg.model.auxiliary_head.update(in_channels=64, channels=32, norm_cfg=norm)
        for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
            head.num_classes = 6
    cfg.model.test_cfg = dict(mode="whole", return_logits=True)
    cfg.model.class_embeddings = ConfigDict(embeddings_cfg(tokenizer))
    return cfg


def segmentor_data(number: int) -> dict:
    torch.manual_seed(1)
    sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
    sample.gt_sem_seg = PixelData(data=torch.randint(0, number, (1, 64, 64)))
    return dict(
        inputs=[torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)], data_samples=[sample]
    )


@pytest.mark.parametrize("kind", SEGMENTORS)
def test_pixels_are_scored_by_names(tokenizer: Path, kind: str) -> None:
    names = ["background", "disk", "square"]
    model = build(segmentor_cfg(tokenizer, kind), "mmseg", names)
    with torch.no_grad():
        before = model.test_step(segmentor_data(3))[0]
        model.set_classes(["ring", *reversed(names)])
        after = model.test_step(segmentor_data(3))[0]
    assert len(before.seg_logits.data) == 3 and len(after.seg_logits.data) == 4
    if kind == "upernet":
        torch.testing.assert_close(after.seg_logits.data[1:].flip(0), before.seg_logits.data)
    assert after.pred_sem_seg.data.max() <= 3


@pytest.mark.parametrize("kind", SEGMENTORS)
def test_a_segmentor_learns_any_number_of_names(tokenizer: Path, kind: str) -> None:
    model = build(segmentor_cfg(tokenizer, kind), "mmseg", ["background", "disk"])
    model.train()
    for names in (["background", "disk"], ["background", *CLASSES]):
        model.set_classes(names)
        data = model.data_preprocessor(segmentor_data(len(names)), True)
        loss = model(**data, mode="loss")
        total = sum(value for name, value in loss.items() if "loss" in name)
        assert total.isfinite()
        total.backward()
    assert model.class_embeddings.language_head.weight.grad is None


def test_of_a_segmentor_one_name_is_too_few(tokenizer: Path) -> None:
    model = build(segmentor_cfg(tokenizer, "upernet"), "mmseg", None)
    with pytest.raises(InputError, match=r"'disk' is one alone, expected two"):
        model.set_classes(["disk"])
