"""Pasting objects of one image into another."""

from __future__ import annotations

import random
from typing import Any

from mmdet.datasets.transforms import CopyPaste as MMDetCopyPaste
from mmdet.structures.mask import BitmapMasks

from mmbeit3.registry import TRANSFORMS
from mmbeit3.utils import InputError


@TRANSFORMS.register_module()
class CopyPaste(MMDetCopyPaste):
    """mmdet's (Simple Copy-Paste, arXiv 2012.07177), without what goes wrong in it.

    mmdet's asks for an image beyond the last one once in ``len(dataset) + 1`` samples, which ends
    the training; makes images of int64; and may keep objects of which nothing is left to be seen,
    with a box of no size. For the pipeline of a ``MultiImageMixDataset``; options are mmdet's.

    Raises:
        InputError: The two images differ in size, or masks are polygons.
    """

    def get_indexes(self, dataset: Any) -> int:
        """Draw the image to paste from."""
        return random.randrange(len(dataset))

    def _select_object(self, results: dict) -> dict:
        _check_masks(results)
        return super()._select_object(results)

    def _copy_paste(self, dst_results: dict, src_results: dict) -> dict:
        _check_masks(dst_results)
        sizes = [results["img"].shape[:2] for results in (dst_results, src_results)]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"CopyPaste has an image of {sizes[0][0]} x {sizes[0][1]} and one of {sizes[1][0]} "
                f"x {sizes[1][1]} (height x width); expected one size: have Resize with "
                "keep_ratio=False, or RandomCrop and Pad to a fixed size, before it"
            )
        dtype = dst_results["img"].dtype
        results = super()._copy_paste(dst_results, src_results)
        results["img"] = results["img"].astype(dtype, copy=False)
        if "gt_masks" in results:
            masks = results["gt_masks"]
            seen = masks.masks.any((1, 2))
            results["gt_masks"] = BitmapMasks(masks.masks[seen], masks.height, masks.width)
            for key in ("gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags"):
                results[key] = results[key][seen]
        return results


def _check_masks(results: dict) -> None:
    masks = results.get("gt_masks")
    if masks is not None and not isinstance(masks, BitmapMasks):
        raise InputError(
            f"CopyPaste has {type(masks).__name__}; expected BitmapMasks: set poly2mask=True in "
            "LoadAnnotations, and mmdet's RandomCrop in place of mmbeit3.PolygonRandomCrop"
        )
