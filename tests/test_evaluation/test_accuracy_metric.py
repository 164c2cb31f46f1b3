"""Top-k accuracy equals brute force, on any number of processes."""

from __future__ import annotations

import pytest
import torch

from mmbeit3.evaluation import AccuracyMetric
from mmbeit3.utils import InputError

CLASSES = tuple("abcdefg")


def samples(count: int, seed: int = 0, steps: int = 5) -> list[dict]:
    """Random scores with many ties."""
    draw = torch.Generator().manual_seed(seed)
    return [
        {
            "img_path": f"{index}.jpg",
            "gt_label": int(torch.randint(len(CLASSES), (), generator=draw)),
            "pred_scores": torch.randint(steps, (len(CLASSES),), generator=draw) / steps,
        }
        for index in range(count)
    ]


def metric(**options) -> AccuracyMetric:
    built = AccuracyMetric(**options)
    built.dataset_meta = {"classes": CLASSES}
    return built


def test_equals_brute_force_with_ties() -> None:
    data = samples(83)
    ours = metric(topk=(1, 3))
    ours.process({}, data[:40])
    ours.process({}, data[40:])
    found = ours.evaluate(len(data))
    for k in (1, 3):
        first = [sorted(range(7), key=lambda c, s=s: (-s["pred_scores"][c], c))[:k] for s in data]
        right = sum(s["gt_label"] in top for s, top in zip(data, first, strict=True))
        assert found[f"accuracy/top{k}"] == pytest.approx(100 * right / len(data))
    shares = [t["top1"] * t["images"] for t in ours.by_class.values() if t["images"]]
    assert sum(shares) / len(data) == pytest.approx(found["accuracy/top1"])


def test_an_image_that_ran_twice_counts_once() -> None:
    data = samples(9)
    once, twice = metric(), metric()
    once.process({}, data)
    twice.process({}, data[::2])
    twice.process({}, data[1::2] + data[:1])  # as a sampler fills up the last batch
    assert twice.compute_metrics(twice.results) == once.compute_metrics(once.results)


def test_the_worst_classes_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    place = "mmbeit3.evaluation.accuracy_metric.print_log"
    monkeypatch.setattr(place, lambda text, logger: said.append(text))
    ours = metric(num_worst=1)
    scores = torch.eye(7)
    ours.process(
        {},
        [
            {"img_path": "1", "gt_label": 2, "pred_scores": scores[2]},
            {"img_path": "2", "gt_label": 2, "pred_scores": scores[5]},
            {"img_path": "3", "gt_label": 4, "pred_scores": scores[1]},
        ],
    )
    ours.evaluate(3)
    (text,) = said
    assert "and 1 more classes with mistakes" in text
    assert "b (1)" in text and "f (1)" not in text
    assert ours.by_class["c"] == {"top1": 50.0, "images": 2.0}
    assert ours.by_class["a"] == {"top1": None, "images": 0.0}


def test_k_that_all_classes_fulfill_are_left_out() -> None:
    assert AccuracyMetric.metric_names({}, CLASSES) == ["top1", "top5"]
    assert AccuracyMetric.metric_names({}, CLASSES[:5]) == ["top1"]
    ours = AccuracyMetric()
    ours.dataset_meta = {"classes": ("a", "b")}
    ours.process({}, [{"img_path": "1", "gt_label": 1, "pred_scores": torch.tensor([0.2, 0.8])}])
    assert ours.evaluate(1) == {"accuracy/top1": 100.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(gt_label=None), "0.jpg has no gt_label"),
        (dict(gt_label=-1), "0.jpg has the label -1; expected 0 to 6"),
        (dict(gt_label=7), "0.jpg has the label 7; expected 0 to 6"),
        (dict(pred_scores=torch.ones(3)), r"scores \(3,\) and the data set 7 classes"),
        (dict(pred_scores=torch.full((7,), torch.nan)), "7 of the 7 scores are not finite"),
    ],
)
def test_what_cannot_be_scored_is_named(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        metric().process({}, [samples(1)[0] | change])


@pytest.mark.parametrize("topk", [(), (0,), (1.5,)])
def test_topk_must_be_whole_numbers(topk: tuple) -> None:
    with pytest.raises(InputError, match="topk is"):
        AccuracyMetric(topk)
