"""From the official archive of COCO-Stuff's label maps to the folders of the configs."""

from __future__ import annotations

import io
import os
import re
import signal
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from mmbeit3.datasets.archives import (
    check_room,
    describe,
    make_folder,
    missing_text,
    open_archive,
    write_whole,
)
from mmbeit3.utils import InputError, listed

ADDRESS = "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
ARCHIVE = "stuffthingmaps_trainval2017.zip"
MEMBER = re.compile(r"(?:.*/)?((?:train|val)2017)/(\d{12})\.png")
NUM_TRAIN, NUM_VAL = 118287, 5000
NUM_IDS = 182  # ids of things and stuff, from 0
IGNORED = 255
# Ids that COCO's 2017 annotations never use: 11 things that were planned and left out.
UNUSED_IDS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
CHUNK = 64


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

    A run that was stopped is taken up again: label maps that are there are not written twice, and
    their folders get their names when all are there.

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
            value is none of COCO-Stuff's, the disk is full, or ``num_workers`` is not positive.
    """
    if num_workers is not None and num_workers < 1:
        raise InputError(f"the number of processes is {num_workers}, expected 1 or more")
    out_dir = Path(out_dir).expanduser()
    counts = {"train2017": num_train, "val2017": num_val}
    with open_archive(archive) as opened:
        members = _members(opened, counts)
    _check_images(Path(coco_dir).expanduser(), members)
    _link_images(Path(coco_dir).expanduser(), out_dir / "images", counts)
    folders = {split: _folder(out_dir / "annotations" / split) for split in counts}
    jobs = [
        (name, folders[split] / f"{stem}_labelTrainIds.png")
        for (split, stem), name in members.items()
    ]
    todo = [job for job in jobs if not job[1].is_file()]
    archive = Path(archive).expanduser()
    # Twice the share of the archive: small files leave parts of their disk blocks empty.
    check_room(out_dir, 2 * archive.stat().st_size * len(todo) // len(jobs))
    with ProcessPoolExecutor(num_workers, initializer=_open, initargs=(archive,)) as pool:
        try:
            # All processes start here, before the progress bar has a thread that a fork would cut.
            done = pool.map(_convert, todo, chunksize=CHUNK)
            for _ in track(done, "numbering label maps", len(todo), disable=not progress):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for split, folder in folders.items():
        folder.rename(out_dir / "annotations" / split)
    return out_dir


def _folder(final: Path) -> Path:
    """Where label maps go until all are there; a finished folder is mended in place."""
    if final.is_dir():
        return final
    partial = final.with_name(f".{final.name}.partial")
    make_folder(partial)
    return partial


def _members(archive: zipfile.ZipFile, counts: dict[str, int]) -> dict[tuple[str, str], str]:
    """Names inside the archive by split and image number."""
    members = {}
    for name in archive.namelist():
        if match := MEMBER.fullmatch(name):
            members[match[1], match[2]] = name
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
        names = set(os.listdir(folder))
        expected = [f"{stem}.jpg" for key, stem in members if key == split]
        missing = [name for name in expected if name not in names]
        if missing:
            raise InputError(f"{folder}: {missing_text(missing, len(expected))}")


def _link_images(coco_dir: Path, images: Path, splits: dict[str, int]) -> None:
    make_folder(images)
    for split in splits:
        link, source = images / split, (coco_dir / split).resolve()
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


def _open(archive: Path) -> None:
    """Give each process its own reader."""
    # Ctrl-C reaches all processes; the first one ends the others, without their tracebacks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    global _archive, _table
    _archive, _table = zipfile.ZipFile(archive), train_ids()


def _convert(job: tuple[str, Path]) -> None:
    name, path = job
    try:
        content = _archive.read(name)
        with Image.open(io.BytesIO(content)) as file:
            labels = np.asarray(file)
    except Exception as error:  # zipfile and Pillow raise errors of many kinds on damaged files
        raise InputError(f"{name} in {_archive.filename} cannot be read: {error}") from error
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise InputError(f"{name} in {_archive.filename} is no 8-bit map of label values")
    numbered = _table[labels]
    if (numbered == 254).any():
        values, counts = np.unique(labels[numbered == 254], return_counts=True)
        found = [f"{value} ({count:,} pixels)" for value, count in zip(values, counts, strict=True)]
        raise InputError(
            f"{name} in {_archive.filename} has values that are no label of COCO-Stuff: "
            f"{listed(found)}"
        )
    encoded = io.BytesIO()
    Image.fromarray(numbered).save(encoded, "PNG")
    try:
        write_whole(path, [encoded.getvalue()])
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
