"""From the official downloads of Objects365, v1 or v2, to annotation files of the configs."""

from __future__ import annotations

import json
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from rich.progress import track, wrap_file

from mmbeit3.datasets.archives import make_folder, write_whole
from mmbeit3.datasets.coco_checks import Report, check_categories, raise_on_errors
from mmbeit3.datasets.image_archives import (
    IMAGE_SUFFIXES,
    find_archives,
    ignore_interrupts,
    unpack_images,
)
from mmbeit3.datasets.image_files import ImageFile, read_size, unreadable
from mmbeit3.datasets.json_stream import stream_entries
from mmbeit3.utils import InputError, listed

# Annotations by version; v2's come as .json or, for training, packed in a .tar.gz
NAMES = {"v1": "objects365_{split}", "v2": "zhiyuan_objv2_{split}"}
SPLITS = ("train", "val")
NUM_CLASSES = 365
# Of v2's 1,742,292 training images three are in no archive; a patch that was forgotten is 2 %.
MAX_DROPPED = 0.01
FLAGS = ("iscrowd", "isfake", "isreflected")  # v1 has the first alone
CHUNK = 256


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
    flags: dict[str, int] = field(default_factory=dict)
    dropped_images: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """One line for the console."""
        return (
            f"{self.split}: {self.kept_images:,} of {self.images:,} images "
            f"({len(self.dropped_images):,} missing or damaged), {self.kept_boxes:,} of "
            f"{self.boxes:,} boxes ({self.clipped_boxes:,} cut at the border, "
            f"{self.boxes_without_area:,} outside of their image or without area)"
        )


