"""The caption metric: any number of processes, result files, and what is missing by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmbeit3.evaluation import CaptionMetric, caption_scores
from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError

COLORS = ("red", "blue", "green", "black", "white")


def samples(number: int = 20) -> list[dict]:
    """Evaluated images; a third of the captions is wrong."""
    return [
        {
            "sample_idx": index,
            "image_id": 1000 - index,
            "img_path": f"{index}.jpg",
            "texts": [f"A {COLORS[index % 5]} dog sits.", f"dog {index} on the grass"],
            "pred_caption": f"a {COLORS[index % 3]} dog on the grass",
        }
        for index in range(number)
    ]


def evaluate(
    parts: list[list[dict]], size: int, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> dict[str, float]:
    """What the first of several processes gets that evaluate these samples."""
    metrics = [CaptionMetric(**options) for _ in parts]
    for metric, part in zip(metrics, parts, strict=True):
        for start in range(0, len(part), 3):
            metric.process({}, part[start : start + 3])
    gathered = [metric.results for metric in metrics]
    with monkeypatch.context() as patch:
        patch.setattr("mmbeit3.evaluation.samples.is_distributed", lambda: True)
        patch.setattr("mmbeit3.evaluation.samples.all_gather_object", lambda own: gathered)
        return metrics[0].evaluate(size)


@pytest.mark.parametrize("processes", [1, 2, 7])
def test_any_number_of_processes_gives_the_same_numbers_and_file(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = samples()
    parts = [every[rank::processes] for rank in range(processes)]
    parts[-1] = parts[-1] + every[:2]  # doubles of the sampler
    out = tmp_path / "new" / "captions_val2014_mine_results.json"
    found = evaluate(parts[::-1], 20, monkeypatch, out_file=str(out))
    references = {sample["image_id"]: sample["texts"] for sample in every}
    expected = caption_scores(references, out)
    assert found == {f"caption/{name}": expected[name] for name in CaptionMetric.metric_names({})}
    assert 0 < found["caption/CIDEr"] < 10
    assert json.loads(out.read_text()) == [
        {"image_id": sample["image_id"], "caption": sample["pred_caption"]} for sample in every
    ]


def test_domains_have_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    domains = ["near-domain"] * 12 + ["out-domain"] * 8
    every = [s | {"domain": domain} for s, domain in zip(samples(), domains, strict=True)]
    found = evaluate([every], 20, monkeypatch)
    alone = evaluate([samples()[:12]], 12, monkeypatch)
    assert found["caption/near-domain/CIDEr"] == alone["caption/CIDEr"]
    assert "caption/out-domain/BLEU-4" in found
    assert found["caption/CIDEr"] == evaluate([samples()], 20, monkeypatch)["caption/CIDEr"]


def test_images_of_a_server_are_written_and_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [sample | {"texts": []} for sample in samples()]
    out = tmp_path / "nocaps.json"
    assert evaluate([every], 20, monkeypatch, out_file=str(out)) == {}
    assert len(json.loads(out.read_text())) == 20
    with pytest.raises(InputError, match="0.jpg has no caption to compare with: write .*--out"):
        evaluate([every], 20, monkeypatch)
    with pytest.raises(InputError, match="3 of the 20 images have no caption .* first is 0.jpg"):
        evaluate([every[:3] + samples()[3:]], 20, monkeypatch, out_file=str(out))


def changed(index: int, **keys: object) -> list[dict]:
    return [s | keys if i == index else s for i, s in enumerate(samples())]


@pytest.mark.parametrize(
    ("evaluated", "message"),
    [
        (samples()[:17], "17 of the 20 images .* 3 are missing, the samples 17, 18, 19"),
        ([], "no image was evaluated"),
        (changed(4, image_id=1000), "image id 1000 stands for 0.jpg and for 4.jpg"),
        (changed(4, pred_caption=None), "4.jpg has the pred_caption None, expected a text"),
    ],
)
def test_missing_and_double_ids_are_named(
    evaluated: list[dict], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate([evaluated[::2], evaluated[1::2]], 20, monkeypatch)


def test_empty_captions_are_counted_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr("mmbeit3.evaluation.caption_metric.warn", said.append)
    full = evaluate([samples()], 20, monkeypatch)
    found = evaluate([changed(3, pred_caption=" ")], 20, monkeypatch)
    assert found["caption/ROUGE-L"] < full["caption/ROUGE-L"]
    assert said == ["1 of 20 captions are empty: 3.jpg"]


def test_configs_name_it() -> None:
    metric = METRICS.build(dict(type="mmbeit3.CaptionMetric", prefix="val"))
    assert metric.prefix == "val"
    assert "METEOR" in CaptionMetric.metric_names({"java": True})
