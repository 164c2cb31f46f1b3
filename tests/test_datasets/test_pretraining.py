"""Images alone, texts alone, and both beside pairs: what an item is, and its place in the order."""

from __future__ import annotations

import json
import logging
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from mmengine.dataset import pseudo_collate
from PIL import Image

from mmbeit3.datasets import (
    ImagesDataset,
    PretrainingDataset,
    TextLinesDataset,
    collate_parts,
)
from mmbeit3.engine.data_order import InfiniteSampler, PositionedDataset
from mmbeit3.models import PretrainingPreprocessor
from mmbeit3.utils import InputError

PACK = [dict(type="mmbeit3.PackImageText")]
LOAD = [dict(type="mmbeit3.LoadImageFromFile"), *PACK]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images in two folders, seven lines of text, three pairs."""
    for index in range(5):
        file = tmp_path / "images" / f"{'a' if index < 3 else 'b'}" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(file)
    (tmp_path / "lines.txt").write_text("".join(f"line number {i}\n" for i in range(7)))
    rows = [json.dumps({"image": f"a/{i}.png", "text": f"the image {i}"}) for i in range(3)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    return tmp_path


def parts(folder: Path) -> dict[str, Any]:
    return dict(
        images=dict(
            type="mmbeit3.ImagesDataset",
            data_root=str(folder),
            data_prefix=dict(img_path="images"),
            pipeline=LOAD,
        ),
        texts=dict(
            type="mmbeit3.TextLinesDataset",
            data_root=str(folder),
            files="lines.txt",
            pipeline=PACK,
        ),
        pairs=dict(
            type="mmbeit3.ImageTextTableDataset",
            ann_file="pairs.jsonl",
            data_root=str(folder),
            data_prefix=dict(img="images/"),
            pipeline=LOAD,
        ),
    )


def names(item: dict[str, Any]) -> dict[str, Any]:
    """Which sample each part of an item is."""
    found = {}
    for part, sample in item.items():
        samples = sample if isinstance(sample, list) else [sample]
        keys = [s["data_samples"].get("image_id", s["data_samples"].get("texts")) for s in samples]
        found[part] = [str(key) for key in keys]
    return found


def test_images_of_all_folders_are_found(folder: Path) -> None:
    data = ImagesDataset(str(folder), dict(img_path="images"), pipeline=LOAD)
    assert [data.get_data_info(i)["image_id"] for i in range(len(data))] == [
        "a/0.png",
        "a/1.png",
        "a/2.png",
        "b/3.png",
        "b/4.png",
    ]
    item = data[3]
    assert item["inputs"].shape == (3, 8, 8) and int(item["inputs"].max()) == 3
    with pytest.raises(InputError, match="no such folder or image"):
        ImagesDataset(str(folder), dict(img_path="none"), pipeline=LOAD)
    with pytest.raises(InputError, match="keys \\['img'\\], expected 'img_path'"):
        ImagesDataset(str(folder), dict(img="images"), pipeline=LOAD)


def test_unreadable_images_are_an_error_or_counted_and_left_out(folder: Path) -> None:
    for name in ("broken.jpg", "cut.png"):
        (folder / "images" / name).write_bytes(b"no image")
    given = dict(data_root=str(folder), data_prefix=dict(img_path="images"), pipeline=LOAD)
    with pytest.raises(
        InputError, match="2 of the 7 images of .* cannot be used[\\s\\S]*broken.jpg"
    ):
        ImagesDataset(**given)
    with patch("mmbeit3.datasets.images.print_log") as said:
        data = ImagesDataset(**given, skip_unreadable=True)
    assert len(data) == 5
    text, _, level = said.call_args.args
    assert level == logging.WARNING
    assert "2 of 7 images are left out" in text and "broken.jpg" in text and "cut.png" in text
    for file in (folder / "images").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match="none of the 7 images"):
        ImagesDataset(**given, skip_unreadable=True)


def test_images_that_are_set_aside_are_in_no_training(folder: Path) -> None:
    (folder / "images" / "broken.jpg").write_bytes(b"no image")
    given = dict(data_root=str(folder), data_prefix=dict(img_path="images"), pipeline=LOAD)
    given |= dict(skip_unreadable=True)
    found = {}
    for seed in (0, 1):
        split = dict(given, val_images=2, val_seed=seed)
        both = [ImagesDataset(**split, test_mode=mode) for mode in (False, True)]
        train, val = ({data[i]["data_samples"].image_id for i in range(len(data))} for data in both)
        assert len(val) == 2 and not train & val and len(train | val) == 5
        found[seed] = val
    assert found[0] != found[1]
    for number, match in (
        (5, "val_images is 5, and .*images has 5 images: set it below"),
        (0, "val_images is 0, expected a whole number from 1 on"),
    ):
        with pytest.raises(InputError, match=match):
            ImagesDataset(**given, val_images=number)


def lines(path: Path, **more: Any) -> list[str]:
    data = TextLinesDataset(str(path), **more)
    assert [data[i]["text_ids"] for i in range(len(data))] == [[i] for i in range(len(data))]
    return [data[i]["texts"][0] for i in range(len(data))]


def test_a_line_with_something_in_it_is_an_item(tmp_path: Path) -> None:
    file = tmp_path / "größe.txt"
    content = "\ufeff first  line\r\n\n   \n\u200b\nzweite Zeile: größer\nlast, without an end"
    file.write_bytes(content.encode())
    assert lines(file) == ["first line", "zweite Zeile: größer", "last, without an end"]
    assert TextLinesDataset(str(file), pipeline=PACK)[1]["data_samples"].texts == [
        "zweite Zeile: größer"
    ]


def test_packed_lines_fill_the_bytes_and_lose_no_word(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    words = ["a", "größe", "图像", "elephant", "x" * 50]
    text = [" ".join(draw.choice(words, draw.integers(1, 30))) for _ in range(60)]
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(text) + "\n")
    for pack in (64, 200, 10_000):
        found = lines(file, pack=pack)
        assert all(len(item.encode()) <= pack for item in found)
        assert " ".join(found).split() == " ".join(text).split()
        assert len(found) < 2.2 * file.stat().st_size / pack + 2
    long = tmp_path / "one.txt"
    long.write_text("图像" * 40)  # no blank to part it at, letters of three bytes
    assert "".join(lines(long, pack=32)) == "图像" * 40


def test_files_of_texts_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes("fine\ngrö\n".encode("latin-1"))
    (tmp_path / "wide.txt").write_bytes("text".encode("utf-16"))
    (tmp_path / "nul.txt").write_bytes(b"a\nb\0c\n")
    for name, match in (
        ("empty.txt", "empty.txt has no text"),
        ("latin.txt", "latin.txt, line 2 is no text in UTF-8"),
        ("wide.txt", "wide.txt is a text in UTF-16; expected UTF-8"),
        ("nul.txt", "nul.txt, line 2: the text is .* which has a NUL"),
        ("emty.txt", "emty.txt cannot be read: No such file"),
    ):
        with pytest.raises(InputError, match=match):
            TextLinesDataset(name, str(tmp_path))
    with pytest.raises(InputError, match="pack is 3; expected 16 bytes or more"):
        TextLinesDataset("nul.txt", str(tmp_path), pack=3)
    with pytest.raises(InputError, match="files is empty"):
        TextLinesDataset([])


def test_each_part_has_passes_and_an_order_of_its_own(folder: Path) -> None:
    data = PretrainingDataset(parts(folder), samples=dict(texts=2))
    assert len(data) == 5
    items = [names(data.at_position(position, 3)) for position in range(105)]
    for part, size, count in (("images", 5, 1), ("texts", 7, 2), ("pairs", 3, 1)):
        flat = [name for item in items for name in item[part]]
        assert len(flat) == 105 * count
        passes = [flat[i : i + size] for i in range(0, len(flat), size)]
        assert all(len(set(each)) == size for each in passes)  # all samples, each once
        assert len({tuple(each) for each in passes}) > 4  # in new orders
    together = Counter((item["images"][0], item["pairs"][0]) for item in items)
    assert len(together) == 15  # every image meets every pair
    again = [names(data.at_position(position, 3)) for position in (80, 3, 41)]
    assert again == [items[80], items[3], items[41]]
    assert [names(data.at_position(p, 4)) for p in range(20)] != items[:20]


def test_processes_share_the_samples_without_overlap(folder: Path) -> None:
    data = PositionedDataset(PretrainingDataset(parts(folder)))
    found = {}
    for world in (1, 3):
        read = []
        for rank in range(world):
            with patch("mmbeit3.engine.data_order.get_dist_info", return_value=(rank, world)):
                sampler = InfiniteSampler(data, batch_size=5, seed=2)
            read += [data[index] for index in islice(sampler, 105 // world)]
        found[world] = [
            (position, sample["data_samples"].mask_seed)
            for item in read
            for position, sample in zip(names(item).items(), item.values(), strict=True)
        ]
        found[world] = sorted(map(str, found[world]))
    assert found[1] == found[3]  # the same samples with the same masks
    seeds = [text.rpartition(", ")[2] for text in found[1]]
    assert len(set(seeds)) == len(seeds)


def test_the_preprocessor_joins_what_an_item_has_several_of(
    folder: Path, tokenizer_file: Path
) -> None:
    data = PretrainingDataset(parts(folder), samples=dict(images=3))
    batch = pseudo_collate([data.at_position(position, 0) for position in range(2)])
    preprocessor = PretrainingPreprocessor(tokenizer=dict(file=str(tokenizer_file)))
    made = preprocessor(batch, True)
    assert made["images"]["inputs"].shape == (6, 3, 8, 8) and made["images"]["ids"] is None
    assert len(made["images"]["data_samples"]) == 6
    assert made["texts"]["inputs"] is None and len(made["texts"]["ids"]) == 2
    assert len(made["pairs"]["inputs"]) == len(made["pairs"]["ids"]) == 2


def test_a_test_has_each_sample_once_with_the_same_mask(folder: Path) -> None:
    kept = [
        dict(id=i, image_id=0, caption=caption) for i, caption in enumerate(("a disk", "a square"))
    ]
    images = [dict(id=0, file_name="a/0.png", width=8, height=8)]
    (folder / "pairs.json").write_text(json.dumps(dict(images=images, annotations=kept)))
    pairs = dict(
        type="mmbeit3.CocoCaptionsDataset",
        ann_file="pairs.json",
        data_root=str(folder),
        data_prefix=dict(img="images/"),
        pipeline=LOAD,
        test_mode=True,
    )
    data = PretrainingDataset(parts(folder) | dict(pairs=pairs), test_mode=True)
    assert len(data) == 5 + 7 + 1
    items = [data[index] for index in range(len(data))]
    assert [part for item in items for part in item] == ["images"] * 5 + ["texts"] * 7 + ["pairs"]
    samples = [item[part]["data_samples"] for item in items for part in item]
    assert [sample.sample_idx for sample in samples] == list(range(13))
    assert [sample.mask_seed for sample in samples] == [*range(5), *range(7), 0]
    assert samples[-1].texts == ["a disk"]  # of several, the first
    batch = collate_parts([items[i] for i in (12, 3, 6, 4)])
    assert {part: len(each["data_samples"]) for part, each in batch.items()} == dict(
        images=2, texts=1, pairs=1
    )
    assert "inputs" not in batch["texts"] and len(batch["images"]["inputs"]) == 2


def test_parts_that_are_none_are_named(folder: Path) -> None:
    with pytest.raises(InputError, match="datasets has pictures; expected some of images, texts"):
        PretrainingDataset(dict(pictures=parts(folder)["images"]))
    with pytest.raises(InputError, match="datasets has nothing"):
        PretrainingDataset({})
    for samples in (dict(images=0), dict(pairs=2)):
        with pytest.raises(InputError, match="expected numbers from 1 on, of images"):
            PretrainingDataset(dict(images=parts(folder)["images"]), samples)
    with pytest.raises(InputError, match=r"datasets.texts has no samples"):
        PretrainingDataset(dict(texts=[]))
