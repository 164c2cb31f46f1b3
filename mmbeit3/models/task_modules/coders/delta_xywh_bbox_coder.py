"""Box deltas as detectron2 clamps them, in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder as MMDetDeltaXYWHBBoxCoder
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

from mmbeit3.registry import TASK_UTILS


@TASK_UTILS.register_module()
class DeltaXYWHBBoxCoder(MMDetDeltaXYWHBBoxCoder):
    """mmdet's ``DeltaXYWHBBoxCoder`` with the arithmetic of detectron2's ``Box2BoxTransform``.

    A box grows 1000 / 16 times at most and shrinks without limit; mmdet stops it at 16 / 1000 of
    its size. Boxes are decoded in float32, whatever precision the deltas come in.

    Args:
        target_means (Sequence[float]): Means of the deltas (dx, dy, dw, dh). Defaults to zeros.
        target_stds (Sequence[float]): Their standard deviations; detectron2's weights are one by
            these. Defaults to ones.
        clip_border (bool): Clip decoded boxes to the image. Defaults to True.
    """

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        clip_border: bool = True,
    ) -> None:
        # With this option mmdet clamps growth only; the limit of shifts it brings is taken off.
        super().__init__(
            target_means, target_stds, clip_border, add_ctr_clamp=True, ctr_clamp=math.inf
        )

    def decode(
        self,
        bboxes: Tensor,
        pred_bboxes: Tensor,
        max_shape: Sequence[int] | None = None,
        wh_ratio_clip: float = 16 / 1000,
    ) -> Tensor:
        """Move boxes by deltas.

        Args:
            bboxes (Tensor): Boxes (N, 4).
            pred_bboxes (Tensor): Deltas (N, 4), or (N, num_classes * 4).
            max_shape (Sequence[int], optional): Height and width to clip to. Defaults to None.
            wh_ratio_clip (float): One by the most that a side grows. Defaults to 16 / 1000.

        Returns:
            Tensor: Boxes in the shape of the deltas, in float32.
        """
        boxes = get_box_tensor(bboxes).float()
        return super().decode(boxes, pred_bboxes.float(), max_shape, wh_ratio_clip)
