"""Images so narrow that the pipeline's resize would leave one of their sides without a pixel."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from mmcv.transforms import Resize

from mmbeit3.datasets.image_files import ImageFile
from mmbeit3.utils import InputError

NARROW = 8  # ratio of the sides from which on an image is tried
MAX_EXAMPLES = 10

Scale = int | tuple[int, int] | None


def check_sizes(files: Iterable[ImageFile], transforms: Sequence[Any], source: str) -> None:
    """Check that the pipeline can resize every image, whatever scale it draws.

    Args:
        files: The images with their sizes.
        transforms: The pipeline's.
        source: What to call the data set in the message.

    Raises:
        InputError: Some images are too narrow; the message names them.
    """
    problems = find_size_problems(files, transforms)
    if problems:
        lines = [f"{len(problems)} images of {source} are too narrow:", *problems[:MAX_EXAMPLES]]
        if len(problems) > MAX_EXAMPLES:
            lines.append(f"... and {len(problems) - MAX_EXAMPLES} more")
        hint = "Cut or pad these images, or leave them out"
        raise InputError("\n  ".join(lines) + f"\n{hint}")


def find_size_problems(files: Iterable[ImageFile], transforms: Sequence[Any]) -> list[str]:
    """Say which images the pipeline cannot resize; arguments as :func:`check_sizes`.

    Returns:
        A text for each; it begins with the path.
    """
    resizes = list(_resizes(transforms))
    problems = []
    for file in files:
        if file.width is None or file.height is None or not is_narrow(file.width, file.height):
            continue
        for name, scale, resize in resizes:
            if not _works(resize, file.width, file.height):
                text = f"{file.path} is {file.width} x {file.height}, which the pipeline's {name} "
                text += "cannot resize: one side would have no pixel"
                problems.append(text if scale is None else f"{text} at the scale {scale}")
                break
    return problems


def is_narrow(width: int, height: int) -> bool:
    """Whether an image has sides so different that resizing it may fail."""
    return max(width, height) >= NARROW * min(width, height)


def _resizes(transforms: Iterable[Any]) -> Iterator[tuple[str, Scale, Any]]:
    """Yield the first resize of a pipeline, or of each of its branches, at each of its scales.

    Of a range of scales that is the smallest one.
    """
    for step in transforms:
        branches = getattr(step, "subroutines", None) or getattr(step, "transforms", None) or ()
        found = [one for part in branches for one in _resizes(getattr(part, "transforms", [part]))]
        found = found or list(_scaled(step))
        yield from found
        if found:
            return


def _scaled(step: Any) -> Iterator[tuple[str, Scale, Any]]:
    name = type(step).__name__
    if isinstance(step, Resize):
        yield name, step.scale, step
        return
    if not hasattr(step, "resize"):
        return
    if hasattr(step, "scales"):  # RandomChoiceResize
        scales = step.scales
    elif hasattr(step, "ratio_range"):  # RandomResize
        scales = [step.scale] if isinstance(step.scale[0], int) else step.scale
        low = step.ratio_range[0] if step.ratio_range else 1
        scales = [tuple(int(side * low) for side in scale) for scale in scales]
    else:
        return
    for scale in scales:
        resize = copy.copy(step.resize)
        resize.scale = scale
        yield name, scale, resize


def _works(resize: Any, width: int, height: int) -> bool:
    image = np.zeros((height, width, 3), np.uint8)
    try:
        found = resize({"img": image, "img_shape": (height, width), "ori_shape": (height, width)})
    except Exception:  # of OpenCV's or the transform's own kind
        return False
    return min(found["img"].shape[:2]) > 0
