"""Read a checkpoint file (.pth, .safetensors), or say what the file is instead.

A ``.pth`` file is a pickle and may run any code when opened. Here only tensors are built, and the
few harmless types that training frameworks store beside them. Where the file has checksums, they
are compared.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmbeit3.checkpoint.fetching import fetch
from mmbeit3.checkpoint.files import check_file
from mmbeit3.checkpoint.plain_pickle import ForeignGlobal, UnsupportedContent
from mmbeit3.checkpoint.safetensors_files import CRC_KEY, SafetensorsFile
from mmbeit3.checkpoint.torch_files import Archive, NoTorchFile, WrongChecksum, read_legacy
from mmbeit3.utils import InputError, listed

WEIGHT_KEYS = ("state_dict", "model", "module")
RESUME_KEYS = ("meta", "message_hub", "optimizer")  # what a training goes on from
META_KEY = "mmbeit3_meta"  # where a safetensors file of this project keeps its meta, as JSON


def read_checkpoint(path: str | Path, trust: bool = False) -> dict[str, Any]:
    """Read a whole checkpoint onto the CPU; tensors stay on disk until they are used.

    Files of ``torch.save`` since PyTorch 1.6 and safetensors files of this project have checksums,
    which are compared. Older files and others' safetensors files have none.

    Args:
        path: A file of ``torch.save`` (zip or older format) or a safetensors file, or its address
            as :func:`mmbeit3.checkpoint.fetching.fetch` takes it. The content decides, not the
            file's name.
        trust: Whether the file may build any Python object, that is run any code. Defaults to
            False.

    Returns:
        The content: of this project's checkpoints ``meta``, ``state_dict``, ``message_hub``,
        ``optimizer``, ``param_schedulers``; of a safetensors file ``meta`` and ``state_dict``.

    Raises:
        InputError: The file is absent, empty, incomplete, damaged, no checkpoint, or would run
            code; or the download failed.
    """
    path = check_checkpoint(path)
    try:
        content = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path, trust)
    except InputError:
        raise
    except Exception as error:  # a damaged file may raise nearly anything
        raise _unusable(path, error) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}; a checkpoint is a dict of weights"
        )
    return content


def check_checkpoint(path: str | Path) -> Path:
    """Look, without reading it all, whether a file is there and can be a checkpoint.

    Args:
        path: The file, or its address, from which it is downloaded once.

    Returns:
        Its path on this machine, ``~`` expanded.

    Raises:
        InputError: It is absent, a folder, empty, cut off, or something else than a checkpoint; or
            the download failed.
    """
    path = fetch(path, _check)
    _check(path, str(path))
    return path


def state_dict_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Pick the weights out of a checkpoint.

    Args:
        checkpoint: What :func:`read_checkpoint` returns: weights under ``state_dict``, ``model``
            or ``module``, or a plain mapping of names to tensors.

    Returns:
        Names to tensors, without the ``module.`` prefix of a model saved from its DDP wrapper.

    Raises:
        InputError: There are no weights in it.
    """
    found = (checkpoint[key] for key in WEIGHT_KEYS if isinstance(checkpoint.get(key), Mapping))
    state = next(found, checkpoint)
    weights = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    odd = [repr(name) for name in weights if not isinstance(name, str)]
    if odd:
        raise InputError(f"the checkpoint has weights whose names are no text: {listed(odd)}")
    if not weights:
        raise InputError(
            f"the checkpoint holds no weights: its keys are {listed(checkpoint, limit=8)}; "
            f"expected one of {', '.join(WEIGHT_KEYS)}, or tensors"
        )
    if all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    return weights


def _check(path: Path, name: str) -> None:
    """Raise an InputError, which calls the file ``name``, unless it can be a checkpoint."""
    check_file(path, name)
    if _is_safetensors(path):
        _check_safetensors(path, name)
    else:
        _check_kind(path, name)


