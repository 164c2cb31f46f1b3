"""Write checkpoint files: whole or not at all, as ``.pth`` or ``.safetensors``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmbeit3.checkpoint.reading import META_KEY, WEIGHT_KEYS, read_checkpoint, state_dict_of
from mmbeit3.checkpoint.safetensors_files import write_safetensors
from mmbeit3.checkpoint.values import check_values
from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import partial_of, put_durably

SUFFIXES = (".pth", ".safetensors")
HASH_LENGTH = 8  # what mm's model zoos append, and torch.hub checks


class Published(NamedTuple):
    """What :func:`publish_checkpoint` wrote: the file, and what it left out of the other."""

    path: Path
    dropped: list[str]


def save_checkpoint(content: Mapping[str, Any], path: str | Path) -> Path:
    """Write a checkpoint; an interruption or a full disk leaves an older file as it was.

    Args:
        content: The weights as a mapping of names to tensors under ``state_dict`` or ``model``,
            and whatever else a ``.pth`` file is to hold. Of the rest, a ``.safetensors`` file
            takes ``meta`` only, as JSON.
        path: The file; it must end with .pth or .safetensors. Its folder is created.

    Returns:
        The path.

    Raises:
        InputError: The name ends otherwise, or the file cannot be written.
    """
    path = Path(path).expanduser()
    check_suffix(path)
    with partial_of(path) as partial:
        _write(content, partial, path.suffix)
        put_durably(partial, path)
    return path


def write_durably(path: str | Path, content: bytes) -> None:
    """Write a small file; an interruption or a full disk leaves an older one as it was.

    Args:
        path: The file. Its folder is created.
        content: What to write.

    Raises:
        InputError: It cannot be written.
    """
    path = Path(path)
    with partial_of(path) as partial:
        partial.write_bytes(content)
        put_durably(partial, path)


def publish_checkpoint(
    source: str | Path, target: str | Path, trust: bool = False, half: bool = False
) -> Published:
    """Write what others need of a training's checkpoint, named by its content.

    Weights and ``meta`` (config, classes, versions) stay; the states of optimizer and schedule,
    the log's history and an averaged model's second copy go.

    Args:
        source: The checkpoint, a path or an address.
        target: Where to write, such as ``models/beit3-base.pth``; the first 8 digits of the file's
            SHA-256 are put into the name, ``models/beit3-base-1a2b3c4d.pth``.
        trust: Whether the source may build any Python object. Defaults to False.
        half: As in :func:`weights_and_meta`. Defaults to False.

    Returns:
        The file written, and the names of what was left out.

    Raises:
        InputError: The source cannot be read, holds NaN, infinity or what ``half`` cannot hold, the
            target's name ends with neither .pth nor .safetensors, or the file cannot be written.
    """
    target = Path(target).expanduser()
    check_suffix(target)
    content = read_checkpoint(source, trust)
    kept = weights_and_meta(content, source, half)
    with partial_of(target) as partial:
        _write(kept, partial, target.suffix)
        stem = re.sub(rf"-[0-9a-f]{{{HASH_LENGTH}}}$", "", target.stem)
        path = target.with_name(f"{stem}-{_sha256(partial)[:HASH_LENGTH]}{target.suffix}")
        put_durably(partial, path)
    under = next((key for key in WEIGHT_KEYS if isinstance(content.get(key), Mapping)), None)
    dropped = [
        key
        for key, value in content.items()
        if key not in ("meta", under) and (under or not isinstance(value, Tensor))
    ]
    return Published(path, dropped)


def weights_and_meta(
    content: Mapping[str, Any], origin: object, half: bool = False
) -> dict[str, Any]:
    """Take what others need out of a training's checkpoint.

    Args:
        content: What :func:`mmbeit3.checkpoint.read_checkpoint` returned.
        origin: What to call the file.
        half: Whether to round the weights to float16, half the size. A model that loads them
            computes in float32 all the same. Defaults to False.

    Returns:
        ``meta``, as JSON has it, and ``state_dict``.

    Raises:
        InputError: A weight is NaN or infinite, or too large for float16.
    """
    state = state_dict_of(content)
    check_values(state, str(origin))
    if half:
        state = {name: _to_half(name, value, origin) for name, value in state.items()}
    # As JSON has it: a file that had to be trusted gives one that need not be.
    return {"meta": json.loads(_json(content.get("meta") or {})), "state_dict": state}


def _to_half(name: str, value: Tensor, origin: object) -> Tensor:
    if not value.is_floating_point():
        return value
    rounded = value.half()
    if rounded.isinf().any():
        raise InputError(
            f"{name} of {origin} has the value {value.abs().max():.3g}; float16 ends at 65504: "
            "leave out --half"
        )
    return rounded


def check_suffix(path: Path) -> None:
    """Raise an InputError unless the name ends with .pth or .safetensors."""
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path} ends with {path.suffix!r}; a checkpoint is written as {' or '.join(SUFFIXES)}"
        )


def _write(content: Mapping[str, Any], path: Path, suffix: str) -> None:
    # Through a file object: given a name, torch.save writes it into the archive, and the same
    # content has another hash under another name.
    with path.open("wb") as file:
        if suffix == ".pth":
            torch.save(dict(content), file)
            return
        meta = content.get("meta")
        metadata = {"format": "pt"} | ({META_KEY: _json(meta)} if meta else {})
        write_safetensors(file, state_dict_of(content), metadata)


def _json(meta: Any) -> str:
    return json.dumps(meta, default=lambda value: getattr(value, "tolist", value.__str__)())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
