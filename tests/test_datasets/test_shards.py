"""Tar shards of WebDataset's format: what is read, in which order, and what is refused."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmbeit3.apis.data_report import report_config
from mmbeit3.config.data_checks import check_files_here
from mmbeit3.datasets import PretrainingDataset, ShardsDataset
from mmbeit3.datasets.shards import shard_files
from mmbeit3.engine.data_order import InfiniteSampler, PositionedDataset
from mmbeit3.utils import InputError

PIPELINE = [dict(type="mmbeit3.LoadImageFromFile"), dict(type="mmbeit3.PackImageText")]
LONG = "a_name_of_more_than_a_hundred_bytes/" + 90 * "x" + "größe"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(value: int, height: int = 8) -> bytes:
    image = np.full((height, 12, 3), value, np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def write(path: Path, members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(index: int) -> dict[str, bytes]:
    name = LONG if index == 3 else f"b/{index:04d}"
    text = f"\ufeffthe  image {index}\n" if index == 2 else f"the image {index}"
    return {
        f"{name}.PNG": picture(10 * index, 8 + index),
        f"{name}.txt": text.encode(),
        f"{name}.json": json.dumps({"caption": f"the image {index}  again", "x": [1]}).encode(),
        f"{name}.seg.png": b"another file of it",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards of 3, 2 and 2 samples, in three formats of tar."""
    forms = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    for number, (first, last) in enumerate(((0, 3), (3, 5), (5, 7))):
        members = {"__meta__/x.json": b"{}"} if number else {"README": b"no sample"}
        for index in range(first, last):
            members |= sample(index)
        write(tmp_path / f"s-{number:02d}.tar", members, forms[number])
    return tmp_path


def load(folder: Path, **more: Any) -> ShardsDataset:
    return ShardsDataset("s-{00..02}.tar", str(folder), pipeline=PIPELINE, **more)


@pytest.mark.parametrize("ext", [None, "txt", "json"])
def test_samples_are_read_from_their_places(folder: Path, ext: str | None) -> None:
    for _ in range(2):  # the second time from what is kept
        data = load(folder, caption_ext=ext)
        assert len(data) == 7
        for index in (6, 0, 1, 2, 3, 4, 5):
            item = data[index]
            assert item["inputs"].shape == (3, 8 + index, 12)
            assert int(item["inputs"].min()) == int(item["inputs"].max()) == 10 * index
            texts = item["data_samples"].get("texts")
            end = " again" if ext == "json" else ""
            assert texts == (None if ext is None else [f"the image {index}{end}"])
        with patch.object(ShardsDataset, "_inspect", side_effect=AssertionError):
            load(folder, caption_ext=ext)
    assert data.get_data_info(3)["img_path"] == f"{folder}/s-01.tar/{LONG}.PNG"


def test_a_shard_that_changed_is_read_again(folder: Path) -> None:
    assert len(load(folder)) == 7
    write(folder / "s-01.tar", sample(9))
    assert [int(load(folder)[3]["inputs"].max()), len(load(folder))] == [90, 6]


def test_what_webdataset_writes_it_reads_alike(tmp_path: Path) -> None:
    web = pytest.importorskip("webdataset")
    with web.ShardWriter(str(tmp_path / "w-%04d.tar"), maxcount=4, verbose=0) as writer:
        for index in range(10):
            content = {"png": picture(index), "json": {"caption": f"number {index}"}}
            writer.write({"__key__": f"sub/{index:03d}.x"[: 7 if index else None], **content})
    files = "w-{0000..0002}.tar"
    data = ShardsDataset(files, str(tmp_path), caption_ext="json", pipeline=PIPELINE)
    theirs = list(web.WebDataset(str(tmp_path / files), shardshuffle=False))
    assert len(theirs) == 10
    for index, other in enumerate(theirs[1:], 1):
        found = data.read(index - 1)
        assert found["img_bytes"] == other["png"]
        assert found["texts"] == [json.loads(other["json"])["caption"]]
    assert len(data) == 9  # the key with a dot makes "x.png" of the image, for them too
    assert "x.png" in theirs[0]


