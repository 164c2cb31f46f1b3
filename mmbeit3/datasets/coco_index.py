"""An index of a COCO annotation file of any size: where the entries of each image stand in it.

It is made once, by reading the file entry by entry, and mapped into memory afterwards: all
processes of a machine share it, and what a data set holds of an image is read from the annotation
file when it is asked for. The file of the index is a safetensors file, so that nothing in it runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from array import array
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from mmengine.logging import print_log
from rich.progress import DownloadColumn, Progress, TimeRemainingColumn
from safetensors.numpy import save_file

from mmbeit3.datasets.checks.coco import (
    MAX_EXAMPLES,
    AnnotationCheck,
    ImageCheck,
    Report,
    check_categories,
    check_coco,
    check_lists,
    load_coco,
    no_garbage_collection,
    raise_on_errors,
    say_meaning,
)
from mmbeit3.datasets.checks.coco_meaning import Doubt, choose, find_doubts
from mmbeit3.datasets.checks.files import locked, say
from mmbeit3.datasets.coco_content import CocoContent, Columns, flags_of
from mmbeit3.datasets.json_stream import DECODER, EMPTY, stream_places
from mmbeit3.utils import InputError
from mmbeit3.utils.file_stamp import Stamp
from mmbeit3.utils.read_once import read_once
from mmbeit3.utils.whole_files import WriteError, partial_of, put_durably

FORMAT = "mmbeit3 annotation index 1"
LARGE = 100_000_000  # bytes of an annotation file from which on it is indexed
FOLDER = "MMBEIT3_INDEX_DIR"  # environment variable: where indexes are kept
MAX_WARNINGS = 10_000  # that are kept in words
MAX_HEADER = 100_000_000  # bytes
DTYPES = {"I64": np.int64, "I32": np.int32, "U32": np.uint32, "U8": np.uint8}
BLOCK = 1 << 22
AT_ONCE = 10_000  # names that are read at a time
_UNUSABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def load_content(
    path: str | Path,
    name: str | None = None,
    require_annotations: bool = True,
    check_meaning: bool = True,
) -> CocoContent:
    """Read and check a COCO file, or take the index of a large one; warnings go to the log.

    Args:
        path: A local file.
        name: What to call it in messages. Defaults to ``path``.
        require_annotations: See :func:`mmbeit3.datasets.checks.coco.check_coco`. Defaults to True.
        check_meaning: See there. Defaults to True.

    Raises:
        InputError: The file is absent, is not JSON, or there are errors in it.
    """
    name = str(name or path)
    index = open_index(path, name)
    if index is None:
        return CocoContent(load_coco(path, name, require_annotations, check_meaning))
    raise_on_errors(index.report(require_annotations, check_meaning), name)
    return index


class CocoIndex(CocoContent):
    """The content of a large file, read image by image.

    Args:
        path: The annotation file.
        file: The index.

    Raises:
        OSError: One of them cannot be read.
        ValueError: The index is not as it was written, or of another format.
    """

    def __init__(self, path: str | Path, file: str | Path) -> None:
        self.path, self.file = Path(path), Path(file)
        self.about, self._arrays = _map(self.file)
        self.categories, self.info = self.about["categories"], self.about["info"]
        self.columns = Columns(
            *(self._arrays[name] for name in ("ids", "sizes", "ends", "kinds", "flags"))
        )
        self._descriptor = os.open(self.path, os.O_RDONLY)

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):
            os.close(self._descriptor)

    def __reduce__(self) -> tuple[type[CocoIndex], tuple[Path, Path]]:
        return type(self), (self.path, self.file)

    def __deepcopy__(self, memo: dict) -> CocoIndex:
        return self

    @property
    def stamp(self) -> Stamp:
        """Of the annotation file that the index is of."""
        return Stamp(self.about["size"], self.about["time"])

    def report(
        self, require_annotations: bool, check_meaning: bool, most: int = MAX_EXAMPLES
    ) -> Report:
        """What the checks found, as ``check_coco`` says it of a parsed file.

        Args:
            require_annotations: See there.
            check_meaning: See there.
            most: How many warnings are kept in words. Defaults to 10.
        """
        about = self.about
        report = Report(
            warnings=about["warnings"][:most],
            num_warnings=about["num_warnings"],
            max_examples=most,
        )
        if require_annotations and not about["has_annotations"]:
            report.error("'annotations' is missing at the top level")
        doubts = [Doubt(*doubt) for doubt in about["doubts"]]
        say_meaning(doubts, about["num_tiny"], about["tiny"], report, check_meaning)
        return report

    def image(self, row: int) -> dict:
        """The entry of an image."""
        start, length = self._arrays["image_starts"][row], self._arrays["image_lengths"][row]
        return self._read(int(start), int(length), "id", row)

    def annotations(self, row: int) -> list[dict]:
        """The annotations of an image, in the order of the file."""
        span = self.columns.span(row)
        starts, lengths = self._arrays["starts"][span], self._arrays["lengths"][span]
        return [
            self._read(start, length, "image_id", row)
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]

    def counts(self) -> dict[int, int]:
        """How many annotations each category has, by its id."""
        numbers = np.bincount(self.columns.kinds, minlength=len(self.categories)).tolist()
        return {each["id"]: n for each, n in zip(self.categories, numbers, strict=True)}

    def annotations_of(self, categories: Collection[int]) -> Iterator[dict]:
        """The annotations of some categories, by their ids; image by image."""
        chosen = [index for index, each in enumerate(self.categories) if each["id"] in categories]
        found = np.flatnonzero(np.isin(self.columns.kinds, chosen))
        rows = np.searchsorted(self.columns.ends, found, side="right")
        starts, lengths = self._arrays["starts"][found], self._arrays["lengths"][found]
        for row, start, length in zip(
            rows.tolist(), starts.tolist(), lengths.tolist(), strict=True
        ):
            yield self._read(start, length, "image_id", row)

    def has_backslashes(self) -> bool:
        """Whether there is one in a file name."""
        return bool((self._arrays["names"] == ord("\\")).any())

    def names(self, rows: np.ndarray | None = None) -> Iterator[str]:
        """The file names of images; of all by default."""
        text, ends = self._arrays["names"].data, self._arrays["name_ends"]
        rows = np.arange(len(ends)) if rows is None else rows
        for first in range(0, len(rows), AT_ONCE):
            some = rows[first : first + AT_ONCE]
            starts = np.where(some > 0, ends[some - 1], 0)
            for start, end in zip(starts.tolist(), ends[some].tolist(), strict=True):
                yield str(text[start:end], "utf-8")

    def _read(self, start: int, length: int, key: str, row: int) -> dict:
        """An entry of the file, which must be of an image."""
        with suppress(ValueError, TypeError, KeyError):
            entry = read_entry(self._descriptor, start, length)
            if entry[key] == self.columns.ids[row]:
                return entry
        raise InputError(
            f"{self.path} has changed while it was in use: at byte {start:,} is no longer what its "
            f"index {self.file} knows there; start again"
        )


def read_entry(descriptor: int, start: int, length: int) -> Any:
    """Read an entry of a JSON file in UTF-8.

    Args:
        descriptor: The open file; its position does not count, processes may share it.
        start: Bytes before the entry.
        length: Its bytes.
    """
    return DECODER.decode(os.pread(descriptor, length, start).decode())


def open_index(path: str | Path, name: str) -> CocoIndex | None:
    """Open the index of an annotation file, or make it; of processes that start together, one does.

    It is kept in the folder that ``MMBEIT3_INDEX_DIR`` names, else beside the file as
    ``NAME.index``, or where that cannot be written in ``$XDG_CACHE_HOME/mmbeit3``.

    Args:
        path: The annotation file, a local one.
        name: What to call it in messages.

    Returns:
        The index; None where none is made: of a small file, one that is not in UTF-8, and where
        there is no room for it.

    Raises:
        InputError: The annotation file cannot be used.
    """
    return read_once("index", path, lambda: _find(path, name))


def _find(path: str | Path, name: str) -> CocoIndex | None:
    try:
        if os.path.getsize(path) < LARGE or not os.path.isfile(path) or not hasattr(os, "pread"):
            return None
    except OSError:
        return None  # whoever reads it says why
    places = _places(path)
    for place in places:
        if (index := _open(path, place, says=False)) is not None:
            return index
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with locked(place, f"makes the index of {name}"):
                index = _open(path, place) or _renew(path, place, name)
                return index or _make(path, place, name)
        except OSError as error:  # not writable
            problem: Exception = error
        except WriteError as error:
            problem = error
    print_log(f"no index of {name} is kept, and all of it is read: {problem}", "current", 30)
    return None


def _places(path: str | Path) -> list[Path]:
    """Where the index of a file may be, the best first."""
    real = Path(os.path.realpath(path))
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    own = f"{real.stem[:100]}-{digest}.index"
    if chosen := os.environ.get(FOLDER):
        return [Path(chosen, own)]
    places = [real.with_name(f"{real.name}.index")]
    with suppress(RuntimeError):  # there is no home directory
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        places.append(Path(cache, "mmbeit3", own))
    return places


def _open(path: str | Path, file: Path, says: bool = True) -> CocoIndex | None:
    """The index in a file; None if there is none, or none of the annotation file as it is."""
    try:
        index = CocoIndex(path, file)
    except FileNotFoundError:
        return None
    except _UNUSABLE as error:
        if says:
            say(f"the index {file} cannot be used ({error}): it is made anew")
        return None
    return index if index.stamp == Stamp.of(path) else None


def _renew(path: str | Path, file: Path, name: str) -> CocoIndex | None:
    """Keep the index of a file that has another time and the same content."""
    try:
        index = CocoIndex(path, file)
    except _UNUSABLE:
        return None
    stamp = Stamp.of(path)
    if index.stamp.size != stamp.size:
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != index.about["sha256"]:
        return None
    _write(path, file, index.about | {"time": stamp.time}, index._arrays)
    return CocoIndex(path, file)


def _make(path: str | Path, file: Path, name: str) -> CocoIndex | None:
    """Read an annotation file and write its index; None of a file in another encoding."""
    stamp = Stamp.of(path)
    with no_garbage_collection():
        scan = _Scan(path, name)
        if scan.is_other_encoding:
            return None
        if scan.must_repeat:
            scan = _Scan(path, name, scan.images, scan.names)
        if scan.report.num_errors:
            scan.report.warnings = scan.report.warnings[:MAX_EXAMPLES]
            raise_on_errors(scan.report, name)
        about, arrays = scan.finish()
    if Stamp.of(path) != stamp:
        raise InputError(f"{name} has changed while it was read; start again when it is complete")
    _write(path, file, about | {"size": stamp.size, "time": stamp.time}, arrays)
    return CocoIndex(path, file)


class _All(Collection):
    """Stands for categories that are not known yet."""

    def __contains__(self, item: object) -> bool:
        return True

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Scan:
    """One reading of an annotation file.

    Args:
        path: The file.
        name: What to call it in messages.
        known: The images, where they stand behind the annotations, from the reading before.
        names: The categories by id, as far as known. Defaults to None: they are taken for right
            until they are known, as most files have them at their end.

    Attributes:
        must_repeat (bool): Whether images or categories were missed: read again with these.
        is_other_encoding (bool): Whether the file is not in UTF-8.
    """

    def __init__(
        self,
        path: str | Path,
        name: str,
        known: ImageCheck | None = None,
        names: dict[int, str] | None = None,
    ) -> None:
        self.path, self.name = path, name
        self.is_first, self.is_other_encoding = known is None, False
        self.report = Report(max_examples=MAX_WARNINGS)
        self.digest = hashlib.sha256()
        self.images = ImageCheck(Report(max_examples=MAX_WARNINGS))
        self.rows: dict[int, int] = (
            {number: row for row, number in enumerate(known.sizes)} if known else {}
        )
        self.check = AnnotationCheck(
            known.sizes if known else self.images.sizes,
            _All() if names is None else names,
            self.report,
        )
        self.names = names
        self.categories: list[dict] = []
        self.values: dict[str, Any] = {}  # of the lists, one entry if they have any
        self.image_starts, self.image_lengths = array("q"), array("I")
        self.file_names, self.name_ends = bytearray(), array("q")
        self.starts, self.lengths = array("q"), array("I")
        self.image_rows, self.kinds, self.flags = array("i"), array("i"), bytearray()
        self.kind_of: dict[int, int] = {}
        self.tiny: Any = None
        self.must_repeat = False
        self._read()

    def _read(self) -> None:
        columns = (*Progress.get_default_columns()[:-1], DownloadColumn(), TimeRemainingColumn())
        with open(self.path, "rb") as stream, Progress(*columns) as progress:
            total = os.path.getsize(self.path)
            task = progress.add_task(f"making the index of {Path(self.name).name}", total=total)
            watched: Any = _Watched(stream, self.digest, lambda step: progress.advance(task, step))
            if stream.read(1) == b"[":  # a list of results, perhaps
                raise_on_errors(check_coco([]), self.name)
            stream.seek(0)
            for key, entry, place in stream_places(watched, self.name):
                if key not in ("images", "annotations", "categories") or entry is EMPTY:
                    if place is None:
                        self.values[key] = [] if entry is EMPTY else entry
                    continue
                if place is None:
                    self.is_other_encoding = isinstance(entry, dict)
                    self.values[key] = entry
                    if self.is_other_encoding:
                        return
                    continue
                self.values[key] = [None]
                if key == "annotations":
                    self._add_annotation(entry, place)
                elif key == "images":
                    self._add_image(entry, place)
                else:
                    self.categories.append(entry)
        self._conclude()

    def _add_image(self, image: Any, place: tuple[int, int]) -> None:
        row = len(self.images.sizes)
        if not self.images.add(image):
            return
        self.rows[image["id"]] = row
        self.image_starts.append(place[0])
        self.image_lengths.append(place[1] - place[0])
        self.file_names += image["file_name"].encode()
        self.name_ends.append(len(self.file_names))

    def _add_annotation(self, annotation: Any, place: tuple[int, int]) -> None:
        if self.is_first and not self.rows:  # the images stand behind
            self.must_repeat = True
            return
        if not self.check.add(annotation):
            return
        number = annotation["image_id"]
        self.image_rows.append(self.rows[number])
        self.starts.append(place[0])
        self.lengths.append(place[1] - place[0])
        self.kinds.append(self.kind_of.setdefault(annotation["category_id"], len(self.kind_of)))
        self.flags.append(flags_of(annotation, *self.check.sizes[number]))
        if self.tiny is None:
            self.tiny = annotation["bbox"]

    def _conclude(self) -> None:
        report = Report(max_examples=MAX_WARNINGS)
        check_lists(self.values, False, report)
        if report.num_errors:
            report = Report(max_examples=MAX_WARNINGS)
            check_lists(self.values, True, report)
            self.report, self.must_repeat = report, False
            return
        names = check_categories(self.categories, report)
        if self.is_first and self.names is None:
            # With errors, too: those of categories come among them.
            is_unknown = not names.keys() >= self.kind_of.keys()
            has_errors = any(part.num_errors for part in (self.images.report, report, self.report))
            self.must_repeat |= is_unknown or has_errors
        self.names = names
        self.check.finish()
        parts = self.images.report, report, self.report  # in the order of a file that is read whole
        self.report = Report(
            [text for part in parts for text in part.errors],
            [text for part in parts for text in part.warnings][:MAX_WARNINGS],
            sum(part.num_errors for part in parts),
            sum(part.num_warnings for part in parts),
            MAX_WARNINGS,
        )

    def finish(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What the index holds; the file has no errors."""
        rows = np.frombuffer(self.image_rows, np.int32)
        starts, lengths = (
            np.frombuffer(self.starts, np.int64),
            np.frombuffer(self.lengths, np.uint32),
        )
        sizes = self.images.sizes
        about: dict[str, Any] = {
            "categories": self.categories,
            "info": self.values.get("info"),
            "has_annotations": "annotations" in self.values,
            "warnings": self.report.warnings,
            "num_warnings": self.report.num_warnings,
            "num_tiny": self.check.num_tiny,
            "tiny": self.tiny if self.check.num_tiny == len(rows) else None,
            "doubts": [list(doubt) for doubt in self._find_doubts(rows, starts, lengths)],
            "sha256": self.digest.hexdigest(),
        }
        index_of = {category["id"]: index for index, category in enumerate(self.categories)}
        order = np.argsort(rows, kind="stable")
        kinds = np.array([index_of[number] for number in self.kind_of], np.int32)
        arrays: dict[str, np.ndarray] = {
            "ids": np.fromiter(sizes, np.int64, len(sizes)),
            "sizes": np.array(list(sizes.values()), np.int32),
            "ends": np.cumsum(np.bincount(rows, minlength=len(sizes)), dtype=np.int64),
            "kinds": kinds[np.frombuffer(self.kinds, np.int32)[order]],
            "flags": np.frombuffer(self.flags, np.uint8)[order],
            "starts": starts[order],
            "lengths": lengths[order],
            "image_starts": np.frombuffer(self.image_starts, np.int64),
            "image_lengths": np.frombuffer(self.image_lengths, np.uint32),
            "names": np.frombuffer(self.file_names, np.uint8),
            "name_ends": np.frombuffer(self.name_ends, np.int64),
        }
        return about, arrays

    def _find_doubts(
        self, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray
    ) -> list[Doubt]:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            chosen = choose(rows)
            places = zip(starts[chosen].tolist(), lengths[chosen].tolist(), strict=True)
            annotations = [read_entry(descriptor, *place) for place in places]
        finally:
            os.close(descriptor)
        return find_doubts(annotations, self.images.sizes)