def _check_kind(path: Path, name: str) -> None:
    """Raise an InputError that names the file's kind unless it may be a ``torch.save`` file."""
    head = _head(path)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{name} is a Git LFS pointer, not the weights: run `git lfs pull` in its repository"
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(
            f"{name} is a web page or XML answer saved under this name, not a checkpoint: open "
            "the address in a browser to see what the server said, then download again"
        )
    if head.startswith(b"PK"):
        _check_zip(path, name)
    elif not head.startswith(b"\x80"):
        kind = "a text file" if _is_text(head) else "no known checkpoint format"
        raise InputError(
            f"{name} is {kind} (it begins with {head[:24]!r}); expected a .pth file written by "
            "torch.save or a .safetensors file"
        )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n" for byte in head)


def _check_zip(path: Path, name: str) -> None:
    """Raise an InputError unless an archive is one of torch.save; its content is not read."""
    try:
        if not zipfile.is_zipfile(path):
            raise InputError(
                f"{name} is incomplete: a zip archive whose end is missing "
                f"({path.stat().st_size:,} bytes are there); download or copy it again"
            )
        Archive(path)
    except InputError:
        raise
    except NoTorchFile:
        with zipfile.ZipFile(path) as archive:
            entries = archive.namelist()
        if any(entry.endswith("/constants.pkl") for entry in entries):
            raise InputError(
                f"{name} is a TorchScript program; expected weights saved by torch.save"
            ) from None
        raise InputError(
            f"{name} is a zip archive but not one of torch.save; it holds "
            f"{listed(entries, limit=8)}. Unpack it if the checkpoint is inside"
        ) from None
    except Exception as error:  # a damaged archive may raise nearly anything
        raise _unusable(name, error) from error


def _is_safetensors(path: Path) -> bool:
    # Layout: 8 bytes little-endian length of the JSON header, then the header.
    head = _head(path)
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and (path.suffix == ".safetensors" or length < path.stat().st_size)


def _check_safetensors(path: Path, name: str) -> None:
    try:
        SafetensorsFile(path)
    except Exception as error:
        raise InputError(
            f"{name} is an incomplete or damaged safetensors file ({_reason(error)}); download it "
            "again"
        ) from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    file = SafetensorsFile(path)
    file.check()
    meta = {key: value for key, value in file.metadata.items() if key != CRC_KEY}
    try:
        meta = json.loads(meta.get(META_KEY, "{}")) or meta
    except ValueError as error:
        raise InputError(f"{path} is damaged: its {META_KEY} is no JSON ({error})") from error
    return {"meta": meta, "state_dict": file.weights()}


def _read_torch(path: Path, trust: bool) -> Any:
    archive = Archive(path) if _head(path).startswith(b"PK") else None
    if archive is not None:
        archive.check()
    if trust:
        from mmbeit3.checkpoint.safe_loading import unrestricted  # brings mmengine's Runner

        with unrestricted():
            return torch.load(path, map_location="cpu", weights_only=False)
    return read_legacy(path) if archive is None else archive.content()


def _unusable(name: Path | str, error: Exception) -> InputError:
    """Say what is wrong with a file from what was raised while it was read."""
    if isinstance(error, ForeignGlobal):
        stem = Path(name).stem
        return InputError(
            f"{name} wants to build {error.name!r}, which may run any code, so it was not opened. "
            "If you trust its origin, write its weights to a plain file once, with --trust: "
            f"python tools/model_converters/publish_model.py '{name}' '{stem}_plain.pth' --trust"
        )
    if isinstance(error, OSError):
        return InputError(f"{name} cannot be read: {error}")
    if isinstance(error, UnsupportedContent):
        return InputError(f"{name} cannot be used: {error}")
    if isinstance(error, NoTorchFile):
        return InputError(f"{name} is damaged, or a pickle that torch.save did not write")
    damage = "damaged" if isinstance(error, WrongChecksum) else "incomplete or damaged"
    return InputError(f"{name} is {damage} ({_reason(error)}); download or copy it again")


def _reason(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    told = text and isinstance(error, ValueError)
    return text[:200] if told else f"{type(error).__name__} {text[:200]}".strip()
