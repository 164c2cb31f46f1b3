"""A trained model in one call."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.config import load_config
from mmbeit3.config.saved_config import only_registered, saved_config
from mmbeit3.config.tta import tta_parts
from mmbeit3.export.files import SUFFIXES, Exported
from mmbeit3.inference.inferencer import Inferencer
from mmbeit3.inference.task import Task, find_task
from mmbeit3.utils import InputError
from mmbeit3.utils.terminal import ignore_library_warnings, shorten_default

CONFIG_SUFFIXES = (".py", ".json", ".yaml", ".yml")


def load(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "float32",
    compile: bool = False,
    force: bool = False,
    classes: Sequence[str] | None = None,
    tta: str | None = None,
) -> Inferencer:
    """Load a trained model, to be called with images.

    ``load("weights.pth")`` takes the config that training has put into the checkpoint. It is
    parsed as plain values and never run, and builds only types that are registered, so a file of
    unknown origin runs no code. From here on what the libraries warn each other of, such as
    deprecated functions, is ignored.

    Args:
        config (str | Path | Config): The config, which is left as it is; or the checkpoint, if that
            is the only argument; or a file of ``mmbeit3 export``, which runs on the CPU.
        checkpoint (str | Path, optional): The weights: a ``.pth`` or ``.safetensors`` file, or its
            address, ``hf://OWNER/REPO`` on the Hugging Face Hub too. Defaults to None.
        device (str): A device of PyTorch, or 'auto': the first GPU if there is one. Defaults to
            'auto'.
        dtype (str): Compute in 'float32', 'bfloat16' or 'int8'; see
            :func:`mmbeit3.accelerate`. Defaults to 'float32'.
        compile (bool): Whether to compile the backbone by torch.compile. Defaults to False.
        force (bool): Whether to compute in bfloat16 where the CPU has no instructions for it, too.
            Defaults to False.
        classes (Sequence[str], optional): Names of what to look for, of a model with
            ``class_embeddings``. Defaults to None, those it was trained on.
        tta (str, optional): Test-time augmentation: merge the views of each image that the config
            names, 'multi-scale' (``tta_pipeline``) or 'flip' (``tta_pipeline_flip``). Defaults to
            None, without.

    Returns:
        Inferencer: The model; see :meth:`mmbeit3.inference.inferencer.Inferencer.__call__`.

    Raises:
        InputError: A file cannot be used, or config, checkpoint, device and options do not go
            together.
    """
    ignore_library_warnings()
    shorten_default()
    model = _load(config, checkpoint, device, dtype, compile, tta, force)
    if classes is not None:
        model.set_classes(classes)
    return model


def _load(
    config: str | Path | Config,
    checkpoint: str | Path | None,
    device: str,
    dtype: str,
    compile: bool,
    tta: str | None,
    force: bool,
) -> Inferencer:
    if checkpoint is not None:
        is_config = isinstance(config, Config)
        cfg = copy.deepcopy(config) if is_config else load_config(config)
        return load_by_task(find_task(cfg), cfg, checkpoint, device, dtype, compile, tta, force)
    is_address = "://" in str(config)  # where a repository may be called my.py
    if isinstance(config, Config) or (
        Path(config).suffix.lower() in CONFIG_SUFFIXES and not is_address
    ):
        name = "a Config" if isinstance(config, Config) else config
        raise InputError(
            f"there are no weights beside {name}: load(config, checkpoint), or load(checkpoint) "
            "alone if the file carries its config"
        )
    if Path(config).suffix.lower() in SUFFIXES.values():
        with exported_run(config) as (exported, cfg):
            return load_by_task(find_task(cfg), cfg, exported, device, dtype, compile, tta, force)
    content = read_checkpoint(config)
    with _only_saved(content, config) as cfg:
        return load_by_task(find_task(cfg), cfg, content, device, dtype, compile, tta, force)


@contextmanager
def exported_run(path: str | Path) -> Iterator[tuple[Exported, Config]]:
    """Open what ``mmbeit3 export`` has written, to run it in the block.

    Args:
        path (str | Path): The file; its config builds only types that are registered.

    Yields:
        tuple[Exported, Config]: The files, and their config.

    Raises:
        InputError: They cannot be used.
    """
    exported = Exported(path)
    with _only_saved(exported.facts, path) as cfg:
        yield exported, cfg


@contextmanager
def saved_run(path: str | Path) -> Iterator[tuple[Exported | str, Config]]:
    """Open a file that holds weights and config, to run it in the block.

    Args:
        path (str | Path): A checkpoint, its address, or a file of ``mmbeit3 export``; its config
            builds only types that are registered.

    Yields:
        tuple[Exported | str, Config]: The weights, and their config.

    Raises:
        InputError: The file cannot be used, or a checkpoint holds no config.
    """
    if Path(path).suffix.lower() in SUFFIXES.values():
        with exported_run(path) as run:
            yield run
    else:
        with _only_saved(read_checkpoint(path), path) as cfg:
            yield str(path), cfg


@contextmanager
def _only_saved(content: Mapping[str, Any], path: str | Path) -> Iterator[Config]:
    cfg = saved_config(content, path)
    with only_registered():
        yield cfg


def load_by_task(
    task: Task,
    cfg: Config,
    checkpoint: str | Path | Mapping[str, Any] | Exported,
    device: str,
    dtype: str,
    compiles: bool,
    tta: str | None,
    force: bool = False,
) -> Inferencer:
    """Load a trained model by its task; arguments as :class:`Inferencer`, and ``tta`` as above."""
    if tta is not None and isinstance(checkpoint, Exported):
        raise InputError(f"{checkpoint} is one view of a model; expected a checkpoint", "tta")
    parts = None if tta is None else tta_parts(cfg, tta, task.tta_model)
    model = task.load(cfg, checkpoint, device, dtype, compiles, force)
    if parts is not None:
        model.merge_views(*parts)
    return model