class _Watched:
    """A file that is read forwards, while a digest and a progress bar follow."""

    def __init__(self, file: BinaryIO, digest: Any, advance: Any) -> None:
        self.file, self.digest, self.advance = file, digest, advance

    def read(self, size: int) -> bytes:
        content = self.file.read(size)
        self.digest.update(content)
        self.advance(len(content))
        return content


def _write(
    path: str | Path, file: Path, about: dict[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write an index, whole and on the disk or not at all."""
    sums = {name: zlib.crc32(np.ascontiguousarray(values).data) for name, values in arrays.items()}
    text = json.dumps(about | {"sums": sums})
    meta = {"format": FORMAT, "about": text, "sum": hashlib.sha256(text.encode()).hexdigest()}
    with partial_of(file) as partial:
        save_file(
            {name: np.ascontiguousarray(each) for name, each in arrays.items()}, partial, meta
        )
        partial.chmod(os.stat(path).st_mode & 0o666 | 0o600)  # for whoever reads the annotations
        put_durably(partial, file)


def _map(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Map an index into memory; what it says of its file, and its arrays."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError("it is no index")
        header = json.loads(stream.read(length))
    meta = header.pop("__metadata__")
    if meta["format"] != FORMAT:
        raise ValueError(f"its format is {meta['format']!r}, expected {FORMAT!r}")
    if hashlib.sha256(meta["about"].encode()).hexdigest() != meta["sum"]:
        raise ValueError("it is damaged")
    about, arrays = json.loads(meta["about"]), {}
    content = np.memmap(file, np.uint8, "r")
    for name, entry in header.items():
        start, end = (8 + length + place for place in entry["data_offsets"])
        part = content[start:end]
        if zlib.crc32(part.data) != about["sums"][name]:
            raise ValueError(f"its {name} are damaged")
        arrays[name] = part.view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    if arrays.keys() != about["sums"].keys():
        raise ValueError("it is not complete")
    return about, arrays
