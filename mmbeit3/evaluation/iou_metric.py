"""Mean intersection over union, counted exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmseg.evaluation import IoUMetric as MMSegIoUMetric
from PIL import Image
from torch import Tensor

from mmbeit3.evaluation.output_places import check_output_files, output_file
from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError
from mmbeit3.utils.tables import text_table
from mmbeit3.utils.terminal import Table
from mmbeit3.utils.whole_files import whole_file

Areas = tuple[Tensor, Tensor, Tensor, Tensor]
MAX_PNG_VALUE = 255
# What each of iou_metrics gives, beside aAcc.
MEANS = {
    "mIoU": ("mIoU", "mAcc"),
    "mDice": ("mDice", "mAcc"),
    "mFscore": ("mFscore", "mPrecision", "mRecall"),
}


@METRICS.register_module()
class IoUMetric(MMSegIoUMetric):
    """Pixel accuracy and mean IoU, Dice and F-score of a semantic segmentation, in percent.

    It reports ``aAcc``, ``mIoU``, ``mAcc`` and so on as ``mmseg.IoUMetric`` does: a class that
    neither the labels nor the predictions hold is left out of the means. Differs from mmseg:
    pixels are counted in integers (mmseg sums them up in float32, which is exact below 16.8 million
    pixels of a class), nothing is rounded to two decimals, an image that was run twice counts once,
    a label or prediction outside the classes is an error, and so are two images of the same name
    whose predictions would overwrite each other in ``output_dir``.

    After an evaluation ``by_class`` holds the table that is logged: ``{name: {"IoU": ..., "Acc":
    ...}}`` in percent, None for what a class that is nowhere does not have.

    Args:
        iou_metrics (Sequence[str]): Of 'mIoU', 'mDice' and 'mFscore'. Defaults to ('mIoU',).
        nan_to_num (float, optional): The value, in 0..1, of classes that would be left out, as
            evaluation code elsewhere has it: 0 counts them as missed. Defaults to None.
        image_root (str, optional): Folder of the images. Below ``output_dir`` a prediction has the
            path that its image has below this one. Defaults to None: the image's name alone.
        staging_dir (str, optional): Where predictions are written for somebody who puts them into
            ``output_dir``. Defaults to None: there at once.
        **kwargs: ``ignore_index``, ``beta``, ``output_dir``, ``format_only``, ``collect_device``
            and ``prefix``, as in mmseg.

    Raises:
        InputError: An argument cannot be used, there are no labels, or a label or prediction does
            not fit.
    """

    def __init__(
        self,
        iou_metrics: Sequence[str] = ("mIoU",),
        nan_to_num: float | None = None,
        image_root: str | None = None,
        staging_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        names = [iou_metrics] if isinstance(iou_metrics, str) else list(iou_metrics)
        if not names or set(names) - set(MEANS):
            raise InputError(f"iou_metrics is {iou_metrics!r}, expected some of {tuple(MEANS)}")
        if nan_to_num is not None and not 0 <= nan_to_num <= 1:
            raise InputError(
                f"nan_to_num is {nan_to_num}, expected 0..1: 0 counts an absent class as missed, "
                "None leaves it out"
            )
        super().__init__(iou_metrics=names, nan_to_num=nan_to_num, **kwargs)
        self.image_root = image_root
        self.staging_dir = staging_dir
        self.by_class: dict[str, dict[str, float | None]] = {}
        self._written: dict[Path, str] = {}

    @classmethod
    def metric_names(
        cls, settings: Mapping[str, Any], classes: Sequence[str] | None = None
    ) -> list[str]:
        """Find the names, without prefix, of the metrics that an evaluation gives.

        Args:
            settings: Arguments of the metric, as a config has them.
            classes: Not used.

        Returns:
            The names.
        """
        if settings.get("format_only"):
            return []
        kinds = settings.get("iou_metrics", "mIoU")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        return list(dict.fromkeys(["aAcc", *(n for kind in kinds for n in MEANS.get(kind, ()))]))

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the pixels of one batch, and keep the predictions if they are wanted.

        Args:
            data_batch: Not used.
            data_samples: The samples, with ``pred_sem_seg`` and ``gt_sem_seg`` (1, H, W).
        """
        for sample in data_samples:
            prediction = sample["pred_sem_seg"]["data"].squeeze()
            areas: tuple = ()
            if not self.format_only:
                self._check(sample)
                label = sample["gt_sem_seg"]["data"].squeeze().to(prediction)
                areas = self.intersect_and_union(
                    prediction, label, len(self.dataset_meta["classes"]), self.ignore_index
                )
            # The path tells repeated images apart when all ranks are joined.
            self.results.append((sample.get("img_path"), *areas))
            if self.output_dir is not None:
                self._keep(sample, prediction)

    def _keep(self, sample: dict, prediction: Tensor) -> None:
        """Write a prediction (H, W) with the values that the label maps have, as mmseg does."""
        image = sample["img_path"]
        file = output_file(sample, self.output_dir, ".png", self.image_root)
        other = self._written.setdefault(file, image)
        if other != image:
            raise InputError(
                f"the predictions for {other} and {image} would both be {file}; set image_root "
                "of the metric to a folder that holds both images"
            )
        values = prediction.long() + bool(sample.get("reduce_zero_label"))
        if int(values.max()) > MAX_PNG_VALUE:
            raise InputError(
                f"{image}: the prediction has the value {int(values.max())}, and {file} is an "
                f"8-bit PNG, which holds 0..{MAX_PNG_VALUE}; leave output_dir out"
            )
        if self.staging_dir is not None:
            file = Path(self.staging_dir) / file.relative_to(self.output_dir)
        with whole_file(file) as partial:
            Image.fromarray(values.to(torch.uint8).cpu().numpy()).save(partial, "PNG")

    def _check(self, sample: dict) -> None:
        name = sample.get("seg_map_path") or sample.get("img_path")
        if "gt_sem_seg" not in sample:
            raise InputError(
                f"{name} comes without its label map, so nothing can be scored. Set "
                "data_prefix.seg_map_path of the test data set and put LoadAnnotations into its "
                "pipeline; or, where there are no label maps, write predictions only, with "
                "format_only=True and output_dir of the metric"
            )
        num_classes = len(self.dataset_meta["classes"])
        prediction = sample["pred_sem_seg"]["data"].squeeze()
        label = sample["gt_sem_seg"]["data"].squeeze()
        if prediction.shape != label.shape:
            raise InputError(
                f"{name}: the label map has the shape {tuple(label.shape)}, the prediction "
                f"{tuple(prediction.shape)}. LoadAnnotations must come after Resize in the test "
                "pipeline"
            )
        for kind, values in (
            ("label map", label[label != self.ignore_index]),
            ("model", prediction),
        ):
            bad = values[(values < 0) | (values >= num_classes)]
            if bad.numel():
                raise InputError(
                    f"{name}: the {kind} has {bad.numel()} pixels of no class, such as "
                    f"{int(bad[0])}; expected 0..{num_classes - 1}, the {num_classes} classes"
                )

    @staticmethod
    def intersect_and_union(
        pred_label: Tensor, label: Tensor, num_classes: int, ignore_index: int
    ) -> Areas:
        """Count the pixels of each class.

        Args:
            pred_label: Predicted class numbers (H, W).
            label: True class numbers (H, W).
            num_classes: Number of classes N.
            ignore_index: Label of pixels that do not count.

        Returns:
            Intersection, union, prediction and label, each (N,) int64 on the CPU.
        """
        counted = label != ignore_index
        prediction, label = pred_label[counted].long(), label[counted].long()
        intersection, predicted, labeled = (
            torch.bincount(values, minlength=num_classes).cpu()
            for values in (label[prediction == label], prediction, label)
        )
        return intersection, predicted + labeled - intersection, predicted, labeled

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Sum up the images and make the means.

        Args:
            results: Path and areas of every image, as ``process`` collected them.

        Returns:
            The metrics by name, in percent; empty with ``format_only``.
        """
        if self.output_dir is not None:  # each process knows those of its own images only
            check_output_files(
                [path for path, *_ in results], self.output_dir, ".png", self.image_root
            )
        if self.format_only:
            print_log(f"the predictions are in {self.output_dir}", "current")
            return {}
        images = {
            path if path is not None else index: r for index, (path, *r) in enumerate(results)
        }
        if not images:
            raise InputError("no image was evaluated: the data set of the evaluation is empty")
        areas = [sum(column).double() for column in zip(*images.values(), strict=True)]
        if not areas[-1].any():
            raise InputError(
                f"every pixel of the {len(images)} label maps is ignored ({self.ignore_index}), so "
                "nothing can be scored: check reduce_zero_label and seg_map_path of the data set"
            )
        values = self.total_area_to_metrics(*areas, self.metrics, self.nan_to_num, self.beta)
        by_class = {name: 100 * value for name, value in values.items() if name != "aAcc"}
        metrics = {"aAcc": 100 * float(values["aAcc"])}
        metrics |= {f"m{name}": float(np.nanmean(value)) for name, value in by_class.items()}
        self.by_class = {
            name: {key: None if np.isnan(v[i]) else float(v[i]) for key, v in by_class.items()}
            for i, name in enumerate(self.dataset_meta["classes"])
        }
        print_log(Table("by class, in percent\n" + self._table(by_class)), "current")
        return metrics

    def _table(self, by_class: dict[str, np.ndarray]) -> str:
        """The table, without the classes that are nowhere: of those it has the number."""
        absent = np.isnan(np.stack(list(by_class.values()))).all(axis=0)
        columns = [["-" if np.isnan(v) else f"{v:.2f}" for v in c] for c in by_class.values()]
        rows = list(zip(self.dataset_meta["classes"], *columns, strict=True))
        shown = [row for row, is_absent in zip(rows, absent, strict=True) if not is_absent]
        table = text_table(["class", *by_class], shown)
        count = int(absent.sum())
        if not count:
            return table
        classes = "1 class is" if count == 1 else f"{count} classes are"
        return f"{table}\n{classes} not in the table: in no label and no prediction"
