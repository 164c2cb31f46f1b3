"""Mask2Former on BEiT-3: windows, padding, batches, half precision, augmented tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmbeit3.models import Mask2FormerHead, SegTTAModel, acceleration
from mmbeit3.models.acceleration import accelerate
from mmbeit3.models.decode_heads.quick_mask2former_head import QuickMask2FormerHead
from mmbeit3.models.segmentors import bands
from mmbeit3.ops.cpu.linear import OneDNNLinear
from mmbeit3.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
TINY = CONFIGS / "beit3_mask2former" / "mask2former_beit3-tiny_shapes.py"


def build(**test_cfg) -> nn.Module:
    init_default_scope("mmseg")
    cfg = Config.fromfile(TINY)
    cfg.model.test_cfg = dict(mode="whole", return_logits=True) | test_cfg
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.eval()


def sample(height: int, width: int, labels: Tensor | None = None, **meta) -> SegDataSample:
    found = SegDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(height, width)))
    found.set_metainfo(meta)
    if labels is None:
        labels = torch.randint(0, 6, (1, height, width))
    found.gt_sem_seg = PixelData(data=labels)
    return found


def batch(*sizes: tuple[int, int]) -> dict:
    torch.manual_seed(1)
    images = [torch.randint(0, 255, (3, *size), dtype=torch.uint8) for size in sizes]
    return dict(inputs=images, data_samples=[sample(*size) for size in sizes])


@torch.no_grad()
def scores(model: nn.Module, data: dict) -> list[Tensor]:
    return [found.seg_logits.data for found in model.test_step(data)]


def test_one_window_over_the_image_is_whole_inference() -> None:
    data = batch((96, 128))
    slide = build(mode="slide", crop_size=(128, 128), stride=(64, 64))
    torch.testing.assert_close(scores(slide, data), scores(build(), data))


@pytest.mark.parametrize("size", [(64, 256), (100, 75), (150, 150)])
def test_overlapping_windows_are_averaged(size: tuple[int, int]) -> None:
    """Each pixel: the mean over the windows that hold it, every window decoded on its own."""
    crop, stride = 64, 40
    model = build(mode="slide", crop_size=(crop, crop), stride=(stride, stride))
    data = batch(size, size)
    got = torch.stack(scores(model, data))
    whole = build()
    total, count = torch.zeros_like(got), torch.zeros(size)
    for top in starts(size[0], crop, stride):
        for left in starts(size[1], crop, stride):
            window = (slice(top, top + crop), slice(left, left + crop))
            crops = dict(
                inputs=[image[(slice(None), *window)] for image in data["inputs"]],
                data_samples=[sample(min(crop, size[0]), min(crop, size[1])) for _ in range(2)],
            )
            total[(..., *window)] += torch.stack(scores(whole, crops))
            count[window] += 1
    assert count.max() > 1 or max(size) <= crop
    torch.testing.assert_close(got, total / count, rtol=1e-4, atol=1e-5)


def starts(size: int, crop: int, stride: int) -> Iterator[int]:
    """Left edges of the windows; the last one ends with the image."""
    last = max(size - crop, 0)
    yield from range(0, last, stride)
    yield last


def test_padded_images_slide_too() -> None:
    """mmseg's own head fails here: it stretches a window's masks to the padded image."""
    cfg = dict(mode="slide", crop_size=(64, 64), stride=(32, 32))
    init_default_scope("mmseg")
    model = build(**cfg)
    model.data_preprocessor.test_cfg = dict(size_divisor=64)
    found = scores(model, batch((100, 75), (100, 75)))
    assert [tuple(image.shape) for image in found] == [(6, 100, 75)] * 2


@pytest.mark.parametrize("size", [(64, 512), (75, 75), (61, 35)])
def test_any_image_size(size: tuple[int, int]) -> None:
    (found,) = scores(build(), batch(size))
    assert found.shape == (6, *size) and found.isfinite().all()


@pytest.mark.parametrize("sizes", [[(128, 96)], [(61, 35)], [(64, 96), (64, 96)]])
def test_the_faster_head_scores_alike_and_trains_as_before(
    sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceleration, "onednn_pays", lambda *shape: True)
    model, plain, data = build(), build(), batch(*sizes)
    assert accelerate(model) == "float32"
    assert type(model.decode_head) is QuickMask2FormerHead
    linear = [part for part in model.decode_head.modules() if isinstance(part, nn.Linear)]
    assert sum(type(part) is OneDNNLinear for part in linear) > 20
    for found, expected in zip(scores(model, data), scores(plain, data), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    losses = [each.loss(*prepared(each, data)) for each in (model, plain)]
    for name, value in losses[1].items():
        torch.testing.assert_close(losses[0][name], value, rtol=1e-3, atol=1e-4)


def prepared(model: nn.Module, data: dict) -> tuple[Tensor, list[SegDataSample]]:
    torch.manual_seed(2)  # of the points at which losses look
    found = model.data_preprocessor(data, True)
    return found["inputs"], found["data_samples"]


@pytest.mark.parametrize("size", [(128, 512), (75, 75)])
def test_a_panorama_and_a_small_image_slide(size: tuple[int, int]) -> None:
    (found,) = scores(build(mode="slide", crop_size=(128, 128), stride=(85, 85)), batch(size))
    assert found.shape == (6, *size) and found.isfinite().all()


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("size", [(37, 40), (40, 33), (29, 38), (3, 2)])
def test_masks_lie_where_the_features_are(
    size: tuple[int, int], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enlarged by the stride and cut, not stretched: a mask must not move with the padding."""
    model = build()
    head: Mask2FormerHead = model.decode_head
    masks, scores = torch.randn(2, 3, 10, 10), torch.randn(2, 3, 7)
    head.forward = lambda *_: ([scores * 0, scores], [masks * 0, masks])
    row_bytes = 4 * 4 * masks[:, :, 0].numel() * masks.element_size()
    monkeypatch.setattr(bands, "MAX_BAND", rows * row_bytes)
    found = head.predict((), [dict(img_shape=size)] * 2, None)
    want = F.interpolate(masks, scale_factor=4, mode="bilinear").sigmoid()
    want = want[..., : size[0], : size[1]]
    want = torch.einsum("bqc,bqhw->bchw", scores.softmax(-1)[..., :-1], want)
    torch.testing.assert_close(found, want)


