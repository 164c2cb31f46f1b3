"""From the official archive of ADE20K's scene parsing challenge to the folders of the configs."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from rich.progress import track

from mmbeit3.datasets.archives import check_room, describe, extract, missing_text, open_archive
from mmbeit3.utils import InputError

NAME = "ADEChallengeData2016"
ADDRESS = f"http://data.csail.mit.edu/places/ADEchallenge/{NAME}.zip"
NUM_TRAIN, NUM_VAL = 20210, 2000


def prepare_ade20k(
    archive: str | Path,
    out_dir: str | Path = "data/ade",
    num_train: int = NUM_TRAIN,
    num_val: int = NUM_VAL,
    progress: bool = False,
) -> Path:
    """Unpack the archive, after a check that each of its images and label maps is there.

    A run that was stopped is taken up again: files that are there in full are not unpacked twice,
    and the folder gets its name when it is complete.

    Args:
        archive: ``ADEChallengeData2016.zip``.
        out_dir: Where the folder ``ADEChallengeData2016`` goes. Defaults to ``data/ade``.
        num_train: How many training pairs there must be. Defaults to the official 20,210.
        num_val: How many validation pairs there must be. Defaults to the official 2,000.
        progress: Whether to show a progress bar. Defaults to False.

    Returns:
        The folder: ``images/{training,validation}/*.jpg`` and
        ``annotations/{training,validation}/*.png``.

    Raises:
        InputError: The archive is another one, incomplete or damaged, or the disk is full.
    """
    target = Path(out_dir).expanduser() / NAME
    if target.is_symlink() and not target.exists():
        raise InputError(
            f"{target} is a link to {target.readlink()}, which does not exist: mount the disk or "
            "remove the link"
        )
    with open_archive(archive) as opened:
        entries = _entries(opened, num_train, num_val)
        if target.exists():
            _check_unpacked(target, entries)
            return target
        partial = target.with_name(f".{NAME}.partial")
        have = sum(path.stat().st_size for path in partial.rglob("*.*") if path.is_file())
        check_room(target, sum(entry.file_size for entry in entries.values()) - have)
        for name, entry in track(entries.items(), f"unpacking {NAME}", disable=not progress):
            extract(opened, entry, partial / name)
    partial.rename(target)
    return target


def expected_names(num_train: int = NUM_TRAIN, num_val: int = NUM_VAL) -> list[str]:
    """Paths of all images and label maps inside the folder."""
    return [
        f"{kind}/{split}/ADE_{short}_{number:08d}.{suffix}"
        for split, short, count in (
            ("training", "train", num_train),
            ("validation", "val", num_val),
        )
        for number in range(1, count + 1)
        for kind, suffix in (("images", "jpg"), ("annotations", "png"))
    ]


def _entries(archive: zipfile.ZipFile, num_train: int, num_val: int) -> dict[str, zipfile.ZipInfo]:
    """What to unpack, by its path inside the folder."""
    inside = {}
    for entry in archive.infolist():
        path = PurePosixPath(entry.filename)
        if path.parts[:1] == (NAME,) and not entry.is_dir():
            inside[str(path.relative_to(NAME))] = entry
    names = expected_names(num_train, num_val)
    missing = [name for name in names if name not in inside]
    if len(missing) == len(names):
        raise InputError(
            f"{archive.filename} is not {NAME}.zip: it holds {describe(archive)}. The full ADE20K "
            "and the test images (release_test.zip) are other archives; the one with 150 classes "
            f"is {ADDRESS}"
        )
    if missing:
        raise InputError(
            f"{archive.filename} is incomplete: {missing_text(missing, len(names))}. Download it "
            f"again from {ADDRESS}"
        )
    texts = ["objectInfo150.txt", "sceneCategories.txt"]
    wanted = [*names, *(name for name in texts if name in inside)]
    surplus = [
        name for name in inside if name.startswith(("images/", "annotations/")) and "ADE_" in name
    ]
    if len(surplus) > len(names):
        raise InputError(
            f"{archive.filename} has {len(surplus):,} images and label maps, expected "
            f"{len(names):,}: it was put together from something else; get it from {ADDRESS}"
        )
    return {name: inside[name] for name in wanted}


def _check_unpacked(target: Path, entries: dict[str, zipfile.ZipInfo]) -> None:
    differing = [
        name
        for name, entry in entries.items()
        if not (target / name).is_file() or (target / name).stat().st_size != entry.file_size
    ]
    if differing:
        raise InputError(
            f"{target} exists, but {missing_text(differing, len(entries))} or of another size; "
            "nothing was written. Remove or rename the folder"
        )
