"""The segmentor's inference against mmseg's own: windows, padding, flips, sizes, and memory."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.models.segmentors import EncoderDecoder as MMSegEncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmbeit3.models import EncoderDecoder
from mmbeit3.models.segmentors import bands
from mmbeit3.models.segmentors.resizing import RowResizer
from mmbeit3.models.segmentors.windows import Side
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError


@MODELS.register_module(force=True)
class OneConvolution(nn.Module):
    """A backbone that notes how many images each call has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> tuple[Tensor]:
        self.batches.append(len(images))
        return (self.conv(images),)


def build(num_classes: int = 6, align_corners: bool = False, **test_cfg) -> EncoderDecoder:
    init_default_scope("mmseg")
    torch.manual_seed(0)
    head = dict(
        type="FCNHead",
        in_channels=8,
        channels=8,
        num_convs=1,
        num_classes=num_classes,
        out_channels=num_classes,
        align_corners=align_corners,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=num_classes == 1),
    )
    model = MODELS.build(
        dict(
            type="mmbeit3.EncoderDecoder",
            backbone=dict(type="mmbeit3.OneConvolution"),
            decode_head=head,
            test_cfg=ConfigDict(dict(mode="whole") | test_cfg),
        )
    )
    nn.init.normal_(model.decode_head.conv_seg.weight)  # mmseg's own is next to nothing
    return model.eval()


def samples(*metas: dict) -> list[SegDataSample]:
    return [SegDataSample(metainfo=dict(img_shape=(1, 1)) | meta) for meta in metas]


def same(got: list[SegDataSample], want: list[SegDataSample]) -> None:
    """Compare scores, and classes wherever the scores of the best two are not all but equal."""
    for found, expected in zip(got, want, strict=True):
        scores = expected.seg_logits.data
        torch.testing.assert_close(found.seg_logits.data, scores, rtol=1e-4, atol=1e-4)
        labels = expected.pred_sem_seg.data
        assert found.pred_sem_seg.data.shape == labels.shape
        assert found.pred_sem_seg.data.dtype == labels.dtype
        if len(scores) > 1:
            first, second = scores.topk(2, dim=0).values
            clear = (first - second > 1e-3)[None]
        else:
            clear = (scores - 0.3).abs() > 1e-3
        assert clear.float().mean() > 0.9
        assert torch.equal(found.pred_sem_seg.data[clear], labels[clear])


METAS = [
    dict(ori_shape=(90, 130)),
    dict(ori_shape=(40, 56)),
    dict(ori_shape=(23, 90)),
    dict(ori_shape=(40, 31)),
    dict(ori_shape=(1, 1)),
    dict(ori_shape=(40, 56), flip=True, flip_direction="horizontal"),
    dict(ori_shape=(40, 56), flip=True, flip_direction="vertical"),
    dict(ori_shape=(97, 31), flip=True, flip_direction="vertical"),
    dict(ori_shape=(31, 97), flip=True, flip_direction="horizontal", padding_size=(3, 9, 2, 7)),
    dict(ori_shape=(61, 97), flip=True, flip_direction="vertical", img_padding_size=(0, 9, 5, 7)),
    dict(ori_shape=(33, 47), padding_size=(0, 9, 0, 7)),
    dict(ori_shape=(50, 50), padding_size=(30, 0, 0, 0), img_padding_size=(0, 5, 6, 0)),
    dict(ori_shape=(50, 50), flip=False, flip_direction="horizontal"),
    dict(ori_shape=(50, 50), flip=None, flip_direction=None),
]


