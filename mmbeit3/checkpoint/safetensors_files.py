"""The safetensors format: a JSON header, then the bytes of the tensors.

The format has no checksum. Files written here have one in their metadata: the CRC-32 of the header
without it, and of the tensors.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mmbeit3.checkpoint.torch_files import WrongChecksum, map_file, storage_of

METADATA = "__metadata__"
CRC_KEY = "mmbeit3_crc32"
ALIGNMENT = 8
DENSE = {"memory_format": torch.contiguous_format}
MAX_HEADER = 100_000_000  # bytes, as in the safetensors library
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
Entries = dict[str, tuple[torch.dtype, list[int], list[int]]]


class SafetensorsFile:
    """A safetensors file whose header was read and checked.

    Args:
        path: The file.

    Attributes:
        metadata (dict[str, str]): What it holds beside the tensors.

    Raises:
        ValueError: It is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.mapped = map_file(path)
        length = int.from_bytes(self.mapped[:8], "little")
        self.begin = 8 + length
        if length > MAX_HEADER or self.begin > len(self.mapped):
            raise ValueError(f"a header of {length:,} bytes in a file of {len(self.mapped):,}")
        try:
            self.header = json.loads(
                self.mapped[8 : self.begin].decode("utf-8"), object_pairs_hook=_without_doubles
            )
        except RecursionError as error:
            raise ValueError("its header is nested too deeply") from error
        if not isinstance(self.header, dict):
            raise ValueError("its header is no JSON object")
        self.metadata = self.header.pop(METADATA, {})
        is_dict = isinstance(self.metadata, dict)
        if not is_dict or not all(isinstance(value, str) for value in self.metadata.values()):
            raise ValueError("its metadata holds something else than text")
        self.entries = _checked_entries(self.header, len(self.mapped) - self.begin)

    def check(self) -> None:
        """Compare header and tensors with the checksum, if there is one.

        Raises:
            WrongChecksum: They differ.
        """
        expected = self.metadata.get(CRC_KEY)
        if expected is None:
            return
        rest = {key: value for key, value in self.metadata.items() if key != CRC_KEY}
        crc = _header_crc(self.header, rest)
        crc = zlib.crc32(memoryview(self.mapped)[self.begin :], crc)
        if f"{crc:08x}" != expected:
            raise WrongChecksum("its weights fail their checksum")

    def weights(self) -> dict[str, Tensor]:
        """Give the tensors; their bytes stay in the file until they are used."""
        return {name: self._tensor(*entry) for name, entry in self.entries.items()}

    def _tensor(self, dtype: torch.dtype, shape: list[int], place: list[int]) -> Tensor:
        start, end = place
        storage = storage_of(self.mapped, self.begin + start, end - start)
        return torch.empty(0, dtype=dtype).set_(storage).reshape(shape)


def write_safetensors(file: BinaryIO, weights: Mapping[str, Tensor], meta: dict[str, str]) -> None:
    """Write a safetensors file with a checksum; the same content gives the same bytes.

    Args:
        file: Where to write.
        weights: Names to tensors, of any strides, views and shared ones too.
        meta: What to keep beside them.

    Raises:
        ValueError: A tensor is of a type that the format does not have.
    """
    header, end = {}, 0
    # Wide types first, as the library has it: all are aligned.
    names = sorted(weights, key=lambda name: (-weights[name].dtype.itemsize, name))
    for name in names:
        value = weights[name]
        if value.dtype not in NAMES:
            raise ValueError(f"safetensors has no place for {name} of type {value.dtype}")
        start, end = end, end + value.numel() * value.dtype.itemsize
        shape = list(value.shape)
        header[name] = {"dtype": NAMES[value.dtype], "shape": shape, "data_offsets": [start, end]}
    crc = _header_crc(header, meta)
    for name in names:
        crc = zlib.crc32(_bytes(weights[name]), crc)
    text = _dump({METADATA: meta | {CRC_KEY: f"{crc:08x}"}, **header}, sort_keys=False)
    text += b" " * (-len(text) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        file.write(_bytes(weights[name]))


def _bytes(value: Tensor) -> memoryview:
    # A zero-dimensional tensor cannot be seen as bytes, nor one whose only entry has a stride.
    flat = value.detach().cpu().reshape(-1)
    flat = flat if flat.stride(0) == 1 else torch.empty_like(flat, **DENSE).copy_(flat)
    return memoryview(flat.view(torch.uint8).numpy())


def _header_crc(header: Mapping[str, Any], meta: Mapping[str, str]) -> int:
    return zlib.crc32(_dump({METADATA: meta, **header}, sort_keys=True))


def _dump(content: Mapping[str, Any], sort_keys: bool) -> bytes:
    return json.dumps(content, sort_keys=sort_keys, separators=(",", ":")).encode()


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"its header has the key {double!r} twice")
    return content


def _checked_entries(header: Mapping[str, Any], size: int) -> Entries:
    """Read types, shapes and places; together the places must be all of the ``size`` bytes."""
    entries: Entries = {}
    for name, entry in header.items():
        dtype, shape, place = (entry[key] for key in ("dtype", "shape", "data_offsets"))
        if dtype not in DTYPES:
            raise ValueError(f"{name} is of the unknown type {dtype!r:.40}")
        if not all(type(side) is int and side >= 0 for side in [*shape, *place]):
            raise ValueError(f"{name} has the shape {shape} at the places {place}")
        start, end = place
        if math.prod(shape) * DTYPES[dtype].itemsize != end - start or len(shape) > 64:
            raise ValueError(f"{name} of shape {shape} and type {dtype} has {end - start:,} bytes")
        entries[name] = DTYPES[dtype], shape, place
    places = sorted(place for _, _, place in entries.values())
    for (_, before), (start, _) in pairwise([[0, 0], *places, [size, size]]):
        if before != start:
            raise ValueError(f"its tensors end at {before:,} where {start:,} of {size:,} are named")
    return entries
