"""What other libraries load, read by this project's reader too.

mmengine's ``init_cfg``, its hooks, and the backbones, necks and heads of mmdet and mmseg load their
files themselves, and fall back to running the code in them. Their data sets read annotations from
pickles, too.
"""

from __future__ import annotations

import inspect
import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from mmengine.fileio import LocalBackend, get_file_backend, register_handler
from mmengine.fileio.handlers import PickleHandler, YamlHandler
from mmengine.fileio.handlers.registry_utils import file_handlers
from mmengine.logging import print_log
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from mmbeit3.checkpoint.plain_pickle import ForeignGlobal, check_nesting, read_pickle
from mmbeit3.utils import InputError
from mmbeit3.utils.regular_files import check_regular

SAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch.load then runs no code, whatever it is told
UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
YAML_SUFFIXES = ("yaml", "yml")
PICKLE_SUFFIXES = ("pickle", "pkl")
READERS = ("get", "get_text", "get_local_path")  # of mmengine's files on this machine
MAX_ENTRIES = 1_000_000  # of a YAML file, those with several names counted each time
PLAIN_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_safely() -> None:
    """Have every checkpoint that this process loads from now on read without running its code.

    mmengine's ``CheckpointLoader``, by which everything of OpenMMLab loads, hands its files to
    :func:`mmbeit3.checkpoint.read_checkpoint`; torch is told by ``TORCH_FORCE_WEIGHTS_ONLY_LOAD``
    to build tensors only, for libraries that call ``torch.load`` themselves, in child processes
    too. YAML files, configs among them, are read without the tags that build objects, and pickles,
    such as annotations of mmdet's and mmseg's data sets, by this project's reader. mmengine then
    opens no pipe, socket or device either, which may never end. The Runner calls this before it
    does anything else; see :func:`loading_safely` for a part of a process.
    """
    if os.environ.pop(UNSAFE, None):
        print_log(f"{UNSAFE} has no effect: no checkpoint runs code", "current", logging.WARNING)
    os.environ[SAFE] = "1"
    CheckpointLoader.load_checkpoint = classmethod(_load_checkpoint)
    register_handler(list(YAML_SUFFIXES))(_PlainYamlHandler)
    register_handler(list(PICKLE_SUFFIXES))(_PlainPickleHandler)
    for name in READERS:
        setattr(LocalBackend, name, _of_regular_files(vars(LocalBackend)[name]))


@contextmanager
def loading_safely() -> Iterator[None]:
    """Read as after :func:`load_safely` in the block, and as before behind it.

    So that a notebook which trains here may go on with files of its own that it trusts.
    """
    with loading_kept():
        load_safely()
        yield


@contextmanager
def loading_kept() -> Iterator[None]:
    """Give back, at the end of the block, the way in which the process read before."""
    variables = {name: os.environ.get(name) for name in (SAFE, UNSAFE)}
    loader = vars(CheckpointLoader)["load_checkpoint"]
    handlers = {suffix: file_handlers[suffix] for suffix in (*YAML_SUFFIXES, *PICKLE_SUFFIXES)}
    readers = {name: vars(LocalBackend)[name] for name in READERS}
    try:
        yield
    finally:
        for name, value in variables.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})
        CheckpointLoader.load_checkpoint = loader
        file_handlers.update(handlers)
        for name, reader in readers.items():
            setattr(LocalBackend, name, reader)


def _of_regular_files(reader: Callable) -> Callable:
    """A method of mmengine's that reads a file, with a look at its kind first."""
    if hasattr(reader, "__wrapped__") and reader.__module__ == __name__:
        return reader

    @wraps(reader, assigned=())
    def read(backend: LocalBackend, filepath: str | Path, *args: Any, **kwargs: Any) -> Any:
        check_regular(filepath)
        return reader(backend, filepath, *args, **kwargs)

    return read


