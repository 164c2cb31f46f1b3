"""Pictures of a detector's test: ground truth left, prediction right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from mmdet.structures import DetDataSample
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmbeit3.apis.overlay import draw_instances
from mmbeit3.apis.results import write_picture
from mmbeit3.datasets.palette import make_palette
from mmbeit3.datasets.transforms.loading import load_bgr
from mmbeit3.evaluation.output_places import output_file


class DetectionDrawingHook(Hook):
    """Draw every tested image; each process draws its own.

    Args:
        show_dir (str | Path): Folder for the pictures, ``<path of the image below
            image_root>.jpg``.
        loader (Callable): The transform of the test pipeline that loads images.
        score_thr (float): Draw detections of at least this score.
        image_root (str, optional): Folder of the images. Defaults to None: the images' names alone
            are kept.
        staging_dir (str | Path, optional): Where pictures are written for somebody who puts them
            into ``show_dir``. Defaults to None: there at once.
    """

    def __init__(
        self,
        show_dir: str | Path,
        loader: Callable[[dict], dict],
        score_thr: float,
        image_root: str | None = None,
        staging_dir: str | Path | None = None,
    ) -> None:
        self._show_dir = show_dir
        self._loader = loader
        self._score_thr = score_thr
        self._image_root = image_root
        self._staging_dir = staging_dir or show_dir

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[DetDataSample] | None = None,
    ) -> None:
        """Draw the images of a batch."""
        classes = runner.test_dataloader.dataset.metainfo["classes"]
        for sample in outputs or ():
            file = output_file(sample.metainfo, self._show_dir, ".jpg", self._image_root)
            file = Path(self._staging_dir) / file.relative_to(self._show_dir)
            write_picture(file, self._draw(sample, classes))

    def _draw(self, sample: DetDataSample, classes: Sequence[str]) -> np.ndarray:
        image = load_bgr(self._loader, sample.img_path)
        found = sample.pred_instances
        shown = [found[found.scores >= self._score_thr]]
        if "gt_instances" in sample:
            shown.insert(0, sample.gt_instances)
        palette = [color[::-1] for color in make_palette(len(classes))]
        return cv2.hconcat([_draw_instances(image, part, classes, palette) for part in shown])


def _draw_instances(
    image: np.ndarray,
    instances: InstanceData,
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
) -> np.ndarray:
    instances = instances.cpu()
    boxes = getattr(instances.bboxes, "tensor", instances.bboxes)  # of mmdet's box types, too
    scores = instances.scores.float().numpy() if "scores" in instances else None
    masks = instances.get("masks")
    if masks is not None:
        masks = masks.to_ndarray() if hasattr(masks, "to_ndarray") else masks.numpy()
        masks = masks.astype(bool)
    labels = instances.labels.numpy()
    return draw_instances(image, boxes.float().numpy(), labels, scores, masks, classes, palette)
