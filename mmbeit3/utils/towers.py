"""What a model says of its towers: stacks of like layers, each with an input of its own.

A tower is a module with ``get_layer_depth(param_name, prefix="") -> (depth, depths)``, mmpretrain's
method: depth 0 is the input's, ``depths - 1`` that of all that comes after its ``num_layers``. Its
``repeated_layers`` are what sharding divides and ``torch.compile`` compiles.
"""

from __future__ import annotations

from torch import nn


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
