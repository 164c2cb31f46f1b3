"""From the official downloads of Objects365, v1 or v2, to annotation files of the configs."""

from __future__ import annotations

import json
import os
import reprlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from rich.progress import wrap_file

from mmbeit3.datasets.checks.coco import (
    Report,
    check_categories,
    is_finite_number,
    is_id,
    is_text,
    raise_on_errors,
)
from mmbeit3.datasets.converters.archives import user_path
from mmbeit3.datasets.converters.image_archives import (
    are_unpacked,
    find_archives,
    open_tar,
    unpack_images,
)
from mmbeit3.datasets.converters.records import (
    Record,
    file_state,
    holds,
    load_records,
    read_record,
    write_records,
)
from mmbeit3.datasets.converters.worker_pool import run_in_processes
from mmbeit3.datasets.image_files import ImageFile, read_size, unreadable
from mmbeit3.datasets.json_stream import stream_entries
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.image_reading import EXTENSIONS
from mmbeit3.utils.text_files import read_small_json
from mmbeit3.utils.whole_files import make_folder, write_whole

# Annotations by version; v2's come as .json or, for training, packed in a .tar.gz
NAMES = {"v1": "objects365_{split}", "v2": "zhiyuan_objv2_{split}"}
SPLITS = ("train", "val")
NUM_CLASSES = 365
# Of v2's 1,742,292 training images three are in no archive; a patch that was forgotten is 2 %.
MAX_DROPPED = 0.01
FLAGS = ("iscrowd", "isfake", "isreflected")  # v1 has the first alone
CHUNK = 256
MISSING = "missing"


