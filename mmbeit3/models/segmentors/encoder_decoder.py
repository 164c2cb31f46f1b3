"""mmseg's segmentor, with heads that are told the size of what they decode."""

from __future__ import annotations

from mmseg.models.segmentors import EncoderDecoder as MMSegEncoderDecoder
from torch import Tensor

from mmbeit3.registry import MODELS


@MODELS.register_module()
class EncoderDecoder(MMSegEncoderDecoder):
    """mmseg's ``EncoderDecoder``; arguments as there.

    In a sliding-window test mmseg notes the window's size for the first image of a batch only, and
    beside the padded size of the whole image. Here every image's meta carries the size of the
    window, so that heads which read it (Mask2Former's) decode any crop, stride, padding and batch.
    """

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Scores (B, num_classes, H, W) of images or windows ``inputs`` (B, 3, H, W)."""
        size = tuple(inputs.shape[2:])
        metas = [meta | {"img_shape": size, "pad_shape": size} for meta in batch_img_metas]
        return super().encode_decode(inputs, metas)
