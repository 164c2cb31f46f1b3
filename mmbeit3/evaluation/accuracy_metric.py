"""Top-k accuracy of image classification, counted exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.tables import text_table


@METRICS.register_module()
class AccuracyMetric(BaseMetric):
    """Share of images whose class is the highest score, or among the k highest, in percent.

    Of equal scores the class of the lower number comes first, as ``argmax`` has it. On any number
    of processes each image counts once: samplers that fill up the last batch repeat some.

    It reports ``accuracy/top1`` and so on, and logs the classes with the lowest top-1. After an
    evaluation ``by_class`` holds all: ``{name: {"top1": ..., "images": ...}}``, top-1 in percent,
    None for a class without an image.

    Args:
        topk (Sequence[int]): Which k to report; those that are not below the number of classes are
            left out, as everything is among them. Defaults to (1, 5).
        num_worst (int): How many classes to log. Defaults to 10.
        collect_device (str): "cpu" or "gpu", as in mmengine. Defaults to "cpu".
        prefix (str, optional): In front of the names. Defaults to None, "accuracy".

    Raises:
        InputError: ``topk`` cannot be used, a sample has no label or one of no class, or scores are
            of another number of classes or not finite.
    """

    default_prefix = "accuracy"

    def __init__(
        self,
        topk: Sequence[int] = (1, 5),
        num_worst: int = 10,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.topk = _checked(topk)
        self.num_worst = num_worst
        self.by_class: dict[str, dict[str, float | None]] = {}

    @classmethod
    def metric_names(
        cls, settings: Mapping[str, Any], classes: Sequence[str] | None = None
    ) -> list[str]:
        """Find the names, without prefix, of the metrics that an evaluation gives.

        Args:
            settings: Arguments of the metric, as a config has them.
            classes: Names of the classes. Defaults to None, not known.
        """
        number = None if classes is None else len(classes)
        return [f"top{k}" for k in _reported(_checked(settings.get("topk", (1, 5))), number)]

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Rank the classes of a batch.

        Args:
            data_batch: Not used.
            data_samples: The samples, with ``gt_label`` and ``pred_scores`` (classes,).
        """
        number = len(self.dataset_meta["classes"])
        for sample in data_samples:
            name = sample.get("img_path")
            scores, label = sample["pred_scores"].double(), sample.get("gt_label")
            if label is None:
                raise InputError(
                    f"{name} has no gt_label, so nothing can be scored: have the data set give one "
                    "(mmbeit3.ImageFolderDataset does), and mmbeit3.PackImageText pack it"
                )
            if scores.shape != (number,):
                raise InputError(
                    f"{name}: the model has scores {tuple(scores.shape)} and the data set {number} "
                    "classes; expected one score for each: set num_classes of the model"
                )
            if not 0 <= int(label) < number:
                raise InputError(
                    f"{name} has the label {int(label)}; expected 0 to {number - 1}, as the data "
                    f"set has {number} classes"
                )
            if not scores.isfinite().all():
                raise InputError(
                    f"{name}: {int((~scores.isfinite()).sum())} of the {number} scores are not "
                    "finite; expected numbers: check the weights, or test with --dtype float32"
                )
            self.results.append((name, int(label), _rank(scores, int(label)), int(scores.argmax())))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Count.

        Args:
            results: What :meth:`process` kept, of all processes.

        Returns:
            ``top1`` and so on, in percent.
        """
        # The path tells repeated images apart; what has none is counted as it comes.
        images = {r[0] if r[0] is not None else index: r[1:] for index, r in enumerate(results)}
        if not images:
            raise InputError("no image was evaluated: the data set of the evaluation is empty")
        classes = self.dataset_meta["classes"]
        ranks = torch.tensor([rank for _, rank, _ in images.values()])
        self._count_classes(classes, list(images.values()))
        return {
            f"top{k}": 100 * float((ranks < k).double().mean())
            for k in _reported(self.topk, len(classes))
        }

    def _count_classes(self, classes: Sequence[str], images: list[tuple[int, int, int]]) -> None:
        totals = Counter(label for label, _, _ in images)
        right = Counter(label for label, rank, _ in images if rank == 0)
        taken_for: dict[int, Counter] = {}
        for label, rank, predicted in images:
            if rank:
                taken_for.setdefault(label, Counter())[predicted] += 1
        self.by_class = {
            name: {
                "top1": 100 * right[label] / totals[label] if totals[label] else None,
                "images": float(totals[label]),
            }
            for label, name in enumerate(classes)
        }
        worst = sorted(taken_for, key=lambda label: (right[label] / totals[label], label))
        rows = [
            [
                classes[label],
                f"{100 * right[label] / totals[label]:.2f}",
                str(totals[label]),
                ", ".join(f"{classes[p]} ({n})" for p, n in taken_for[label].most_common(3)),
            ]
            for label in worst[: self.num_worst]
        ]
        if rows:
            table = text_table(["class", "top1", "images", "taken for"], rows)
            more = len(worst) - len(rows)
            rest = f", and {more} more classes with mistakes" if more else ""
            print_log(f"classes with the lowest top-1{rest}\n{table}", "current")


def _rank(scores: Tensor, label: int) -> int:
    """How many classes (C,) come before one."""
    own = scores[label]
    return int((scores > own).sum() + (scores[:label] == own).sum())


def _checked(topk: Sequence[int]) -> tuple[int, ...]:
    topk = (topk,) if isinstance(topk, int) else tuple(topk)
    if not topk or any(not isinstance(k, int) or k < 1 for k in topk):
        raise InputError(f"topk is {listed(topk) or 'empty'}; expected whole numbers from 1 on")
    return topk


def _reported(topk: Sequence[int], num_classes: int | None) -> list[int]:
    return [k for k in topk if k == 1 or num_classes is None or k < num_classes]
