"""The COCO metric of configs: mmdet collects the predictions, ``evaluate_coco`` scores them."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_local_path
from mmengine.logging import print_log
from torch import Tensor

from mmbeit3.datasets.checks.coco import load_coco, raise_on_errors
from mmbeit3.datasets.coco import find_category_ids
from mmbeit3.datasets.coco_index import CocoIndex, open_index
from mmbeit3.evaluation.coco import (
    BACKENDS,
    IOU_TYPES,
    MAX_DETS,
    SUMMARY,
    check_has_masks,
    check_max_dets,
    class_rows,
    evaluate_coco,
    format_table,
    without_annotations,
)
from mmbeit3.ops import encode_masks
from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError
from mmbeit3.utils.terminal import Table

SEPARATE_IDS = (
    "Number the images of all data sets anew and merge the annotation files into the ann_file of "
    "the metric, or score each data set by a CocoMetric of its own: dict(type="
    "'MultiDatasetsEvaluator', metrics=[...], dataset_prefixes=[...]) with mmdet's ConcatDataset"
)


def metric_name(key: str, most: int = MAX_DETS[-1]) -> str:
    """The name that mmdet's users know for a key of :func:`evaluate_coco`.

    Args:
        key: The key.
        most: The largest number of detections that count. Defaults to 100.
    """
    kind, detail = key[:2], key[2:]
    if kind == "AP":
        return f"mAP_{detail}" if detail else "mAP"
    return f"AR@{detail}" if detail.isdigit() else f"AR_{detail}@{most}"


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """COCO AP and AR of boxes and masks, as the COCO API defines them and unrounded.

    It reports ``coco/{bbox,segm}_mAP``, ``..._mAP_50``, ``_mAP_75``, ``_mAP_s``, ``_mAP_m``,
    ``_mAP_l`` as mmdet does, and ``..._AR@1``, ``_AR@10``, ``_AR@100``, ``_AR_s@100``,
    ``_AR_m@100``, ``_AR_l@100``. Differs from mmdet: nothing is rounded to three decimals; AP and
    AR are those at 1, 10 and 100 detections unless ``proposal_nums`` has others; label i is
    ``classes[i]`` of the data set whatever the order in the file; classes that the file lacks,
    labels beyond them, and an AP of 0 are explained; images that are not those of ``ann_file`` are
    an error, and so are two images of one id, as concatenated data sets have them (an image that
    was run twice counts once). Proposal recall is left to ``mmdet.CocoMetric``.

    Args:
        ann_file (str, optional): COCO annotation file, the same as the data set's. Without it the
            ground truth is taken from the data samples. Defaults to None.
        metric (str | Sequence[str]): 'bbox', 'segm' or both. Defaults to 'bbox'.
        classwise (bool): Whether to log a table of the classes and add
            ``{bbox,segm}_<class name>_precision``. Defaults to False.
        format_only (bool): Only write the result files. Defaults to False.
        outfile_prefix (str, optional): Results are written to ``<prefix>.bbox.json`` and
            ``<prefix>.segm.json``. Defaults to None, not kept.
        proposal_nums (Sequence[int]): How many detections of a class in an image count at most: AR
            is measured for each number, all else for the largest. Defaults to (1, 10, 100).
        backend (str): 'faster-coco-eval' or 'pycocotools'. Defaults to 'faster-coco-eval'.
        backend_args (dict, optional): Arguments of mmengine's file backend. Defaults to None.
        collect_device (str): 'cpu' or 'gpu', where ranks gather results. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the names. Defaults to None, 'coco'.

    Raises:
        InputError: An argument, the annotation file, or the classes of the data set do not fit.
    """

    _ground_truth: COCO | CocoIndex
    headlines = ("bbox_mAP", "segm_mAP")  # what a terminal shows of a validation

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = "bbox",
        classwise: bool = False,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        proposal_nums: Sequence[int] = MAX_DETS,
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
            proposal_nums=check_max_dets(proposal_nums, "proposal_nums"),
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
                self._index_ground_truth(str(local_path))
            if "segm" in metrics:
                check_has_masks(self._ground_truth, self.ann_file)

    @classmethod
    def metric_names(
        cls, settings: Mapping[str, Any], classes: Sequence[str] | None
    ) -> list[str] | None:
        """Find the names, without prefix, of the metrics that an evaluation gives.

        Args:
            settings: Arguments of the metric, as a config has them.
            classes: Classes of the data set; None if they are not known.

        Returns:
            The names; None if they are not known.
        """
        if settings.get("format_only"):
            return []
        if settings.get("classwise") and classes is None:
            return None
        metric = settings.get("metric", "bbox")
        most = check_max_dets(settings.get("proposal_nums", MAX_DETS), "proposal_nums")
        keys = [metric_name(key, most[-1]) for key in (*SUMMARY, *(f"AR{n}" for n in most))]
        keys += [f"{name}_precision" for name in classes or () if settings.get("classwise")]
        iou_types = [metric] if isinstance(metric, str) else list(metric)
        return [f"{iou_type}_{key}" for iou_type in iou_types for key in keys]

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        """Classes that do not fit stop the run here, before the training and not after it."""
        self._dataset_meta = dataset_meta
        # mmdet's MultiDatasetsEvaluator sets a list first, then each metric's own.
        if self._coco_api is not None and isinstance(dataset_meta, dict):
            self._look_up_categories()

    def _index_ground_truth(self, path: str) -> None:
        self._coco_api = self._ground_truth = COCO()
        index = open_index(path, path) if path == self.ann_file else None
        if index is not None:  # its annotations are read when they are needed, by category
            raise_on_errors(index.report(False, False), self.ann_file)
            self._ground_truth, self._coco_api.dataset = index, without_annotations(index)
            return
        self._coco_api.dataset = load_coco(
            path, self.ann_file, require_annotations=False, check_meaning=False
        )
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
        before = len(self.results)
        super().process(data_batch, [_encoded(sample) for sample in data_samples])
        for sample, (_, prediction) in zip(data_samples, self.results[before:], strict=True):
            prediction["img_path"] = sample.get("img_path")

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Score the predictions, and write them to files if ``outfile_prefix`` says where.

        Args:
            results: Ground truth and prediction of every image, as ``process`` collected them.

        Returns:
            The metrics by name; empty with ``format_only``.
        """
        if not results:
            raise InputError("no image was evaluated: the data set of the evaluation is empty")
        truths, predictions = zip(*_once_each(results), strict=True)
        if self._coco_api is not None:
            self._check_images(truths, predictions)
        else:
            with self._result_prefix() as prefix:
                self._index_ground_truth(self.gt_to_coco_json(truths, prefix))
        self._look_up_categories()
        self._check_predictions(predictions)
        if self.outfile_prefix is not None:
            with self._result_prefix() as prefix:
                self.results2json(predictions, prefix)
        if self.format_only:
            name = Path(self.outfile_prefix).name
            print_log(f"the results are written as {name}.*.json", "current")
            return {}
        scores = {iou_type: self._evaluate(iou_type, predictions) for iou_type in self.metrics}
        print_log(Table("\n" + format_table(scores)), "current")
        return {
            f"{iou_type}_{metric_name(key, self.proposal_nums[-1])}": value
            for iou_type, values in scores.items()
            for key, value in values.items()
            if "/" not in key  # of a class
        } | self._report_classes(scores)

    @contextlib.contextmanager
    def _result_prefix(self) -> Iterator[str]:
        if self.outfile_prefix is not None:
            Path(self.outfile_prefix).parent.mkdir(parents=True, exist_ok=True)
            yield self.outfile_prefix
            return
        with tempfile.TemporaryDirectory() as folder:
            yield f"{folder}/results"

    def _check_images(self, truths: Sequence[dict], predictions: Sequence[dict]) -> None:
        """Compare the images that were run with those of the annotation file."""
        images = self._coco_api.dataset["images"]
        sizes = {image["id"]: (image["width"], image["height"]) for image in images}
        unknown = [prediction for prediction in predictions if prediction["img_id"] not in sizes]
        cure = "Give the metric the annotation file of the data set that it evaluates, as ann_file"
        if unknown:
            raise InputError(
                f"{len(unknown)} of the {len(predictions)} images that were run are not in "
                f"{self.ann_file}, the first is {_named(unknown[0])}: what is found in them would "
                f"not count. {cure}"
            )
        differing = [
            (prediction, (truth["width"], truth["height"]))
            for truth, prediction in zip(truths, predictions, strict=True)
            if (truth["width"], truth["height"]) != sizes[prediction["img_id"]]
        ]
        if differing:
            prediction, found = differing[0]
            expected = sizes[prediction["img_id"]]
            raise InputError(
                f"{len(differing)} of the {len(predictions)} images that were run have another "
                f"size than {self.ann_file} says, the first is {_named(prediction)}, {found[0]} x "
                f"{found[1]}, expected {expected[0]} x {expected[1]}: it is another image. {cure}"
            )

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
            self._ground_truth,
            results,
            iou_type,
            self.backend,
            self.classwise,
            self.cat_ids,
            self.proposal_nums,
        )

    def _report_classes(self, scores: dict[str, dict[str, float]]) -> dict[str, float]:
        """Log each class's row; returns nothing unless ``classwise``."""
        metrics: dict[str, float] = {}
        for iou_type, values in scores.items() if self.classwise else ():
            rows = class_rows(values)
            print_log(Table(f"{iou_type} by class\n{format_table(rows)}"), "current")
            metrics |= {f"{iou_type}_{name}_precision": row["AP"] for name, row in rows.items()}
        return metrics


