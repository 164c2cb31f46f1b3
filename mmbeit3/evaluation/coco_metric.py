"""The COCO metric of configs: mmdet collects the predictions, ``evaluate_coco`` scores them."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_local_path
from mmengine.logging import print_log
from torch import Tensor

from mmbeit3.datasets.coco import find_category_ids
from mmbeit3.datasets.coco_checks import load_coco
from mmbeit3.evaluation.coco import (
    BACKENDS,
    IOU_TYPES,
    class_rows,
    evaluate_coco,
    format_table,
)
from mmbeit3.ops import encode_masks
from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError

# The names that mmdet's users know, for the keys of evaluate_coco.
METRIC_NAMES = {
    "AP": "mAP",
    "AP50": "mAP_50",
    "AP75": "mAP_75",
    "APs": "mAP_s",
    "APm": "mAP_m",
    "APl": "mAP_l",
    "AR1": "AR@1",
    "AR10": "AR@10",
    "AR100": "AR@100",
    "ARs": "AR_s@100",
    "ARm": "AR_m@100",
    "ARl": "AR_l@100",
}


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """COCO AP and AR of boxes and masks, as the COCO API defines them and unrounded.

    It reports ``coco/{bbox,segm}_mAP``, ``..._mAP_50``, ``_mAP_75``, ``_mAP_s``, ``_mAP_m``,
    ``_mAP_l`` as mmdet does, and ``..._AR@1``, ``_AR@10``, ``_AR@100``, ``_AR_s@100``,
    ``_AR_m@100``, ``_AR_l@100``. Differs from mmdet: nothing is rounded to three decimals; AP and
    AR are those at 1, 10 and 100 detections; label i is ``classes[i]`` of the data set whatever the
    order in the file; classes that the file lacks, labels beyond them, and an AP of 0 are
    explained. Proposal recall is left to ``mmdet.CocoMetric``.

    Args:
        ann_file (str, optional): COCO annotation file, the same as the data set's. Without it the
            ground truth is taken from the data samples. Defaults to None.
        metric (str | Sequence[str]): 'bbox', 'segm' or both. Defaults to 'bbox'.
        classwise (bool): Whether to log a table of the classes and add
            ``{bbox,segm}_<class name>_precision``. Defaults to False.
        format_only (bool): Only write the result files. Defaults to False.
        outfile_prefix (str, optional): Results are written to ``<prefix>.bbox.json`` and
            ``<prefix>.segm.json``. Defaults to None, not kept.
        backend (str): 'faster-coco-eval' or 'pycocotools'. Defaults to 'faster-coco-eval'.
        backend_args (dict, optional): Arguments of mmengine's file backend. Defaults to None.
        collect_device (str): 'cpu' or 'gpu', where ranks gather results. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the names. Defaults to None, 'coco'.

    Raises:
        InputError: An argument, the annotation file, or the classes of the data set do not fit.
    """

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = "bbox",
        classwise: bool = False,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        backend: str = "faster-coco-eval",
        backend_args: dict | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        metrics = [metric] if isinstance(metric, str) else list(metric)
        if not metrics or any(name not in IOU_TYPES for name in metrics):
            raise InputError(
                f"metric is {metric!r}, expected 'bbox', 'segm' or both "
                "(mmdet.CocoMetric measures the recall of proposals)"
            )
        if backend not in BACKENDS:
            raise InputError(f"backend is {backend!r}, expected one of {BACKENDS}")
        if format_only and outfile_prefix is None:
            raise InputError("format_only=True writes files only: it needs outfile_prefix")
        super().__init__(
            metric=metrics,
            classwise=classwise,
            format_only=format_only,
            outfile_prefix=outfile_prefix,
            backend_args=backend_args,
            collect_device=collect_device,
            prefix=prefix,
        )
        self.backend = backend
        self.ann_file = ann_file or "the ground truth of the data samples"
        if ann_file is not None:
            with get_local_path(ann_file, backend_args=backend_args) as local_path:
                self._index_ground_truth(local_path)

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        """Classes that do not fit stop the run here, before the training and not after it."""
        self._dataset_meta = dataset_meta
        if self._coco_api is not None and dataset_meta is not None:
            self._look_up_categories()

    def _index_ground_truth(self, path: str) -> None:
        self._coco_api = COCO()
        self._coco_api.dataset = load_coco(path, self.ann_file, require_annotations=False)
        with contextlib.redirect_stdout(io.StringIO()):
            self._coco_api.createIndex()

    def _look_up_categories(self) -> None:
        self.cat_ids = find_category_ids(
            self.dataset_meta["classes"], self._coco_api.dataset["categories"], self.ann_file
        )

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of a batch, masks as run-length codes.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): Ground truth and ``pred_instances`` of each image.
        """
        super().process(data_batch, [_encoded(sample) for sample in data_samples])

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Score the predictions, and write them to files if ``outfile_prefix`` says where.

        Args:
            results: Ground truth and prediction of every image, as ``process`` collected them.

        Returns:
            The metrics by name; empty with ``format_only``.
        """
        if not results:
            raise InputError("no image was evaluated: the data set of the evaluation is empty")
        truths, predictions = zip(*results, strict=True)
        if self._coco_api is None:
            with self._result_prefix() as prefix:
                self._index_ground_truth(self.gt_to_coco_json(truths, prefix))
        self._look_up_categories()
        self._check_predictions(predictions)
        if self.outfile_prefix is not None:
            with self._result_prefix() as prefix:
                self.results2json(predictions, prefix)
        if self.format_only:
            print_log(f"the results are in {Path(self.outfile_prefix).parent}", "current")
            return {}
        scores = {iou_type: self._evaluate(iou_type, predictions) for iou_type in self.metrics}
        print_log("\n" + format_table(scores), "current")
        return {
            f"{iou_type}_{name}": values[key]
            for iou_type, values in scores.items()
            for key, name in METRIC_NAMES.items()
        } | self._report_classes(scores)

    @contextlib.contextmanager
    def _result_prefix(self) -> Iterator[str]:
        if self.outfile_prefix is not None:
            Path(self.outfile_prefix).parent.mkdir(parents=True, exist_ok=True)
            yield self.outfile_prefix
            return
        with tempfile.TemporaryDirectory() as folder:
            yield f"{folder}/results"

    def _check_predictions(self, predictions: Sequence[dict]) -> None:
        highest = max((int(p["labels"].max()) for p in predictions if len(p["labels"])), default=-1)
        if highest >= len(self.cat_ids):
            raise InputError(
                f"the model predicts label {highest}, the data set has {len(self.cat_ids)} classes "
                "(labels from 0): set num_classes of the heads to the number of classes"
            )
        if "segm" in self.metrics and "masks" not in predictions[0]:
            raise InputError(
                "metric 'segm' needs masks and the model gives none: use metric='bbox'"
            )
        num_images = len(self._coco_api.dataset["images"])
        num_evaluated = len({prediction["img_id"] for prediction in predictions})
        if num_evaluated < num_images:
            text = f"only {num_evaluated} of the {num_images} images of {self.ann_file} were run: "
            text += "all objects of the others count as missed"
            print_log(text, "current", logging.WARNING)

    def _evaluate(self, iou_type: str, predictions: Sequence[dict]) -> dict[str, float]:
        results = [
            result
            for prediction in predictions
            for result in _coco_results(prediction, self.cat_ids, iou_type)
        ]
        return evaluate_coco(
            self._coco_api, results, iou_type, self.backend, self.classwise, self.cat_ids
        )

    def _report_classes(self, scores: dict[str, dict[str, float]]) -> dict[str, float]:
        """Log each class's row; returns nothing unless ``classwise``."""
        metrics: dict[str, float] = {}
        for iou_type, values in scores.items() if self.classwise else ():
            rows = class_rows(values)
            print_log(f"{iou_type} by class\n{format_table(rows)}", "current")
            metrics |= {f"{iou_type}_{name}_precision": row["AP"] for name, row in rows.items()}
        return metrics


