"""Box head of ViTDet: mmdet's layers, detectron2's start values."""

from __future__ import annotations

from typing import Any

from mmdet.models.roi_heads.bbox_heads import (
    Shared4Conv1FCBBoxHead as MMDetShared4Conv1FCBBoxHead,
)

from mmbeit3.registry import MODELS


@MODELS.register_module()
class Shared4Conv1FCBBoxHead(MMDetShared4Conv1FCBBoxHead):
    """mmdet's ``Shared4Conv1FCBBoxHead`` with the start values of detectron2; arguments as there.

    The fully connected layer is drawn as ``c2_xavier_fill`` does it, by its inputs alone; mmdet's
    ``Xavier`` counts its outputs, too. Convolutions and outputs start alike in both.

    Args:
        *args (Any): As in mmdet.
        init_cfg (dict | list[dict], optional): Other start values. Defaults to None.
        **kwargs (Any): As in mmdet.
    """

    def __init__(self, *args: Any, init_cfg: dict | list[dict] | None = None, **kwargs: Any):
        init_cfg = init_cfg or [
            dict(type="Caffe2Xavier", override=dict(name="shared_fcs")),
            dict(type="Normal", std=0.01, override=dict(name="fc_cls")),
            dict(type="Normal", std=0.001, override=dict(name="fc_reg")),
        ]
        super().__init__(*args, init_cfg=init_cfg, **kwargs)