@dataclass
class Summary:
    """What became of a split.

    Args:
        split: 'train' or 'val'.
        images: Images listed by the official file.
        boxes: Its boxes.
        kept_images: Images written.
        kept_boxes: Boxes written.
        clipped_boxes: Of these, boxes that reached outside their image and were cut there.
        boxes_without_area: Boxes left out because nothing of them lies inside the image.
        boxes_far_outside: Boxes left out because they reach further beyond the image than its
            longer side, where our check of annotations takes them for a mistake.
        flags: How many of the written boxes are marked by the annotators, by mark.
        dropped_images: Official file name to what is wrong with the image.
    """

    split: str
    images: int = 0
    boxes: int = 0
    kept_images: int = 0
    kept_boxes: int = 0
    clipped_boxes: int = 0
    boxes_without_area: int = 0
    boxes_far_outside: int = 0
    flags: dict[str, int] = field(default_factory=dict)
    dropped_images: dict[str, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Names of the images for which there was no file."""
        return [name for name, problem in self.dropped_images.items() if problem == MISSING]

    def text(self) -> str:
        """One line for the console."""
        return (
            f"{self.split}: {self.kept_images:,} of {self.images:,} images "
            f"({len(self.dropped_images):,} missing or damaged), {self.kept_boxes:,} of "
            f"{self.boxes:,} boxes ({self.clipped_boxes:,} cut at the border, "
            f"{self.boxes_without_area:,} outside of their image or without area, "
            f"{self.boxes_far_outside:,} reaching far beyond it)"
        )


def prepare_objects365(
    source: str | Path,
    out_dir: str | Path | None = None,
    partial: bool = False,
    num_workers: int | None = None,
    progress: bool = False,
) -> tuple[Path, list[Summary]]:
    """Unpack the images, check each of them, and write annotations of those that can be used.

    A run that was stopped is taken up again, by the content of what it left: the size and CRC-32
    of images and annotations stand in ``SPLIT/.ARCHIVE.unpacked`` and
    ``.SPLIT.records``. A split is left as it is if all of them are the same, the
    official annotations and archives were not written anew, and no missing image was added.

    Args:
        source: Folder with the official files: annotations in it, in ``annotations/`` or in
            ``train/`` and ``val/``; archives or unpacked images in ``train/`` and ``val/``.
        out_dir: Folder to fill; ``source`` to work in place. Defaults to None,
            ``data/objects365v1`` or ``data/objects365v2``.
        partial: Whether more than one image in a hundred may be missing or damaged.
            Defaults to False.
        num_workers: Processes. Defaults to None, the number of CPU cores.
        progress: Whether to show progress bars. Defaults to False.

    Returns:
        ``out_dir`` and the summaries. For each split the folder has ``annotations/SPLIT.json``
        (COCO's format without masks), ``annotations/SPLIT_summary.json``, and the images in
        ``SPLIT/``, or a link of that name where they were unpacked already.

    Raises:
        InputError: Files are missing, damaged or not those of Objects365, the disk cannot be
            written, or ``num_workers`` is not positive.
    """
    if num_workers is not None and num_workers < 1:
        raise InputError(f"the number of processes is {num_workers}, expected 1 or more")
    source = user_path(source)
    version, official = find_annotations(source)
    out_dir = user_path(out_dir or f"data/objects365{version}")
    make_folder(out_dir / "annotations")
    summaries = []
    for split in SPLITS:
        state = [official[split].name, *file_state(official[split])]
        archives = _archives(source / split)
        summary = _finished(out_dir, split, state, archives, num_workers, progress)
        if summary is None:
            _bring_images(source / split, archives, out_dir / split, num_workers, progress)
            work = _Split(official[split], out_dir / split, Summary(split), progress)
            work.read()
            records = work.check_images(partial, num_workers)
            summary = work.summary
            files = _output(out_dir, split)
            write_whole(files[0], work.chunks())
            write_whole(files[1], [json.dumps(asdict(summary), indent=1).encode()])
            # Last: what an incomplete file of records lacks must not be taken for finished.
            records |= {_below(file, out_dir): read_record(file) or (0, 0) for file in files}
            write_records(_notes(out_dir, split), state, records)
        summaries.append(summary)
    return out_dir, summaries


def _output(out_dir: Path, split: str) -> tuple[Path, Path]:
    folder = out_dir / "annotations"
    return folder / f"{split}.json", folder / f"{split}_summary.json"


def _notes(out_dir: Path, split: str) -> Path:
    return out_dir / f".{split}.records"


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _finished(
    out_dir: Path,
    split: str,
    state: list,
    archives: Sequence[Path],
    num_workers: int | None,
    progress: bool,
) -> Summary | None:
    """The summary of a split of which nothing has changed since it was written."""
    records = load_records(_notes(out_dir, split), state)
    output = _output(out_dir, split)
    if not all(_below(file, out_dir) in records for file in output):
        return None
    if archives and not are_unpacked(archives, out_dir / split):
        return None
    jobs = [(f"{out_dir}/{name}", record) for name, record in records.items()]
    title = f"comparing files of {split}"
    if not all(run_in_processes(_is_same, jobs, title, num_workers, CHUNK, progress)):
        return None
    try:
        summary = Summary(**read_small_json(output[1]))
    except (ValueError, TypeError):  # of another version
        return None
    if summary.dropped_images:
        there = _index(out_dir / split, {PurePosixPath(name).name for name in summary.missing()})
        if there:
            return None
    return summary


def _is_same(job: tuple[str, Record]) -> bool:
    return holds(*job)


def find_annotations(source: Path) -> tuple[str, dict[str, Path]]:
    """Find the official annotation files.

    Args:
        source: See :func:`prepare_objects365`.

    Returns:
        'v1' or 'v2', and the file of each split.

    Raises:
        InputError: They are not there, or both versions are.
    """
    if not source.is_dir():
        raise InputError(f"{source} is no folder, expected the one with Objects365's files")
    found: dict[str, dict[str, Path]] = {version: {} for version in NAMES}
    for version, pattern in NAMES.items():
        for split in SPLITS:
            for folder in (source, source / "annotations", source / split):
                for suffix in (".json", ".tar.gz"):
                    path = folder / (pattern.format(split=split) + suffix)
                    if path.is_file():
                        found[version].setdefault(split, path)
    complete = [version for version, files in found.items() if len(files) == len(SPLITS)]
    if len(complete) == 1:
        return complete[0], found[complete[0]]
    state = "annotations of both versions" if complete else "no full set of annotations"
    wanted = " or ".join(
        " and ".join(f"{pattern.format(split=split)}.json" for split in SPLITS)
        for pattern in NAMES.values()
    )
    raise InputError(
        f"{source} has {state}: expected {wanted}, in it, in annotations/, or in train/ and val/"
    )


def _archives(source: Path) -> list[Path]:
    """The archives of images of a split."""
    if not source.is_dir():
        return []
    annotations = {pattern.format(split=source.name) + ".tar.gz" for pattern in NAMES.values()}
    return [path for path in find_archives(source) if path.name not in annotations]


def _bring_images(
    source: Path, archives: list[Path], target: Path, num_workers: int | None, progress: bool
) -> None:
    """Unpack archives into the target, or link it to images that are unpacked."""
    if not source.is_dir():
        raise InputError(f"{source} does not exist; expected its images or their archives there")
    if archives:
        unpack_images(archives, target, num_workers, progress)
    elif not _is_same_folder(target, source):
        if target.exists() or target.is_symlink():
            raise InputError(f"{target} exists and is not a link to {source}: remove or rename it")
        try:
            target.symlink_to(source.resolve(), target_is_directory=True)
        except OSError as error:
            raise InputError(
                f"{target} cannot be made a link to {source} ({error.strerror}): name {source} as "
                "the folder to fill, too"
            ) from error


def _is_same_folder(first: Path, second: Path) -> bool:
    with suppress(OSError):
        return first.samefile(second)
    return False


class _Split:
    """One of the two annotation files on its way: read for its images, checked, read for boxes."""

    def __init__(self, official: Path, folder: Path, summary: Summary, progress: bool) -> None:
        self.official, self.folder, self.progress = official, folder, progress
        self.summary = summary
        self.categories: list[dict] = []
        self.listed: dict[int, dict] = {}  # images of the official file by id
        self.kept: dict[int, dict] = {}  # of these, what is written

    def read(self) -> None:
        """Read categories and images, which in v1 come partly after the annotations."""
        categories = []
        for key, entry in self._entries("images"):
            if key == "images":
                self._add_image(entry)
            elif key == "categories":
                categories.append(entry)
            elif key == "annotations":
                self.summary.boxes += 1
        if not self.listed:
            raise InputError(f"{self.official} lists no images")
        report = Report()
        names = check_categories(categories, report)
        raise_on_errors(report, str(self.official))
        if len(names) != NUM_CLASSES:
            raise InputError(
                f"{self.official} has {len(names)} categories, expected the {NUM_CLASSES} of "
                "Objects365"
            )
        twice = [name for name, n in Counter(map(str.strip, names.values())).items() if n > 1]
        if twice:
            raise InputError(
                f"{self.official} has two categories named {listed(twice)}, but for blanks; "
                f"expected the {NUM_CLASSES} of Objects365"
            )
        # Some names end with a blank; the order differs between v1's two files.
        self.categories = [
            {"id": number, "name": names[number].strip()} for number in sorted(names)
        ]

    def check_images(self, partial: bool, num_workers: int | None) -> dict[str, Record]:
        """Find the file of each image and keep those that can be decoded.

        Returns:
            Size and CRC-32 of the files found, by their paths from the folder of all splits.
        """
        bases = [_base(image) for image in self.listed.values()]
        names = Counter(bases)
        if len(names) < len(bases):
            name = next(name for name, count in names.items() if count > 1)
            raise InputError(
                f"{self.official}: two images have the file {name}; expected a file for each image"
            )
        paths = _index(self.folder, set(names))
        jobs = [
            ImageFile(
                f"{self.folder}/{paths[base]}" if base in paths else "",
                image["width"],
                image["height"],
            )
            for base, image in zip(bases, self.listed.values(), strict=True)
        ]
        title = f"checking images of {self.summary.split}"
        found = run_in_processes(_inspect, jobs, title, num_workers, CHUNK, self.progress)
        summary, records = self.summary, {}
        for base, image, (problem, record) in zip(bases, self.listed.values(), found, strict=True):
            if record:
                records[f"{self.folder.name}/{paths[base]}"] = record
            if problem:
                summary.dropped_images[image["file_name"]] = problem
            else:
                self.kept[image["id"]] = image | {"file_name": paths[base].as_posix()}
        summary.images, summary.kept_images = len(self.listed), len(self.kept)
        if not self.kept or (not partial and summary.kept_images < (1 - MAX_DROPPED) * len(jobs)):
            raise InputError(self._dropped_text())
        return records

    def _dropped_text(self) -> str:
        dropped = self.summary.dropped_images
        folders = Counter(str(PurePosixPath(name).parent) for name in dropped)
        places = [f"{folder} ({count:,})" for folder, count in folders.most_common()]
        name, problem = next(iter(dropped.items()))
        return (
            f"{len(dropped):,} of {self.summary.images:,} images of {self.summary.split} are "
            f"missing in {self.folder} or damaged, by folder: {listed(places, 5)}; the first: "
            f"{name} ({problem}). Download the archives that are missing, or give --partial to "
            "train without these images"
        )

    def chunks(self) -> Iterator[bytes]:
        """The new file, piece by piece; the boxes pass through one at a time."""
        yield b'{"categories":' + _encode(self.categories) + b',"images":['
        yield from _joined(self.kept.values())
        yield b'],"annotations":['
        yield from _joined(self._annotations())
        yield b"]}"

    def _annotations(self) -> Iterator[dict]:
        summary, flags = self.summary, dict.fromkeys(FLAGS, 0)
        known = {category["id"] for category in self.categories}
        boxes = (entry for key, entry in self._entries("boxes") if key == "annotations")
        ids, num_tiny = array("q"), 0
        for index, entry in enumerate(boxes):
            problem = _annotation_problem(entry, self.listed, known)
            if problem:
                raise InputError(f"{self.official}: annotations[{index}]: {problem}")
            ids.append(entry["id"])
            image = self.kept.get(entry["image_id"])
            if image is None:
                continue
            if _is_far(entry["bbox"], image["width"], image["height"]):
                summary.boxes_far_outside += 1
                continue
            box, is_clipped = clip_box(entry["bbox"], image["width"], image["height"])
            if box is None:
                summary.boxes_without_area += 1
                continue
            summary.kept_boxes += 1
            summary.clipped_boxes += is_clipped
            num_tiny += min(box[2:]) < 1
            for flag in FLAGS:
                flags[flag] += bool(entry.get(flag))
            yield {
                "id": entry["id"],
                "image_id": entry["image_id"],
                "category_id": entry["category_id"],
                "bbox": box,
                "area": round(box[2] * box[3], 3),
                "iscrowd": int(bool(entry.get("iscrowd"))),
            }
        summary.flags = flags
        self._check_boxes(ids, num_tiny)

    def _check_boxes(self, ids: array, num_tiny: int) -> None:
        """Refuse what only all boxes together show, and our check of annotations would refuse."""
        values, counts = np.unique(np.frombuffer(ids, np.int64), return_counts=True)
        twice = values[counts > 1]
        if len(twice):
            raise InputError(
                f"{self.official}: {len(twice):,} ids of annotations stand twice or more, such as "
                f"{listed(twice, limit=3)}: expected an id for each. Was the file put together "
                "from others? Download it again"
            )
        num_kept = self.summary.kept_boxes
        if num_tiny == num_kept:  # none at all, too
            raise InputError(
                f"{self.official}: of {self.summary.boxes:,} boxes none is left that is as large "
                "as a pixel: expected [x, y, width, height] in pixels, not fractions"
            )

    def _entries(self, what: str) -> Iterator[tuple[str, Any]]:
        title = f"reading {what} of {self.summary.split}"
        with _open(self.official, title, self.progress) as file:
            yield from stream_entries(file, str(self.official))

    def _add_image(self, entry: Any) -> None:
        keys = ("id", "file_name", "width", "height")
        image: dict = {key: entry.get(key) for key in keys} if isinstance(entry, dict) else {}
        sides = [image.get("width"), image.get("height")]
        if not (
            is_id(image.get("id"))
            and is_text(image.get("file_name"))
            and _base(image)
            and all(type(side) is int and side > 0 for side in sides)
        ):
            raise InputError(
                f"{self.official}: images[{len(self.listed)}] is {reprlib.repr(entry)}, expected "
                "an object with id, file_name, width and height (numbers are integers of 64 bits, "
                "sides above 0)"
            )
        if image["id"] in self.listed:
            raise InputError(f"{self.official}: two images have the id {image['id']}")
        self.listed[image["id"]] = image


def clip_box(box: list[float], width: int, height: int) -> tuple[list[float] | None, bool]:
    """Cut off what of a box lies outside its image.

    Args:
        box: ``[x, y, width, height]`` in pixels.
        width: Of the image.
        height: Of the image.

    Returns:
        The box, rounded to a thousandth of a pixel, or None if no area is left; and whether
        something was cut off.
    """
    x, y, box_width, box_height = box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + box_width, width), min(y + box_height, height)
    inside = [round(left, 3), round(top, 3), round(right - left, 3), round(bottom - top, 3)]
    if inside[2] <= 0 or inside[3] <= 0:
        return None, False
    cut = max(left - x, top - y, x + box_width - right, y + box_height - bottom)
    return inside, cut > 5e-4


def _is_far(box: list[float], width: int, height: int) -> bool:
    x, y, box_width, box_height = box
    reach = max(width, height)
    return min(x, y) < -reach or max(x + box_width, y + box_height) > 2 * reach


def _inspect(file: ImageFile) -> tuple[str | None, Record | None]:
    """What is wrong with an image, and its record if it can be read."""
    record = read_record(file.path) if file.path else None
    try:
        found = read_size(file.path, decode=True).loaded if file.path else None
    except FileNotFoundError:
        found = None
    except Exception as error:  # Pillow raises errors of many kinds on damaged files
        return unreadable(error), record
    if found is None:
        return MISSING, None
    if found == (file.width, file.height):
        return None, record
    return f"is {found[0]} x {found[1]}, not {file.width} x {file.height}", record


def _annotation_problem(entry: Any, images: dict[int, dict], categories: set[int]) -> str | None:
    if not isinstance(entry, dict) or not {"id", "image_id", "category_id", "bbox"} <= entry.keys():
        return f"is {reprlib.repr(entry)}, expected id, image_id, category_id and bbox"
    number, box = entry["id"], entry["bbox"]
    place = f"(id {reprlib.repr(number)})"
    for key in ("id", "image_id", "category_id"):
        if not is_id(entry[key]):
            found = reprlib.repr(entry[key])
            return f"{place} {key} is {found}, expected an integer of 64 bits"
    if entry["image_id"] not in images:
        return f"{place} image_id {entry['image_id']} is not in images"
    if entry["category_id"] not in categories:
        return f"{place} category_id {entry['category_id']} is not in categories"
    if entry.get("iscrowd") not in (0, 1, None):
        return f"{place} iscrowd is {reprlib.repr(entry['iscrowd'])}, expected 0 or 1"
    if isinstance(box, list) and len(box) == 4 and all(map(is_finite_number, box)):
        return None
    found = reprlib.repr(box)
    return f"{place} bbox is {found}, expected 4 finite numbers [x, y, width, height]"


def _base(image: dict) -> str:
    return PurePosixPath(image["file_name"]).name


def _index(folder: Path, wanted: set[str]) -> dict[str, PurePosixPath]:
    """The paths of images inside a folder by their base names, which are unique in Objects365.

    The paths of v2's annotations (``images/v1/patch8/NAME.jpg``) are not those inside its archives
    (``patch8/NAME.jpg``).
    """
    paths: dict[str, PurePosixPath] = {}
    for place, folders, names in os.walk(folder, onerror=_raise_unreadable, followlinks=True):
        folders.sort()
        inside = PurePosixPath(Path(place).relative_to(folder).as_posix())
        for name in names:
            if name not in wanted or not name.lower().endswith(EXTENSIONS):
                continue
            first = paths.setdefault(name, inside / name)
            if first != inside / name and read_record(folder / first) != read_record(
                folder / inside / name
            ):
                raise InputError(
                    f"{folder} has two different images {first} and {inside / name}, expected one "
                    "of each name: remove the wrong one"
                )
    return paths


def _raise_unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error


@contextmanager
def _open(path: Path, title: str, progress: bool) -> Iterator[BinaryIO]:
    """Open annotations, packed or not; a bar shows how far the file is read."""
    try:
        with path.open("rb") as raw:
            size = path.stat().st_size
            with wrap_file(raw, size, description=title, disable=not progress) as shown:
                if path.suffix == ".json":
                    yield shown
                    return
                with open_tar(path, shown) as entries:
                    found = None
                    for entry, content in entries:
                        name = PurePosixPath(entry.name).name
                        if not name.endswith(".json") or name.startswith("._"):
                            continue
                        if found:
                            raise InputError(
                                f"{path} holds both {found} and {entry.name}, expected one file"
                            )
                        found = entry.name
                        yield content
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if not found:
        raise InputError(
            f"{path} holds no .json file; expected {path.name.replace('.tar.gz', '.json')}"
        )


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _joined(entries: Iterable[dict]) -> Iterator[bytes]:
    """Entries of a JSON list, many at a time."""
    entries, separator = iter(entries), b""
    while block := list(islice(entries, CHUNK)):
        yield separator + _encode(block)[1:-1]
        separator = b","
