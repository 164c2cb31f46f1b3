"""VQAv2's accuracy against the official rule, NLVR2's against its script, and their metrics."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from mmbeit3.datasets.answers import normalize_answer
from mmbeit3.evaluation import NLVR2Metric, VQAMetric, vqa_accuracy
from mmbeit3.utils import InputError

ANSWERS = ("yes", "no", "2", "the dog", "dog", "none")
TYPES = ("yes/no", "number", "other")


def leave_one_out(prediction: str, answers: list[str]) -> float:
    """The official rule, word for word: the ten in turn, each without itself."""
    if len(set(answers)) > 1:
        prediction = normalize_answer(prediction)
        answers = [normalize_answer(answer) for answer in answers]
    scores = [
        min(1, sum(other == prediction for other in answers[:n] + answers[n + 1 :]) / 3)
        for n in range(len(answers))
    ]
    return sum(scores) / len(scores)


def test_each_number_of_equal_answers_has_its_official_score() -> None:
    found = [vqa_accuracy("red", ["red"] * n + ["blue"] * (10 - n)) for n in range(11)]
    assert found == [0, 0.3, 0.6, 0.9, *[1.0] * 7]


@pytest.mark.parametrize("people", [10, 5, 4])
def test_equal_to_leaving_one_out_in_turn(people: int) -> None:
    draw = random.Random(people)
    for _ in range(300):
        answers = [draw.choice(ANSWERS) for _ in range(people)]
        prediction = draw.choice(ANSWERS)
        assert vqa_accuracy(prediction, answers) == pytest.approx(
            leave_one_out(prediction, answers)
        )


def test_answers_are_normalized_where_people_differ_only() -> None:
    assert vqa_accuracy("dog", ["the dog"] * 10) == 0
    assert vqa_accuracy("dog", ["the dog"] * 9 + ["cat"]) == 1
    assert vqa_accuracy("none", ["0"] * 10) == 0
    assert vqa_accuracy("none", ["0"] * 9 + ["1"]) == 1
    assert vqa_accuracy("two dogs", ["two\ndogs "] * 10) == 1  # always on one line
    with pytest.raises(InputError, match="no answers to compare with"):
        vqa_accuracy("dog", [])


def questions(number: int = 20) -> list[dict]:
    """Evaluated questions, with answers of people that agree more or less."""
    draw = random.Random(0)
    return [
        {
            "sample_idx": index,
            "question_id": 100 - index,
            "img_path": f"{index // 3}.jpg",
            "texts": [f"question {index}?"],
            "answers": [draw.choice(ANSWERS[: 1 + index % 6]) for _ in range(10)],
            "answer_type": TYPES[index % 3],
            "question_type": f"type {index % 4}",
            "pred_label": draw.randrange(len(ANSWERS)),
        }
        for index in range(number)
    ]


def statements() -> list[dict]:
    """Evaluated statements: two sentences of each set, on four pairs."""
    draw = random.Random(1)
    return [
        {
            "sample_idx": 8 * number + 2 * pair + sentence,
            "identifier": f"dev-{number}-{pair}-{sentence}",
            "img_path": [f"{number}-{pair}-0.png", f"{number}-{pair}-1.png"],
            "texts": [f"sentence {number} {sentence}"],
            "gt_label": pair % 2,
            "pred_label": (pair % 2) ^ (draw.random() < 0.15),
        }
        for number in range(4)
        for pair in range(4)
        for sentence in range(2)
    ]


def evaluate(
    kind: type, parts: list[list[dict]], size: int, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> dict[str, float]:
    """What the first of several processes gets that evaluate these samples."""
    metrics = [kind(**options) for _ in parts]
    for metric, part in zip(metrics, parts, strict=True):
        metric.dataset_meta = {"classes": ANSWERS}
        for start in range(0, len(part), 3):
            metric.process({}, part[start : start + 3])
    gathered = [metric.results for metric in metrics]
    with monkeypatch.context() as patch:
        patch.setattr("mmbeit3.evaluation.samples.is_distributed", lambda: True)
        patch.setattr("mmbeit3.evaluation.samples.all_gather_object", lambda own: gathered)
        return metrics[0].evaluate(size)


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_any_number_of_processes_gives_the_same(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = questions()
    scores = [leave_one_out(ANSWERS[one["pred_label"]], one["answers"]) for one in every]
    parts = [every[rank::processes] for rank in range(processes)]
    parts[-1] = parts[-1] + every[:2]  # doubles of the sampler, and uneven parts
    out = tmp_path / "answers.json"
    found = evaluate(VQAMetric, parts[::-1], 20, monkeypatch, out_file=str(out))
    expected = {"vqa/accuracy": sum(scores) / 20} | {
        f"vqa/{name.replace('/', '_')}": sum(scores[n::3]) / len(scores[n::3])
        for n, name in enumerate(TYPES)
    }
    assert found == pytest.approx({name: 100 * value for name, value in expected.items()})
    assert json.loads(out.read_text()) == [
        {"question_id": one["question_id"], "answer": ANSWERS[one["pred_label"]]} for one in every
    ]


def test_question_types_have_numbers_of_their_own() -> None:
    metric = VQAMetric()
    metric.dataset_meta = {"classes": ANSWERS}
    every = questions(8)
    metric.process({}, every)
    metric.evaluate(8)
    scores = [leave_one_out(ANSWERS[one["pred_label"]], one["answers"]) for one in every]
    assert metric.by_class["type 1"] == {
        "accuracy": pytest.approx(50 * (scores[1] + scores[5])),
        "questions": 2,
    }


def test_questions_without_answers_are_written_and_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [one | {"answers": []} for one in questions()]
    out = tmp_path / "answers.json"
    assert evaluate(VQAMetric, [every], 20, monkeypatch, out_file=str(out)) == {}
    assert len(json.loads(out.read_text())) == 20
    with pytest.raises(InputError, match="question 100 has no answers .*--out"):
        evaluate(VQAMetric, [every], 20, monkeypatch)
    with pytest.raises(InputError, match="1 of the 20 questions have no answers.*first is 100"):
        mixed = [every[0], *questions()[1:]]
        evaluate(VQAMetric, [mixed], 20, monkeypatch, out_file=str(out))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda every: every[:-2], "18 of the 20 questions .*2 are missing, the samples 18, 19"),
        (lambda every: [*every[:-1], every[-1] | {"question_id": 100}], "question id 100 stands"),
        (lambda every: [every[0] | {"pred_label": 6}], "pred_label 6, and .* 6 answers.*same list"),
        (lambda every: [every[0] | {"pred_label": None}], "pred_label None"),
        (lambda every: [], "no question was evaluated"),
    ],
)
def test_missing_and_double_questions_are_named(
    change: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(VQAMetric, [change(questions())], 20, monkeypatch)


def official_nlvr2(every: list[dict]) -> tuple[float, float]:
    """Accuracy and consistency as NLVR2's eval/metrics.py counts them."""
    consistent: dict[str, bool] = {}
    right = 0
    for one in every:
        parts = one["identifier"].split("-")
        sentence = "-".join([*parts[:2], "", *parts[3:]])
        is_right = one["pred_label"] == one["gt_label"]
        right += is_right
        consistent[sentence] = consistent.get(sentence, True) and is_right
    return 100 * right / len(every), 100 * sum(consistent.values()) / len(consistent)


