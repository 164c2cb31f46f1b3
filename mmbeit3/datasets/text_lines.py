"""Texts alone: the lines of text files, one by one or packed."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from os import path as osp
from typing import Any

from mmengine.dataset import Compose
from torch.utils.data import Dataset

from mmbeit3.datasets.checks.captions import text_problem
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.similar_paths import describe_similar
from mmbeit3.utils.text_files import HEAD, find_encoding

LEAST = 16  # bytes of a packed item
MARK = b"\xef\xbb\xbf"  # of UTF-8, at the beginning of a file


@DATASETS.register_module()
class TextLinesDataset(Dataset):
    """Text files in UTF-8, of which a line is an item, or of ``pack`` bytes as many as fit.

    Files may be larger than memory: of each item only the place is kept, 16 bytes, and it is read
    when it is asked for. An item has the keys ``texts``, one text, and ``text_ids``, its number.

    Args:
        files (str | Sequence[str]): The files, on ``data_root``.
        data_root (str, optional): Where relative paths start. Defaults to None.
        pack (int, optional): Join lines that follow each other in a file, and part longer ones
            between words, so that an item has at most so many bytes. A token of the official
            vocabulary is three to five bytes of English. Defaults to None, line by line; what is
            longer than the tokenizer's ``max_length`` is cut.
        pipeline (Sequence[dict]): Transforms. Defaults to none.

    Raises:
        InputError: A file is absent, no text in UTF-8, or has none at all.
    """

    def __init__(
        self,
        files: str | Sequence[str],
        data_root: str | None = None,
        pack: int | None = None,
        pipeline: Sequence[Any] = (),
    ) -> None:
        if pack is not None and pack < LEAST:
            raise InputError(
                f"pack is {pack}; expected {LEAST} bytes or more, such as 256, or None"
            )
        names = [files] if isinstance(files, str) else list(files)
        if not names:
            raise InputError("files is empty; expected text files")
        self.files = [osp.join(data_root or "", name) for name in names]
        self.pack = pack
        self.pipeline = Compose(list(pipeline))
        self.metainfo: dict[str, Any] = {}
        # Of each item: its file, where it begins, and where it ends.
        self._file, self._start, self._end = array("i"), array("q"), array("q")
        for number, file in enumerate(self.files):
            before = len(self._file)
            for start, end in self._parts(file):
                self._file.append(number)
                self._start.append(start)
                self._end.append(end)
            if len(self._file) == before:
                raise InputError(f"{file} has no text; expected a line at least: leave it out")

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, index: int) -> Any:
        """Read an item, and send it through the pipeline."""
        with open(self.files[self._file[index]], "rb") as file:
            file.seek(self._start[index])
            text = file.read(self._end[index] - self._start[index]).decode()
        item = {"texts": [" ".join(text.split())], "text_ids": [index], "sample_idx": index}
        return self.pipeline(item)

    def _parts(self, file: str) -> Iterator[tuple[int, int]]:
        """Where the items of a file begin and end, in bytes."""
        if self.pack is None:
            yield from _lines(file)
            return
        item: tuple[int, int] | None = None
        for start, end in _pieces(file, self.pack):
            if item is not None and end - item[0] > self.pack:
                yield item
                item = None
            item = (start if item is None else item[0]), end
        if item is not None:
            yield item


def _pieces(file: str, size: int) -> Iterator[tuple[int, int]]:
    """Lines, those of more bytes than ``size`` parted between words."""
    with open(file, "rb") as content:
        for start, end in _lines(file):
            while end - start > size:
                content.seek(start)
                part = content.read(size)
                space = max(part.rfind(b" "), part.rfind(b"\t"))
                # A letter that the part cuts begins the next.
                length = space if space > 0 else len(part.decode(errors="ignore").encode())
                if part[:length].strip():
                    yield start, start + length
                start += length + (space > 0)
            if end > start:
                yield start, end


def _lines(path: str) -> Iterator[tuple[int, int]]:
    """Where the lines of a file with something in them begin and end."""
    try:
        check_regular(path, "the text file")
        with open(path, "rb") as file:
            _check_encoding(path, file.read(HEAD))
            file.seek(0)
            position = 0
            for number, line in enumerate(file, 1):
                start, position = position, position + len(line)
                if number == 1 and line.startswith(MARK):
                    start, line = start + len(MARK), line[len(MARK) :]
                text = _decoded(path, number, line)
                if any(sign.isprintable() and sign != " " for sign in text):
                    if problem := text_problem(text, "the text"):
                        raise InputError(f"{path}, line {number}: {problem}")
                    yield start, position
    except OSError as error:
        raise InputError(
            f"the text file {path} cannot be read: {error.strerror}{describe_similar(path)}"
        ) from error


def _check_encoding(path: str, head: bytes) -> None:
    encoding = find_encoding(head)
    if not encoding.startswith("utf-8"):
        name = encoding.upper()
        raise InputError(f"{path} is a text in {name}; expected UTF-8: save it so")


def _decoded(path: str, number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}, line {number} is no text in UTF-8: {error.reason} at byte {error.start} of "
            "the line. Save the file in UTF-8"
        ) from None