def _encoded(sample: dict) -> dict:
    """The sample with its predicted masks encoded, as mmdet would do it more slowly."""
    found = sample["pred_instances"]
    masks = found.get("masks")
    if not isinstance(masks, Tensor):
        return sample
    return sample | {"pred_instances": found | {"masks": encode_masks(masks.cpu().numpy())}}


def _once_each(results: list[tuple[dict, dict]]) -> list[tuple[dict, dict]]:
    """Leave out repetitions of an image.

    Raises:
        InputError: Different images have the same id.
    """
    kept: dict[Any, tuple[dict, dict]] = {}
    clashes = []
    for result in results:
        first = kept.setdefault(result[1]["img_id"], result)
        if first is not result and not _is_repeated(first, result):
            clashes.append((first[1], result[1]))
    if clashes:
        one, other = clashes[0]
        paths = [str(entry["img_path"] or "an image") for entry in (one, other)]
        raise InputError(
            f"{len(clashes)} of the {len(results)} images that were run have the id of another "
            f"one, the first two with the id {one['img_id']}: {paths[0]} and {paths[1]}. One would "
            f"be scored against the objects of the other. {SEPARATE_IDS}"
        )
    return list(kept.values())


def _is_repeated(first: tuple[dict, dict], second: tuple[dict, dict]) -> bool:
    """Whether two results are of the same image."""
    paths = [prediction["img_path"] for _, prediction in (first, second)]
    if None not in paths:
        return paths[0] == paths[1]
    (truth, one), (other_truth, other) = first, second
    if (truth["width"], truth["height"]) != (other_truth["width"], other_truth["height"]):
        return False
    return all(np.array_equal(one[key], other[key]) for key in ("bboxes", "scores", "labels"))


def _named(prediction: dict) -> str:
    path = prediction["img_path"]
    return f"{path or 'an image'} (id {prediction['img_id']})"


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
