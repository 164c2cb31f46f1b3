"""What a command does before PyTorch is imported: it looks at its arguments, says what begins."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from mmbeit3.utils import InputError

WEIGHTS = (".pth", ".safetensors")
# What `mmbeit3 export` writes.
EXPORTED = (".onnx", ".torchscript", ".xml")
# Set by torchrun, Slurm and MPI.
RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK")


def is_first_here() -> bool:
    """Whether this is the first of several processes on this machine, or the only one."""
    return _is_first(LOCAL_RANKS)


def say(text: str) -> None:
    """Say what begins, in the first process alone."""
    if _is_first(RANKS):
        print(f"{text} ...", flush=True)


def _is_first(ranks: Sequence[str]) -> bool:
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def check_model(
    config: str | Path,
    cfg_options: Sequence[str] | None = None,
    checkpoint: str | Path | None = None,
) -> Path:
    """Look at a config, its options and a checkpoint, as far as that takes no PyTorch.

    Args:
        config (str | Path): A file or a name.
        cfg_options (Sequence[str], optional): ``key=value`` strings. Defaults to None.
        checkpoint (str | Path, optional): A file or an address. Defaults to None.

    Returns:
        Path: The config file.

    Raises:
        InputError: One cannot be used.
    """
    from mmbeit3.config.names import check_config
    from mmbeit3.config.option_values import parse_options

    found = check_config(config)
    parse_options(cfg_options)
    if checkpoint is not None:
        check_weights(checkpoint)
    return found


def check_weights(checkpoint: str | Path) -> None:
    """Look at a checkpoint's file, unless it is an address.

    Raises:
        InputError: It is absent, a folder or empty.
    """
    from mmbeit3.checkpoint.files import check_file

    if "://" not in str(checkpoint):
        check_file(Path(checkpoint).expanduser(), str(checkpoint))


def holds_config(name: str) -> bool:
    """Whether a name is that of a checkpoint, which may hold its config, and of no config file."""
    return Path(name).suffix in WEIGHTS or name.startswith("hf://")


def check_files(args: argparse.Namespace, *names: str) -> None:
    """Make sure that the files are there that options name.

    Args:
        args (argparse.Namespace): The options.
        *names (str): Those that name a file; None if they were not given.

    Raises:
        InputError: One is not.
    """
    from mmbeit3.utils.similar_paths import describe_similar

    for name in names:
        file = getattr(args, name)
        if file is not None and not Path(file).expanduser().is_file():
            raise InputError(f"there is no file {file}{describe_similar(str(file))}", name)


def check_exists(path: str | Path, what: str) -> None:
    """Make sure that a file or a folder is there.

    Args:
        path (str | Path): It.
        what (str): What it is.

    Raises:
        InputError: It is not.
    """
    from mmbeit3.utils.similar_paths import similar_files

    if not Path(path).exists():
        raise InputError(f"{what} {path} does not exist{similar_files(Path(path))}")
