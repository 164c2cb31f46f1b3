"""Objects found in an image, and the forms in which others take them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmbeit3.inference.geojson import feature_lines
from mmbeit3.inference.result import Predicted, in_order
from mmbeit3.ops import encode_masks
from mmbeit3.utils import InputError
from mmbeit3.utils.optional_packages import optional_package
from mmbeit3.utils.whole_files import write_whole
from mmbeit3.visualization.overlay import draw_instances
from mmbeit3.visualization.samples import DEFAULT_SCORE_THR
from mmbeit3.visualization.text_labels import Color


@dataclass(eq=False, repr=False)
class DetectionResult(Predicted):
    """N objects in an image, the surest first; a boolean array or a slice picks some of them.

    Attributes:
        boxes (np.ndarray): (N, 4), x1 y1 x2 y2 in pixels of the image, float32.
        labels (np.ndarray): (N,), indices of ``classes``, int64.
        scores (np.ndarray): (N,), in [0, 1], float32.
        masks (np.ndarray, optional): (N, H, W), bool; None if the model has no masks.
        classes (Sequence[str]): Names of all classes that the model knows.
        palette (Sequence[tuple]): BGR color of each class.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None
    classes: Sequence[str]
    palette: Sequence[Color]

    @property
    def nbytes(self) -> int:
        """Memory of the two large arrays."""
        return self.image.nbytes + (0 if self.masks is None else self.masks.nbytes)

    @property
    def codes(self) -> list[dict[str, Any]] | None:
        """The masks as run-length codes; None if the model has no masks."""
        return None if self.masks is None else encode_masks(self.masks)

    @property
    def names(self) -> list[str]:
        """The class of each object."""
        return [self.classes[label] for label in self.labels]

    def __getitem__(self, index: np.ndarray | slice) -> DetectionResult:
        masks = None if self.masks is None else self.masks[index]
        boxes, labels, scores = self.boxes[index], self.labels[index], self.scores[index]
        return replace(self, boxes=boxes, labels=labels, scores=scores, masks=masks)

    __iter__ = None  # a number is no index

    def draw(
        self,
        score_thr: float = DEFAULT_SCORE_THR,
        *,
        hide_duplicates: bool = False,
        channels: str = "bgr",
    ) -> np.ndarray:
        """Draw the objects, as a run over a folder does.

        Args:
            score_thr (float): Draw objects of at least this score. Defaults to 0.3.
            hide_duplicates (bool): Whether to leave out objects that overlap a surer one, see
                :func:`mmbeit3.visualization.duplicates.find_duplicates`; the result keeps them.
                Defaults to False.
            channels (str): 'bgr' or 'rgb'. Defaults to 'bgr'.

        Returns:
            np.ndarray: The picture, (h, w, 3), uint8; small and very large images are resized to a
            size that is comfortable to look at.
        """
        shown = self[self.scores >= score_thr]
        picture = draw_instances(
            self.image,
            shown.boxes,
            shown.labels,
            shown.scores,
            shown.masks,
            self.classes,
            self.palette,
            hide_duplicates=hide_duplicates,
        )
        return in_order(picture, channels)

    def to_coco(self, image_id: int | None = None) -> list[dict[str, Any]]:
        """Return the objects as entries of a COCO results list.

        Args:
            image_id (int, optional): The image's id. Defaults to its number in the run.

        Returns:
            list[dict]: ``image_id``, ``file_name``, ``category_id`` (the label + 1), ``category``,
            ``bbox`` (x y w h), ``score`` and, of masks, ``segmentation`` (RLE).
        """
        codes = self.codes
        image_id = self.source.image_id if image_id is None else image_id
        entries = []
        for index, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            label = int(self.labels[index])
            entry = {
                "image_id": image_id,
                "file_name": self.source.file_name,
                "category_id": label + 1,
                "category": self.classes[label],
                "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(float(self.scores[index]), 6),
            }
            if codes is not None:
                counts = codes[index]["counts"].decode()
                entry["segmentation"] = {"size": codes[index]["size"], "counts": counts}
            entries.append(entry)
        return entries

    def to_json(self) -> str:
        """Return the image's facts and, under ``detections``, what :meth:`to_coco` does."""
        return json.dumps(self._facts() | {"detections": self.to_coco()})

    def save_geojson(self, path: str | Path, score_thr: float = DEFAULT_SCORE_THR) -> None:
        """Write the outlines of the objects for maps, in degrees of longitude and latitude.

        Args:
            path (str | Path): The file; folders are made.
            score_thr (float): Write objects of at least this score. Defaults to 0.3.

        Raises:
            InputError: Nobody knows where the image lies, or the file cannot be written.
        """
        if self.georeference is None:
            raise InputError(
                f"{self.source.file_name} has no georeference; expected a file with a transform "
                "and a CRS, such as a GeoTIFF, predicted by tiles"
            )
        write_whole(path, feature_lines(self[self.scores >= score_thr], self.georeference))

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` of the objects: ``x1 y1 x2 y2 score label name``.

        Raises:
            InputError: pandas is not installed.
        """
        table = optional_package("pandas", "to_pandas").DataFrame(
            dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True))
        )
        return table.assign(score=self.scores, label=self.labels, name=self.names)

    def to_supervision(self) -> Any:
        """Return the objects as ``supervision.Detections``, with ``data["class_name"]``.

        Raises:
            InputError: supervision is not installed.
        """
        return optional_package("supervision", "to_supervision").Detections(
            xyxy=self.boxes,
            mask=None if self.masks is None else np.asarray(self.masks),
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def __repr__(self) -> str:
        counts = Counter(self[self.scores >= DEFAULT_SCORE_THR].names).most_common()
        found = ", ".join(f"{count} {name}" for name, count in counts) or "nothing"
        rest = f", {len(self.scores)} of any score" if len(self.scores) else ""
        return f"DetectionResult({self.source.file_name}: {found}{rest})"