def facts(item: dict[str, Any]) -> list[Any]:
    return [
        (part, found["data_samples"].img_path, found["data_samples"].mask_seed)
        for part, found in item.items()
    ]


def test_processes_share_samples_and_go_on_where_they_stopped(folder: Path) -> None:
    pairs = dict(
        type="mmbeit3.ShardsDataset",
        shards="s-{00..02}.tar",
        data_root=str(folder),
        caption_ext="txt",
        pipeline=PIPELINE,
    )
    images = {**pairs, "caption_ext": None, "shards": "s-{00..01}.tar"}
    data = PositionedDataset(PretrainingDataset(dict(images=images, pairs=pairs)))

    def read(rank: int, world: int, start: int, count: int) -> list[list[Any]]:
        with patch("mmbeit3.engine.data_order.get_dist_info", return_value=(rank, world)):
            sampler = InfiniteSampler(data, batch_size=2, seed=4)
        sampler.start_at(start)
        return [facts(data[index]) for index in islice(sampler, 2 * count)]

    whole = read(0, 1, 0, 35)
    for start in (1, 13, 34):
        assert read(0, 1, start, 35 - start) == whole[2 * start :]
    shares = [read(rank, 5, 0, 7) for rank in range(5)]
    in_turn = [
        one for step in range(7) for share in shares for one in share[2 * step : 2 * step + 2]
    ]
    assert in_turn == whole
    for place, size in ((0, 5), (1, 7)):
        names = [item[place][1] for item in whole]
        assert all(len(set(names[i : i + size])) == size for i in range(0, 70, size))


def test_patterns_name_all_shards() -> None:
    assert shard_files("a{8..11}.tar") == ["a8.tar", "a9.tar", "a10.tar", "a11.tar"]
    assert shard_files("a{008..011}.tar", "d")[::3] == ["d/a008.tar", "d/a011.tar"]
    assert shard_files(["{0..1}/{00..01}.tar", "b.tar"]) == [
        *("0/00.tar", "0/01.tar", "1/00.tar", "1/01.tar"),
        "b.tar",
    ]
    with pytest.raises(InputError, match=r"expected \{0..5\}"):
        shard_files("{5..0}.tar")
    with pytest.raises(InputError, match="shards is empty"):
        shard_files([])


def test_missing_shards_are_named_on_each_machine(folder: Path) -> None:
    (folder / "s-01.tar").rename(folder / "s-1.tar")
    (folder / "s-00.tar").unlink()
    with pytest.raises(InputError, match=r"2 of the 3 shards are missing on .*: \S*s-00.tar"):
        load(folder)
    pairs = dict(type="mmbeit3.ShardsDataset", shards="s-{00..02}.tar", data_root=str(folder))
    dataset = dict(type="mmbeit3.PretrainingDataset", datasets=dict(pairs=pairs))
    with pytest.raises(InputError, match="train_dataloader.dataset.datasets.pairs: 2 of the 3"):
        check_files_here(Config(dict(train_dataloader=dict(dataset=dataset))))
    with pytest.raises(InputError, match="s-02.tar is in shards twice"):
        ShardsDataset(["s-02.tar", "s-{02..02}.tar"], str(folder))


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


@pytest.mark.parametrize("length", [0, 100, 700, 3000, -10240, -1])
def test_a_shard_that_was_cut_is_named(folder: Path, length: int) -> None:
    shard = folder / "s-01.tar"
    content = shard.read_bytes()
    end = len(content.rstrip(b"\0"))
    lengths = {-10240: end + 512 - end % 512, -1: end - 1}
    shard.write_bytes(content[: lengths.get(length, length)])
    with pytest.raises(InputError, match="the shard .*s-01.tar is broken"):
        load(folder)


