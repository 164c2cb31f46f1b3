"""From the official archive of COCO-Stuff's label maps to the folders of the configs."""

from __future__ import annotations

import functools
import io
import os
import re
import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmbeit3.datasets.converters.archives import (
    EntryNames,
    check_room,
    describe,
    is_regular,
    missing_text,
    open_archive,
    read_entry,
    remove_partial,
    rename_folder,
    user_path,
)
from mmbeit3.datasets.converters.records import (
    Record,
    holds,
    load_records,
    record_line,
    write_records,
)
from mmbeit3.datasets.converters.worker_pool import run_in_processes
from mmbeit3.datasets.image_files import read_size, unreadable
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.whole_files import make_folder, write_whole

ADDRESS = "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
ARCHIVE = "stuffthingmaps_trainval2017.zip"
MEMBER = re.compile(r"(?:.*/)?((?:train|val)2017)/(\d{12})\.png")
NUM_TRAIN, NUM_VAL = 118287, 5000
NUM_IDS = 182  # ids of things and stuff, from 0
IGNORED = 255
# Ids that COCO's 2017 annotations never use: 11 things that were planned and left out.
UNUSED_IDS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
CHUNK = 64
SUFFIX = "_labelTrainIds.png"
# What label maps of a run are known by later: how they are made, and the checksum in the archive.
NUMBERING = "COCO-Stuff 0..170"


class _Job(NamedTuple):
    """A label map to number.

    Args:
        archive: The archive.
        name: The map's name in it.
        image: The image that it belongs to.
        path: Where it goes.
        record: CRC-32 of what an earlier run read, size and CRC-32 of what it wrote, if any.
    """

    archive: Path
    name: str
    image: Path
    path: Path
    record: Record | None


def train_ids() -> np.ndarray:
    """The class number of each value of the official maps, (256,) uint8.

    The 171 used ids become 0..170 in their order, 255 stays, the rest has no class: 254.
    """
    table = np.full(256, 254, np.uint8)
    used = [number for number in range(NUM_IDS) if number not in UNUSED_IDS]
    table[used] = np.arange(len(used))
    table[IGNORED] = IGNORED
    return table