def _encoded(sample: dict) -> dict:
    """The sample with its predicted masks encoded, as mmdet would do it more slowly."""
    found = sample["pred_instances"]
    masks = found.get("masks")
    if not isinstance(masks, Tensor):
        return sample
    return sample | {"pred_instances": found | {"masks": encode_masks(masks.cpu().numpy())}}


def _coco_results(prediction: dict, cat_ids: Sequence[int], iou_type: str) -> Iterator[dict]:
    """The detections of one image in COCO's format, the numbers as mmdet writes them to files.

    Args:
        prediction: What ``process`` keeps of an image: ``img_id`` and, of N detections, ``labels``
            (N,), ``scores`` (N,), for masks perhaps ``mask_scores`` (N,), and ``bboxes`` (N, 4) as
            x0, y0, x1, y1 in pixels or ``masks`` (N compressed RLE).
        cat_ids: Category id of each label.
        iou_type: 'bbox' or 'segm'.
    """
    scores = prediction["scores"]
    if iou_type == "bbox":
        key, shapes = "bbox", prediction["bboxes"].reshape(-1, 4).astype(np.float64)
        shapes[:, 2:] -= shapes[:, :2]
        shapes = shapes.tolist()
    else:
        key, shapes = "segmentation", prediction["masks"]
        scores = prediction.get("mask_scores", scores)
    labels = prediction["labels"].tolist()
    for label, score, shape in zip(labels, scores.tolist(), shapes, strict=True):
        yield {
            "image_id": prediction["img_id"],
            "category_id": cat_ids[label],
            "score": score,
            key: shape,
        }
