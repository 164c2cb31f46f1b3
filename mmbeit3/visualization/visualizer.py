"""The Visualizer of configs: draws samples as all commands do, for TensorBoard and the like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dist import master_only
from mmengine.structures import BaseDataElement
from mmseg.visualization import SegLocalVisualizer

from mmbeit3.datasets.palette import palette_or_made
from mmbeit3.registry import VISUALIZERS
from mmbeit3.visualization.pictures import SUFFIXES, write_picture
from mmbeit3.visualization.samples import DEFAULT_SCORE_THR, draw_sample


@VISUALIZERS.register_module()
class Visualizer(SegLocalVisualizer):  # the only one that MMSegInferencer takes
    """mmengine's Visualizer, whose pictures are those of ``infer``, ``test`` and ``check-data``.

    Hooks and inferencers of mmdet and mmseg use it as their own. Classes and colors are those of
    the data set.

    Args:
        name (str): Its name. Defaults to 'visualizer'.
        image (np.ndarray, optional): (H, W, 3), RGB, uint8. Defaults to None.
        vis_backends (list, optional): Where images and curves go. Defaults to None.
        save_dir (str, optional): The folder of the backends. Defaults to None.
        hide_duplicates (bool): Whether pictures leave out detections that overlap a surer one;
            results keep them. Defaults to False.
        legend (bool): Whether the classes of class maps are named below. Defaults to True.
    """

    def __init__(
        self,
        name: str = "visualizer",
        image: np.ndarray | None = None,
        vis_backends: list | dict | None = None,
        save_dir: str | None = None,
        hide_duplicates: bool = False,
        legend: bool = True,
    ) -> None:
        super().__init__(name, image, vis_backends, save_dir)
        self.dataset_meta: dict = {}  # mmseg's is that of Cityscapes
        #: Options of :func:`mmbeit3.visualization.samples.draw_sample`.
        self.options = {"hide_duplicates": hide_duplicates, "legend": legend}

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: BaseDataElement | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        pred_score_thr: float = DEFAULT_SCORE_THR,
        step: int = 0,
        **_: Any,
    ) -> None:
        """Draw a sample, and show it, write it to a file, or give it to the backends.

        Args:
            name (str): What the backends call the picture.
            image (np.ndarray): (H, W, 3), RGB, uint8.
            data_sample (BaseDataElement, optional): Of mmdet or mmseg. Defaults to None.
            draw_gt (bool): Whether to draw the ground truth, left. Defaults to True.
            draw_pred (bool): Whether to draw the prediction. Defaults to True.
            show (bool): Whether to open a window. Defaults to False.
            wait_time (float): Seconds that it stays, 0 for ever. Defaults to 0.
            out_file (str, optional): A ``.jpg`` or ``.png`` file; another suffix becomes ``.jpg``.
                Defaults to None.
            pred_score_thr (float): Draw detections of at least this score. Defaults to 0.3.
            step (int): The number of the picture. Defaults to 0.
            **_: What mmseg's takes besides; names and legend are always drawn.
        """
        sample = BaseDataElement() if data_sample is None else data_sample
        classes, palette = self._classes(sample)
        picture = draw_sample(
            cv2.cvtColor(image.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2BGR),
            sample,
            classes,
            palette,
            score_thr=pred_score_thr,
            with_truth=draw_gt,
            with_prediction=draw_pred,
            **self.options,
        )
        drawn = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        self.set_image(drawn)  # for get_image()
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            file = Path(out_file)
            known = file.suffix.lower() in SUFFIXES
            write_picture(file if known else file.with_suffix(".jpg"), picture)
        else:
            self.add_image(name, drawn, step)

    def _classes(self, sample: BaseDataElement) -> tuple[list[str], list[tuple[int, int, int]]]:
        """Names and BGR colors; numbers for classes that nothing names."""
        meta = self.dataset_meta or {}
        names = list(map(str, meta.get("classes") or ()))
        if not names:
            parts = (sample.get("pred_instances"), sample.get("gt_instances"))
            highest = [int(part.labels.max()) for part in parts if part is not None and len(part)]
            names = [f"class {index}" for index in range(max(highest, default=255) + 1)]
        palette = palette_or_made(meta.get("palette"), len(names))
        return names, [color[::-1] for color in palette]
