"""What is written of class maps: palette PNGs, pictures, and the share of each class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from mmbeit3.inference.segmentation_result import SegmentationResult, shares_of
from mmbeit3.inference.tiled_class_map import TiledClassMap
from mmbeit3.inference.writer import ResultWriter, Written

if TYPE_CHECKING:  # mmseg is imported for segmentation configs only
    from mmbeit3.inference.seg_classes import SegClasses

MEANING = "the value i in labels/ is the class with index i"
MASK_VALUES = {
    0: "",
    1: "; the masks that the model was trained on hold i + 1, and 0 for no class",
    None: "; the masks that the model was trained on number the classes in another way",
}


@dataclass
class WrittenClassMap(Written):
    """An image that is done: its map, and how many of its pixels have each class."""

    label: str
    counts: list[int]


class SegmentationWriter(ResultWriter):
    """Writes ``labels/``, PNGs or of what was predicted by tiles TIFFs, and ``overlays/``.

    Args:
        out_dir (Path): Where they go.
        classes (SegClasses): The classes.
        legend (bool): Whether they are named below the pictures. Defaults to True.
    """

    task = "segmentation"
    library = "mmseg"
    files = "labels"
    further = {"label": ("labels", ".png")}
    written = WrittenClassMap

    def __init__(self, out_dir: Path, classes: SegClasses, legend: bool = True) -> None:
        super().__init__(out_dir)
        self._classes, self._legend = classes, legend
        self._counts = np.zeros(len(classes.names), np.int64)

    def write(self, found: SegmentationResult) -> WrittenClassMap:
        """Write the class map of one image, and its picture."""
        source = found.source
        label = source.further["label"]
        if isinstance(found, TiledClassMap):
            label = str(PurePosixPath(label).with_suffix(".tif"))
        found.save_label_map(self.out_dir / label)
        if source.overlay:
            found.save(self.out_dir / source.overlay, legend=self._legend)
        return WrittenClassMap(source, *found.size, label, found.count().tolist())

    def add(self, written: WrittenClassMap) -> dict[str, Any]:
        """Count the pixels of one image; returns its file and its shares, the largest first."""
        counts = np.asarray(written.counts)
        self._counts += counts
        return {
            "label": written.label,
            "shares": shares_of(counts, self._classes.names),
        }

    def summary(self) -> dict[str, Any]:
        """Return the classes: index, name, color (red, green, blue), and share of all pixels."""
        total = max(1, int(self._counts.sum()))
        pairs = zip(self._classes.names, self._classes.palette, strict=True)
        return {
            "label_values": MEANING + MASK_VALUES[self._classes.offset],
            "classes": [
                {
                    "index": index,
                    "name": name,
                    "color": list(reversed(color)),
                    "pixels": int(self._counts[index]),
                    "share": round(int(self._counts[index]) / total, 6),
                }
                for index, (name, color) in enumerate(pairs)
            ],
        }

    @staticmethod
    def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
        """Return the share of pixels of each class that was found, the largest first."""
        found = [entry for entry in summary["classes"] if entry["pixels"]]
        found.sort(key=lambda entry: -entry["pixels"])
        rows = [("share of pixels", "")]
        return rows + [(f"  {entry['name']}", f"{entry['share']:.2%}") for entry in found]
