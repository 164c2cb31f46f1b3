"""The arguments that a class takes, its ``**kwargs`` followed to the classes it derives from."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from torch import nn

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass
class Arguments:
    """What a class or function can be called with by keyword.

    Attributes:
        names (dict[str, bool]): Each argument, in order, and whether it must be given.
        takes_any (bool): Whether others are taken too, by ``**kwargs`` that go somewhere unknown.
            Defaults to False.
    """

    names: dict[str, bool] = field(default_factory=dict)
    takes_any: bool = False

    def accepts(self, name: str) -> bool:
        """Tell whether the argument ``name`` can be given."""
        return self.takes_any or name in self.names

    @property
    def required(self) -> list[str]:
        """list[str]: Those that must be given."""
        return [name for name, is_required in self.names.items() if is_required]

    def without(self, names: set[str]) -> Arguments:
        """These arguments but for some that the caller gives itself."""
        left = {name: needed for name, needed in self.names.items() if name not in names}
        return Arguments(left, self.takes_any)


@cache
def arguments_of(kind: Callable[..., Any]) -> Arguments:
    """Find the arguments of a class or function.

    A class that hands its ``**kwargs`` on to ``super().__init__`` or ``Base.__init__`` has the
    arguments of those too, without the ones that the call gives. Where ``**kwargs`` go anywhere
    else, any argument is taken.

    Args:
        kind (Callable): The class or function.

    Returns:
        Arguments: Its arguments.
    """
    if inspect.isclass(kind):
        return _of_class(kind, 0)
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):  # written in C
        return Arguments(takes_any=True)
    return Arguments(_named(parameters), any(p.kind is p.VAR_KEYWORD for p in parameters))


def _named(parameters: Any) -> dict[str, bool]:
    return {p.name: p.default is p.empty for p in parameters if p.kind in NAMED}


def _of_class(kind: type, start: int) -> Arguments:
    """The arguments of the first ``__init__`` of a class's MRO from ``start`` on."""
    mro = kind.__mro__
    index = next(i for i in range(start, len(mro)) if "__init__" in vars(mro[i]))
    if mro[index] in (object, nn.Module):
        has_new = mro[index] is object and kind.__new__ is not object.__new__
        return Arguments(takes_any=has_new)
    function = vars(mro[index])["__init__"]
    try:
        parameters = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):
        return Arguments(takes_any=True)
    found = Arguments(_named(parameters) | dict.fromkeys(_renamed(function), False))
    kwargs = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    if kwargs is None:
        return found
    try:
        uses = list(_uses(function, kwargs))
    except (OSError, TypeError, SyntaxError):  # its source is not there
        return Arguments(found.names, takes_any=True)
    found.takes_any = not uses  # they go nowhere
    for use in uses:
        if isinstance(use, str):
            found.names.setdefault(use, False)
        elif use is None:
            found.takes_any = True
        else:
            _add_base(found, kind, index, function, use)
    return found


def _add_base(
    found: Arguments, kind: type, index: int, function: Callable[..., Any], call: ast.Call
) -> None:
    """Add the arguments of the ``__init__`` that ``call`` hands the ``**kwargs`` to."""
    target = call.func.value if isinstance(call.func, ast.Attribute) else None
    skipped = 0
    names = inspect.unwrap(function).__globals__
    if isinstance(target, ast.Call) and not target.args:  # super()
        base = _of_class(kind, index + 1)
    elif isinstance(target, ast.Call):  # super(Other, self)
        other = names.get(getattr(target.args[0], "id", ""))
        start = kind.__mro__.index(other) if other in kind.__mro__ else index
        base = _of_class(kind, start + 1)
    else:
        other = names.get(getattr(target, "id", ""))
        if not inspect.isclass(other):
            found.takes_any = True
            return
        base, skipped = arguments_of(cast(Any, other)), 1  # self
    positional = sum(not isinstance(arg, ast.Starred) for arg in call.args) - skipped
    given = set(list(base.names)[: max(positional, 0)])
    given |= {keyword.arg for keyword in call.keywords if keyword.arg}
    rest = base.without(given)
    found.names = found.names | {n: v for n, v in rest.names.items() if n not in found.names}
    found.takes_any |= rest.takes_any


def _renamed(function: Callable[..., Any]) -> list[str]:
    """Former names of arguments that a decorator, such as mmcv's, still takes."""
    if not hasattr(function, "__wrapped__") or function.__closure__ is None:
        return []
    cells = zip(function.__code__.co_freevars, function.__closure__, strict=True)
    return [
        name for variable, cell in cells if variable == "name_dict" for name in cell.cell_contents
    ]


def _uses(function: Callable[..., Any], kwargs: str) -> Iterator[ast.Call | str | None]:
    """How a function uses its ``**kwargs``.

    Yields:
        A call of another ``__init__`` that gets them, a name that is read from them, or None for
        what cannot be followed.
    """
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == kwargs:
            yield from _use(node, parents)


def _use(node: ast.Name, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.Call | str | None]:
    parent = parents[node]
    grandparent = parents.get(parent)
    if isinstance(parent, ast.keyword) and isinstance(grandparent, ast.Call):
        yield grandparent if _calls_init(grandparent) else None
    elif isinstance(parent, ast.Attribute) and isinstance(grandparent, ast.Call):
        first = grandparent.args[0] if grandparent.args else None
        if parent.attr in ("pop", "get", "setdefault") and isinstance(first, ast.Constant):
            yield _name(first)
        elif parent.attr != "update":
            yield None
    elif isinstance(parent, ast.Subscript) and isinstance(parent.slice, ast.Constant):
        yield _name(parent.slice)
    elif isinstance(parent, ast.Compare) and isinstance(parent.left, ast.Constant):
        yield _name(parent.left)
    elif not isinstance(parent, (ast.If, ast.UnaryOp, ast.Assert, ast.FormattedValue)):
        yield None


def _name(constant: ast.Constant) -> str | None:
    return constant.value if isinstance(constant.value, str) else None


def _calls_init(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "__init__"
