"""Images and texts of a batch as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import ImgDataPreprocessor
from torch import Tensor

from mmbeit3.registry import MODELS
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError


@MODELS.register_module()
class ImageTextPreprocessor(ImgDataPreprocessor):
    """Stacks and normalizes images, and turns the texts of the samples into ids.

    The tokenizer belongs to the model, as its ids are rows of the model's embedding.

    Args:
        mean (Sequence[float]): Of each channel, in the order that the model has them. Defaults to
            127.5, that of the released code for all tasks with texts.
        std (Sequence[float]): As ``mean``. Defaults to 127.5.
        bgr_to_rgb (bool): Whether the images come as BGR, as mmcv reads them. Defaults to True.
        tokenizer (dict, optional): Arguments of :class:`mmbeit3.text.Tokenizer`; ``file`` is the
            official ``beit3.spm`` or that of an own vocabulary. Defaults to None: no texts.
        max_length (int): Most tokens of a text, begin and end among them. Defaults to 64, that of
            the released code.
        non_blocking (bool): Copy to the device without waiting. Defaults to False.

    Raises:
        InputError: The tokenizer cannot be read.
    """

    def __init__(
        self,
        mean: Sequence[float] = (127.5, 127.5, 127.5),
        std: Sequence[float] = (127.5, 127.5, 127.5),
        bgr_to_rgb: bool = True,
        tokenizer: dict | None = None,
        max_length: int = 64,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(mean, std, bgr_to_rgb=bgr_to_rgb, non_blocking=non_blocking)
        given: dict[str, Any] = {"max_length": max_length, **(tokenizer or {})}
        self.tokenizer = Tokenizer(**given) if tokenizer else None

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Make a batch.

        Args:
            data (dict): ``inputs``: B images (3, H, W) of one size, or B times K (K, 3, H, W), a
                list or stacked, or absent; ``data_samples``: B samples, or absent. ``texts`` of a
                sample is a list of strings, empty or absent where there are none.
            training (bool): As in mmengine; without effect. Defaults to False.

        Returns:
            dict: ``inputs``, float (B, 3, H, W) or (B, K, 3, H, W), or None; ``ids``, int64 (M, N),
            the M texts of all samples one after another, as wide as the longest, or None where
            there are none; ``padding_mask``, bool (M, N), True at padding, or None;
            ``data_samples``, a list.

        Raises:
            InputError: The images differ in size, a text is empty, or there is no tokenizer.
        """
        data = self.cast_data(data)
        samples = list(data.get("data_samples") or [])
        texts = [text for sample in samples for text in sample.get("texts", ())]
        ids, padding_mask = self.tokenize(texts) if texts else (None, None)
        images = data.get("inputs")
        return dict(
            inputs=None if images is None or not len(images) else self.normalize(images),
            ids=ids,
            padding_mask=padding_mask,
            data_samples=samples,
        )

    def normalize(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """Images (..., 3, H, W) of one size, a list or stacked -> (B, ..., 3, H, W), normalized."""
        sizes = sorted({tuple(image.shape) for image in images})
        if len(sizes) > 1:
            raise InputError(
                f"the images of a batch have the sizes {sizes[0]} and {sizes[1]}; expected one "
                "size: end the pipeline with a crop or with "
                "dict(type='Resize', scale=(S, S), keep_ratio=False)"
            )
        batch = images if isinstance(images, Tensor) else torch.stack(list(images))
        if self._channel_conversion:
            batch = batch.flip(-3)
        return (batch.float() - self.mean) / self.std

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts -> int64 ids (M, N) and their bool padding mask (M, N), on the model's device."""
        if self.tokenizer is None:
            raise InputError(
                "the data have texts and the model has no tokenizer: set "
                "model.data_preprocessor.tokenizer=dict(file='beit3.spm')"
            )
        ids, padding_mask = self.tokenizer.batch(texts)
        return ids.to(self.device), padding_mask.to(self.device)
