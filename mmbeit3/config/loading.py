"""Reading a config file: what it may run, what its keys mean, and where it has an error."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Mapping
from os import path as osp
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config

from mmbeit3.checkpoint import loading_safely
from mmbeit3.config.bases import explain_missing
from mmbeit3.config.keys import runner_keys
from mmbeit3.config.names import DATA_SUFFIXES, check_config, find_config
from mmbeit3.config.options import apply_options
from mmbeit3.config.variables import names_without_effect
from mmbeit3.utils import InputError, warn
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.terminal import shorten_default

# High enough that no helper variable of the configs of mmdet and mmseg is taken for a misspelling.
SIMILAR_TO_RUNNER_KEY = 0.82


@loading_safely()
def load_config(
    path: str | Path, options: Mapping[str, Any] | None = None, work_dir: str | Path | None = None
) -> Config:
    """Read a config file and check that its keys, and those of ``options``, mean something.

    Args:
        path: The config file, or the name of one of this package, as
            :func:`mmbeit3.config.names.find_config` takes it.
        options: Values that replace the file's, as ``--cfg-options`` gives them: dotted keys,
            with numbers for list entries (``train_dataloader.dataset.pipeline.0.type``).
        work_dir: Where results go. Defaults to the config's ``work_dir``, else
            ``work_dirs/<name of the config file>``.

    Returns:
        The config, with ``work_dir`` set.

    Raises:
        InputError: The file is absent or has an error; a key is misspelled or leads nowhere; or a
            file of data (.json, .yaml) has a base that is code.
    """
    shorten_default()
    path = check_config(find_config(path))
    try:
        _check_bases(path)
        cfg = Config.fromfile(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(_config_error(path, error)) from error
    _check_runner_keys(cfg, path)
    for sentence in names_without_effect(cfg, path):
        warn(sentence)
    if options:
        apply_options(cfg, options)
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif cfg.get("work_dir") is None:
        cfg.work_dir = osp.join("work_dirs", path.stem)
    return cfg


def _check_bases(path: Path) -> None:
    """Refuse code below a config that is data, except for that of an installed package."""
    if path.suffix not in DATA_SUFFIXES:
        return
    content = mmengine.load(path)
    bases = content.get("_base_", []) if isinstance(content, dict) else []
    for base in bases if isinstance(bases, list) else [bases]:
        package, inside, rest = str(base).partition("::")
        below = Path(rest if inside else package)
        if inside and ".." not in below.parts and not below.is_absolute():
            continue
        if inside or below.suffix not in DATA_SUFFIXES:
            raise InputError(
                f"config {path}: its _base_ {base} is code, which a {path.suffix} file does not "
                "run; give a .json or .yaml file or PACKAGE::FILE, or write the config as a .py "
                "file"
            )
        _check_bases(path.parent / below)


def _config_error(path: Path, error: Exception) -> str:
    """Say where in which config file ``error`` arose; mmengine reads bases file by file."""
    file, line, child = str(path), None, path
    for frame, lineno in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "_file2dict":
            child = Path(file)
            file, line = frame.f_locals["filename"], None
        elif frame.f_code.co_filename == file:
            line = lineno
    if isinstance(error, FileNotFoundError) and not Path(file).is_file():
        check_regular(file, "config")
        return explain_missing(child, Path(file))
    if isinstance(error, SyntaxError):
        # mmengine's own message names a temporary copy.
        error, line = _syntax_error(file, error)
    reason = error.__cause__ if isinstance(error, ImportError) and error.__cause__ else error
    where = f"{file}, line {line}" if line else file
    return f"config {where}: {type(reason).__name__}: {reason}"


def _syntax_error(file: str, error: SyntaxError) -> tuple[SyntaxError, int | None]:
    try:
        compile(Path(file).read_text(encoding="utf-8"), file, "exec")
    except SyntaxError as found:
        return SyntaxError(found.msg), found.lineno
    return error, error.lineno


def _check_runner_keys(cfg: Config, path: Path) -> None:
    known = runner_keys()
    for key in cfg:
        # train_dataloader_small, my_train_dataloader: variables named after what they are.
        derived = any(key.startswith(f"{name}_") or key.endswith(f"_{name}") for name in known)
        similar = difflib.get_close_matches(key, known, n=1, cutoff=SIMILAR_TO_RUNNER_KEY)
        if key not in known and not derived and similar:
            raise InputError(f"config {path}: unknown key {key!r}; did you mean {similar[0]!r}?")
    if "model" not in cfg:
        raise InputError(f"config {path} has no 'model'; its keys are {', '.join(cfg) or 'none'}")
    if not isinstance(cfg.model, Mapping):
        raise InputError(f"config {path}: model is {cfg.model!r:.60}, expected a dict with a type")
