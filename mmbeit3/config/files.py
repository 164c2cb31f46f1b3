"""The files of a config: which names each sets and reads, and what they give with other values."""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmbeit3.utils.packaged_configs import configs_folder

BASE = "_base_"


@dataclass
class ConfigFile:
    """One file of a config.

    Attributes:
        path (Path): The file.
        bases (list[ConfigFile]): Those that it inherits from.
        assigned (frozenset[str]): Names that it sets at the top level. Defaults to none.
        read (frozenset[str]): Names that its expressions read. Defaults to none.
        read_of_bases (frozenset[str]): Names that it reads as ``_base_.name``. Defaults to none.
    """

    path: Path
    bases: list[ConfigFile] = field(default_factory=list)
    assigned: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    read_of_bases: frozenset[str] = frozenset()

    def ancestors(self) -> Iterator[ConfigFile]:
        """All files below this one, each before its own bases."""
        for base in self.bases:
            yield base
            yield from base.ancestors()

    @property
    def packaged(self) -> bool:
        """bool: Whether it came with a package and is not the user's own."""
        ours = configs_folder().resolve()
        return ".mim" in self.path.parts or self.path.resolve().is_relative_to(ours)


def read_files(path: str | Path) -> ConfigFile | None:
    """Read which names the files of a config set and read.

    Args:
        path: A config that loads.

    Returns:
        The file with its bases; None where bases are imported (``with read_base()``).
    """
    path = Path(path)
    if Config._is_lazy_import(str(path)):
        return None
    bases = [read_files(_base_path(base, path)) for base in Config._get_base_files(str(path))]
    file = ConfigFile(path, [base for base in bases if base is not None])
    if path.suffix == ".py":
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        file.assigned = frozenset(_assigned(tree.body)) - {BASE}
        file.read = frozenset(n.id for n in names if isinstance(n.ctx, ast.Load))
        file.read_of_bases = frozenset(re.findall(rf"{BASE}(?:\.|\[['\"])(\w+)", text))
    return file


def _base_path(base: str, path: Path) -> str:
    """Where a base of the config at ``path`` is."""
    package, scoped, name = base.partition("::")
    spec = find_spec(package) if scoped else None
    if spec is not None and spec.origin:  # mmengine reads all metafiles of the package for this
        file = Path(spec.origin).parent / ".mim/configs" / name
        if file.is_file():
            return str(file)
    return Config._get_cfg_path(base, str(path))[0]


def _assigned(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Names that statements set, those in ``if`` and ``for`` too."""
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.GeneratorExp)):
                continue
            targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.For)):
                names = (n for target in targets for n in ast.walk(target))
                yield from (n.id for n in names if isinstance(n, ast.Name))


def load_with(
    file: ConfigFile, values: Mapping[str, Any], above: ConfigFile | None = None
) -> dict[str, Any]:
    """Load a config as it would be if its files had given some names other values.

    Args:
        file: The config.
        values: Names and their values: what every assignment of the name gives.
        above: The file whose bases this holds for. Defaults to None, for all files.

    Returns:
        The config.
    """
    changed = None if above is None else {base.path for base in above.ancestors()}
    with tempfile.TemporaryDirectory() as folder:
        path = _rewrite(file, values, changed, Path(folder))
        return Config.fromfile(path, import_custom_modules=False).to_dict()


def _rewrite(
    file: ConfigFile, values: Mapping[str, Any], changed: set[Path] | None, folder: Path
) -> Path:
    """Copy a file and its bases, with an assignment of the new value after each of the old one."""
    if file.path.suffix != ".py":
        return file.path
    bases = []
    for number, base in enumerate(file.bases):
        (folder / str(number)).mkdir()
        bases.append(str(_rewrite(base, values, changed, folder / str(number))))
    tree = ast.parse(file.path.read_text(encoding="utf-8"))
    body: list[ast.stmt] = []
    for statement in tree.body:
        names = set(_assigned([statement]))
        if BASE in names:
            statement = ast.parse(f"{BASE} = {bases!r}").body[0]
        body.append(statement)
        if changed is None or file.path in changed:
            for name in names & set(values):
                body += ast.parse(f"{name} = {values[name]!r}").body
    tree.body = body
    copy = folder / file.path.name
    copy.write_text(ast.unparse(tree), encoding="utf-8")
    return copy


def differences(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Find where two configs differ.

    Args:
        old: One.
        new: The other.
        place: The dotted key of both. Defaults to '', the whole.

    Yields:
        Dotted key and new value of each difference.
    """
    prefix = f"{place}." if place else ""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in (*new, *(key for key in old if key not in new)):
            yield from differences(old.get(key), new.get(key), f"{prefix}{key}")
    elif _holds_dicts(old) and _holds_dicts(new) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{prefix}{index}")
    elif old != new:
        yield place, new


def _holds_dicts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(
        isinstance(entry, (dict, list, tuple)) for entry in value
    )
