"""Pictures of a segmentor's test: ground truth left, prediction right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmbeit3.apis.overlay import draw_class_map
from mmbeit3.apis.results import write_picture
from mmbeit3.apis.seg_classes import SegClasses
from mmbeit3.datasets.transforms.loading import load_bgr
from mmbeit3.evaluation.output_places import output_file


class SegDrawingHook(Hook):
    """Draw every tested image; each process draws its own.

    Pixels that do not count (label 255) stay as they are in the photo.

    Args:
        show_dir: Folder for the pictures, ``<path of the image below image_root>.jpg``.
        classes: Names and colours.
        loader: The transform of the test pipeline that loads images.
        image_root: Folder of the images. Defaults to None: the images' names alone are kept.
        staging_dir: Where pictures are written for somebody who puts them into ``show_dir``.
            Defaults to None: there at once.
    """

    def __init__(
        self,
        show_dir: str | Path,
        classes: SegClasses,
        loader: Callable[[dict], dict],
        image_root: str | None = None,
        staging_dir: str | Path | None = None,
    ) -> None:
        self._show_dir = show_dir
        self._classes = classes
        self._loader = loader
        self._image_root = image_root
        self._staging_dir = staging_dir or show_dir

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Draw the images of a batch."""
        for sample in outputs or ():
            file = output_file(sample, self._show_dir, ".jpg", self._image_root)
            file = Path(self._staging_dir) / file.relative_to(self._show_dir)
            write_picture(file, self._draw(sample))

    def _draw(self, sample: SegDataSample) -> np.ndarray:
        image = load_bgr(self._loader, sample.img_path)
        maps = [sample.get("gt_sem_seg"), sample.pred_sem_seg]
        classes = self._classes.names, self._classes.palette
        return cv2.hconcat(
            [draw_class_map(image, _labels(found), *classes) for found in maps if found is not None]
        )


def _labels(found: PixelData) -> np.ndarray:
    """Class numbers (H, W), uint8, on the CPU."""
    return found.data.squeeze(0).to(torch.uint8).cpu().numpy()
