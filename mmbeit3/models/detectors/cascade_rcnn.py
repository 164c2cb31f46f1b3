"""Cascade R-CNN whose anchors and RoIs are checked to lie where the maps show them."""

from __future__ import annotations

from typing import Any

from mmdet.models.detectors import CascadeRCNN as MMDetCascadeRCNN

from mmbeit3.models.strides import check_strides
from mmbeit3.registry import MODELS


@MODELS.register_module()
class CascadeRCNN(MMDetCascadeRCNN):
    """mmdet's ``CascadeRCNN`` that refuses strides which are not those of its pyramid.

    Args:
        *args (Any): As in mmdet.
        **kwargs (Any): As in mmdet.

    Raises:
        InputError: Anchors or RoIs have other strides than the maps of backbone and neck.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_strides(self)
