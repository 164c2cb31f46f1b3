"""Transforms for samples of several images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.transforms import BaseTransform, Compose

from mmbeit3.registry import TRANSFORMS
from mmbeit3.utils import InputError


@TRANSFORMS.register_module()
class ForEachImage(BaseTransform):
    """Run transforms on each image of a sample by itself, with random draws of its own.

    Required key: ``img_path``, a list of paths, or ``img``, a list of arrays that are loaded
    already. Added or changed: ``img``, ``img_shape`` and ``ori_shape``, lists in the same order. A
    key ``damage`` takes the reason of the first image that has one.

    Args:
        transforms (Sequence): The transforms or their settings, loading among them.

    Raises:
        InputError: A sample has one image.
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.transforms = Compose(list(transforms))

    def transform(self, results: dict) -> dict | None:
        """Transform the images; None if the transforms leave one out."""
        given = [key for key in ("img_path", "img") if isinstance(results.get(key), (list, tuple))]
        if not given:
            raise InputError(
                f"ForEachImage takes samples of several images, and img_path is "
                f"{results.get('img_path')!r}; expected a list of paths"
            )
        made = []
        for index in range(len(results[given[0]])):
            own = {key: results[key][index] for key in given}
            if "damage" in results:
                own["damage"] = None
            if (one := self.transforms(own)) is None:
                return None
            made.append(one)
        for key in ("img", "img_shape", "ori_shape"):
            if key in made[0]:
                results[key] = [one[key] for one in made]
        if "damage" in results:
            results["damage"] = next((one["damage"] for one in made if one["damage"]), None)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(transforms={self.transforms})"
