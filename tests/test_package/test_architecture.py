"""Imports between the rooms of the package run downwards; docs/architecture.md has every room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
# From the top. Rooms of one line know nothing of each other. No room imports the package itself.
LEVELS = (
    ("__main__",),
    ("cli",),
    ("commands",),
    ("doctor",),
    ("apis",),
    ("inference",),
    ("engine", "export"),
    ("analysis",),
    ("visualization",),
    ("config",),
    ("evaluation", "models"),
    ("datasets", "checkpoint", "text"),
    ("ops",),
    ("utils",),
    ("registry", "version"),
)
# (importing module, imported module): the reason
ALLOWED: dict[tuple[str, str], str] = {}


class Arrow(NamedTuple):
    """An import of one room in another."""

    module: str
    imported: str
    line: int


def arrows(package: Path) -> Iterator[Arrow]:
    """Find all imports inside of a package: at the top, in functions, and for types alone."""
    modules = {_module(path, package): path for path in sorted(package.rglob("*.py"))}
    for module, path in modules.items():
        parent = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _imported(node, parent, modules):
                if name.partition(".")[0] == package.name:
                    yield Arrow(module, name, node.lineno)


def _module(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(node: ast.AST, parent: str, modules: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    above = parent.split(".")[: len(parent.split(".")) - node.level + 1] if node.level else []
    base = ".".join([*above, *filter(None, [node.module])])
    inner = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in modules else base for name in inner]


def wrong(package: Path, levels: tuple[tuple[str, ...], ...] = LEVELS) -> list[str]:
    """Say which imports do not run downwards, and which rooms have no level."""
    level = {room: index for index, rooms in enumerate(levels) for room in rooms}
    found = []
    for arrow in arrows(package):
        source, target = (
            name.split(".")[1] if "." in name else None for name in (arrow.module, arrow.imported)
        )
        if source is None or source == target or arrow[:2] in ALLOWED:
            continue  # the package's own __init__ is above all
        unknown = [room for room in (source, target) if room and room not in level]
        if unknown:
            found.append(f"{unknown[0]} is no room of LEVELS and docs/architecture.md")
        elif target is None or level[source] >= level[target]:
            found.append(f"{arrow.module}, line {arrow.line}, imports {arrow.imported}: upwards")
    return found


def test_arrows_run_downwards() -> None:
    assert wrong(ROOT / "mmbeit3") == []


def test_allowed_imports_are_there() -> None:
    assert set(ALLOWED) <= {arrow[:2] for arrow in arrows(ROOT / "mmbeit3")}


def test_every_room_is_drawn() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    entries = (ROOT / "mmbeit3").iterdir()
    rooms = {
        path.stem for path in entries if (path / "__init__.py").is_file() or path.suffix == ".py"
    } - {"__init__"}
    assert rooms == {room for rooms in LEVELS for room in rooms}
    assert [room for room in rooms if f"`{room}`" not in page and f"`{room}/`" not in page] == []


@pytest.mark.parametrize(
    "text",
    [
        "import house.top.face",
        "from house.top import face",
        "from house import top",
        "from ..top import face",
        "from .. import top",
        "def f():\n    from house.top.face import g",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.top",
        "from house.beside import x",
        "import house.cellar",
        "from house import VALUE",
    ],
)
def test_an_arrow_up_is_found(text: str, tmp_path: Path) -> None:
    house = tmp_path / "house"
    for name in ("top/__init__", "top/face", "low/__init__", "beside", "__init__"):
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / f"{name}.py").write_text("from house.low import room")
    (house / "beside.py").write_text("")
    levels = (("top",), ("low", "beside"))
    assert wrong(house, levels) == []
    (house / "low" / "room.py").write_text(text)
    assert len(wrong(house, levels)) == 1
