"""Views of a segmentor's test: what they are merged to, and what is held meanwhile."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
import torch.nn.functional as F
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.models import SegTTAModel
from mmbeit3.models.segmentors import bands
from mmbeit3.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
TINY = CONFIGS / "beit3_mask2former" / "mask2former_beit3-tiny_shapes.py"
SIZE, SCALES = 90, (64, 130)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(load_config(TINY).model)
    model.init_weights()
    model.test_cfg.return_logits = True  # for averages by hand; the augmented test needs none
    return model.eval()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, num_train=1, num_val=3, size=SIZE)
    return sorted((folder / "val").glob("*.jpg"))


def batch(images: list[Path], direction: str) -> dict:
    """The images as mmcv's TestTimeAug and mmengine's loader hand them over."""
    init_default_scope("mmseg")
    flips = [dict(type="RandomFlip", prob=prob, direction=direction) for prob in (0.0, 1.0)]
    resizes = [dict(type="Resize", scale=(scale, scale), keep_ratio=True) for scale in SCALES]
    transforms = [
        resizes,
        flips,
        [dict(type="LoadAnnotations")],
        [dict(type="PackSegInputs")],
    ]
    pipeline = Compose(
        [dict(type="LoadImageFromFile"), dict(type="TestTimeAug", transforms=transforms)]
    )
    infos = [
        dict(
            img_path=str(image),
            seg_map_path=str(image.parents[1] / "semantic" / "val" / f"{image.stem}.png"),
            reduce_zero_label=False,
            seg_fields=[],
        )
        for image in images
    ]
    return pseudo_collate([pipeline(info) for info in infos])


def average_by_hand(model: nn.Module, image: Path, axis: int) -> Tensor:
    """Resize, turn, run, turn back, resize, average: without mmseg's notes on flips."""
    pixels = cv2.imread(str(image))
    total = torch.zeros(6, SIZE, SIZE)
    for scale in SCALES:
        view = torch.from_numpy(cv2.resize(pixels, (scale, scale))).permute(2, 0, 1)
        for turned in (False, True):
            sample = SegDataSample(metainfo=dict(img_shape=(scale, scale), ori_shape=(scale,) * 2))
            data = dict(inputs=[view.flip(axis) if turned else view], data_samples=[sample])
            scores = model.test_step(data)[0].seg_logits.data
            scores = scores.flip(axis) if turned else scores
            total += F.interpolate(scores[None], (SIZE, SIZE), mode="bilinear")[0]
    return total / 4


@torch.no_grad()
@pytest.mark.parametrize(("direction", "axis"), [("horizontal", 2), ("vertical", 1)])
def test_the_mean_over_scales_and_flips(
    model: nn.Module, images: list[Path], direction: str, axis: int
) -> None:
    merged = SegTTAModel(model).test_step(batch(images, direction))
    assert len(merged) == 3
    for sample, image in zip(merged, images, strict=True):
        want = average_by_hand(model, image, axis)
        torch.testing.assert_close(sample.seg_logits.data, want, rtol=1e-4, atol=1e-6)
        assert torch.equal(sample.pred_sem_seg.data[0], sample.seg_logits.data.argmax(0))
        label = cv2.imread(str(image.parents[1] / "semantic/val" / f"{image.stem}.png"), -1)
        assert sample.img_path == str(image) and sample.ori_shape == (SIZE, SIZE)
        assert sample.gt_sem_seg.data.shape == (1, SIZE, SIZE) == (1, *label.shape[:2])


@torch.no_grad()
def test_one_view_after_the_other_gives_what_all_at_once_would(
    model: nn.Module, images: list[Path]
) -> None:
    data = batch(images[:1], "horizontal")
    wrapped = SegTTAModel(model)
    views = [model.test_step({key: value[i] for key, value in data.items()}) for i in range(4)]
    (want,) = wrapped.merge_preds([list(image) for image in zip(*views, strict=True)])
    (got,) = wrapped.test_step(data)
    torch.testing.assert_close(got.seg_logits.data, want.seg_logits.data)
    assert torch.equal(got.gt_sem_seg.data, want.gt_sem_seg.data)