def test_a_shard_of_something_else_is_named(folder: Path) -> None:
    shard = folder / "s-01.tar"
    content = bytearray(shard.read_bytes())
    place = content.index(b"b/0004.PNG") if b"b/0004.PNG" in content else 5120
    content[place : place + 512] = bytes(range(256)) * 2  # where the second sample begins
    shard.write_bytes(content)
    with pytest.raises(InputError, match="s-01.tar is broken"):
        load(folder)
    with tarfile.open(shard, "w:gz") as tar:
        tar.add(folder / "s-00.tar", "a.png")
    with pytest.raises(InputError, match="s-01.tar is broken, or no plain tar file .* unpacked"):
        load(folder)
    shard.write_bytes(b"<html>" * 500)
    with pytest.raises(InputError, match="s-01.tar is broken, or no plain"):
        load(folder)
    write(shard, {"a.txt": b"no image here", "b.cls": b"1"})
    with pytest.raises(InputError, match="there is no image. Expected files ending in .jpg"):
        ShardsDataset("s-01.tar", str(folder))
    with tarfile.open(shard, "a") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("c.jpg"))
    with pytest.raises(InputError, match="has c.jpg twice"):
        load(folder)


@pytest.mark.parametrize(
    ("ext", "members", "match"),
    [
        ("txt", {"x.jpg": b""}, "s-01.tar/x has no txt"),
        ("txt", {"x.txt": b"words"}, "s-01.tar/x has a txt and no image"),
        ("txt", {"x.png": picture(1), "x.txt": b" \n"}, "x has a txt whose caption is ' .n', exp"),
        ("txt", {"x.png": picture(1), "x.txt": b"gr\xf6"}, "x has a txt that cannot be read"),
        ("json", {"x.png": picture(1), "x.json": b"{}"}, "x has a json without 'caption': set"),
        ("json", {"x.png": picture(1), "x.json": b"[1"}, "x has a json that cannot be read"),
        ("json", {"x.png": picture(1), "x.json": b'{"caption": 3}'}, "whose caption is 3, expect"),
        (None, {"x.png": b""}, r"x cannot be read: the file is empty \(0 bytes\)"),
        (None, {"x.png": picture(1)[:40]}, "s-01.tar/x cannot be read"),
        (None, {"x.jpg": b"no image"}, "s-01.tar/x cannot be read"),
        (None, {"x.png": picture(1), "x.jpg": picture(1)}, r"x has 2 images \(png, jpg\)"),
    ],
)
def test_samples_that_cannot_be_used_are_named_or_left_out(
    folder: Path, ext: str | None, members: dict[str, bytes], match: str
) -> None:
    write(folder / "s-01.tar", sample(3) | members | sample(4))
    with pytest.raises(InputError, match=rf"1 of 8 samples cannot be used: .*{match}"):
        load(folder, caption_ext=ext)
    with patch("mmbeit3.datasets.shards.print_log") as said:
        data = load(folder, caption_ext=ext, skip_unreadable=True)
    assert [int(data[index]["inputs"].max()) for index in range(7)] == list(range(0, 70, 10))
    assert "1 of 8 samples are left out" in said.call_args.args[0]


def test_other_mistakes_are_named(folder: Path) -> None:
    with pytest.raises(InputError, match="caption_ext is 'csv'; expected txt or json"):
        load(folder, caption_ext="csv")
    with pytest.raises(InputError, match='reads files, and here .*_scope_="mmbeit3"'):
        ShardsDataset("s-00.tar", str(folder), pipeline=[dict(type="mmcv.LoadImageFromFile")])
    data = load(folder, caption_ext="txt")
    cut(folder / "s-02.tar", 2048)
    with pytest.raises(InputError, match=r"s-02.tar/b/0006.PNG"):
        data[6]


def test_the_data_check_counts_and_shows_them(folder: Path) -> None:
    pairs = dict(
        type="mmbeit3.ShardsDataset",
        shards="s-{00..02}.tar",
        data_root=str(folder),
        caption_ext="txt",
        pipeline=PIPELINE,
    )
    dataset = dict(type="mmbeit3.PretrainingDataset", datasets=dict(pairs=pairs))
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), default_scope="mmbeit3", model={}))
    [report] = report_config(cfg, ["train"], folder / "report", decode=True, num_samples=2)
    assert (report.num_images, report.num_texts, report.num_errors) == (7, 7, 0)
    assert report.texts == [["the image 0"], ["the image 6"]] and len(report.pictures) == 2
