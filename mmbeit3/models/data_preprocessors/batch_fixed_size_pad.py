"""Padding of a training batch to one size, for every image of it alike."""

from __future__ import annotations

from mmdet.models.data_preprocessors import BatchFixedSizePad as MMDetBatchFixedSizePad
from mmdet.structures import DetDataSample
from torch import Tensor

from mmbeit3.registry import MODELS


@MODELS.register_module()
class BatchFixedSizePad(MMDetBatchFixedSizePad):
    """mmdet's, with the padded size noted on every image; arguments as there.

    mmdet's does nothing where the largest image of the batch already has the size. The smaller
    ones then keep their own ``pad_shape``, and the RPN leaves out the anchors over their padding:
    what an image teaches would depend on its neighbors. detectron2 trains every anchor. Boxes
    without masks are taken whatever ``pad_mask`` says.
    """

    pad_mask: bool

    def forward(
        self, inputs: Tensor, data_samples: list[DetDataSample] | None = None
    ) -> tuple[Tensor, list[DetDataSample] | None]:
        """Pad ``inputs`` (B, C, H, W) and the masks of ``data_samples`` on the right and bottom."""
        pad_mask = self.pad_mask
        self.pad_mask = pad_mask and all("masks" in s.gt_instances for s in data_samples or ())
        inputs, data_samples = super().forward(inputs, data_samples)
        self.pad_mask = pad_mask
        for sample in data_samples or ():
            sample.set_metainfo({"pad_shape": tuple(inputs.shape[-2:])})
        return inputs, data_samples
