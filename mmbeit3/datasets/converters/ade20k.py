"""From the official archive of ADE20K's scene parsing challenge to the folders of the configs."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from rich.progress import track

from mmbeit3.datasets.ade20k import ADE20KDataset
from mmbeit3.datasets.checks.files import in_threads
from mmbeit3.datasets.checks.segmentation import check_ade20k_labels, count_labels
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
from mmbeit3.datasets.converters.records import holds
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.whole_files import make_folder, write_whole

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
    """Unpack the archive, and check that its images and label maps can be trained on.

    A run that was stopped is taken up again: files that are there with the checksum of the archive
    are not unpacked twice, and the folder gets its name when it is complete and its label maps
    have been read. A folder that has its name is compared with the archive.

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
        InputError: The archive is another one, incomplete or damaged, a label map is malformed, has
            another size than its image or values outside 0..150, or the disk is full.
    """
    target = user_path(out_dir) / NAME
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
        make_folder(partial)
        remove_partial(partial)
        have = sum(path.stat().st_size for path in partial.rglob("*.*") if path.is_file())
        check_room(target, sum(entry.file_size for entry in entries.values()) - have)
        for name, entry in track(entries.items(), f"unpacking {NAME}", disable=not progress):
            if not holds(partial / name, (entry.file_size, entry.CRC)):
                make_folder((partial / name).parent)
                write_whole(partial / name, read_entry(opened, entry))
    _check_pairs(partial, list(entries))
    rename_folder(partial, target)
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
    checked = EntryNames(str(archive.filename))
    for entry in archive.infolist():
        path = PurePosixPath(entry.filename)
        if path.parts[:1] == (NAME,) and not entry.is_dir():
            checked.add(entry.filename, is_regular(entry))
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
    def is_same(name: str) -> bool:
        return holds(target / name, (entries[name].file_size, entries[name].CRC))

    same = in_threads(is_same, list(entries), f"comparing {target}")
    differing = [name for name, found in zip(entries, same, strict=True) if not found]
    if differing:
        raise InputError(
            f"{target} exists, but {missing_text(differing, len(entries))} or of another content; "
            "nothing was written. Remove or rename the folder"
        )
    _check_others(target, list(entries))


def _check_pairs(folder: Path, names: list[str]) -> None:
    """Read what was unpacked as training does when it starts."""
    _check_others(folder, names)
    for split in ("training", "validation"):
        images = [name for name in names if name.startswith(f"images/{split}/")]
        pairs = [
            (f"{folder / name}", f"{folder / name.replace('images', 'annotations', 1)[:-4]}.png")
            for name in images
        ]
        maps = str(folder / "annotations" / split)
        check_ade20k_labels(
            count_labels(pairs, maps), ADE20KDataset.METAINFO["classes"], True, maps
        )


def _check_others(folder: Path, names: list[str]) -> None:
    """Raise an InputError if the folders have other files, which training would find."""
    found = [
        path.relative_to(folder).as_posix()
        for kind, suffix in (("images", "jpg"), ("annotations", "png"))
        for path in (folder / kind).rglob(f"*.{suffix}")
    ]
    others = sorted(set(found) - set(names))
    if others:
        raise InputError(
            f"{folder} has {len(others):,} files that are not in the archive: "
            f"{listed(others, limit=3)}. Remove or move them"
        )
