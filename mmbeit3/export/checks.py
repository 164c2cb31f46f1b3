"""Whether a file computes what PyTorch does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmbeit3.utils import InputError

#: Of the largest number of an output, how much it may differ.
TOLERANCE = 1e-3
#: Part of a detector's boxes that may be others: rounding decides between boxes of one score.
OTHER_BOXES = 0.05


@dataclass
class Difference:
    """The largest difference of an output.

    Attributes:
        name (str): The output.
        largest (float): The difference.
        scale (float): The largest number of the output by PyTorch.
    """

    name: str
    largest: float
    scale: float

    def __str__(self) -> str:
        return f"{self.name} {self.largest:.1e} of {self.scale:.3g}"

    def merged(self, other: Difference) -> Difference:
        """The larger one of the two."""
        return Difference(self.name, max(self.largest, other.largest), max(self.scale, other.scale))


def compare(
    names: Sequence[str], found: Sequence[Tensor], expected: Sequence[Tensor], what: str
) -> list[Difference]:
    """Compare the outputs of a file with those of PyTorch.

    Boxes come in the order of scores that rounding may change, so each is compared with the
    nearest one.

    Args:
        names (Sequence[str]): Names of the outputs.
        found (Sequence[Tensor]): The file's.
        expected (Sequence[Tensor]): PyTorch's.
        what (str): What was run, for the error.

    Returns:
        list[Difference]: One for each output.

    Raises:
        InputError: They differ.
    """
    pairs = dict(zip(names, zip(found, expected, strict=True), strict=True))
    if "boxes" in pairs:
        pairs |= _matched(pairs["boxes"], pairs["scores"], what)
    differences = []
    for name, (mine, theirs) in pairs.items():
        if mine.shape != theirs.shape:
            raise InputError(
                f"{what}: {name} has the shape {tuple(mine.shape)} and by PyTorch "
                f"{tuple(theirs.shape)}; no file is left"
            )
        scale = float(theirs.abs().max()) if theirs.numel() else 0.0
        largest = float((mine - theirs).abs().max()) if theirs.numel() else 0.0
        difference = Difference(name, largest, scale)
        if not largest <= TOLERANCE * max(scale, 1.0):  # NaN is no match
            raise InputError(f"{what} differs from PyTorch: {difference}; no file is left")
        differences.append(difference)
    return differences


def _matched(
    boxes: tuple[Tensor, Tensor], scores: tuple[Tensor, Tensor], what: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """Put the boxes found in the order of those expected, without the few that are others."""
    size = float(boxes[1].max()) if boxes[1].numel() else 1.0
    mine, theirs = (
        torch.cat([box / size, score], 1) for box, score in zip(boxes, scores, strict=True)
    )
    if not len(mine) or not len(theirs):
        return {}
    distances = torch.cdist(theirs, mine, p=torch.inf, compute_mode="donot_use_mm_for_euclid_dist")
    same = distances.amin(1) <= TOLERANCE
    for part in (same, distances.amin(0) <= TOLERANCE):
        if part.float().mean() < 1 - OTHER_BOXES:
            share = 1 - float(part.float().mean())
            raise InputError(
                f"{what} differs from PyTorch: {share:.0%} of the boxes are others; no file is left"
            )
    index = distances.argmin(1)[same]
    return {
        "boxes": (boxes[0][index], boxes[1][same]),
        "scores": (scores[0][index], scores[1][same]),
    }
