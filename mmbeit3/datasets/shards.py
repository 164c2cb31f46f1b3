"""Images, and pairs of image and caption, in tar files as WebDataset has them."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from os import path as osp
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from mmengine.logging import print_log
from rich.progress import track
from torch.utils.data import Dataset

from mmbeit3.datasets.checks.captions import text_problem
from mmbeit3.datasets.checks.files import keep
from mmbeit3.datasets.image_files import read_size, unreadable
from mmbeit3.datasets.transforms.image_codes import check_codes
from mmbeit3.datasets.transforms.loading import LoadImageFromFile, content_loader
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import EXTENSIONS
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.similar_paths import describe_similar

CAPTIONS = ("txt", "json")
NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")
# The format's rules: a name up to its first dot is the sample's, the rest is the kind of file.
NAME = re.compile(r"((?:.*/|)[^./]+)\.([^/]+)")
META = re.compile(r"__[^/]*__($|/)")
BLOCK = bytes(tarfile.BLOCKSIZE)  # two of them end a tar file
LARGE = 500_000_000  # bytes of shards from which on reading them shows its progress
MAX_NAMED = 2

Member = tuple[str, int, int]
"""A file of a shard: its name, where its content begins, and its length, in bytes."""


@DATASETS.register_module()
class ShardsDataset(Dataset):
    """Samples in tar shards of the WebDataset format: images, or pairs of image and caption.

    Files of a shard whose names are alike up to the first dot are a sample: ``0001.jpg`` and
    ``0001.txt``, or ``0001.json``. Others of it are not used. All shards are read once, and checked
    by that; where the samples are is kept until a shard changes. A sample is then read from its
    place when it is asked for, so that order, sharing among processes and resuming are those of
    every data set. The pipeline begins with :class:`mmbeit3.datasets.LoadImageFromFile`. Items have
    the keys ``img_path`` (shard and name), ``image_id``, and of a pair ``texts``, one text, and
    ``text_ids``.

    Args:
        shards (str | Sequence[str]): The tar files, not compressed, on ``data_root``.
            ``pairs-{0000..0099}.tar`` stands for a hundred.
        data_root (str, optional): Where relative paths start. Defaults to None.
        caption_ext (str, optional): Where the caption is: 'txt' or 'json'. Defaults to None: images
            alone.
        caption_key (str): The key of it in a ``json``. Defaults to 'caption'.
        skip_unreadable (bool): Leave out samples of which the image or the caption is absent or
            cannot be read, with a warning that counts them, in place of an error. Defaults to
            False.
        pipeline (Sequence[dict]): Transforms. Defaults to none.

    Raises:
        InputError: Shards are missing or broken, or samples cannot be used.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        data_root: str | None = None,
        caption_ext: str | None = None,
        caption_key: str = "caption",
        skip_unreadable: bool = False,
        pipeline: Sequence[Any] = (),
    ) -> None:
        if caption_ext not in (None, *CAPTIONS):
            raise InputError(f"caption_ext is {caption_ext!r}; expected {' or '.join(CAPTIONS)}")
        self.shards = shard_files(shards, data_root)
        check_shards(self.shards)
        self.caption_ext, self.caption_key = caption_ext, caption_key
        self.skip_unreadable = skip_unreadable
        self.pipeline = Compose(list(pipeline))
        self.metainfo: dict[str, Any] = {}
        self._read_shards()
        images = (self.get_data_info(index)["img_path"] for index in range(len(self)))
        check_codes(self.pipeline.transforms, images)

    @classmethod
    def check_files(cls, config: Mapping[str, Any]) -> None:
        """Make sure that the shards which a config names are on this machine.

        Raises:
            InputError: Some are missing.
        """
        check_shards(shard_files(config["shards"], config.get("data_root")))

    @property
    def source(self) -> str:
        """str: What to call the data in messages."""
        return f"{len(self.shards)} shards from {self.shards[0]} on"

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        """Read a sample, and send it through the pipeline."""
        return self.pipeline(self.read(index))

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Say what a sample is, without reading it: ``img_path``, ``image_id``, ``sample_idx``."""
        shard = self.shards[self._shard[index]]
        path = f"{shard}/{os.fsdecode(bytes(self._names[index]))}"
        return {"img_path": path, "image_id": int(index), "sample_idx": int(index)}

    def read(self, index: int) -> dict[str, Any]:
        """Read a sample: what :meth:`get_data_info` says, ``img_bytes``, and of a pair its text.

        Raises:
            InputError: The shard is not as it was.
        """
        item = self.get_data_info(index)
        image_start, image_size, start, size = self._places[index].tolist()
        with open(self.shards[self._shard[index]], "rb") as file:
            item["img_bytes"] = _read(file, image_start, image_size)
            if self.caption_ext is None:
                return item
            content = _read(file, start, size)
        caption, problem = _caption(content, self.caption_ext, self.caption_key)
        if problem:
            raise InputError(f"{item['img_path']}: {problem}; was the shard changed?")
        return item | {"texts": [caption], "text_ids": [item["sample_idx"]]}

    def _read_shards(self) -> None:
        """Find the samples of all shards."""
        loader = content_loader(self.pipeline.transforms)
        size = sum(map(osp.getsize, self.shards))
        kind = f"shards {self.caption_ext} {self.caption_key} {loader}"
        names: list[bytes] = []
        places: list[tuple[int, int, int, int]] = []
        numbers: list[int] = []
        problems: list[str] = []
        title = f"reading {len(self.shards)} shards"
        for number, shard in enumerate(track(self.shards, title, disable=size < LARGE)):
            found, bad = keep(kind, [shard], shard, partial(self._inspect, shard, loader), True)
            names += [os.fsencode(name) for name, *_ in found]
            places += [tuple(place) for _, *place in found]
            numbers += [number] * len(found)
            problems += bad
        self._take_problems(problems, len(places))
        self._names = np.array(names)  # one block of memory, which processes share
        self._places, self._shard = np.array(places, np.int64), np.array(numbers, np.int32)

    def _take_problems(self, problems: Sequence[str], number: int) -> None:
        """Say which samples cannot be used."""
        named = "; ".join(problems[:MAX_NAMED]) + "; ..." * (len(problems) > MAX_NAMED)
        if not number or (problems and not self.skip_unreadable):
            what = f"{len(problems)} of {number + len(problems)} samples cannot be used: {named}"
            cure = "write them anew, or set skip_unreadable=True to leave them out"
            if not problems:
                what, cure = "there is no image", f"expected files ending in {' '.join(EXTENSIONS)}"
            raise InputError(f"{self.source}: {what}. {cure[0].upper()}{cure[1:]}")
        if problems:
            text = (
                f"{self.source}: {len(problems)} of {number + len(problems)} samples are left out: "
            )
            print_log(text + named, "current", logging.WARNING)

    def _inspect(
        self, shard: str, loader: LoadImageFromFile
    ) -> tuple[list[tuple[str, int, int, int, int]], list[str]]:
        """The samples of a shard that can be used, with their places, and why others cannot."""
        found, problems = [], []
        with open(shard, "rb") as file:
            for name, members in _samples(shard).items():
                images = [ext for ext in members if f".{ext}" in EXTENSIONS]
                if not images and self.caption_ext not in members:
                    continue  # of something else
                problem = None
                image = caption = ("", 0, 0)
                if len(images) != 1:
                    problem = f"has {len(images)} images ({', '.join(images)})"
                    problem = problem if images else f"has a {self.caption_ext} and no image"
                elif self.caption_ext is not None and self.caption_ext not in members:
                    problem = f"has no {self.caption_ext}"
                if problem is None:
                    image = members[images[0]]
                    problem = _image_problem(_read(file, *image[1:]), shard, loader)
                if problem is None and self.caption_ext is not None:
                    caption = members[self.caption_ext]
                    content = _read(file, *caption[1:])
                    problem = _caption(content, self.caption_ext, self.caption_key)[1]
                if problem is None:
                    found.append((*image, *caption[1:]))
                else:
                    problems.append(f"{shard}/{name} {problem}")
        return found, problems


def shard_files(shards: str | Sequence[str], data_root: str | None = None) -> list[str]:
    """Name the files that a pattern of shards, or a list of such, stands for.

    Raises:
        InputError: There is none, or a pattern counts downwards.
    """
    patterns = [shards] if isinstance(shards, str) else list(shards)
    files = [osp.join(data_root or "", file) for each in patterns for file in _expand(each)]
    if not files:
        raise InputError("shards is empty; expected tar files such as pairs-{0000..0099}.tar")
    return files


def _expand(pattern: str) -> Iterator[str]:
    texts = NUMBERS.split(pattern)[::3]
    ranges = []
    for first, last in NUMBERS.findall(pattern):
        if int(last) < int(first):
            raise InputError(f"shards is {pattern!r}; expected {{{last}..{first}}}")
        is_padded = "0" in (first[0], last[0]) and len(last) > 1
        width = max(len(first), len(last)) if is_padded else 0
        ranges.append([f"{number:0{width}}" for number in range(int(first), int(last) + 1)])
    for numbers in product(*ranges):
        yield "".join(part for pair in zip(texts, (*numbers, ""), strict=True) for part in pair)


def check_shards(files: Sequence[str]) -> None:
    """Make sure that shards are on this machine.

    Raises:
        InputError: Some are missing, or a file is there twice.
    """
    missing = [file for file in files if not osp.exists(file)]
    if missing:
        raise InputError(
            f"{len(missing)} of the {len(files)} shards are missing on {platform.node()}, the "
            f"first: {missing[0]}{describe_similar(missing[0])}. Every process needs all of them: "
            "copy them there, or correct shards and data_root"
        )
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise InputError(f"{twice} is in shards twice; expected each once")
    for file in files:
        check_regular(file, "the shard")


def _samples(shard: str) -> dict[str, dict[str, Member]]:
    """The files of a shard: the extensions of each sample, and where they are.

    Raises:
        InputError: It is no tar file, or it was cut off.
    """
    found: dict[str, dict[str, Member]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                parts = NAME.fullmatch(member.name)
                if not member.isreg() or parts is None or META.match(member.name):
                    continue
                name, ext = parts[1], parts[2].lower()
                members = found.setdefault(name, {})
                if ext in members:
                    raise InputError(f"the shard {shard} has {name}.{ext} twice; write it anew")
                members[ext] = (member.name, member.offset_data, member.size)
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(len(BLOCK)) != BLOCK:
                raise tarfile.ReadError(f"it has neither a file nor an end at byte {tar.offset:,}")
    except (tarfile.TarError, OSError, ValueError) as error:
        raise InputError(
            f"the shard {shard} is broken, or no plain tar file ({error}): copy or write it anew; "
            "a compressed one must be unpacked to .tar"
        ) from error
    return found


def _read(file: Any, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _image_problem(content: bytes, shard: str, loader: LoadImageFromFile) -> str | None:
    try:
        read_size(shard, loader, content=content)
    except Exception as error:  # a damaged file makes Pillow raise errors of many kinds
        return unreadable(error)
    return None


def _caption(content: bytes, ext: str, key: str) -> tuple[str, str | None]:
    """The caption that a file has, and what keeps it from being one."""
    try:
        text: Any = content.decode("utf-8-sig")
        if ext == "json":
            found = json.loads(text)
            text = found.get(key) if isinstance(found, Mapping) else None
            if text is None:
                return "", f"has a json without {key!r}: set caption_key"
    except (ValueError, RecursionError) as error:
        return "", f"has a {ext} that cannot be read: {error}"
    if problem := text_problem(text, key if ext == "json" else "caption"):
        return "", f"has a {ext} whose {problem}"
    return " ".join(text.split()), None