def test_scores_are_float32_under_mixed_precision() -> None:
    head: Mask2FormerHead = build().decode_head
    masks, scores = torch.randn(1, 3, 10, 10), torch.randn(1, 3, 7)
    head.forward = lambda *_: ([scores.bfloat16()], [masks.bfloat16()])
    want = head.predict((), [dict(img_shape=(40, 40))], None)
    with torch.autocast("cpu", torch.bfloat16):
        got = head.predict((), [dict(img_shape=(40, 40))], None)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("labels", ["some", "one class", "nothing"])
def test_losses_are_finite_and_reach_every_weight(labels: str) -> None:
    model = build().train()
    data = batch((128, 128), (128, 128))
    if labels != "some":
        value = 2 if labels == "one class" else 255
        for found in data["data_samples"]:
            found.gt_sem_seg.data.fill_(value)
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    total = sum(value for name, value in losses.items() if "loss" in name)
    assert total.isfinite()
    total.backward()
    if labels == "some":
        without = [name for name, param in model.named_parameters() if param.grad is None]
        assert without == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_keep_float32_under_mixed_precision(dtype: torch.dtype) -> None:
    model = build().train()
    data = model.data_preprocessor(batch((128, 128)), True)
    torch.manual_seed(0)
    want = model(**data, mode="loss")
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype):
        got = model(**data, mode="loss")
    for name, value in got.items():
        assert value.dtype == torch.float32 and value.isfinite(), name
        assert value.item() == pytest.approx(want[name].item(), rel=0.1, abs=0.02), name


class Head:
    predicts_probabilities = True


class Module(nn.Module):
    def __init__(self, probabilities: bool) -> None:
        super().__init__()
        self.decode_head = Head() if probabilities else object()

    def test_step(self, data: dict) -> None:
        """Asked for by mmengine's base class."""


@pytest.mark.parametrize("probabilities", [True, False])
def test_augmented_views_are_averaged_as_probabilities(probabilities: bool) -> None:
    views = torch.tensor([[0.9, 0.0], [0.0, 0.3], [0.0, 0.3]])[..., None, None]
    samples = []
    for view in views:
        found = sample(1, 1, torch.zeros(1, 1, 1, dtype=torch.long))
        found.seg_logits = PixelData(data=view)
        samples.append(found)
    (merged,) = SegTTAModel(Module(probabilities)).merge_preds([samples])
    want = views.mean(0) if probabilities else views.softmax(1).mean(0)
    torch.testing.assert_close(merged.seg_logits.data, want)
    assert merged.pred_sem_seg.data.item() == want.argmax(0).item()