class _PlainPickleHandler(PickleHandler):
    """As mmengine's, but what the pickle names is not called."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        content = io.BytesIO(file.read())
        try:
            return read_pickle(content)
        except Exception as error:  # a damaged file may raise nearly anything
            problem = (
                f"wants to build {error.name!r}, which may run any code, so it was not opened; "
                "expected dicts, lists, numbers, texts and NumPy arrays"
                if isinstance(error, ForeignGlobal)
                else f"is incomplete or damaged ({error})"
            )
            raise InputError(f"{_name_of(file)} {problem}") from error


def _name_of(file: Any) -> str:
    """The path of what ``mmengine.load`` reads, which hands a file without a name on."""
    caller = inspect.stack(0)[2].frame
    named = getattr(file, "name", None) or caller.f_locals.get("file")
    return str(named) if isinstance(named, (str, Path)) else "a pickle"


class _PlainYamlHandler(YamlHandler):
    """As mmengine's, which lets a tag build any object, and names unfold to any size."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        content = yaml.load(file, **(kwargs | {"Loader": PLAIN_LOADER}))
        try:
            check_nesting(content, MAX_ENTRIES, (object,))
        except ValueError as error:
            raise InputError(f"{_name_of(file)} is no config that can be used: {error}") from None
        return content


@contextmanager
def unrestricted() -> Iterator[None]:
    """Let ``torch.load`` run code in the block: for a file that the user trusts."""
    kept = {name: os.environ.pop(name, None) for name in (SAFE, UNSAFE)}
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in kept.items() if value is not None})


def _load_checkpoint(
    loaders: type[CheckpointLoader],
    filename: str | Path,
    map_location: str | Callable | None = None,
    logger: Any = "current",
) -> Any:
    """Stand in for mmengine's loader; the tensors are on the CPU wherever they were."""
    filename = str(filename)
    loader = loaders._get_checkpoint_loader(filename)
    if loader.__module__ != mmengine_checkpoint.__name__:  # registered by the user's own code
        return loader(filename, map_location)
    print_log(f"reading {filename}", logger)
    name = filename.partition("://")[2]
    if loader.__name__ == "load_from_torchvision":
        return _content(_known(name, mmengine_checkpoint.get_torchvision_models(), filename))
    if loader.__name__ == "load_from_openmmlab":
        name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
        address = _known(name, mmengine_checkpoint.get_external_models(), filename)
        if "://" not in address:
            address = str(Path(mmengine_checkpoint._get_mmengine_home(), address))
        return _content(address)
    if loader.__name__ == "load_from_mmcls":
        content = _content(_known(name, mmengine_checkpoint.get_mmcls_models(), filename))
        return mmengine_checkpoint._process_mmcls_checkpoint(content)
    if loader.__name__ == "load_from_ceph":
        backend = get_file_backend(filename, backend_args={"backend": "petrel"})
        with TemporaryDirectory() as folder:
            file = Path(folder, "checkpoint.pth")
            file.write_bytes(backend.get(filename))
            return _content(str(file))
    if loader.__name__ == "load_from_pavi":
        raise InputError(f"{filename} is read by a client that runs code: give the path of a file")
    return _content(filename)


def _known(name: str, addresses: dict[str, str], filename: str) -> str:
    if name not in addresses:
        raise InputError(f"{filename}: there is no model of this name; give a path or an address")
    return addresses[name]


def _content(location: str) -> dict[str, Any]:
    """Read a file; the texts of configs in it, which mmengine would run, are left out."""
    from mmbeit3.checkpoint.reading import read_checkpoint, state_dict_of  # they import this module
    from mmbeit3.checkpoint.values import check_values

    content = read_checkpoint(location)
    check_values(state_dict_of(content), location)
    meta, hub = content.get("meta"), content.get("message_hub")
    runtime = hub.get("runtime_info") if isinstance(hub, dict) else None
    for place in (meta, runtime):
        if isinstance(place, dict):
            for name in ("cfg", "config"):
                place.pop(name, None)
    return content
