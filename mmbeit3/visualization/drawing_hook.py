"""Pictures of a test: the hooks that tasks draw by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from mmbeit3.datasets.palette import palette_or_made
from mmbeit3.datasets.transforms.loading import load_bgr
from mmbeit3.evaluation.output_places import output_file
from mmbeit3.visualization.pictures import write_picture
from mmbeit3.visualization.samples import DEFAULT_SCORE_THR, draw_sample
from mmbeit3.visualization.text_labels import Color


class DrawingHook(Hook):
    """Draw every tested image; each process draws its own. What is drawn, a subclass says.

    Args:
        show_dir (str | Path): Folder for the pictures, ``<path of the image below
            image_root>.jpg``.
        loader (Callable): The transform of the test pipeline that loads images.
        image_root (str, optional): Folder of the images. Defaults to None: the images' names alone
            are kept.
        staging_dir (str | Path, optional): Where pictures are written for somebody who puts them
            into ``show_dir``. Defaults to None: there at once.
    """

    def __init__(
        self,
        show_dir: str | Path,
        loader: Callable[[dict], dict],
        image_root: str | None = None,
        staging_dir: str | Path | None = None,
    ) -> None:
        self._show_dir = show_dir
        self._loader = loader
        self._image_root = image_root
        self._staging_dir = staging_dir or show_dir

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw the images of a batch."""
        for sample in outputs or ():
            file = output_file(sample, self._show_dir, ".jpg", self._image_root)
            file = Path(self._staging_dir) / file.relative_to(self._show_dir)
            image = load_bgr(self._loader, sample.img_path)
            write_picture(file, self.draw(runner, image, sample))

    def draw(self, runner: Runner, image: np.ndarray, sample: Any) -> np.ndarray:
        """Draw ground truth, if there is any, and prediction of ``sample`` on ``image``, BGR."""
        raise NotImplementedError


class SampleDrawingHook(DrawingHook):
    """Draw the objects or class maps of every tested image: ground truth left, prediction right.

    Where the config has a ``mmbeit3.Visualizer``, its options hold here as well.

    Args:
        classes (Sequence[str]): Names of the classes that the model was trained on.
        palette (Sequence[tuple]): BGR color of each class.
        score_thr (float): Draw detections of at least this score. Defaults to 0.3.
        **options (Any): Those of :class:`DrawingHook`.
    """

    def __init__(
        self,
        classes: Sequence[str],
        palette: Sequence[Color],
        score_thr: float = DEFAULT_SCORE_THR,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._classes: tuple[Sequence[str], Sequence[Color]] = classes, palette
        self._score_thr = score_thr

    def before_test(self, runner: Runner) -> None:
        """Follow the test set, which may have other classes where the model reads their names."""
        meta = getattr(runner.test_dataloader.dataset, "metainfo", None) or {}
        names = [str(name).strip() for name in meta.get("classes") or ()]
        if names and names != list(self._classes[0]):
            palette = palette_or_made(meta.get("palette"), len(names))
            self._classes = names, [color[::-1] for color in palette]

    def draw(self, runner: Runner, image: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Draw one image."""
        chosen = getattr(runner.visualizer, "options", {})
        return draw_sample(image, sample, *self._classes, score_thr=self._score_thr, **chosen)
