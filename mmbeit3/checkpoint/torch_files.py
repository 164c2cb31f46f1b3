"""The two formats of ``torch.save``: a zip archive with checksums, and before 1.6 a row of pickles.

Both are mapped into memory: what is not used is not read, beyond its checksum.
"""

from __future__ import annotations

import io
import mmap
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mmbeit3.checkpoint.plain_pickle import UnsupportedContent, read_pickle

LOCAL_HEADER = 30  # bytes, before the name
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
ALIGNMENT = 8


class WrongChecksum(ValueError):
    """The file is not as it was written."""


class NoTorchFile(ValueError):
    """The file is no archive, or no row of pickles, of ``torch.save``."""


class Record(NamedTuple):
    """Where an entry of the archive lies in the file, and the CRC-32 of its content."""

    start: int
    size: int
    crc: int


class Archive:
    """A zip archive of ``torch.save``, opened; its content is not read yet.

    Args:
        path: The file.

    Attributes:
        records: Names inside the archive's folder to places.

    Raises:
        NoTorchFile: It is another archive.
        Exception: Of any other type: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.mapped = map_file(path)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        self.records: dict[str, Record] = {}
        folders = {e.filename.partition("/")[0] for e in entries if _inner(e) == "data.pkl"}
        if not folders or any(_inner(entry) == "constants.pkl" for entry in entries):
            raise NoTorchFile
        for entry in entries:
            if entry.filename.partition("/")[0] not in folders:
                raise ValueError(f"its {entry.filename} is not in the folder of its data.pkl")
            if _inner(entry) in self.records:
                raise ValueError(f"it has two entries {_inner(entry)}")
            self.records[_inner(entry)] = self._place(entry)
        self._check_places()
        if self.records.get("byteorder") and self.read("byteorder") != b"little":
            raise UnsupportedContent("it is of a big-endian machine")

    def check(self) -> None:
        """Compare every entry with its checksum.

        Raises:
            WrongChecksum: One differs.
        """
        # torch.serialization.set_crc32_options(False) writes zeros.
        if not any(record.crc for record in self.records.values()):
            return
        for name, record in self.records.items():
            content = memoryview(self.mapped)[record.start : record.start + record.size]
            if zlib.crc32(content) != record.crc:
                raise WrongChecksum(f"its part {name} fails its checksum")

    def content(self) -> Any:
        """Read the pickle; tensors stay in the file until they are used."""
        storages: dict[str, torch.UntypedStorage] = {}

        def find(key: str, size: int) -> torch.UntypedStorage:
            record = self.records[f"data/{key}"]
            if record.size != size:
                raise ValueError(f"its data/{key} has {record.size:,} bytes instead of {size:,}")
            if key not in storages:
                storages[key] = storage_of(self.mapped, record.start, size)
            return storages[key]

        return read_pickle(io.BytesIO(self.read("data.pkl")), find)

    def read(self, name: str) -> bytes:
        """Give one entry."""
        start, size, _ = self.records[name]
        return self.mapped[start : start + size]

    def _place(self, entry: zipfile.ZipInfo) -> Record:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise UnsupportedContent(
                f"its {entry.filename} is compressed, which torch.save never does; unpack the "
                "archive and pack it without compression (zip -0)"
            )
        header = self.mapped[entry.header_offset : entry.header_offset + LOCAL_HEADER]
        named, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        begin = entry.header_offset + LOCAL_HEADER
        name = self.mapped[begin : begin + named]
        encoding = "utf-8" if entry.flag_bits & 0x800 else "cp437"
        if header[:4] != b"PK\x03\x04" or name != entry.orig_filename.encode(encoding):
            raise ValueError(f"its {entry.filename} is not where its list says")
        return Record(begin + named + extra, entry.file_size, entry.CRC)

    def _check_places(self) -> None:
        end = 0
        for start, size, _ in sorted(self.records.values()):
            if start < end or start + size > len(self.mapped):
                raise ValueError("its parts overlap, or reach beyond its end")
            end = start + size


def read_legacy(path: Path) -> Any:
    """Read a file of ``torch.save`` before PyTorch 1.6. The format has no checksum.

    Raises:
        NoTorchFile: It is another pickle.
        Exception: Of any other type: it is damaged.
    """
    file = map_file(path)
    if read_pickle(file) != MAGIC_NUMBER:
        raise NoTorchFile
    if read_pickle(file) != PROTOCOL_VERSION:
        raise ValueError("it is of an unknown version")
    if read_pickle(file).get("little_endian") is not True:
        raise UnsupportedContent("it is of a big-endian machine")
    # The bytes come after the pickle that needs them: it is read twice, first for their sizes.
    begin = file.tell()
    sizes: dict[str, int] = {}

    def note(key: str, size: int) -> torch.UntypedStorage:
        if sizes.setdefault(key, size) != size or size > len(file):
            raise ValueError(f"its storage {key} has {size:,} bytes, the file {len(file):,}")
        return torch.UntypedStorage(size, device="meta")

    read_pickle(file, note)
    keys = [str(key) for key in read_pickle(file)]
    if set(keys) != set(sizes) or len(keys) != len(sizes):
        raise ValueError("its list of storages is not that of its tensors")
    storages = {}
    for key in keys:
        start = file.tell() + 8  # after the number of elements
        numel, size = int.from_bytes(file.read(8), "little"), sizes[key]
        if start + size > len(file) or (numel == 0) != (size == 0) or (numel and size % numel):
            raise ValueError(f"its storage {key} is cut off, or has not {size:,} bytes")
        storages[key] = storage_of(file, start, size)
        file.seek(start + size)
    if file.tell() != len(file):
        raise ValueError(f"{len(file) - file.tell():,} bytes come after its end")
    file.seek(begin)
    return read_pickle(file, lambda key, size: storages[key])


def map_file(path: Path) -> mmap.mmap:
    """Map a file into memory; what is written there stays in this process."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def storage_of(mapped: mmap.mmap, start: int, size: int) -> torch.UntypedStorage:
    """Give bytes of a mapped file to tensors, without a copy where their place allows it."""
    if size == 0:
        return torch.UntypedStorage(0)
    data = torch.frombuffer(mapped, dtype=torch.uint8, count=size, offset=start)
    return (data if start % ALIGNMENT == 0 else data.clone()).untyped_storage()


def _inner(entry: zipfile.ZipInfo) -> str:
    return entry.filename.partition("/")[2]