@pytest.mark.parametrize("processes", [1, 3])
def test_judgments_are_scored_as_officially(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = statements()
    parts = [every[rank::processes] for rank in range(processes)]
    parts[-1] = parts[-1] + every[:1]
    out = tmp_path / "judgments.csv"
    found = evaluate(NLVR2Metric, parts, 32, monkeypatch, out_file=str(out))
    accuracy, consistency = official_nlvr2(every)
    assert 0 < consistency < accuracy < 100
    assert found == pytest.approx({"nlvr2/accuracy": accuracy, "nlvr2/consistency": consistency})
    lines = out.read_text().splitlines()
    assert lines[0] == f"dev-0-0-0,{bool(every[0]['pred_label'])}" and len(lines) == 32


def test_sentences_of_own_data_are_told_apart_by_their_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = statements()
    expected = evaluate(NLVR2Metric, [every], 32, monkeypatch)
    own = [one | {"identifier": str(2 + one["sample_idx"])} for one in every]
    assert evaluate(NLVR2Metric, [own], 32, monkeypatch) == pytest.approx(expected)


def test_missing_double_and_unlabeled_statements_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = statements()
    with pytest.raises(InputError, match="31 of the 32 statements .*1 are missing, the samples 31"):
        evaluate(NLVR2Metric, [every[:-1]], 32, monkeypatch)
    with pytest.raises(InputError, match="statement id dev-0-0-0 stands for .*'sentence 3 1' of"):
        double = every[-1] | {"identifier": "dev-0-0-0"}
        evaluate(NLVR2Metric, [[*every[:-1], double]], 32, monkeypatch)
    unknown = [{key: one[key] for key in one if key != "gt_label"} for one in every]
    with pytest.raises(InputError, match="statement dev-0-0-0 has no label.*--out"):
        evaluate(NLVR2Metric, [unknown], 32, monkeypatch)
    out = str(tmp_path / "judgments.csv")
    assert evaluate(NLVR2Metric, [unknown], 32, monkeypatch, out_file=out) == {}
    with pytest.raises(InputError, match="1 of the 32 statements have no label"):
        evaluate(NLVR2Metric, [[unknown[0], *every[1:]]], 32, monkeypatch, out_file=out)


def _evaluate_in_process(rank: int, world_size: int, address: str, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=world_size
    )
    metric = VQAMetric(out_file=str(Path(out) / "answers.json"))
    metric.dataset_meta = {"classes": ANSWERS}
    metric.process({}, questions()[rank::world_size] + (questions()[:1] if rank else []))
    torch.save(metric.evaluate(20), Path(out) / f"{rank}.pth")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_real_processes_all_get_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (2, f"file://{tmp_path / 'store'}", str(tmp_path))
    torch.multiprocessing.start_processes(
        _evaluate_in_process, arguments, nprocs=2, start_method="fork"
    )
    expected = evaluate(VQAMetric, [questions()], 20, monkeypatch)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pth") == expected
    assert len(json.loads((tmp_path / "answers.json").read_text())) == 20
