"""Cascade R-CNN whose strides, and whose weights, heads and class names, must agree."""

from __future__ import annotations

from typing import Any

from mmdet.models.detectors import CascadeRCNN as MMDetCascadeRCNN

from mmbeit3.checkpoint.strict_loading import StrictLoading
from mmbeit3.models.multimodal.open_vocabulary import OpenVocabulary
from mmbeit3.models.strides import check_strides
from mmbeit3.registry import MODELS


@MODELS.register_module()
class CascadeRCNN(OpenVocabulary, StrictLoading, MMDetCascadeRCNN):
    """mmdet's ``CascadeRCNN`` that refuses strides which are not those of its pyramid.

    Checkpoints are loaded whole, by mmdet's ``init_detector`` and ``DetInferencer`` too, see
    :class:`mmbeit3.checkpoint.strict_loading.StrictLoading`.

    With ``class_embeddings`` it scores classes by their names, see
    :class:`mmbeit3.models.multimodal.open_vocabulary.OpenVocabulary`.

    Args:
        *args (Any): As in mmdet.
        **kwargs (Any): As in mmdet, and ``class_embeddings``.

    Raises:
        InputError: Anchors or RoIs have other strides than the maps of backbone and neck.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_strides(self)
