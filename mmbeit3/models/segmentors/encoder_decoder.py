"""mmseg's segmentor with windows in batches, large images in little memory, and size for heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder as MMSegEncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from mmbeit3.checkpoint.strict_loading import StrictLoading
from mmbeit3.models.multimodal.open_vocabulary import OpenVocabulary
from mmbeit3.models.segmentors.resizing import RowResizer
from mmbeit3.models.segmentors.windows import Side, Strip
from mmbeit3.models.strides import check_strides
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError

WINDOWS_ON_GPU = 4


@MODELS.register_module()
class EncoderDecoder(OpenVocabulary, StrictLoading, MMSegEncoderDecoder):
    """mmseg's ``EncoderDecoder``; arguments as there, and two more keys of ``test_cfg``.

    - ``return_logits``: Whether a result has ``seg_logits``, scores of every class for every pixel
      of the original image, beside the class map ``pred_sem_seg``. For 150 classes and 12
      megapixels they take 7 GB, so it defaults to False; in mmseg they are always there.
    - ``window_batch_size``: How many windows of a sliding-window test run at once, those of all
      images of a batch together. Defaults to None: 1 on the CPU, which gains little from more,
      elsewhere 4. mmseg runs one of each image.

    Scores are resized to the original image and compared in bands of rows. In a sliding-window test
    they are summed up in a strip as high as a window.

    In such a test mmseg notes the window's size for the first image of a batch only, and beside the
    padded size of the whole image. Here every image's meta carries the size of the window, so that
    heads which read it (Mask2Former's) decode any crop, stride, padding and batch.

    Checkpoints are loaded whole, see :class:`mmbeit3.checkpoint.strict_loading.StrictLoading`. With
    ``class_embeddings`` classes are scored by their names, see
    :class:`mmbeit3.models.multimodal.open_vocabulary.OpenVocabulary`.

    Raises:
        InputError: The head has other strides than the maps of backbone and neck.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_strides(self)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Scores (B, num_classes, H, W) of images or windows ``inputs`` (B, 3, H, W)."""
        size = tuple(inputs.shape[2:])
        metas = [meta | {"img_shape": size, "pad_shape": size} for meta in batch_img_metas]
        return super().encode_decode(inputs, metas)

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Find the class of every pixel of the original images.

        Args:
            inputs (Tensor): Images (B, 3, H, W), normalized.
            data_samples (list[SegDataSample], optional): Their metas say what the originals are, as
                :meth:`score_bands` reads them. Defaults to None: ``inputs`` are.

        Returns:
            list[SegDataSample]: ``data_samples``, with ``pred_sem_seg`` (1, H, W) and, with
            ``return_logits``, ``seg_logits`` (num_classes, H, W) in float32.

        Raises:
            InputError: ``test_cfg`` cannot be used.
        """
        if data_samples is None:
            data_samples = [SegDataSample() for _ in inputs]
            metas = [{"ori_shape": tuple(inputs.shape[2:])} for _ in inputs]
        else:
            metas = [sample.metainfo for sample in data_samples]
        maps: list[dict[str, Tensor]] = [{} for _ in metas]
        for image, rows, scores in self.score_bands(inputs, metas):
            band = {"pred_sem_seg": self._classify(scores)}
            if self.test_cfg.get("return_logits", False):
                band["seg_logits"] = scores
            for name, part in band.items():
                if name not in maps[image]:
                    shape = (len(part), *metas[image]["ori_shape"])
                    maps[image][name] = part.new_empty(shape)
                maps[image][name][:, rows] = part
        for sample, found in zip(data_samples, maps, strict=True):
            sample.set_data({name: PixelData(data=data) for name, data in found.items()})
        return data_samples

    def score_bands(
        self, inputs: Tensor, metas: Sequence[dict[str, Any]]
    ) -> Iterator[tuple[int, slice, Tensor]]:
        """Score the pixels of the original images, some rows at a time.

        Args:
            inputs (Tensor): Images (B, 3, H, W), normalized.
            metas (Sequence[dict]): For each ``ori_shape``, and where they apply ``padding_size`` or
                ``img_padding_size``, ``flip`` and ``flip_direction``.

        Yields:
            tuple[int, slice, Tensor]: The number of the image in the batch; rows of the original;
            their scores (num_classes, rows, W), of a single class the probability. Every row of
            every image comes once.

        Raises:
            InputError: ``test_cfg`` cannot be used.
        """
        resizers = [
            RowResizer(tuple(inputs.shape[2:]), meta, self.align_corners, inputs.device)
            for meta in metas
        ]
        for image, scores in self._score_rows(inputs, metas):
            for rows, band in resizers[image].feed(scores):
                yield image, rows, band if len(band) > 1 else band.sigmoid()

    def _score_rows(
        self, inputs: Tensor, metas: Sequence[dict[str, Any]]
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield an image's number and scores (num_classes, rows, W), from its top to its bottom."""
        mode = self.test_cfg.get("mode", "whole")
        if mode == "slide":
            return self._slide(inputs, metas)
        if mode == "whole":
            return enumerate(self.encode_decode(inputs, list(metas)))
        raise InputError(f"test_cfg.mode is {mode!r}, expected 'slide' or 'whole'")

    def _slide(
        self, inputs: Tensor, metas: Sequence[dict[str, Any]]
    ) -> Iterator[tuple[int, Tensor]]:
        """Run the windows image by image, from left to right and from top to bottom."""
        sides = zip(
            inputs.shape[2:], self.test_cfg["crop_size"], self.test_cfg["stride"], strict=True
        )
        rows, columns = (Side(*side) for side in sides)
        places = [
            (image, top, left)
            for image in range(len(inputs))
            for top in rows.starts
            for left in columns.starts
        ]
        strip = Strip(rows, columns)
        step = self._window_batch_size(inputs.device)
        for begin in range(0, len(places), step):
            batch = places[begin : begin + step]
            windows = torch.stack(
                [
                    inputs[image, :, top : top + rows.crop, left : left + columns.crop]
                    for image, top, left in batch
                ]
            )
            scores = self.encode_decode(windows, [metas[image] for image, _, _ in batch])
            for (image, _, left), window in zip(batch, scores, strict=True):
                strip.add(left, window)
                if left == columns.starts[-1]:
                    yield from ((image, means) for means in strip.finish())
            del scores, window  # before the next ones are made

    def _window_batch_size(self, device: torch.device) -> int:
        size = self.test_cfg.get("window_batch_size")
        if size is None:
            return 1 if device.type == "cpu" else WINDOWS_ON_GPU
        if size < 1:
            raise InputError(f"test_cfg.window_batch_size is {size}, expected 1 or more, or None")
        return size

    def _classify(self, scores: Tensor) -> Tensor:
        """Classes (1, H, W) of pixels that have ``scores`` (num_classes, H, W)."""
        if len(scores) > 1:
            # The indices of max() are those of argmax(), and come in a fraction of the time.
            return scores.max(dim=0, keepdim=True).indices
        return (scores > self.decode_head.threshold).to(scores)
