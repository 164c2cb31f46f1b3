"""Objects found in an image tile by tile: neither it nor their masks are held in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from mmbeit3.inference.coded_masks import CodedMasks
from mmbeit3.inference.detection_result import DetectionResult
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.seams import Seams
from mmbeit3.utils.large_images import Georeference, Window
from mmbeit3.visualization.overlay import display_scale, resized
from mmbeit3.visualization.samples import DEFAULT_SCORE_THR
from mmbeit3.visualization.text_labels import Color


@dataclass(eq=False, repr=False)
class TiledDetections(DetectionResult):
    """As :class:`DetectionResult`, in pixels of the whole image, with these differences.

    Attributes:
        image (np.ndarray): An overview of the image, (h, w, 3), on which objects are drawn.
        masks (CodedMasks, optional): Its items are arrays (H, W).
        whole_size (tuple[int, int]): H and W.
    """

    masks: Any
    whole_size: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, found: DetectionResult) -> TiledDetections:
        """Hold less of a result: masks as codes, and the image in the size that is drawn on."""
        overview = resized(found.image, min(1.0, display_scale(*found.size)))
        masks = None if found.codes is None else CodedMasks(found.codes, found.size)
        values = {item.name: getattr(found, item.name) for item in fields(DetectionResult)}
        return cls(**values | {"image": overview, "masks": masks, "whole_size": found.size})

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.whole_size

    @property
    def codes(self) -> list[dict[str, Any]] | None:
        """The masks as run-length codes; None if the model has no masks."""
        return None if self.masks is None else self.masks.codes

    def draw(
        self,
        score_thr: float = DEFAULT_SCORE_THR,
        *,
        hide_duplicates: bool = False,
        channels: str = "bgr",
    ) -> np.ndarray:
        """Draw the objects on the overview; see :meth:`DetectionResult.draw`."""
        height, width = self.image.shape[:2]
        scale = np.array([width / self.size[1], height / self.size[0]] * 2, np.float32)
        masks = None if self.masks is None else self.masks.resized((height, width))
        reduced = replace(self, boxes=self.boxes * scale, masks=masks)
        options: dict[str, Any] = {"hide_duplicates": hide_duplicates, "channels": channels}
        return DetectionResult.draw(reduced, score_thr, **options)


class DetectionJoiner:
    """Joins the objects of the tiles; see :class:`mmbeit3.inference.seams.Seams`.

    Args:
        source (Source): The image.
        size (tuple[int, int]): Its height and width.
        georeference (Georeference, optional): Where it lies.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[tuple]): Their BGR colors.
    """

    def __init__(
        self,
        source: Source,
        size: tuple[int, int],
        georeference: Georeference | None,
        classes: Sequence[str],
        palette: Sequence[Color],
    ) -> None:
        self._source, self._size, self._georeference = source, size, georeference
        self._names = classes, palette
        self._seams = Seams(size)

    def add(self, window: Window, core: Window, found: DetectionResult) -> None:
        """Take the objects of a tile."""
        self._seams.add(window, found)

    def result(self, overview: np.ndarray) -> TiledDetections:
        """Join them."""
        joined = self._seams.joined()
        masks = None if joined.codes is None else CodedMasks(joined.codes, self._size)
        return TiledDetections(
            self._source,
            overview,
            joined.boxes,
            joined.labels,
            joined.scores,
            masks,
            *self._names,
            whole_size=self._size,
            georeference=self._georeference,
        )

    def close(self) -> None:
        """Do nothing: all is in memory."""
