"""The VQA metric of configs: answers of all processes, scored once or written for the server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from mmengine.logging import print_log

from mmbeit3.evaluation.samples import GatheredMetric, check_complete, once_each
from mmbeit3.evaluation.vqa import vqa_accuracy
from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError
from mmbeit3.utils.tables import text_table
from mmbeit3.utils.whole_files import write_whole

NUM_SHOWN = 10  # question types in the log


class _Answer(NamedTuple):
    """What a model answered to a question, and what that is worth."""

    id: int
    path: str
    sample_idx: int | None
    answer: str
    score: float | None
    answer_type: str | None
    question_type: str | None


@METRICS.register_module()
class VQAMetric(GatheredMetric):
    """VQAv2's official accuracy, :func:`mmbeit3.evaluation.vqa_accuracy`, in percent.

    It reports ``vqa/accuracy`` and, where questions have an ``answer_type``, that of each:
    ``vqa/yes_no``, ``vqa/number``, ``vqa/other``. The log has the most frequent question types, and
    after an evaluation ``by_class`` holds all: ``{type: {"accuracy": ..., "questions": ...}}``.
    Answers of all processes are gathered, and questions that the sampler gave out twice count once.

    Samples have ``question_id``, ``answers`` (what people answered) and ``pred_label``, the number
    of an answer of the data set's list. Without ``answers``, as in VQAv2's test, nothing is scored
    and ``out_file`` is what a test is for.

    Args:
        out_file (str, optional): Where to write the answers, a JSON list of ``question_id`` and
            ``answer`` as the server of VQAv2 takes it. Defaults to None.
        collect_device (str): 'cpu' or 'gpu'; results are gathered as objects in either case.
            Defaults to 'cpu'.
        prefix (str, optional): Prefix of the names. Defaults to None, 'vqa'.

    Raises:
        InputError: Questions are missing, an id stands for two, the label is of no answer, or
            questions have no answers and there is no ``out_file``.
    """

    default_prefix = "vqa"
    headlines = ("accuracy",)  # what a terminal shows of a validation
    results: list[_Answer]

    def __init__(
        self,
        out_file: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.out_file = out_file
        self.by_class: dict[str, dict[str, float | None]] = {}

    @classmethod
    def metric_names(
        cls, settings: Mapping[str, Any], classes: Sequence[str] | None = None
    ) -> list[str]:
        """Find the names, without prefix, of the metrics that an evaluation gives.

        Args:
            settings: Not used.
            classes: Not used.
        """
        return ["accuracy", "yes_no", "number", "other"]

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score the answers of one batch.

        Args:
            data_batch: Not used.
            data_samples: The samples, see the class.
        """
        known = self.dataset_meta.get("classes") or ()
        for sample in data_samples:
            number, label = sample["question_id"], sample.get("pred_label")
            place = f"{sample.get('texts')} of {sample.get('img_path')}"
            if label is None or not 0 <= int(label) < len(known):
                raise InputError(
                    f"question {number} has the pred_label {label}, and the data set's list has "
                    f"{len(known)} answers; expected one of these: the model and the data set "
                    "need the same list"
                )
            answer, answers = known[int(label)], sample.get("answers") or ()
            if not answers and self.out_file is None:
                raise InputError(
                    f"question {number} has no answers to compare with: write the model's to a "
                    "file (--out of the command test, out_file of the metric), or name "
                    "annotations"
                )
            score = vqa_accuracy(answer, answers) if answers else None
            types = sample.get("answer_type"), sample.get("question_type")
            index = sample.get("sample_idx")
            self.results.append(_Answer(number, place, index, answer, score, *types))

    def compute_metrics(self, results: list[_Answer], size: int | None = None) -> dict[str, float]:
        """Average what was gathered, and write the answers if ``out_file`` says where.

        Args:
            results: The answers, in any order.
            size: How many there must be. Defaults to None, not known.

        Returns:
            The metrics by name, in percent; none if nobody's answers are known.
        """
        answers = once_each(results, "question")
        check_complete(answers, size, "question", "the server and the accuracy need all")
        if self.out_file is not None:
            entries = [{"question_id": one.id, "answer": one.answer} for one in answers]
            write_whole(self.out_file, json.dumps(entries, ensure_ascii=False, indent=0) + "\n")
        without = [one.id for one in answers if one.score is None]
        if len(without) == len(answers):
            print_log("the questions have no answers to compare with, so none is scored", "current")
            return {}
        if without:
            raise InputError(
                f"{len(without):,} of the {len(answers):,} questions have no answers to compare "
                f"with, the first is {without[0]}: give those of all, or test them by themselves"
            )
        self.by_class = {
            name: {"accuracy": accuracy, "questions": float(number)}
            for name, (accuracy, number) in _by((a.question_type, a.score) for a in answers).items()
        }
        self._log()
        of_types = _by((a.answer_type, a.score) for a in answers)
        return {"accuracy": 100 * fmean(one.score or 0.0 for one in answers)} | {
            re.sub(r"\W+", "_", name): accuracy for name, (accuracy, _) in of_types.items()
        }

    def _log(self) -> None:
        frequent = sorted(self.by_class.items(), key=lambda entry: -(entry[1]["questions"] or 0))
        rows = [
            [name, f"{one['accuracy']:.2f}", f"{one['questions']:.0f}"]
            for name, one in frequent[:NUM_SHOWN]
        ]
        if rows:
            more = len(frequent) - len(rows)
            rest = f", and {more} more" if more else ""
            table = text_table(["question type", "accuracy", "questions"], rows)
            print_log(f"the most frequent question types{rest}\n{table}", "current")


def _by(scores: Iterable[tuple[str | None, float | None]]) -> dict[str, tuple[float, int]]:
    """The mean in percent and the number of the scores of each type."""
    found: dict[str, list[float]] = {}
    for name, score in scores:
        if name is not None:
            found.setdefault(name, []).append(score or 0.0)
    return {name: (100 * fmean(values), len(values)) for name, values in found.items()}