@torch.no_grad()
@pytest.mark.parametrize(
    ("num_classes", "align_corners"), [(6, False), (6, True), (1, False)], ids=str
)
@pytest.mark.parametrize(
    "test_cfg",
    [
        dict(mode="whole"),
        dict(mode="slide", crop_size=(16, 24), stride=(10, 11)),
        dict(mode="slide", crop_size=(16, 24), stride=(3, 24), window_batch_size=7),
        dict(mode="slide", crop_size=(64, 16), stride=(64, 10), window_batch_size=100),
    ],
    ids=lambda test_cfg: f"{test_cfg['mode']}-{test_cfg.get('window_batch_size')}",
)
@pytest.mark.parametrize("band", [1, 3000, 10**9])
def test_results_are_those_of_mmseg(
    test_cfg: dict,
    num_classes: int,
    align_corners: bool,
    band: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """mmseg's code on the same model: every window and the whole image on their own."""
    monkeypatch.setattr(bands, "MAX_BAND", band)
    model = build(num_classes, align_corners, return_logits=True, **test_cfg)
    images = torch.randn(len(METAS), 3, 40, 56)
    want = MMSegEncoderDecoder.predict(model, images, samples(*METAS))
    same(model.predict(images, samples(*METAS)), want)
    same(model.predict(images), MMSegEncoderDecoder.predict(model, images))


@pytest.mark.parametrize("seed", range(60))
def test_rows_may_come_in_any_pieces(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    torch.manual_seed(seed)
    height, width = draw.randint(1, 60), draw.randint(1, 30)
    left, right, top, bottom = (draw.randint(0, (side - 1) // 2) for side in (width, height) * 2)
    padding = (left, right, top, bottom) if height > top + bottom and width > left + right else None
    meta = dict(ori_shape=(draw.randint(1, 200), draw.randint(1, 90)))
    meta |= dict(padding_size=padding) if padding and draw.random() < 0.5 else {}
    meta |= dict(flip=draw.random() < 0.7, flip_direction=draw.choice(["horizontal", "vertical"]))
    model = build(align_corners=draw.random() < 0.5)
    scores = torch.randn(1, 5, height, width)
    (want,) = model.postprocess_result(scores, samples(meta))

    monkeypatch.setattr(bands, "MAX_BAND", draw.choice([1, 2000, 20000]))
    resizer = RowResizer((height, width), meta, model.align_corners, scores.device)
    got = torch.full((5, *meta["ori_shape"]), torch.nan)
    begin = 0
    while begin < height:
        end = begin + draw.randint(1, 9)
        for rows, band in resizer.feed(scores[0, :, begin:end]):
            assert got[:, rows].isnan().all()  # each row comes once
            got[:, rows] = band
        begin = end
    torch.testing.assert_close(got, want.seg_logits.data, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("window_batch_size", "batches"), [(None, [1] * 12), (1, [1] * 12), (5, [5, 5, 2]), (20, [12])]
)
def test_windows_of_all_images_share_batches(
    window_batch_size: int | None, batches: list[int]
) -> None:
    cfg = dict(mode="slide", crop_size=(16, 16), stride=(10, 10))
    model = build(window_batch_size=window_batch_size, **cfg)
    model.predict(torch.randn(2, 3, 26, 36))  # 2 x 3 windows in each
    assert model.backbone.batches == batches


@torch.no_grad()
def test_a_head_is_told_whose_windows_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the size of a window, for each of them."""
    model = build(mode="slide", crop_size=(16, 16), stride=(10, 10), window_batch_size=4)
    told, predict = [], model.decode_head.predict
    monkeypatch.setattr(
        model.decode_head,
        "predict",
        lambda x, metas, cfg: told.extend(metas) or predict(x, metas, cfg),
    )
    metas = [dict(ori_shape=(26, 36), img_path=name) for name in "ab"]
    model.predict(torch.randn(2, 3, 26, 36), samples(*metas))
    assert [meta["img_path"] for meta in told] == ["a"] * 6 + ["b"] * 6
    assert {meta["img_shape"] for meta in told} == {(16, 16)}


@torch.no_grad()
def test_scores_are_kept_only_if_they_are_wanted() -> None:
    (found,) = build().predict(torch.randn(1, 3, 20, 20))
    assert "seg_logits" not in found and found.pred_sem_seg.shape == (20, 20)
    (found,) = build(return_logits=True).predict(torch.randn(1, 3, 20, 20))
    assert found.seg_logits.shape == (20, 20)


class Largest(TorchDispatchMode):
    """Note the largest storage, in elements, of what is computed."""

    elements = 0

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (), kwargs=None):
        found = func(*args, **kwargs or {})
        for value in found if isinstance(found, (list, tuple)) else [found]:
            if isinstance(value, Tensor):
                storage = value.untyped_storage().nbytes() // value.element_size()
                self.elements = max(self.elements, storage)
        return found


@torch.no_grad()
@pytest.mark.parametrize("mode", ["slide", "whole"])
def test_no_scores_of_the_whole_original(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor: a strip of windows, or the scores at the size of the input."""
    monkeypatch.setattr(bands, "MAX_BAND", 1)
    model = build(60, mode=mode, crop_size=(16, 32), stride=(10, 20))
    image, original = torch.randn(1, 3, 160, 64), dict(ori_shape=(320, 128))
    with Largest() as largest:
        model.predict(image, samples(original))
    assert largest.elements == 60 * 64 * (16 if mode == "slide" else 160)
    with Largest() as largest:
        MMSegEncoderDecoder.predict(model, image, samples(original))
    assert largest.elements == 60 * 320 * 128


@torch.no_grad()
def test_half_precision_is_summed_up_in_float32() -> None:
    cfg = dict(mode="slide", crop_size=(16, 16), stride=(4, 4), return_logits=True)
    model = build(**cfg)
    image = torch.randn(1, 3, 40, 40)
    (want,) = model.predict(image, samples(dict(ori_shape=(90, 90))))
    decode = model.encode_decode
    model.encode_decode = lambda *args: decode(*args).bfloat16()
    (got,) = model.predict(image, samples(dict(ori_shape=(90, 90))))
    assert got.seg_logits.data.dtype == torch.float32
    scale = want.seg_logits.data.abs().max()
    # In bfloat16 the sum of 16 windows alone would be off by a hundredth.
    assert (got.seg_logits.data - want.seg_logits.data).abs().max() < 0.004 * scale


@pytest.mark.parametrize("size", range(1, 40))
def test_windows_are_where_those_of_mmseg_are(size: int) -> None:
    for crop, stride in ((16, 10), (16, 16), (7, 3), (40, 1)):
        grids = max(size - crop + stride - 1, 0) // stride + 1
        ends = [min(i * stride + crop, size) for i in range(grids)]
        assert Side(size, crop, stride).starts == [max(end - crop, 0) for end in ends]


@torch.no_grad()
@pytest.mark.parametrize(
    ("test_cfg", "message"),
    [
        (dict(mode="slides"), "mode is 'slides', expected 'slide' or 'whole'"),
        (dict(mode="slide", stride=(17, 8)), "16 pixels leave gaps with a stride of 17"),
        (dict(mode="slide", stride=(8, 8), window_batch_size=0), "window_batch_size is 0"),
    ],
)
def test_what_cannot_be_done_is_said(test_cfg: dict, message: str) -> None:
    model = build()
    model.test_cfg = dict(crop_size=(16, 16)) | test_cfg
    with pytest.raises(InputError, match=message):
        model.predict(torch.randn(1, 3, 40, 40))


@torch.no_grad()
def test_a_diagonal_flip_is_refused_as_by_mmseg() -> None:
    meta = dict(ori_shape=(20, 20), flip=True, flip_direction="diagonal")
    with pytest.raises(ValueError, match="'diagonal', expected horizontal or vertical"):
        build().predict(torch.randn(1, 3, 20, 20), samples(meta))


def test_gradients_reach_the_image() -> None:
    cfg = dict(mode="slide", crop_size=(16, 16), stride=(10, 10), return_logits=True)
    image = torch.randn(1, 3, 30, 30, requires_grad=True)
    (found,) = build(**cfg).predict(image, samples(dict(ori_shape=(50, 50))))
    found.seg_logits.data.sum().backward()
    assert (image.grad != 0).all()
