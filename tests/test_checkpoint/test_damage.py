from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from mmbeit3.checkpoint import read_checkpoint, save_checkpoint
from mmbeit3.checkpoint.torch_files import MAGIC_NUMBER
from mmbeit3.utils import InputError
from tests.test_checkpoint.mutations import (
    FORMATS,
    WITH_CHECKSUM,
    mutated,
    original,
    outcome,
    weights,
)

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "adversary"


def count(kind: str, number: int, folder: Path) -> Counter[str]:
    content, expected = original(kind, folder), weights()
    suffix = ".safetensors" if kind == "safetensors" else ".pth"
    found: Counter[str] = Counter()
    for seed in range(number):
        data = mutated(content, seed)
        found[
            "unchanged" if data == content else outcome(data, folder / f"f{suffix}", expected)
        ] += 1
    return found


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("number", [120, pytest.param(1000, marks=pytest.mark.slow)])
def test_damage_is_refused_or_harmless(kind: str, number: int, tmp_path: Path) -> None:
    found = count(kind, number, tmp_path)
    print(f"{kind}: {dict(found)}")
    assert set(found) <= {"refused", "same", "other", "unchanged"}
    assert found["refused"] > number / 2
    if kind in WITH_CHECKSUM:
        assert not found["other"]


@pytest.mark.parametrize("kind", WITH_CHECKSUM)
def test_each_bit_of_the_weights_counts(kind: str, tmp_path: Path) -> None:
    content = bytearray(original(kind, tmp_path))
    data = weights()["backbone.layers.0.weight"].numpy().tobytes()
    begin = bytes(content).index(data)
    for place in range(begin, begin + len(data), 37):
        content[place] ^= 1 << (place % 8)
        (tmp_path / "f.pth").write_bytes(content)
        with pytest.raises(InputError, match=r"f.pth is damaged \(its .* checksum\)"):
            read_checkpoint(tmp_path / "f.pth")
        content[place] ^= 1 << (place % 8)


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    file = tmp_path / "f.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(weights(), file)
    finally:
        torch.serialization.set_crc32_options(True)
    assert outcome(file.read_bytes(), file, weights()) == "same"


@pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are not at {CASES}")
def test_cases_that_ended_in_tracebacks_are_named() -> None:
    for file in sorted(CASES.glob("*.pth")):
        with pytest.raises(InputError, match=f"{file.name} is incomplete or damaged"):
            read_checkpoint(file)


class Call:
    """Is pickled as a call of a function with arguments."""

    def __init__(self, name: str, *arguments: object) -> None:
        self.name, self.arguments = name, arguments


class Pickler(pickle._Pickler):
    """Writes calls of functions by their names, and storages of a file by their keys."""

    def save(self, value: object, *args: object, **kwargs: object) -> None:
        if not isinstance(value, Call):
            super().save(value, *args, **kwargs)
            return
        module, _, name = value.name.rpartition(".")
        self.write(b"c" + f"{module}\n{name}\n".encode())
        if value.arguments:
            super().save(value.arguments)
            self.write(b"Q" if name == "Q" else b"R")

    def persistent_id(self, value: object) -> object:
        return (
            ("storage", Call("torch.FloatStorage"), value.key, "cpu", value.numel)
            if isinstance(value, Stored)
            else None
        )


class Stored:
    """A storage of float32 in the file."""

    def __init__(self, numel: int, key: str = "0") -> None:
        self.numel, self.key = numel, key


def dumped(content: object) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(content)
    return buffer.getvalue()