class Counting(nn.Module):
    """A segmentor of random scores that counts how many of its results are still held."""

    def __init__(self, channels: int, probabilities: bool) -> None:
        super().__init__()
        self.decode_head = nn.Module()
        self.decode_head.predicts_probabilities = probabilities
        self.decode_head.threshold = 0.3
        self.channels, self.given, self.held = channels, [], []
        self.scores: list[Tensor] = []

    def test_step(self, data: dict) -> list[SegDataSample]:
        self.held.append(sum(given() is not None for given in self.given))
        for sample in data["data_samples"]:
            scores = torch.rand(self.channels, 4, 5)
            self.scores.append(scores.clone())
            self.given.append(weakref.ref(scores))
            sample.seg_logits = PixelData(data=scores)
        return data["data_samples"]


@pytest.mark.parametrize("probabilities", [True, False])
def test_no_more_than_the_sum_is_held_while_a_view_runs(probabilities: bool) -> None:
    module = Counting(3, probabilities)
    views = [[SegDataSample(), SegDataSample()] for _ in range(14)]
    SegTTAModel(module).test_step(dict(inputs=[[None, None]] * 14, data_samples=views))
    assert module.held == [0] * 14
    assert not any("seg_logits" in sample for view in views[1:] for sample in view)


@torch.no_grad()
@pytest.mark.parametrize("num_classes", [1, 6])
def test_bands_of_other_heads_are_turned_into_probabilities(
    images: list[Path], num_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Softmax or sigmoid band by band, and no scores are held by the samples of a view."""
    cfg = load_config(TINY).model
    cfg.decode_head = dict(
        type="FCNHead",
        in_channels=64,
        channels=8,
        num_convs=1,
        num_classes=num_classes,
        out_channels=num_classes,
        norm_cfg=dict(type="BN"),
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=num_classes == 1),
    )
    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    data = batch(images[:2], "vertical")
    monkeypatch.setattr(bands, "MAX_BAND", 7 * SIZE * 4 * num_classes)
    (want, second), given = merged_by_hand(model, data), []
    monkeypatch.setattr(model, "test_step", None)
    monkeypatch.setattr(
        SegTTAModel, "_probabilities", record(SegTTAModel._probabilities, given), raising=True
    )
    got = SegTTAModel(model).test_step(data)
    assert max(scores.shape[1] for scores in given) == 7
    for found, expected in zip(got, (want, second), strict=True):
        torch.testing.assert_close(found.seg_logits.data, expected.seg_logits.data)
        assert torch.equal(found.pred_sem_seg.data, expected.pred_sem_seg.data)


def merged_by_hand(model: nn.Module, data: dict) -> list[SegDataSample]:
    """All views at once, each with its scores."""
    model.test_cfg.return_logits = True
    views = [model.test_step({key: value[i] for key, value in data.items()}) for i in range(4)]
    model.test_cfg.return_logits = False
    samples = [[sample.clone() for sample in image] for image in zip(*views, strict=True)]
    return SegTTAModel(model).merge_preds(samples)


def record(function: Callable, given: list[Tensor]) -> Callable:
    def wrapped(self: SegTTAModel, scores: Tensor) -> Tensor:
        given.append(scores)
        return function(self, scores)

    return wrapped


def test_a_single_channel_is_compared_with_the_threshold() -> None:
    module = Counting(1, probabilities=False)
    samples = [[SegDataSample()], [SegDataSample()]]
    (merged,) = SegTTAModel(module).test_step(dict(inputs=[[None]] * 2, data_samples=samples))
    mean = (module.scores[0] + module.scores[1]) / 2
    torch.testing.assert_close(merged.seg_logits.data, mean)
    assert torch.equal(merged.pred_sem_seg.data, (mean > 0.3).float())
