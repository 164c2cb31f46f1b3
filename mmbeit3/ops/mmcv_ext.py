"""A stand-in for ``mmcv._ext``, the compiled half of mmcv that most installations lack.

This is the one file that reaches under another library. mmdet and mmseg call their operators
through ``mmcv.ops``, which cannot even be imported without ``mmcv._ext``; compiling that takes half
an hour where it works at all. The few operators that this project's models need exist in torch
and torchvision, so they are offered here under mmcv's names. A compiled ``mmcv._ext`` always
comes first.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_NAME = "mmcv._ext"
_ORIGIN = "mmbeit3 (torch + torchvision)"

# Modules of the maintained forks that put a function which only raises in the place of an
# operator when mmcv.ops could not be imported before them.
_BIND_AT_IMPORT = (
    "mmdet.structures.mask.structures",
    "mmdet.models.layers.bbox_nms",
    "mmseg.models.utils.point_sample",
    "mmseg.utils.mask_classification",
)


class _StandIn(MetaPathFinder, Loader):
    """Finds and fills the stand-in module; torch is imported when an operator first runs."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NAME:
            return None
        return importlib.util.spec_from_loader(_NAME, self, origin=_ORIGIN)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = "Operators supplied by mmbeit3 in the place of mmcv's compiled ones."
        vars(module).update({operator.__name__: operator for operator in _OPERATORS})
        module.__getattr__ = _missing  # type: ignore[method-assign]


_STAND_IN = _StandIn()


def install() -> None:
    """Make ``mmcv._ext`` importable where mmcv has no compiled operators.

    Appended to the import system, so that a compiled ``mmcv._ext`` is found first. Calling it
    again changes nothing.
    """
    if _STAND_IN in sys.meta_path:
        return
    sys.meta_path.append(_STAND_IN)
    late = [name for name in _BIND_AT_IMPORT if name in sys.modules]
    if late and _NAME not in sys.modules:
        warnings.warn(
            f"{late[0]} was imported before mmbeit3, without mmcv's operators, and will not see "
            "those of mmbeit3: import mmbeit3 first.",
            RuntimeWarning,
            stacklevel=2,
        )


def source() -> str:
    """Say whose operators ``mmcv.ops`` runs on.

    Raises:
        ModuleNotFoundError: mmcv is not installed.
    """
    spec = importlib.util.find_spec(_NAME)
    stands_in = spec is not None and isinstance(spec.loader, _StandIn)
    return _ORIGIN if stands_in else f"compiled {_NAME}"


def route_operators() -> None:
    """Make mmcv's own layers run what this project has faster; a compiled mmcv gains as well.

    - ``nms=dict(type='soft_nms', ...)`` in any config: mmcv's runs on the CPU and in float32 only,
      and cannot stop early. ``mmcv.ops.batched_nms`` looks the name up at each call.
    - Deformable attention on the CPU, where mmcv's layer calls a function of its module.
    """
    _route_soft_nms()
    _route_deform_attn()


def _route_deform_attn() -> None:
    module = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
    theirs = inspect.unwrap(module.multi_scale_deformable_attn_pytorch)

    @functools.wraps(theirs)  # which keeps mmcv's own at hand, to compare with
    def routed(
        value: Tensor,
        value_spatial_shapes: Tensor,
        sampling_locations: Tensor,
        attention_weights: Tensor,
    ) -> Tensor:
        from mmbeit3.ops import multi_scale_deformable_attn as run

        return run(value, value_spatial_shapes, sampling_locations, attention_weights)

    vars(module)["multi_scale_deformable_attn_pytorch"] = routed


def _route_soft_nms() -> None:
    from mmengine.utils import deprecated_api_warning

    routed = deprecated_api_warning({"iou_thr": "iou_threshold"})(soft_nms)
    # `mmcv.ops.nms` as an attribute is the function of that name, not the module.
    for name in ("mmcv.ops.nms", "mmcv.ops"):
        vars(importlib.import_module(name))["soft_nms"] = routed


