"""What a model says of its towers: stacks of like layers, each with an input of its own.

A tower is a module with ``get_layer_depth(param_name, prefix="") -> (depth, depths)``, mmpretrain's
method: depth 0 is the input's, ``depths - 1`` that of all that comes after its ``num_layers``. Its
``repeated_layers`` are what sharding divides and ``torch.compile`` compiles.
"""

from __future__ import annotations

import re

from torch import nn

from mmbeit3.utils.errors import InputError


def find_towers(model: nn.Module) -> dict[str, nn.Module]:
    """Towers of a model by what their parameters' names begin with, such as ``backbone.``."""
    return {
        f"{name}." if name else "": module
        for name, module in model.named_modules()
        if hasattr(module, "get_layer_depth")
    }


def find_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Repeated layers of all towers of a model by their names, such as ``backbone.layers.0``."""
    layers = {
        id(layer)
        for tower in find_towers(model).values()
        for layer in getattr(tower, "repeated_layers", ())
    }
    return {name: module for name, module in model.named_modules() if id(module) in layers}


def depth_in_tower(
    tower: nn.Module,
    param_name: str,
    prefix: str,
    before: tuple[str, ...],
    after: tuple[str, ...],
) -> tuple[int, int]:
    """Answer ``get_layer_depth`` for a tower whose layers are ``layers.N``.

    Args:
        tower (nn.Module): Of ``num_layers`` layers.
        param_name (str): Name of a parameter.
        prefix (str): What stands before the tower's own names.
        before (tuple[str, ...]): Parameters, and modules by their names with a dot, of depth 0.
        after (tuple[str, ...]): How the names begin of what comes after the layers.

    Returns:
        tuple[int, int]: The depth; how many depths there are.

    Raises:
        InputError: The tower does not know the parameter.
    """
    name, last = param_name.removeprefix(prefix), tower.num_layers + 1
    if not param_name.startswith(prefix) or name.startswith(after):
        return last, last + 1
    if any(name.startswith(part) if part.endswith(".") else name == part for part in before):
        return 0, last + 1
    if match := re.match(r"layers\.(\d+)\.", name):
        return int(match[1]) + 1, last + 1
    expected = (*before, "layers.N.", *after)
    raise InputError(
        f"{type(tower).__name__} does not know how deep the parameter {param_name} lies; "
        f"expected a name that begins with {', '.join(prefix + part for part in expected)}"
    )
