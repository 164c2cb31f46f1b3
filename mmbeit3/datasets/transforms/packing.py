"""Packing a sample of image and text for the models that take both."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import BaseDataElement

from mmbeit3.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackImageText(BaseTransform):
    """Pack an image and what belongs to it: texts, which stay texts, or the number of a class.

    Required key: ``img`` (H, W, 3) uint8, BGR; of a sample without it only the texts are packed.
    Returns ``inputs``, a tensor (3, H, W) uint8, BGR, and ``data_samples``, a ``BaseDataElement``
    with ``texts`` (list[str]), ``text_ids`` (list[int]) and ``gt_label`` (int) where the sample has
    them, and the ``meta_keys`` as metainfo.

    Args:
        meta_keys (tuple[str, ...]): Keys of the sample to keep, where it has them. Defaults to
            ('sample_idx', 'image_id', 'img_path', 'ori_shape', 'img_shape').
    """

    def __init__(
        self,
        meta_keys: tuple[str, ...] = (
            "sample_idx",
            "image_id",
            "img_path",
            "ori_shape",
            "img_shape",
        ),
    ) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Make the input of a model."""
        sample = BaseDataElement(
            metainfo={key: results[key] for key in self.meta_keys if key in results}
        )
        for key in ("texts", "text_ids", "gt_label"):
            if key in results:
                sample.set_field(results[key], key)
        packed = {"data_samples": sample}
        if "img" in results:
            # (H, W, 3) -> (3, H, W)
            channels = np.ascontiguousarray(results["img"].transpose(2, 0, 1))
            packed["inputs"] = torch.from_numpy(channels)
        return packed

    def __repr__(self) -> str:
        return f"{type(self).__name__}(meta_keys={self.meta_keys})"