def archive(content: bytes, data: bytes = b"", *more: str, method: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("a/data.pkl", content)
        file.writestr("a/data/0", data)
        for name in more:
            file.writestr(name, b"")
    return buffer.getvalue()


def tensor(size: tuple, stride: tuple, numel: int = 4, offset: int = 0) -> bytes:
    rebuilt = Call(
        "torch._utils._rebuild_tensor_v2", Stored(numel), offset, size, stride, False, None
    )
    return dumped({"state_dict": {"w": rebuilt}})


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def doubled(depth: int) -> list:
    """Unfolds to 2 ** depth lists."""
    value: list = []
    for _ in range(depth):
        value = [value, value]
    return value


def itself() -> list:
    value: list = []
    value.append(value)
    return value


HUGE = 1 << 40
FLOATS = bytes(16)
SIZES = {
    "array": dumped(
        {"a": Call("numpy.core.multiarray._reconstruct", Call("numpy.ndarray"), (HUGE,), b"b")}
    ),
    "bytearray": dumped({"a": Call("builtins.bytearray", HUGE)}),
    "tensor_by_size": dumped({"a": Call("torch.FloatTensor", HUGE)}),
}
ODD = {
    "a tensor beyond its storage": (archive(tensor((5,), (1,)), FLOATS), "needs 20 bytes of 16"),
    "an offset beyond it": (archive(tensor((2,), (1,), offset=3), FLOATS), "needs 20 bytes of 16"),
    "strides beyond it": (archive(tensor((2, 2), (3, 1)), FLOATS), "needs 20 bytes of 16"),
    "one number a million times": (archive(tensor((1000, 1000), (0, 0)), FLOATS), "of 16"),
    "a negative size": (archive(tensor((-1,), (1,)), FLOATS), "has a size of -1"),
    "a huge size": (archive(tensor((HUGE, HUGE), (1, 1)), FLOATS), "of 16"),
    "a storage of another size": (archive(tensor((4,), (1,), numel=5), FLOATS), "instead of 20"),
    "no storage": (
        archive(tensor((4,), (1,)))[:0] + archive(dumped({"w": Stored(4, "9")})),
        "damaged",
    ),
    "a huge array": (archive(SIZES["array"]), "damaged"),
    "huge bytes": (archive(SIZES["bytearray"]), "damaged"),
    "a huge tensor": (archive(SIZES["tensor_by_size"]), "wants to build 'torch.FloatTensor'"),
    "deep nesting": (archive(dumped({"a": nested(150)})), "nests .* levels"),
    "nesting that unfolds": (
        archive(dumped({"a": doubled(60)})),
        "nests 24 levels with 16,777,215 entries",
    ),
    "a list in itself": (archive(dumped({"a": itself()})), "inside itself"),
    "a key twice": (archive(b"\x80\x02}(U\x01aK\x01U\x01aK\x02u."), "has the key 'a' twice"),
    "a compressed part": (archive(dumped({}), FLOATS, method=8), "is compressed"),
    "an entry twice": (archive(dumped({}), FLOATS, "a/data/0"), "two entries data/0"),
    "a second folder": (archive(dumped({}), FLOATS, "b/x"), "b/x is not in the folder"),
    "names that are numbers": (
        archive(dumped({"state_dict": {7: Call("torch.Size", (1,))}})),
        "no weights",
    ),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ODD)
def test_odd_archives_are_named(kind: str, tmp_path: Path) -> None:
    data, message = ODD[kind]
    file = tmp_path / "odd.pth"
    file.write_bytes(data)
    with pytest.raises(InputError, match=message):
        from mmbeit3.checkpoint import state_dict_of

        state_dict_of(read_checkpoint(file))


def test_names_of_weights_are_text(tmp_path: Path) -> None:
    from mmbeit3.checkpoint import load_weights

    torch.save({"state_dict": {7: torch.ones(1)}}, tmp_path / "f.pth")
    with pytest.raises(InputError, match="weights whose names are no text: 7"):
        load_weights(torch.nn.Linear(1, 1), tmp_path / "f.pth")


def test_legacy_sizes_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    identity = Call("torch._utils._rebuild_tensor_v2", Stored(HUGE), 0, (HUGE,), (1,), False, None)
    parts = [dumped(MAGIC_NUMBER), dumped(1001), dumped({"little_endian": True})]
    data = b"".join([*parts, dumped({"w": identity}), dumped(["0"]), struct.pack("<q", HUGE)])
    (tmp_path / "f.pth").write_bytes(data)
    with pytest.raises(InputError, match=f"its storage 0 has {4 * HUGE:,} bytes, the file"):
        read_checkpoint(tmp_path / "f.pth")


def safetensors(header: str, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header.encode() + data


ENTRY = '"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (safetensors("{" + ENTRY + "," + ENTRY + "}", bytes(8)), "has the key 'w' twice"),
        (safetensors("{" + ENTRY + "}", bytes(9)), "end at 8 where 9"),
        (safetensors("{" + ENTRY.replace("[2]", "[3]") + "}", bytes(8)), "has 8 bytes"),
        (safetensors("{" + ENTRY.replace("[2]", "[-2]") + "}", bytes(8)), r"the shape \[-2\]"),
        (safetensors("{" + ENTRY.replace("F32", "F31") + "}", bytes(8)), "unknown type 'F31'"),
        (safetensors('{"w":' + "[" * 100_000 + "]" * 100_000 + "}"), "damaged safetensors"),
        (safetensors('{"w":{}}'), "damaged safetensors"),
        (safetensors('{"__metadata__":{"a":1}}'), "something else than text"),
    ],
)
def test_odd_safetensors_files_are_named(data: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.safetensors"
    file.write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_checkpoint(file)


def test_the_checksum_of_safetensors_covers_names_and_shapes(tmp_path: Path) -> None:
    file = save_checkpoint({"state_dict": {"a": torch.ones(2, 3)}}, tmp_path / "w.safetensors")
    content = file.read_bytes()
    for old, new in ((b'"a"', b'"b"'), (b"[2,3]", b"[3,2]"), (b'"F32"', b'"I32"')):
        file.write_bytes(content.replace(old, new))
        with pytest.raises(InputError, match="is damaged .its weights fail their checksum"):
            read_checkpoint(file)
