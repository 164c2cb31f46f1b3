"""The stand-in for mmcv._ext, as mmcv, mmdet and a user meet it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import mmcv.ops
import numpy as np
import pytest
import torch
import torchvision
from mmcv import _ext
from mmcv.ops import RoIAlign, batched_nms
from torch import Tensor

import mmbeit3
from mmbeit3.ops import mmcv_ext, soft_nms

ROOT = Path(mmbeit3.__file__).parents[1]

# With a compiled mmcv these would test mmcv.
stand_in_only = pytest.mark.skipif(
    mmcv_ext.source().startswith("compiled"), reason="mmcv has compiled operators here"
)


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soft-NMS routed for one test."""
    module = importlib.import_module("mmcv.ops.nms")
    monkeypatch.setattr(module, "soft_nms", module.soft_nms)
    monkeypatch.setattr(mmcv.ops, "soft_nms", mmcv.ops.soft_nms)
    mmcv_ext.route_operators()


def python(code: str, *paths: Path) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter, in the project's root."""
    search = os.pathsep.join(str(path) for path in (ROOT, *paths))
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def crowd(number: int, classes: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=generator) * 100
    size = torch.rand(number, 2, generator=generator) * 50 + 1
    labels = torch.randint(classes, (number,), generator=generator)
    return (
        torch.cat((corner, corner + size), dim=1),
        torch.rand(number, generator=generator),
        labels,
    )


# The module itself


def test_import_of_the_package_brings_no_torch() -> None:
    code = "import sys, mmbeit3; print([m for m in ('torch', 'mmcv', 'numpy') if m in sys.modules])"
    result = python(code)
    assert result.stdout.strip() == "[]", result.stderr


def test_install_twice_is_once() -> None:
    mmcv_ext.install()
    assert sum(isinstance(finder, mmcv_ext._StandIn) for finder in sys.meta_path) == 1


FAKE_EXT = """
import mmcv
mmcv.__path__.append({folder!r})
import mmbeit3
from mmbeit3.ops.mmcv_ext import source
print(source())
import mmcv._ext
print(mmcv._ext.nms())
print(source())
"""


def test_a_compiled_extension_comes_first(tmp_path: Path) -> None:
    (tmp_path / "_ext.py").write_text("def nms():\n    return 'the compiled one'\n")
    result = python(FAKE_EXT.format(folder=str(tmp_path)))
    expected = ["compiled mmcv._ext", "the compiled one", "compiled mmcv._ext"]
    assert result.stdout.splitlines() == expected, result.stderr


@stand_in_only
def test_source() -> None:
    assert mmcv_ext.source() == "mmbeit3 (torch + torchvision)"


LATE_IMPORT = """
import sys, warnings
warnings.simplefilter("ignore")
try:
    import mmdet.structures.mask
except ImportError:  # the original mmdet cannot go on without the operators
    pass
warnings.simplefilter("always")
import mmbeit3
print("mmdet.structures.mask.structures" in sys.modules)
"""


@stand_in_only
def test_import_after_mmdet_is_noticed() -> None:
    result = python(LATE_IMPORT)
    # Where the import failed it left nothing behind, and there is nothing to warn of.
    left_behind = result.stdout.strip() == "True"
    assert ("import mmbeit3 first" in result.stderr) == left_behind, result.stderr


