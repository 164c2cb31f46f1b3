"""Checkpoints of each format, and seeded damage to their bytes."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmbeit3.checkpoint import read_checkpoint, save_checkpoint, state_dict_of
from mmbeit3.utils import InputError

FORMATS = ("zip", "legacy", "safetensors")
WITH_CHECKSUM = ("zip", "safetensors")


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "backbone.layers.0.weight": torch.randn(16, 12, generator=generator),
        "backbone.layers.0.bias": torch.randn(16, generator=generator).half(),
        "norm.num_batches_tracked": torch.tensor(7),
        "head.weight": torch.randn(3, 16, generator=generator).bfloat16(),
    }


def original(kind: str, folder: Path) -> bytes:
    """Give the bytes of a checkpoint as training or publishing writes it."""
    content = {
        "meta": {"epoch": 0, "iter": 9, "cfg": "model = dict()\n" * 20, "classes": ("a", "b")},
        "state_dict": weights(),
    }
    if kind == "safetensors":
        return save_checkpoint(content, folder / "whole.safetensors").read_bytes()
    content["message_hub"] = {"log_scalars": {"loss": HistoryBuffer([1.0, 0.5], [1, 1])}}
    content["optimizer"] = {"state": {0: {"step": torch.tensor(9.0)}}, "lr": np.float64(0.1)}
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


def mutated(content: bytes, seed: int) -> bytes:
    """Do one or several things to the bytes that disks, networks and programs do to them."""
    rng, data = random.Random(seed), bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) or 1)
        size = min(rng.choice((1, 4, 64, 512)), len(data) - at)
        kind = rng.choice(("flip", "flip", "flip", "cut", "splice", "zero", "insert", "drop"))
        if kind == "flip":
            for place in range(at, at + rng.choice((1, 1, size))):
                data[place] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[at:]
        elif kind == "splice":
            begin = rng.randrange(len(data) - size + 1)
            data[at : at + size] = data[begin : begin + size]
        elif kind == "zero":
            data[at : at + size] = bytes(size)
        elif kind == "insert":
            data[at:at] = rng.randbytes(size)
        else:
            del data[at : at + size]
        if not data:
            break
    return bytes(data)


def outcome(data: bytes, file: Path, expected: dict[str, Tensor]) -> str:
    """Read the bytes: "refused", "same", "other", or the name of what is no refusal."""
    file.write_bytes(data)
    try:
        found = state_dict_of(read_checkpoint(file))
        same = found.keys() == expected.keys() and all(
            value.dtype == found[name].dtype and torch.equal(value, found[name])
            for name, value in expected.items()
        )
    except InputError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "same" if same else "other"
