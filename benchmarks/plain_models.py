"""Whole models with our weights, put together from what mmdet and mmseg themselves have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from types import MethodType
from typing import Any

from mmengine.config import ConfigDict
from mmseg.models import EncoderDecoder
from torch import nn

from benchmarks.plain import make_plain


def make_plain_detector(model: nn.Module) -> nn.Module:
    """Have a detector run naive attention; what is not accelerated pastes masks as mmdet does.

    Build it from a config that went through :func:`plain_detector_cfg`.
    """
    make_plain(model.backbone)
    return model


def plain_detector_cfg(cfg: ConfigDict, square: int | None) -> ConfigDict:
    """Fit the config of a detector: mmdet's RoI features, images padded to squares.

    Args:
        cfg (ConfigDict): The model; it is changed.
        square (int, optional): Side of the squares in pixels; None pads as the config says.
    """
    for name in ("bbox_roi_extractor", "mask_roi_extractor"):
        cfg.roi_head[name].type = "SingleRoIExtractor"
    if square:
        cfg.data_preprocessor.pad_size_divisor = square
    return cfg


def make_plain_segmentor(model: nn.Module) -> nn.Module:
    """Have a segmentor run mmseg's sliding window, with scores of the whole image, and naive tower.

    The size of a window is still told to the head, without which mmseg's would fail.
    """
    make_plain(model.backbone)
    model.test_step = _with_mmcvs_attention(model.test_step)
    model.predict = MethodType(EncoderDecoder.predict, model)
    return model


def _with_mmcvs_attention(run: Callable[..., Any]) -> Callable[..., Any]:
    """Have mmcv's own deformable attention in its place while ``run`` runs."""
    module = import_module("mmcv.ops.multi_scale_deform_attn")
    name = "multi_scale_deformable_attn_pytorch"

    def call(*args: Any) -> Any:
        ours = getattr(module, name)
        setattr(module, name, inspect.unwrap(ours))
        try:
            return run(*args)
        finally:
            setattr(module, name, ours)

    return call
