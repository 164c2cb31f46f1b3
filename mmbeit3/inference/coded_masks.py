"""Masks of a large image as run-length codes, used as an array of them would be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mmbeit3.ops.rle import decode_part


class CodedMasks:
    """N masks (H, W): a number gives one as an array, a boolean array or a slice picks some.

    ``np.asarray`` makes (N, H, W) of them, in memory.

    Args:
        codes (Sequence[dict]): Run-length codes, ``size`` [H, W] and ``counts``.
        size (tuple[int, int]): H and W.
        shown (tuple[int, int], optional): The size in which they are given. Defaults to None: that
            of the image.
    """

    def __init__(
        self,
        codes: Sequence[dict[str, Any]],
        size: tuple[int, int],
        shown: tuple[int, int] | None = None,
    ) -> None:
        self.codes, self._size = list(codes), size
        self._shown = shown or size

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of the array."""
        return len(self.codes), *self._shown

    @property
    def nbytes(self) -> int:
        """Memory of the codes."""
        return sum(len(code["counts"]) for code in self.codes)

    def resized(self, size: tuple[int, int]) -> CodedMasks:
        """Give them in another size."""
        return CodedMasks(self.codes, self._size, size)

    def crop(self, index: int) -> tuple[int, int, np.ndarray]:
        """The first column and row of a mask, and what is in the box around it, (h, w), bool."""
        x, y, width, height = (int(side) for side in coco_mask.toBbox(self.codes[index]))
        return x, y, decode_part(self.codes[index], (x, y, width, height))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            return self._mask(int(index))
        picked = np.arange(len(self.codes))[index].tolist()
        return CodedMasks([self.codes[place] for place in picked], self._size, self._shown)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        masks = np.zeros(self.shape, dtype or bool)
        for index in range(len(self)):
            masks[index] = self._mask(index)
        return masks

    def _mask(self, index: int) -> np.ndarray:
        mask = np.zeros(self._shown, bool)
        x, y, crop = self.crop(index)
        if not crop.size:
            return mask
        rows, columns = (shown / side for shown, side in zip(self._shown, self._size, strict=True))
        top, left = int(y * rows), int(x * columns)
        bottom = min(mask.shape[0], max(top + 1, round((y + crop.shape[0]) * rows)))
        right = min(mask.shape[1], max(left + 1, round((x + crop.shape[1]) * columns)))
        if crop.shape != (bottom - top, right - left):
            # Columns follow each other in memory: turned over, it needs no copy.
            size, columnwise = (bottom - top, right - left), crop.T.view(np.uint8)
            crop = cv2.resize(columnwise, size, interpolation=cv2.INTER_AREA).T > 0
        mask[top:bottom, left:right] = crop
        return mask