@pytest.mark.parametrize("operators_came_first", [True, False])
def test_warning_on_late_install(
    operators_came_first: bool, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    others = [finder for finder in sys.meta_path if finder is not mmcv_ext._STAND_IN]
    monkeypatch.setattr(sys, "meta_path", others)
    monkeypatch.setitem(sys.modules, "mmdet.models.layers.bbox_nms", sys)
    if not operators_came_first:
        monkeypatch.delitem(sys.modules, "mmcv._ext")
    mmcv_ext.install()
    messages = [str(warning.message) for warning in recwarn]
    assert any("import mmbeit3 first" in text for text in messages) != operators_came_first


@stand_in_only
def test_python_attributes_are_not_operators() -> None:
    for name in ("__path__", "__wrapped__", "_private"):
        assert not hasattr(_ext, name)


@stand_in_only
def test_a_missing_operator_is_named() -> None:
    with pytest.raises(NotImplementedError, match=r"deform_conv_forward is not .*nms, softnms"):
        _ext.deform_conv_forward()
    layer, offset = mmcv.ops.DeformConv2d(3, 4, 3, padding=1), torch.zeros(1, 18, 8, 8)
    with pytest.raises(NotImplementedError, match="deform_conv_forward"):
        layer(torch.zeros(1, 3, 8, 8), offset)
    with pytest.raises(NotImplementedError, match="sigmoid_focal_loss_forward"):
        mmcv.ops.sigmoid_focal_loss(torch.zeros(2, 3), torch.zeros(2).long())


# The operators


@stand_in_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_nms_equals_torchvision(dtype: torch.dtype) -> None:
    boxes, scores, _ = crowd(200)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    exact = torch.promote_types(dtype, torch.float32)
    for threshold in (0.3, 0.7):
        keep = _ext.nms(boxes, scores, iou_threshold=threshold, offset=0)
        expected = torchvision.ops.nms(boxes.to(exact), scores.to(exact), threshold)
        assert torch.equal(keep, expected)
    dets, keep = mmcv.ops.nms(boxes, scores, 0.5, score_threshold=0.2, max_num=7)
    assert torch.equal(dets, torch.cat((boxes, scores[:, None]), dim=1)[keep]) and len(keep) == 7


def test_nms_with_offset() -> None:
    """Boxes 0..9 and 5..14 in whole pixels: 5 of 15 shared; as plain corners 4 of 14."""
    boxes = torch.tensor([[0, 0, 9, 0.0], [5, 0, 14, 0.0]])
    scores = torch.tensor([0.9, 0.8])
    assert len(_ext.nms(boxes, scores, iou_threshold=0.34, offset=1)) == 2
    assert len(_ext.nms(boxes, scores, iou_threshold=0.33, offset=1)) == 1
    assert len(_ext.nms(boxes, scores, iou_threshold=0.0, offset=0)) == 2  # no area at all


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("number", [0, 5])
def test_roi_align_equals_torchvision(number: int, sampling_ratio: int, aligned: bool) -> None:
    boxes, _, images = crowd(number, classes=2)
    rois = torch.cat((images[:, None].float(), boxes), dim=1)
    features = torch.randn(2, 3, 20, 30, generator=torch.Generator().manual_seed(1))
    ours, theirs = (features.clone().requires_grad_() for _ in range(2))
    pooled = RoIAlign((4, 5), 0.25, sampling_ratio, aligned=aligned)(ours, rois)
    expected = torchvision.ops.roi_align(theirs, rois, (4, 5), 0.25, sampling_ratio, aligned)
    assert pooled.shape == (number, 3, 4, 5)
    torch.testing.assert_close(pooled, expected)
    probe = torch.linspace(-1, 1, pooled.numel()).view_as(pooled)
    (pooled * probe).sum().backward()
    (expected * probe).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@stand_in_only
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_roi_align_in_half_precision(dtype: torch.dtype) -> None:
    boxes, _, images = crowd(5, classes=2)
    rois = torch.cat((images[:, None].float(), boxes), dim=1).to(dtype)
    features = torch.randn(2, 3, 20, 30, generator=torch.Generator().manual_seed(1)).to(dtype)
    low, exact = features.clone().requires_grad_(), features.float().requires_grad_()
    pooled = RoIAlign(4, 0.25)(low, rois)
    expected = RoIAlign(4, 0.25)(exact, rois.float())
    assert torch.equal(pooled, expected.to(dtype))
    pooled.sum().backward()
    expected.sum().backward()
    assert torch.equal(low.grad, exact.grad.to(dtype))


@stand_in_only
def test_roi_align_by_maximum_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="roi_align with pool_mode='max'"):
        RoIAlign(2, pool_mode="max")(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5))


