"""The NLVR2 metric of configs: judgments of all processes, scored once or written to a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from mmengine.logging import print_log

from mmbeit3.evaluation.samples import GatheredMetric, check_complete, once_each
from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError
from mmbeit3.utils.tables import csv_text
from mmbeit3.utils.whole_files import write_whole

NAMES = ("False", "True")
# split, set of images, pair of the set, sentence
IDENTIFIER = re.compile(r"(.+-\d+)-\d+-(\d+)")


class _Judgment(NamedTuple):
    """What a model said of a statement, and what is right."""

    id: str
    path: str
    sample_idx: int | None
    sentence: str
    predicted: int
    label: int | None


@METRICS.register_module()
class NLVR2Metric(GatheredMetric):
    """Accuracy of judgments, and how consistent they are, in percent.

    It reports ``nlvr2/accuracy`` and ``nlvr2/consistency``: the share of sentences all of whose
    pairs of images are judged right. As in NLVR2's evaluation, those of one sentence have the same
    identifier but for the pair; in data with other identifiers, the same text. Judgments of all
    processes are gathered, and statements that the sampler gave out twice count once.

    Samples have ``identifier``, ``texts``, ``gt_label`` (0 or 1) and ``pred_label``. Without
    labels nothing is scored and ``out_file`` is what a test is for.

    Args:
        out_file (str, optional): Where to write the judgments, a CSV of identifier and True or
            False, as NLVR2's ``eval/metrics.py`` takes it. Defaults to None.
        collect_device (str): 'cpu' or 'gpu'; results are gathered as objects in either case.
            Defaults to 'cpu'.
        prefix (str, optional): Prefix of the names. Defaults to None, 'nlvr2'.

    Raises:
        InputError: Statements are missing, an identifier stands for two, or statements have no
            labels and there is no ``out_file``.
    """

    default_prefix = "nlvr2"
    results: list[_Judgment]

    def __init__(
        self,
        out_file: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.out_file = out_file

    @classmethod
    def metric_names(
        cls, settings: Mapping[str, Any], classes: Sequence[str] | None = None
    ) -> list[str]:
        """Find the names, without prefix, of the metrics that an evaluation gives.

        Args:
            settings: Not used.
            classes: Not used.
        """
        return ["accuracy", "consistency"]

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the judgments of one batch.

        Args:
            data_batch: Not used.
            data_samples: The samples, see the class.
        """
        for sample in data_samples:
            identifier, label = str(sample["identifier"]), sample.get("gt_label")
            if label is None and self.out_file is None:
                raise InputError(
                    f"statement {identifier} has no label to compare with: write the judgments to "
                    "a file (--out of the command test, out_file of the metric), or give labels"
                )
            sentence = " ".join(sample.get("texts") or ())
            self.results.append(
                _Judgment(
                    identifier,
                    f"{sentence!r} of {sample.get('img_path')}",
                    sample.get("sample_idx"),
                    sentence,
                    int(sample["pred_label"]),
                    None if label is None else int(label),
                )
            )

    def compute_metrics(
        self, results: list[_Judgment], size: int | None = None
    ) -> dict[str, float]:
        """Count what was gathered, and write it if ``out_file`` says where.

        Args:
            results: The judgments, in any order.
            size: How many there must be. Defaults to None, not known.

        Returns:
            The metrics by name, in percent; none if no label is known.
        """
        judgments = once_each(results, "statement")
        check_complete(judgments, size, "statement", "the accuracy needs all")
        if self.out_file is not None:
            rows = ((one.id, NAMES[one.predicted]) for one in judgments)
            write_whole(self.out_file, csv_text(rows))
        without = [one.id for one in judgments if one.label is None]
        if len(without) == len(judgments):
            print_log("the statements have no labels, so nothing is scored", "current")
            return {}
        if without:
            raise InputError(
                f"{len(without):,} of the {len(judgments):,} statements have no label, the first "
                f"is {without[0]}: give those of all, or test them by themselves"
            )
        right = [one.predicted == one.label for one in judgments]
        by_sentence: dict[Any, list[bool]] = {}
        for one, is_right in zip(judgments, right, strict=True):
            by_sentence.setdefault(_sentence(one), []).append(is_right)
        return {
            "accuracy": 100 * fmean(right),
            "consistency": 100 * fmean(map(all, by_sentence.values())),
        }


def _sentence(judgment: _Judgment) -> Any:
    """What the judgments of one sentence have in common."""
    match = IDENTIFIER.fullmatch(judgment.id)
    return match.groups() if match else judgment.sentence
