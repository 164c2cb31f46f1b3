"""Recall at k, compared with sorting every row and every column."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmbeit3.evaluation import RetrievalMetric, retrieval, retrieval_recall
from mmbeit3.evaluation.retrieval import feature_ranks, feature_recall
from mmbeit3.utils import InputError

KS = (1, 5, 10)


def brute_force(scores: np.ndarray, pairs: list[tuple[int, int]]) -> dict[str, float]:
    """Sort the candidates of each query, wrong ones first where scores are equal."""
    recalls = {}
    for kind, matrix, own in (
        ("TR", scores, pairs),
        ("IR", scores.T, [(text, image) for image, text in pairs]),
    ):
        ranks = []
        for query in sorted({query for query, _ in own}):
            right = {candidate for one, candidate in own if one == query}
            row = matrix[query]
            order = sorted(range(len(row)), key=lambda c: (-row[c], c in right))
            ranks.append(min(order.index(candidate) for candidate in right))
        for k in KS:
            recalls[f"{kind}@{k}"] = 100 * np.mean([rank < k for rank in ranks])
    return recalls | {"mean_recall": np.mean(list(recalls.values()))}


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_brute_force_with_ties(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(seed)
    images, captions = int(draw.integers(2, 40)), (1, 5)[seed % 2]
    monkeypatch.setattr(retrieval, "COMPARED", 3 * images * captions)  # several blocks
    scores = draw.integers(0, 12, (images, images * captions)).astype(np.float32)
    pairs = [(text // captions, text) for text in range(images * captions)]
    scores[[i for i, _ in pairs], [t for _, t in pairs]] += draw.integers(0, 12, len(pairs))
    draw.shuffle(pairs)
    assert retrieval_recall(scores, pairs) == pytest.approx(brute_force(scores, pairs))


def test_a_text_may_belong_to_several_images_and_a_candidate_to_none() -> None:
    draw = np.random.default_rng(0)
    scores = draw.integers(0, 5, (20, 30)).astype(np.float64)
    pairs = [(i, t) for i in range(15) for t in range(25) if draw.random() < 0.1]
    assert retrieval_recall(scores, pairs) == pytest.approx(brute_force(scores, pairs))


def test_what_is_masked_by_minus_infinity_is_not_found() -> None:
    draw = np.random.default_rng(0)
    scores = np.where(draw.random((20, 30)) < 0.5, -np.inf, draw.random((20, 30)))
    pairs = [(int(draw.integers(20)), text) for text in range(30)]
    assert retrieval_recall(scores, pairs) == pytest.approx(brute_force(scores, pairs))


def test_a_model_that_tells_nothing_apart_gets_nothing() -> None:
    pairs = [(text // 5, text) for text in range(100)]
    assert set(retrieval_recall(torch.ones(20, 100), pairs).values()) == {0.0}


def test_perfect_retrieval_with_five_captions_is_100() -> None:
    scores = torch.eye(30).repeat_interleave(5, dim=1)
    pairs = [(text // 5, text) for text in range(150)]
    assert set(retrieval_recall(scores, pairs).values()) == {100.0}


@pytest.mark.parametrize("stored", [0, 10**6])
def test_scores_that_are_not_kept_give_the_same(
    stored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "MAX_STORED", stored)
    monkeypatch.setattr(retrieval, "COMPUTED", 700)
    monkeypatch.setattr(retrieval, "COMPARED", 200)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(-2, 3, (23, 4), generator=generator).float()
    texts = torch.randint(-2, 3, (69, 4), generator=generator).float()
    pairs = torch.stack([torch.arange(69) // 3, torch.arange(69)], 1)
    expected = brute_force((images @ texts.T).numpy(), pairs.tolist())
    assert feature_recall(images, texts, pairs) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "pairs", "message"),
    [
        (torch.ones(2, 3), [], "one pair at least"),
        (torch.ones(2), [(0, 0)], "expected \\(images, texts\\)"),
        (torch.ones(2, 3), [(0, 3)], "name an text that has no scores, such as 3"),
        (torch.ones(2, 3), [(-1, 0)], "image that has no scores, such as -1"),
        (torch.tensor([[0.0, 1.0], [1.0, torch.nan]]), [(0, 0), (1, 1)], "image 1 .* NaN"),
    ],
)
def test_bad_arguments_are_named(scores: Tensor, pairs: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        retrieval_recall(scores, pairs)


def samples(number: int, captions: int = 5, first: int = 0, dim: int = 3) -> list[dict]:
    """Evaluated images, of features so coarse that many scores are equal."""
    generator = torch.Generator().manual_seed(number)
    found = []
    for index in range(number):
        feature = torch.randint(-2, 3, (dim,), generator=generator).half()
        features = torch.randint(-2, 3, (captions, dim), generator=generator).half() + feature
        found.append(
            {
                "sample_idx": index,
                "image_id": 1000 - index + first,
                "img_path": f"{index + first}.jpg",
                "text_ids": [captions * (index + first) + j for j in range(captions)],
                "image_feature": feature,
                "text_features": features,
            }
        )
    return found


def evaluate(
    parts: list[list[dict]], size: int, monkeypatch: pytest.MonkeyPatch, **options: int
) -> dict[str, float]:
    """What the first of several processes gets that evaluate these samples."""
    metrics = [RetrievalMetric(**options) for _ in parts]
    for metric, part in zip(metrics, parts, strict=True):
        for start in range(0, len(part), 3):
            metric.process({}, part[start : start + 3])
    gathered = [metric.results for metric in metrics]
    with monkeypatch.context() as patch:
        place = "mmbeit3.evaluation.samples."
        patch.setattr(place + "is_distributed", lambda: True)
        patch.setattr(place + "all_gather_object", lambda own: gathered)
        return metrics[0].evaluate(size)


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_any_number_of_processes_gives_the_same(
    processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_samples = samples(20)
    features = torch.stack([sample["image_feature"] for sample in all_samples]).float()
    texts = torch.cat([sample["text_features"] for sample in all_samples]).float()
    expected = brute_force((features @ texts.T).numpy(), [(t // 5, t) for t in range(100)])
    parts = [all_samples[rank::processes] for rank in range(processes)]
    parts[-1] = parts[-1] + all_samples[:2]  # doubles of the sampler, and uneven parts
    random.Random(0).shuffle(parts)
    found = evaluate(parts, 20, monkeypatch)
    assert found == pytest.approx({f"retrieval/{name}": v for name, v in expected.items()})


def test_folds_are_labeled_and_means_of_their_own_images(monkeypatch: pytest.MonkeyPatch) -> None:
    all_samples = samples(20)
    found = evaluate([all_samples[::-1]], 20, monkeypatch, fold_size=10)
    folds = []
    for start in (0, 10):
        part = [s | {"sample_idx": None} for s in all_samples[start : start + 10]]
        folds.append(evaluate([part], 10, monkeypatch))
    for name in ("TR@1", "IR@5", "mean_recall"):
        mean = sum(fold[f"retrieval/{name}"] for fold in folds) / 2
        assert found[f"retrieval/fold10/{name}"] == pytest.approx(mean)
    names = RetrievalMetric.metric_names({"fold_size": 10})
    assert list(found) == [f"retrieval/{name}" for name in names]
    assert "fold1k/TR@1" in RetrievalMetric.metric_names({"fold_size": 1000})
    with pytest.raises(InputError, match="20 images do not divide into folds of 7"):
        evaluate([all_samples], 20, monkeypatch, fold_size=7)


def changed(index: int, **keys: object) -> list[dict]:
    """Twelve samples, one of them with other values."""
    return [s | keys if i == index else s for i, s in enumerate(samples(12))]


@pytest.mark.parametrize(
    ("evaluated", "message"),
    [
        (samples(12)[:9], "9 of the 12 images .* 3 are missing, the samples 9, 10, 11"),
        ([], "no image was evaluated"),
        (changed(4, image_id=1000), "image id 1000 stands for 0.jpg and for 4.jpg"),
        (changed(4, text_ids=[20, 21, 22, 23, 3]), "text id 3 is there twice, of 0.jpg and of 4"),
        (changed(4, text_ids=[20, 21, 22, 22, 24]), "text id 22 is there twice"),
        (changed(4, text_ids=[1]), "4.jpg has 1 texts and 5 features"),
        (
            changed(4, text_features=torch.ones(5, 4)),
            r"4.jpg and of its texts have the shapes \(3,\) and \(5, 4\); expected .*\(5, 3\)",
        ),
        (changed(7, image_feature=torch.ones(2)), r"7.jpg .*\(2,\) .* expected \(3,\) .* of 0.jpg"),
        (
            changed(4, text_features=torch.full((5, 3), torch.nan)),
            "5 of 60 text features are not finite, the first is of 4.jpg",
        ),
        (
            changed(7, image_feature=torch.full((3,), torch.inf)),
            "1 of 12 image features are not finite, the first is of 7.jpg",
        ),
    ],
)
def test_missing_and_double_ids_are_named(
    evaluated: list[dict], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate([evaluated[::2], evaluated[1::2]], 12, monkeypatch)


def _evaluate_in_process(rank: int, world_size: int, address: str, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=world_size
    )
    metric = RetrievalMetric()
    mine = samples(17)[rank::world_size]
    metric.process({}, mine + (samples(17)[:1] if rank else []))
    torch.save(metric.evaluate(17), Path(out) / f"{rank}.pth")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_real_processes_all_get_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"file://{tmp_path / 'store'}"
    arguments = (3, address, str(tmp_path))
    torch.multiprocessing.start_processes(
        _evaluate_in_process, arguments, nprocs=3, start_method="fork"
    )
    expected = evaluate([samples(17)], 17, monkeypatch)
    for rank in range(3):
        assert torch.load(tmp_path / f"{rank}.pth") == expected


@pytest.mark.slow
def test_features_of_coco_size_are_scored_as_in_small_blocks() -> None:
    """5,000 x 25,000 scores; its time and memory are in docs/benchmarks.md."""
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(5000, 32, generator=generator), dim=1)
    noise = torch.randn(25_000, 32, generator=generator)
    texts = torch.nn.functional.normalize(images.repeat_interleave(5, 0) + 0.2 * noise, dim=1)
    pairs = torch.stack([torch.arange(25_000) // 5, torch.arange(25_000)], 1)
    found = feature_recall(images, texts, pairs)
    order = (images @ texts.T).argsort(dim=1, descending=True)[:, 0] // 5
    assert found["TR@1"] == pytest.approx(100 * (order == torch.arange(5000)).double().mean())


@pytest.mark.parametrize("stored", [10**9, 1])
def test_ranks_are_those_of_sorting(stored: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "MAX_STORED", stored)
    monkeypatch.setattr(retrieval, "COMPUTED", 120)
    draw = torch.Generator().manual_seed(3)
    images, texts = torch.randn(23, 8, generator=draw), torch.randn(40, 8, generator=draw)
    owners = torch.cat([torch.arange(23), torch.randint(0, 23, (17,), generator=draw)])
    pairs = torch.stack([owners, torch.arange(40)], 1)
    found = feature_ranks(images, texts, pairs)
    scores = images.double() @ texts.double().T
    for image, row in enumerate(scores):
        order = row.argsort(descending=True)
        assert found.first_texts[image] == order[0]
        right = (owners[order] == image).nonzero()[0, 0]
        assert found.of_images[image] == right
    for text, column in enumerate(scores.T):
        order = column.argsort(descending=True)
        assert found.first_images[text] == order[0]
        assert found.of_texts[text] == (order == owners[text]).nonzero()[0, 0]
    recall = feature_recall(images, texts, pairs)
    assert recall["IR@5"] == pytest.approx(100 * (found.of_texts < 5).double().mean().item())