def soft_nms(
    boxes: Tensor | np.ndarray,
    scores: Tensor | np.ndarray,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    offset: int = 0,
    max_num: int = -1,
) -> tuple[Tensor, Tensor] | tuple[np.ndarray, np.ndarray]:
    """:func:`mmbeit3.ops.soft_nms` for boxes of one class, with the signature of mmcv's.

    Args:
        boxes (Tensor | np.ndarray): (N, 4) as (x1, y1, x2, y2).
        scores (Tensor | np.ndarray): (N,).
        iou_threshold (float): As in :func:`mmbeit3.ops.soft_nms`, like the next three.
        sigma (float): Defaults to 0.5.
        min_score (float): Defaults to 1e-3.
        method (str): 'linear', 'gaussian' or 'naive'.
        offset (int): 1 if x2 and y2 name the last pixel inside the box. Defaults to 0.
        max_num (int): Number of boxes to keep; all if not positive. mmcv lacks this one.

    Returns:
        tuple: ``dets`` (K, 5) and ``keep`` (K,), arrays if ``boxes`` is one.
    """
    import torch

    from mmbeit3.ops import soft_nms as run

    was_tensor = isinstance(boxes, torch.Tensor)
    boxes, scores = torch.as_tensor(boxes), torch.as_tensor(scores)
    labels = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
    dets, _, keep = run(
        _closed(boxes, offset),
        scores,
        labels,
        iou_threshold=iou_threshold,
        sigma=sigma,
        min_score=min_score,
        method=method,
        max_per_img=max_num,
    )
    dets = torch.cat((boxes[keep], dets[:, 4:].to(scores.dtype)), dim=1)
    return (dets, keep) if was_tensor else (dets.numpy(), keep.numpy())


# From here on: the operators, under the names and with the arguments that mmcv's Python code uses.
# torchvision has no kernels for bfloat16, and none for half precision on some devices; float32
# also keeps box coordinates exact there.


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices (K,) of the boxes (N, 4) kept by NMS, by descending score."""
    from torchvision.ops import nms as run

    return run(_at_least_float32(_closed(boxes, offset)), _at_least_float32(scores), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Indices (K,) of the boxes (N, 4) kept by Soft-NMS; fills the first K rows of ``dets``."""
    from mmbeit3.ops.softnms import METHODS

    kept, indices = soft_nms(
        boxes, scores, iou_threshold, sigma, min_score, METHODS[method], offset
    )
    dets[: len(kept)] = kept
    return indices


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output`` (K, C, aligned_height, aligned_width) from ``rois`` (K, 5)."""
    from torchvision.ops import roi_align

    _require_average(pool_mode)
    features, rois = _at_least_float32(input), _at_least_float32(rois)
    size = (aligned_height, aligned_width)
    rois = rois.to(features.dtype)
    output.copy_(roi_align(features, rois, size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input`` (B, C, H, W)."""
    import torch
    import torchvision  # noqa: F401  registers torch.ops.torchvision

    _require_average(pool_mode)
    grad = _at_least_float32(grad_output)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad,
            rois.to(grad.dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """:func:`mmbeit3.ops.multi_scale_deformable_attn`; the levels follow each other."""
    from mmbeit3.ops import multi_scale_deformable_attn as run

    return run(value, spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the three gradients, by computing the forward again."""
    import torch

    from mmbeit3.ops import multi_scale_deformable_attn as run

    inputs = [
        tensor.detach().requires_grad_()
        for tensor in (value, sampling_locations, attention_weights)
    ]
    with torch.enable_grad():
        output = run(inputs[0], spatial_shapes, *inputs[1:])
    grads = torch.autograd.grad(output, inputs, grad_output)
    grad_value.copy_(grads[0])
    grad_sampling_loc.copy_(grads[1])
    grad_attn_weight.copy_(grads[2])


_OPERATORS = (
    nms,
    softnms,
    roi_align_forward,
    roi_align_backward,
    ms_deform_attn_forward,
    ms_deform_attn_backward,
)


def _missing(name: str) -> Callable[..., Any]:
    """What the stand-in answers for an operator it lacks.

    mmcv asks for every one of its operators when it is imported, hence no error until one is
    called. Names with a leading underscore are Python's own questions.
    """
    if name.startswith("_"):
        raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")

    def operator(*args: Any, **kwargs: Any) -> None:
        raise _unsupported(name)

    return operator


def _unsupported(what: str) -> NotImplementedError:
    supplied = ", ".join(operator.__name__ for operator in _OPERATORS)
    return NotImplementedError(
        f"mmcv operator {what} is not among those that mmbeit3 supplies ({supplied}). "
        "It needs mmcv with compiled operators (see 'build from source' in mmcv's installation "
        "guide); mmbeit3 uses them when they are there."
    )


def _require_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise _unsupported("roi_align with pool_mode='max'")


def _closed(boxes: Tensor, offset: int) -> Tensor:
    """Boxes whose width is x2 - x1, from boxes whose width is x2 - x1 + offset."""
    if offset == 0:
        return boxes
    boxes = _at_least_float32(boxes)
    return boxes + boxes.new_tensor((0, 0, offset, offset))


def _at_least_float32(tensor: Tensor) -> Tensor:
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