# Soft-NMS through mmcv


@stand_in_only
@pytest.mark.parametrize("method", ["linear", "gaussian", "naive"])
def test_mmcvs_own_operator_without_routing(method: str) -> None:
    boxes, scores, labels = crowd(50)
    number = ("naive", "linear", "gaussian").index(method)
    operator = importlib.import_module("mmcv.ops.nms").SoftNMSop
    dets, keep = operator.apply(boxes, scores, 0.4, 0.6, 0.01, number, 0)
    expected, _, kept = soft_nms(boxes, scores, labels, 0.4, 0.6, 0.01, method)
    assert torch.equal(dets[: len(keep)], expected) and torch.equal(keep, kept)


@pytest.mark.parametrize("split_thr", [10000, 100])
@pytest.mark.parametrize("method", ["linear", "gaussian", "naive"])
def test_batched_nms(routed: None, method: str, split_thr: int) -> None:
    """In one call for all classes (boxes of each class shifted), and class by class."""
    boxes, scores, labels = crowd(300, classes=4)
    cfg = {"type": "soft_nms", "iou_threshold": 0.4, "sigma": 0.6, "min_score": 0.01}
    dets, keep = batched_nms(
        boxes, scores, labels, {**cfg, "method": method, "split_thr": split_thr}
    )
    expected, _, kept = soft_nms(boxes, scores, labels, 0.4, 0.6, 0.01, method)
    assert torch.equal(keep, kept)
    # Shifting the boxes costs some digits of the overlap.
    torch.testing.assert_close(dets, expected, rtol=1e-4, atol=1e-5)


def test_batched_nms_over_ten_thousand_boxes(routed: None) -> None:
    boxes, scores, labels = crowd(10_500, classes=300, seed=3)
    cfg = {"type": "soft_nms", "iou_threshold": 0.4, "min_score": 0.5, "max_num": 60}
    dets, keep = batched_nms(boxes, scores, labels, cfg)
    expected, _, kept = soft_nms(boxes, scores, labels, 0.4, min_score=0.5, max_per_img=60)
    assert torch.equal(keep, kept)
    torch.testing.assert_close(dets, expected, rtol=1e-4, atol=1e-5)


def test_max_num_stops_early_below_the_split(routed: None) -> None:
    boxes, scores, labels = crowd(300, classes=4)
    dets, keep = batched_nms(boxes, scores, labels, {"type": "soft_nms"})
    first, kept = batched_nms(boxes, scores, labels, {"type": "soft_nms", "max_num": 20})
    assert torch.equal(first, dets[:20]) and torch.equal(kept, keep[:20])


def test_routed_function_has_mmcvs_manners(routed: None) -> None:
    boxes, scores, _ = crowd(50)
    dets, keep = mmcv.ops.soft_nms(boxes, scores, 0.6)
    with pytest.warns(DeprecationWarning, match="iou_thr"):
        renamed, _ = mmcv.ops.soft_nms(boxes, scores, iou_thr=0.6)
    assert torch.equal(renamed, dets)
    arrays = mmcv.ops.soft_nms(boxes.numpy(), scores.numpy(), 0.6)
    assert all(isinstance(array, np.ndarray) for array in arrays)
    assert (arrays[0] == dets.numpy()).all() and (arrays[1] == keep.numpy()).all()


def test_routed_function_with_offset(routed: None) -> None:
    """Boxes 0..9 and 5..14 in whole pixels share 5 of 15."""
    boxes, scores = torch.tensor([[0, 0, 9, 0.0], [5, 0, 14, 0.0]]), torch.tensor([0.9, 0.6])
    dets, keep = mmcv.ops.soft_nms(boxes, scores, 0.3, offset=1)
    assert torch.equal(dets[:, :4], boxes) and keep.tolist() == [0, 1]
    assert dets[1, 4].item() == pytest.approx(0.6 * (1 - 5 / 15))
