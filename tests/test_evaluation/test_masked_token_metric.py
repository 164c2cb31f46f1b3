"""Masked tokens and codes of held-out samples: counted once each, whoever has them."""

from __future__ import annotations

import numpy as np
import pytest

from mmbeit3.evaluation import CodeBookMetric, MaskedTokenMetric
from mmbeit3.utils import InputError


def told(draw: np.random.Generator, codes: bool) -> dict:
    count = int(draw.integers(1, 9))
    found = dict(count=count, right=int(draw.integers(0, count + 1)), loss=float(draw.random()))
    return found | (dict(codes=draw.integers(0, 40, count).tolist(), num_codes=40) if codes else {})


def samples(images: int, texts: int, pairs: int) -> list[dict]:
    draw = np.random.default_rng(0)
    tokens = [{"image": told(draw, True)} for _ in range(images)]
    tokens += [{"text": told(draw, False)} for _ in range(texts)]
    tokens += [
        {
            "pair_image": told(draw, True),
            "pair_text": told(draw, False),
            "blind_pair_text": told(draw, False),
        }
        for _ in range(pairs)
    ]
    return [dict(sample_idx=i, masked_tokens=each) for i, each in enumerate(tokens)]


@pytest.mark.parametrize("shape", [(5, 7, 3), (4, 0, 0), (0, 3, 2)])
def test_each_sample_counts_once_in_any_order(shape: tuple[int, int, int]) -> None:
    kept = samples(*shape)
    metric = MaskedTokenMetric()
    # As a sampler of three processes hands them out, some twice to fill up the last batch.
    order = [*range(0, len(kept), 3), *range(1, len(kept), 3), *range(2, len(kept), 3), 0, 1]
    metric.process(None, [kept[index] for index in order])
    found = metric.evaluate(len(kept))
    expected = {}
    for part in ("image", "text", "pair_image", "pair_text", "blind_pair_text"):
        tokens = [k["masked_tokens"][part] for k in kept if part in k["masked_tokens"]]
        if not tokens:
            continue
        count = sum(each["count"] for each in tokens)
        expected[f"masked/acc_{part}"] = sum(each["right"] for each in tokens) / count
        expected[f"masked/loss_{part}"] = sum(each["loss"] for each in tokens) / count
        if "codes" in tokens[0]:
            codes = np.concatenate([each["codes"] for each in tokens])
            expected[f"masked/codes_used_{part}"] = len(np.unique(codes)) / 40
            expected[f"masked/guess_{part}"] = np.bincount(codes).max() / count
    assert found == pytest.approx(expected, rel=1e-12)
    names = MaskedTokenMetric.metric_names({})
    assert {name.removeprefix("masked/") for name in found} <= set(names)


def test_samples_that_lack_are_named() -> None:
    metric, kept = MaskedTokenMetric(), samples(3, 0, 0)
    metric.process(None, kept[:2])
    with pytest.raises(InputError, match="2 of the 3 samples were evaluated"):
        metric.evaluate(3)
    with pytest.raises(InputError, match=r"x.png has no masked_tokens .* test_mode=True"):
        metric.process(None, [dict(sample_idx=0, img_path="x.png")])


@pytest.mark.parametrize("cosines", [(0.5, 0.25, 1.0), (None, None, None)])
def test_codes_of_images_are_counted_once(cosines: tuple) -> None:
    metric = CodeBookMetric()
    codes = ([0, 3], [3], [7, 9, 1])
    kept = [
        dict(img_path=f"{i}.png", sample_idx=i, codes=codes[i], num_codes=10)
        | ({} if cosine is None else dict(cosine=cosine))
        for i, cosine in enumerate(cosines)
    ]
    metric.process(None, [kept[2], kept[0], kept[1], kept[0]])
    expected = {"codes/used": 0.5}
    if cosines[0] is not None:
        expected["codes/cosine"] = 1.75 / 3
    assert metric.evaluate(3) == pytest.approx(expected)
    with pytest.raises(InputError, match="has no codes or no img_path"):
        metric.process(None, [dict(img_path="x.png")])
