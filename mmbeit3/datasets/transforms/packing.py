"""Packing a sample of images and texts for the models that take both."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import BaseDataElement

from mmbeit3.registry import TRANSFORMS
from mmbeit3.utils import InputError

FIELDS = (
    *("texts", "text_ids", "gt_label", "answers", "answer_labels", "answer_scores"),
    *("image_codes", "image_codes_of"),
)


@TRANSFORMS.register_module()
class PackImageText(BaseTransform):
    """Pack an image and what belongs to it: texts, which stay texts, a class or answers.

    Required key: ``img`` (H, W, 3) uint8, BGR, or a list of K such images of one size; of a sample
    without it only the texts are packed. Returns ``inputs``, a tensor (3, H, W) uint8, BGR, of a
    list (K, 3, H, W), and ``data_samples``, a ``BaseDataElement`` with ``texts`` (list[str]),
    ``text_ids`` (list[int]), ``gt_label`` (int), ``answers`` (list[str]), ``answer_labels``
    (list[int]), ``answer_scores`` (list[float]), ``image_codes`` (Tensor) and ``image_codes_of``
    (str) where the sample has them, and the ``meta_keys`` as metainfo.

    Args:
        meta_keys (tuple[str, ...]): Keys of the sample to keep, where it has them. Defaults to
            ('sample_idx', 'image_id', 'img_path', 'ori_shape', 'img_shape', 'question_id',
            'question_type', 'answer_type', 'identifier', 'domain').

    Raises:
        InputError: The images of a sample differ in size.
    """

    def __init__(
        self,
        meta_keys: tuple[str, ...] = (
            "sample_idx",
            "image_id",
            "img_path",
            "ori_shape",
            "img_shape",
            "question_id",
            "question_type",
            "answer_type",
            "identifier",
            "domain",
        ),
    ) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Make the input of a model."""
        sample = BaseDataElement(
            metainfo={key: results[key] for key in self.meta_keys if key in results}
        )
        for key in FIELDS:
            if key in results:
                sample.set_field(results[key], key)
        packed = {"data_samples": sample}
        if "img" in results:
            packed["inputs"] = torch.from_numpy(_channels_first(results["img"]))
        return packed

    def __repr__(self) -> str:
        return f"{type(self).__name__}(meta_keys={self.meta_keys})"


def _channels_first(image: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """(H, W, 3) -> (3, H, W), or K of them -> (K, 3, H, W)."""
    if isinstance(image, np.ndarray):
        return np.ascontiguousarray(image.transpose(2, 0, 1))
    sizes = sorted({one.shape[:2] for one in image})
    if len(sizes) > 1:
        raise InputError(
            f"the images of a sample have the sizes {sizes[0]} and {sizes[1]}; expected one size: "
            "end the transforms of ForEachImage with a crop or with "
            "dict(type='Resize', scale=(S, S), keep_ratio=False)"
        )
    return np.stack([_channels_first(one) for one in image])
