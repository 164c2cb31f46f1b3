"""The config that a checkpoint carries: parsed, never run, for a file may come from anywhere."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import registry as mmengine_registry

from mmbeit3.checkpoint.fetching import fetch_beside
from mmbeit3.config import types
from mmbeit3.utils import InputError

#: What a call in the text may be of, each without any effect but its value.
BUILDERS = {"dict": dict, "list": list, "tuple": tuple}
NUMBERS = {"inf": float("inf"), "nan": float("nan")}  # mmengine writes them so
#: Packages that types in the config may be of.
PACKAGES = ("mmengine", "mmcv", "mmdet", "mmseg", "mmbeit3")


def saved_config(content: Mapping[str, Any], origin: object) -> Config:
    """Find the config in a checkpoint, as this project's training, mmdet's and mmseg's leave it.

    A tokenizer that it names without a folder is looked for beside the checkpoint first.

    Args:
        content (Mapping): What :func:`mmbeit3.checkpoint.read_checkpoint` returned.
        origin (object): What to call the file.

    Returns:
        Config: The config. Build what it describes in :func:`only_registered`.

    Raises:
        InputError: There is none, it has no model, it is more than plain values, or it imports a
            module that is not imported yet.
    """
    cure = f"give the config file, too: load('config.py', {str(origin)!r})"
    meta = content.get("meta")
    text = meta.get("cfg") or meta.get("config") if isinstance(meta, Mapping) else None
    if not isinstance(text, str):
        raise InputError(f"{origin} carries no config; {cure}")
    try:
        cfg = Config(parse_assignments(text))
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        # Of what ast cannot read it says so in several ways.
        problem = f"the config in {origin} is more than plain values, and is not run ({error})"
        raise InputError(f"{problem}; {cure}") from None
    if not isinstance(cfg.get("model"), Mapping):
        raise InputError(f"the config in {origin} has no model; {cure}")
    imports = cfg.get("custom_imports")
    names = imports.get("imports") if isinstance(imports, Mapping) else imports
    for name in [names] if isinstance(names, str) else names or ():
        if str(name) not in sys.modules and name != "mmbeit3":
            raise InputError(
                f"the config in {origin} imports {name!r}, which would run its code; import it "
                f"before load, or {cure}"
            )
    for tokenizer in tokenizers(cfg.model):
        name = str(tokenizer["file"])
        if Path(name).name == name and (beside := fetch_beside(str(origin), name)) is not None:
            tokenizer["file"] = str(beside)
    return cfg


def tokenizers(node: Any) -> Iterator[dict[str, Any]]:
    """Find the arguments of all tokenizers in a config's model that name a file."""
    if isinstance(node, dict):
        given = node.get("tokenizer")
        if isinstance(given, dict) and isinstance(given.get("file"), str):
            yield given
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for entry in node:
            yield from tokenizers(entry)


def parse_assignments(text: str) -> dict[str, Any]:
    """Read assignments of plain values: texts, numbers, lists, tuples, dicts, ``dict(a=1)``.

    Args:
        text (str): Python code, such as mmengine's ``Config.pretty_text``.

    Returns:
        dict: The values by their names.

    Raises:
        ValueError: It holds anything else.
        SyntaxError: It is no Python code.
    """
    values = {}
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            raise _unexpected(statement)
        (target,) = statement.targets
        if not isinstance(target, ast.Name):
            raise _unexpected(statement)
        values[target.id] = _value(statement.value)
    return values


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        return node.value
    if isinstance(node, ast.Name) and node.id in NUMBERS:
        return NUMBERS[node.id]
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_value(key) if key else _unpacked(node): _value(value) for key, value in pairs}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = _value(node.operand)
        if isinstance(number, (int, float)):
            return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node, node.func.id)
    raise _unexpected(node)


def _call(node: ast.Call, name: str) -> Any:
    builder = BUILDERS.get(name)
    is_dict = builder is dict
    values = [_value(argument) for argument in node.args]
    # mmengine writes keys that are no names as dict({'a.b': 1})
    fits = len(values) <= 1 and all(isinstance(value, dict) for value in values if is_dict)
    if builder is None or not fits or (node.keywords and not is_dict):
        raise _unexpected(node)
    value = builder(*values)
    for keyword in node.keywords:
        value.update({keyword.arg: _value(keyword.value)} if keyword.arg else _value(keyword.value))
    return value


def _unpacked(node: ast.Dict) -> Any:
    raise _unexpected(node)


def _unexpected(node: ast.stmt | ast.expr) -> ValueError:
    return ValueError(f"line {node.lineno}: {ast.unparse(node)[:60]}")


@contextmanager
def only_registered() -> Iterator[None]:
    """Have mmengine build nothing in the block that is not in a registry of a known package.

    Else ``dict(type="os.system", ...)`` would be a type like any other: it imports what a name
    with dots says, and the package that a scope names. Packages that were imported before are
    known, too. No config file is read either, such as one that a type's argument names.
    """
    original = mmengine_registry.get_object_from_string, Config.fromfile

    def refuse_object(name: str) -> None:
        raise InputError(f"{name} is in no registry")

    def refuse_file(filename: Any, *args: Any, **kwargs: Any) -> None:
        raise InputError(f"the config in a checkpoint names another file, {filename}")

    def import_known(name: str, package: str | None = None) -> Any:
        top = name.partition(".")[0]
        if top in PACKAGES or name in sys.modules:
            return import_module(name, package)
        raise ImportError(f"{name} is of no package that is known")

    mmengine_registry.get_object_from_string = refuse_object
    mmengine_registry.import_module = types.import_module = import_known
    Config.fromfile = refuse_file
    try:
        yield
    finally:
        mmengine_registry.get_object_from_string = original[0]
        mmengine_registry.import_module = types.import_module = import_module
        Config.fromfile = staticmethod(original[1])