def prepare_coco_stuff(
    archive: str | Path,
    coco_dir: str | Path = "data/coco",
    out_dir: str | Path = "data/coco_stuff164k",
    num_train: int = NUM_TRAIN,
    num_val: int = NUM_VAL,
    num_workers: int | None = None,
    progress: bool = False,
) -> Path:
    """Number the label maps as ``mmseg.COCOStuffDataset`` expects, and link the images.

    A run that was stopped is taken up again: label maps are not written twice if they are as
    ``.SPLIT.records`` says, by CRC-32 of the map in the archive and of the one written.
    Their folders get their names when all are there; in one that has it, what differs is mended.

    Args:
        archive: ``stuffthingmaps_trainval2017.zip``.
        coco_dir: The folder with COCO's ``train2017`` and ``val2017`` images.
            Defaults to ``data/coco``.
        out_dir: Folder to fill. Defaults to ``data/coco_stuff164k``.
        num_train: How many training pairs there must be. Defaults to the official 118,287.
        num_val: How many validation pairs there must be. Defaults to the official 5,000.
        num_workers: Processes. Defaults to None, the number of CPU cores.
        progress: Whether to show a progress bar. Defaults to False.

    Returns:
        ``out_dir``, with ``annotations/{train,val}2017/*_labelTrainIds.png`` and links
        ``images/{train,val}2017`` to the images.

    Raises:
        InputError: The archive is another one, incomplete or damaged, images are missing, a label
            value is none of COCO-Stuff's, a map has another size than its image, the disk is full,
            or ``num_workers`` is not positive.
    """
    if num_workers is not None and num_workers < 1:
        raise InputError(f"the number of processes is {num_workers}, expected 1 or more")
    archive, coco_dir, out_dir = user_path(archive), user_path(coco_dir), user_path(out_dir)
    counts = {"train2017": num_train, "val2017": num_val}
    with open_archive(archive) as opened:
        members = _members(opened, counts)
    _check_images(coco_dir, members)
    _link_images(coco_dir, out_dir / "images", counts)
    folders = {}
    for split in counts:
        maps = out_dir / "annotations" / split
        folder = _folder(maps)
        stems = {stem: name for (part, stem), name in members.items() if part == split}
        _check_others(folder, {f"{stem}{SUFFIX}" for stem in stems})
        notes = out_dir / f".{split}.records"
        known = load_records(notes, NUMBERING)
        jobs = [
            _Job(archive, name, coco_dir / split / f"{stem}.jpg", path, known.get(path.name))
            for stem, name in stems.items()
            for path in [folder / f"{stem}{SUFFIX}"]
        ]
        # Twice the share of the archive: small files leave parts of their disk blocks empty.
        num_todo = sum(not job.path.is_file() for job in jobs)
        check_room(out_dir, 2 * archive.stat().st_size * num_todo // len(members))
        write_records(notes, NUMBERING, known)  # what is cut off at its end must not be continued
        _convert_all(jobs, notes, f"numbering label maps of {split}", num_workers, progress)
        folders[folder] = maps
    for folder, maps in folders.items():
        rename_folder(folder, maps)
    return out_dir


def _convert_all(
    jobs: list[_Job], notes: Path, title: str, num_workers: int | None, progress: bool
) -> None:
    known = {job.path.name: job.record for job in jobs}

    def note(result: tuple[str, Record]) -> None:
        if known[result[0]] != result[1]:
            try:
                with notes.open("a", encoding="utf-8") as file:
                    file.write(f"{record_line(*result)}\n")
            except OSError as error:
                raise InputError(f"{notes} cannot be written: {error.strerror}") from error

    run_in_processes(_convert, jobs, title, num_workers, CHUNK, progress, note)


def _folder(final: Path) -> Path:
    """Where label maps go until all are there; a finished folder is mended in place."""
    if final.is_dir():
        remove_partial(final)
        return final
    if final.exists() or final.is_symlink():
        raise InputError(f"{final} is there and no folder: remove or rename it")
    partial = final.with_name(f".{final.name}.partial")
    make_folder(partial)
    remove_partial(partial)
    return partial


def _check_others(folder: Path, names: set[str]) -> None:
    """Raise an InputError if a folder has other files, which training would find."""
    others = sorted(name for name in set(os.listdir(folder)) - names if name.endswith(SUFFIX))
    if others:
        raise InputError(
            f"{folder} has {len(others):,} files that are none of its label maps: "
            f"{listed(others, limit=3)}. Remove or move them"
        )


def _members(archive: zipfile.ZipFile, counts: dict[str, int]) -> dict[tuple[str, str], str]:
    """Names inside the archive by split and image number."""
    members: dict[tuple[str, str], str] = {}
    checked = EntryNames(str(archive.filename))
    for entry in archive.infolist():
        name = entry.filename
        if match := MEMBER.fullmatch(name):
            checked.add(name, is_regular(entry))
            other = members.setdefault((match[1], match[2]), name)
            if other != name:
                raise InputError(
                    f"{archive.filename} has both {other} and {name}: which one is meant? Download "
                    f"it again from {ADDRESS}{ARCHIVE}"
                )
    found = {split: sum(key[0] == split for key in members) for split in counts}
    if not members:
        raise InputError(
            f"{archive.filename} is not {ARCHIVE}: it holds {describe(archive)}. The archives of "
            "stuff alone and of the 10k version have other labels; the one with things and stuff "
            f"is {ADDRESS}{ARCHIVE}"
        )
    if found != counts:
        raise InputError(
            f"{archive.filename} has {_counts_text(found)}, expected {_counts_text(counts)}. "
            f"Download it again from {ADDRESS}{ARCHIVE}"
        )
    return members


def _counts_text(counts: dict[str, int]) -> str:
    return " and ".join(f"{count:,} label maps of {split}" for split, count in counts.items())


def _check_images(coco_dir: Path, members: dict[tuple[str, str], str]) -> None:
    for split in ("train2017", "val2017"):
        folder = coco_dir / split
        if not folder.is_dir():
            raise InputError(f"{folder} does not exist; expected COCO's {split} images there")
        try:
            names = set(os.listdir(folder))
        except OSError as error:
            raise InputError(f"{folder} cannot be read: {error.strerror}") from error
        expected = [f"{stem}.jpg" for key, stem in members if key == split]
        missing = [name for name in expected if name not in names]
        if missing:
            raise InputError(f"{folder}: {missing_text(missing, len(expected))}")
        images = {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}
        surplus = sorted(images - set(expected))
        if surplus:
            raise InputError(
                f"{folder} has {len(surplus):,} images without a label map in the archive, such as "
                f"{listed(surplus, limit=3)}: remove or move them"
            )


def _link_images(coco_dir: Path, images: Path, splits: dict[str, int]) -> None:
    make_folder(images)
    for split in splits:
        link, source = images / split, (coco_dir / split).resolve()
        with suppress(RuntimeError):  # a link that leads to itself
            if link.resolve() == source:
                continue
        if link.exists() or link.is_symlink():
            raise InputError(f"{link} exists and is not a link to {source}: remove or rename it")
        try:
            link.symlink_to(source, target_is_directory=True)
        except OSError as error:
            raise InputError(
                f"{link} cannot be made a link to {source} ({error.strerror}): move the images "
                "there yourself"
            ) from error


@functools.lru_cache(maxsize=1)
def _opened(archive: Path) -> zipfile.ZipFile:
    """Each process's own reader."""
    return open_archive(archive)


def _convert(job: _Job) -> tuple[str, Record]:
    """Write a label map unless it is there; its name and record."""
    try:
        size = read_size(str(job.image)).loaded
    except Exception as error:  # Pillow raises errors of many kinds on damaged files
        raise InputError(f"{job.image} {unreadable(error)}. Copy the image anew") from error
    archive = _opened(job.archive)
    entry = archive.getinfo(job.name)
    if job.record and len(job.record) == 3 and job.record[0] == entry.CRC:
        is_same = holds(job.path, job.record[1:])
        if is_same and _png_size(job.path) == size:
            return job.path.name, job.record
    where = f"{job.name} in {job.archive}"
    content = b"".join(read_entry(archive, entry))
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as file:
            labels = np.asarray(file)
    except Exception as error:
        raise InputError(
            f"{where} cannot be read: {error}. Download the archive again from {ADDRESS}{ARCHIVE}"
        ) from error
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise InputError(f"{where} is no 8-bit map of label values")
    if labels.shape[::-1] != size:
        raise InputError(
            f"{where} is {labels.shape[1]} x {labels.shape[0]}, but {job.image} is {size[0]} x "
            f"{size[1]} (width x height): expected the original images of COCO 2017"
        )
    numbered = train_ids()[labels]
    if (numbered == 254).any():
        values, counts = np.unique(labels[numbered == 254], return_counts=True)
        found = [f"{value} ({count:,} pixels)" for value, count in zip(values, counts, strict=True)]
        raise InputError(f"{where} has values that are no label of COCO-Stuff: {listed(found)}")
    encoded = io.BytesIO()
    Image.fromarray(numbered).save(encoded, "PNG")
    written = encoded.getvalue()
    write_whole(job.path, [written])
    return job.path.name, (entry.CRC, len(written), zlib.crc32(written))


def _png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG file that is known to be whole."""
    with path.open("rb") as file:
        return struct.unpack(">II", file.read(24)[16:])
