"""Generated scenes without files: the same as the files, whenever and wherever they are drawn."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from mmengine.config import Config

from mmbeit3.apis.data_report import report_config
from mmbeit3.datasets import (
    CocoCaptionsDataset,
    ImagesDataset,
    PretrainingDataset,
    ShapesDataset,
    make_shapes,
)
from mmbeit3.engine.data_order import InfiniteSampler, PositionedDataset
from mmbeit3.utils import InputError

PIPELINE = [dict(type="mmbeit3.LoadImageFromFile"), dict(type="mmbeit3.PackImageText")]
AUGMENTED = [
    PIPELINE[0],
    dict(type="mmbeit3.RandomResizedCrop", scale=32),
    dict(type="RandomFlip", prob=0.5),
    PIPELINE[1],
]


@pytest.mark.parametrize(
    "given", [dict(size=64), dict(size=97, seed=3), dict(size=80, plain=True)], ids=str
)
def test_scenes_are_those_of_the_files(tmp_path: Path, given: dict[str, Any]) -> None:
    root = make_shapes(tmp_path / "shapes", 6, 3, **given)
    for split, number in (("train", 6), ("val", 3)):
        drawn = ShapesDataset(number, True, split=split, test_mode=True, pipeline=PIPELINE, **given)
        images = ImagesDataset(str(root), dict(img_path=split), pipeline=PIPELINE)
        pairs = CocoCaptionsDataset(
            ann_file=f"annotations/captions_{split}.json",
            data_root=str(root),
            data_prefix=dict(img=f"{split}/"),
            test_mode=True,
            pipeline=PIPELINE,
        )
        assert len(drawn) == len(images) == len(pairs) == number
        for index in (number - 1, *range(number)):
            found = drawn[index]
            assert np.array_equal(found["inputs"], images[index]["inputs"])
            assert found["data_samples"].texts == pairs[index]["data_samples"].texts
        file = root / split / "000002.jpg"
        assert drawn.read(2)["img_bytes"] == file.read_bytes()
    with pytest.raises(IndexError):
        drawn[number]
    assert ShapesDataset(captions=False, **given).read(10**12).keys() == {
        "img_bytes",
        "img_path",
        "image_id",
        "sample_idx",
    }


def parts(**more: Any) -> dict[str, Any]:
    images = dict(type="mmbeit3.ShapesDataset", size=64, pipeline=AUGMENTED, **more)
    pairs = dict(
        type="mmbeit3.ShapesDataset", size=64, seed=1, captions=True, pipeline=PIPELINE, **more
    )
    return dict(images=images, pairs=pairs)


def facts(item: dict[str, Any]) -> list[Any]:
    """What an item is, to its last pixel."""
    found: list[Any] = []
    for sample in item.values():
        data = sample["data_samples"]
        found += [int(data.image_id), data.get("texts"), data.mask_seed]
        found.append(sample["inputs"].numpy().tobytes())
    return found


@pytest.mark.parametrize("number", [None, 5], ids=str)
def test_processes_share_scenes_and_go_on_where_they_stopped(number: int | None) -> None:
    data = PositionedDataset(PretrainingDataset(parts(num_scenes=number)))

    def read(rank: int, world: int, start: int, count: int) -> list[list[Any]]:
        with patch("mmbeit3.engine.data_order.get_dist_info", return_value=(rank, world)):
            sampler = InfiniteSampler(data, batch_size=2, seed=4)
        sampler.start_at(start)
        return [facts(data[index]) for index in islice(sampler, 2 * count)]

    whole = read(0, 1, 0, 8)
    assert read(0, 1, 5, 3) == whole[10:]  # resumed after five micro-batches
    first, second = read(0, 2, 0, 4), read(1, 2, 0, 4)
    in_turn = [batch for i in range(0, 8, 2) for batch in first[i : i + 2] + second[i : i + 2]]
    assert in_turn == whole
    for place, passes in ((0, 5), (4, 5)):
        scenes = [item[place] for item in whole]
        if number is None:
            assert scenes == list(range(16))  # none twice
        else:
            assert all(sorted(scenes[i : i + 5]) == list(range(5)) for i in (0, passes, 10))
            assert scenes[:5] != scenes[5:10] or scenes[5:10] != scenes[10:15]


def test_parts_with_and_without_an_end_go_together(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\ntwo\nthree\n")
    texts = dict(
        type="mmbeit3.TextLinesDataset",
        files=str(tmp_path / "lines.txt"),
        pipeline=[dict(type="mmbeit3.PackImageText")],
    )
    data = PretrainingDataset(parts() | dict(texts=texts), samples=dict(images=2))
    assert len(data) == 3
    item = data.at_position(10**9, 0)
    assert [one["data_samples"].image_id for one in item["images"]] == [2 * 10**9, 2 * 10**9 + 1]
    assert len(item["pairs"]["data_samples"].texts) == 1
    drawn = PretrainingDataset(dict(texts={**parts()["pairs"], "pipeline": PIPELINE[1:]}))
    assert "inputs" not in (item := drawn.at_position(4, 0)["texts"])
    assert (
        item["data_samples"].texts[0]
        in ShapesDataset(None, True, 64, 1, test_mode=True).read(4)["texts"]
    )
    alone = PositionedDataset(ShapesDataset(size=64, pipeline=AUGMENTED))
    order = list(islice(InfiniteSampler(alone, batch_size=3, seed=1), 7))
    assert order == list(range(7))  # an order of 4.6e18 scenes is not drawn


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (dict(num_scenes=0), "num_scenes is 0; expected 1 or more, or None"),
        (dict(split="test"), "split is 'test'; expected 'train' or 'val'"),
        (dict(size=32), "size is 32"),
        (dict(seed=-1), "seed is -1"),
    ],
)
def test_what_cannot_be_drawn_is_named(given: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        ShapesDataset(**given)


def test_the_data_check_shows_scenes(tmp_path: Path) -> None:
    datasets = parts()
    datasets["images"]["num_scenes"] = 3
    dataset = dict(type="mmbeit3.PretrainingDataset", datasets=datasets)
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), default_scope="mmbeit3", model={}))
    images, pairs = report_config(cfg, ["train"], tmp_path / "report", num_samples=2)
    assert (images.num_images, images.num_errors, len(images.pictures)) == (3, 0, 2)
    assert pairs.source == "generated scenes of seed 1, without end; the first 2"
    assert len(pairs.texts) == 2 and all(len(texts) == 1 for texts in pairs.texts)
    pages = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [page["source"] for page in pages] == [images.source, pairs.source]