def prepare_objects365(
    source: str | Path,
    out_dir: str | Path | None = None,
    partial: bool = False,
    num_workers: int | None = None,
    progress: bool = False,
) -> tuple[Path, list[Summary]]:
    """Unpack the images, check each of them, and write annotations of those that can be used.

    A run that was stopped is taken up again: archives are not unpacked twice, and a split whose
    annotations are written is left as it is.

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
    source = Path(source).expanduser()
    version, official = find_annotations(source)
    out_dir = Path(out_dir or f"data/objects365{version}").expanduser()
    make_folder(out_dir / "annotations")
    summaries = []
    for split in SPLITS:
        target = out_dir / "annotations" / f"{split}.json"
        summary_file = target.with_name(f"{split}_summary.json")
        if target.is_file() and summary_file.is_file():
            summaries.append(Summary(**json.loads(summary_file.read_text(encoding="utf-8"))))
            continue
        _bring_images(source / split, out_dir / split, num_workers, progress)
        work = _Split(official[split], out_dir / split, Summary(split), progress)
        work.read()
        work.check_images(partial, num_workers)
        _write(target, work.chunks())
        _write(summary_file, [json.dumps(asdict(work.summary), indent=1).encode()])
        summaries.append(work.summary)
    return out_dir, summaries


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


def _bring_images(source: Path, target: Path, num_workers: int | None, progress: bool) -> None:
    """Unpack archives into the target, or link it to images that are unpacked."""
    if not source.is_dir():
        raise InputError(f"{source} does not exist; expected its images or their archives there")
    annotations = {pattern.format(split=source.name) + ".tar.gz" for pattern in NAMES.values()}
    archives = [path for path in find_archives(source) if path.name not in annotations]
    if archives:
        unpack_images(archives, target, num_workers, progress)
    elif target.resolve() != source.resolve():
        if target.exists() or target.is_symlink():
            raise InputError(f"{target} exists and is not a link to {source}: remove or rename it")
        try:
            target.symlink_to(source.resolve(), target_is_directory=True)
        except OSError as error:
            raise InputError(
                f"{target} cannot be made a link to {source} ({error.strerror}): name {source} as "
                "the folder to fill, too"
            ) from error


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
        # Some names end with a blank; the order differs between v1's two files.
        self.categories = [
            {"id": number, "name": names[number].strip()} for number in sorted(names)
        ]

    def check_images(self, partial: bool, num_workers: int | None) -> None:
        """Find the file of each image and keep those that can be decoded."""
        paths = _index(self.folder)
        jobs = [
            ImageFile(
                f"{self.folder}/{paths.get(_base(image), 'missing')}",
                image["width"],
                image["height"],
            )
            for image in self.listed.values()
        ]
        summary = self.summary
        for image, problem in zip(
            self.listed.values(), self._problems(jobs, num_workers), strict=True
        ):
            if problem:
                summary.dropped_images[image["file_name"]] = problem
            else:
                name = paths[_base(image)].as_posix()
                self.kept[image["id"]] = image | {"file_name": name}
        summary.images, summary.kept_images = len(self.listed), len(self.kept)
        if not self.kept or (not partial and summary.kept_images < (1 - MAX_DROPPED) * len(jobs)):
            raise InputError(self._dropped_text())

    def _problems(self, jobs: list[ImageFile], num_workers: int | None) -> Iterator[str | None]:
        title = f"checking images of {self.summary.split}"
        with ProcessPoolExecutor(num_workers, initializer=ignore_interrupts) as pool:
            try:
                # All processes start here, before the bar has a thread that a fork would cut.
                done = pool.map(_image_problem, jobs, chunksize=CHUNK)
                yield from track(done, title, len(jobs), disable=not self.progress)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

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
        for index, entry in enumerate(boxes):
            problem = _annotation_problem(entry, self.listed, known)
            if problem:
                raise InputError(f"{self.official}: annotations[{index}]: {problem}")
            image = self.kept.get(entry["image_id"])
            if image is None:
                continue
            box, is_clipped = clip_box(entry["bbox"], image["width"], image["height"])
            if box is None:
                summary.boxes_without_area += 1
                continue
            summary.kept_boxes += 1
            summary.clipped_boxes += is_clipped
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

    def _entries(self, what: str) -> Iterator[tuple[str, Any]]:
        title = f"reading {what} of {self.summary.split}"
        with _open(self.official, title, self.progress) as file:
            yield from stream_entries(file, str(self.official))

    def _add_image(self, entry: Any) -> None:
        kinds = {"id": int, "file_name": str, "width": int, "height": int}
        image = {key: entry.get(key) for key in kinds} if isinstance(entry, dict) else {}
        if not all(isinstance(image.get(key), kind) for key, kind in kinds.items()):
            raise InputError(
                f"{self.official}: images[{len(self.listed)}] is {str(entry)[:200]}, expected an "
                "object with id, file_name, width and height"
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


def _image_problem(file: ImageFile) -> str | None:
    try:
        found = read_size(file.path, decode=True).loaded
    except FileNotFoundError:
        return "missing"
    except Exception as error:  # Pillow raises errors of many kinds on damaged files
        return unreadable(error)
    if found == (file.width, file.height):
        return None
    return f"is {found[0]} x {found[1]}, not {file.width} x {file.height}"


def _annotation_problem(entry: Any, images: dict[int, dict], categories: set[int]) -> str | None:
    try:
        number, box = entry["id"], entry["bbox"]
        if entry["image_id"] not in images:
            return f"(id {number}) image_id {entry['image_id']} is not in images"
        if entry["category_id"] not in categories:
            return f"(id {number}) category_id {entry['category_id']} is not in categories"
    except (KeyError, TypeError):
        return f"is {str(entry)[:200]}, expected id, image_id, category_id and bbox"
    try:
        x, y, width, height = box
        if isfinite(x + y + width + height):
            return None
    except (TypeError, ValueError):
        pass
    return f"(id {number}) bbox is {box}, expected 4 numbers [x, y, width, height]"


def _base(image: dict) -> str:
    return PurePosixPath(image["file_name"]).name


def _index(folder: Path) -> dict[str, PurePosixPath]:
    """The path of each image inside a folder by its base name, which is unique in Objects365.

    The paths of v2's annotations (``images/v1/patch8/NAME.jpg``) are not those inside its archives
    (``patch8/NAME.jpg``).
    """
    paths = {}
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        inside = PurePosixPath(Path(place).relative_to(folder).as_posix())
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES):
                paths.setdefault(name, inside / name)
    return paths


@contextmanager
def _open(path: Path, title: str, progress: bool) -> Iterator[BinaryIO]:
    """Open annotations, packed or not; a bar shows how far the file is read."""
    with path.open("rb") as raw:
        file = wrap_file(raw, path.stat().st_size, description=title, disable=not progress)
        with file as shown:
            if path.suffix == ".json":
                yield shown
                return
            try:
                with tarfile.open(fileobj=shown, mode="r|gz") as archive:
                    for entry in archive:
                        name = PurePosixPath(entry.name).name
                        if name.endswith(".json") and not name.startswith("._"):
                            yield archive.extractfile(entry)
                            return
            except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
                raise InputError(f"{path} is damaged: {error}. Download it again") from error
    raise InputError(
        f"{path} holds no .json file; expected {path.name.replace('.tar.gz', '.json')}"
    )


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _joined(entries: Iterator[dict]) -> Iterator[bytes]:
    """Entries of a JSON list, many at a time."""
    entries, separator = iter(entries), b""
    while block := list(islice(entries, CHUNK)):
        yield separator + _encode(block)[1:-1]
        separator = b","


def _write(path: Path, chunks: Any) -> None:
    try:
        write_whole(path, chunks)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
