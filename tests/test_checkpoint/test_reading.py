from __future__ import annotations

import io
import os
import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from mmbeit3.checkpoint import read_checkpoint, state_dict_of
from mmbeit3.checkpoint.reading import META_KEY
from mmbeit3.utils import InputError

WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.zeros(2)}
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def torch_bytes(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def assert_same_weights(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name])


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch_are_read(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": WEIGHTS}, file, _use_new_zipfile_serialization=zipped)
    assert_same_weights(read_checkpoint(file)["state_dict"], WEIGHTS)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_safetensors_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    save_file(WEIGHTS, tmp_path / name, metadata={"format": "pt"})
    checkpoint = read_checkpoint(tmp_path / name)
    assert checkpoint["meta"] == {"format": "pt"}
    assert_same_weights(checkpoint["state_dict"], WEIGHTS)


def test_what_frameworks_store_beside_tensors_is_read(tmp_path: Path) -> None:
    content = {
        "state_dict": WEIGHTS,
        "history": HistoryBuffer([1.0, 3.0], [1, 1]),
        "float": np.float32(2.5),
        "int": np.int64(3),
        "bytes": np.arange(3, dtype=np.uint8),
        "names": np.array(["a", "bc"]),
        "args": Namespace(lr=0.1),
    }
    torch.save(content, tmp_path / "mm.pth")
    found = read_checkpoint(tmp_path / "mm.pth")
    assert found["history"].mean() == 2.0 and found["history"].statistics("max", 2) == 3.0
    assert found["float"] == 2.5 and found["int"] == 3
    assert found["bytes"].tolist() == [0, 1, 2] and found["names"].tolist() == ["a", "bc"]
    assert found["args"].lr == 0.1


@pytest.mark.parametrize("core", [b"numpy.core.", b"numpy._core."])
def test_files_of_both_numpy_generations_are_read(tmp_path: Path, core: bytes) -> None:
    saved, renamed = tmp_path / "saved.pth", tmp_path / "renamed.pth"
    torch.save({"value": np.float64(1.5), "array": np.ones(2)}, saved)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(renamed, "w") as target:
        for name in source.namelist():
            data = source.read(name).replace(b"numpy._core.", b"numpy.core.")
            target.writestr(name, data.replace(b"numpy.core.", core))
    with zipfile.ZipFile(renamed) as archive:
        assert core + b"multiarray" in archive.read("saved/data.pkl")
    found = read_checkpoint(renamed)
    assert found["value"] == 1.5 and found["array"].tolist() == [1.0, 1.0]


class Command:
    """Runs a command where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


class Attribute:
    """Reaches for an attribute where it is unpickled."""

    def __reduce__(self) -> tuple:
        return getattr, (OrderedDict, "fromkeys")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(tmp_path: Path, zipped: bool) -> None:
    file, marker = tmp_path / "evil.pth", tmp_path / "ran"
    content = {"state_dict": WEIGHTS, "extra": Command(marker)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"evil.pth wants to build '(posix|nt).mkdir'.*--trust"):
        read_checkpoint(file)
    assert not marker.exists()
    assert_same_weights(read_checkpoint(file, trust=True)["state_dict"], WEIGHTS)
    assert marker.exists()


def test_getattr_serves_log_histories_only(tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS, "extra": Attribute()}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="wants to build 'builtins.getattr'"):
        read_checkpoint(tmp_path / "a.pth")


def zip_bytes(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (HTML, "is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page or XML"),
        (LFS, "is a Git LFS pointer.*git lfs pull"),
        (b"lr: 0.1\nepochs: 3\n", "is a text file"),
        (b"\x1f\x8b\x08\x00binary\x00", "is no known checkpoint format"),
        (torch_bytes({"state_dict": WEIGHTS})[:-400], "is incomplete: a zip archive whose end"),
        (torch_bytes(WEIGHTS, _use_new_zipfile_serialization=False)[:-4], "incomplete or damaged"),
        (torch_bytes(WEIGHTS, _use_new_zipfile_serialization=False)[:8], "incomplete or damaged"),
        (zip_bytes("a/data.pkl", "a/constants.pkl", "a/code/m.py"), "is a TorchScript program"),
        (zip_bytes("readme.txt"), "not one of torch.save; it holds readme.txt"),
        (pickle.dumps({"results": [1]}, protocol=4), "pickle that torch.save did not write"),
        (torch_bytes([1, 2]), "holds a list"),
        (torch_bytes(torch.nn.Linear(2, 2)), "wants to build 'torch.nn.modules.linear.Linear'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_other_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "file.pth"
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"file.pth.*{message}"):
        read_checkpoint(file)


def test_a_cut_safetensors_file_is_named(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[:-8])
    with pytest.raises(InputError, match="incomplete or damaged safetensors"):
        read_checkpoint(tmp_path / "w.safetensors")


def test_an_absent_file_brings_up_its_neighbors(tmp_path: Path) -> None:
    (tmp_path / "iter_200.pth").touch()
    with pytest.raises(InputError, match="does not exist; similar files there: iter_200.pth"):
        read_checkpoint(tmp_path / "iter_100.pth")
    with pytest.raises(InputError, match="the folder .*nowhere does not exist either"):
        read_checkpoint(tmp_path / "nowhere" / "iter_100.pth")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "iter_200.pth").touch()
    with pytest.raises(InputError, match=r"is a folder; give a file, such as .*iter_200.pth"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"state_dict": WEIGHTS, "meta": {}},
        {"model": WEIGHTS, "epoch": 3},
        {"module": WEIGHTS},
        WEIGHTS,
        {"state_dict": {f"module.{name}": value for name, value in WEIGHTS.items()}},
    ],
)
def test_weights_are_found_in_every_layout(checkpoint: dict) -> None:
    assert_same_weights(state_dict_of(checkpoint), WEIGHTS)


def test_a_submodule_called_module_keeps_its_name() -> None:
    weights = {"module.weight": torch.ones(1), "other.weight": torch.ones(1)}
    assert state_dict_of(weights).keys() == weights.keys()


def test_a_checkpoint_without_weights_is_an_error() -> None:
    with pytest.raises(InputError, match="holds no weights: its keys are epoch, optimizer"):
        state_dict_of({"epoch": 3, "optimizer": {}})


def test_a_damaged_meta_of_a_safetensors_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file({"layer.weight": torch.ones(2)}, file, {META_KEY: '{"iter": 7'})
    with pytest.raises(InputError, match=f"{file} is damaged: its {META_KEY} is no JSON"):
        read_checkpoint(file)
