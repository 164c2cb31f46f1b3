"""Groups of parameters that learn alike, and the table that shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import nn


class ParamGroup(NamedTuple):
    """What parameters share; sorts from the patches to the heads, and the frozen ones last.

    Args:
        frozen (bool): Whether they are without gradients, and in no optimizer.
        layer (int): Depth, from 0 (patches) to the number of layers + 1 (heads).
        lr_scale (float): Factor on the optimizer's learning rate. Defaults to 0.
        key (str): The custom key that changed the learning rate. Defaults to "", none did.
        weight_decay (float): Defaults to 0.
    """

    frozen: bool
    layer: int
    lr_scale: float = 0.0
    key: str = ""
    weight_decay: float = 0.0


#: The names and parameters in each group.
Groups = dict[ParamGroup, list[tuple[str, nn.Parameter]]]


def place_name(first: int, last: int, num_layers: int, names: Iterable[str]) -> str:
    """Say in words where parameters are.

    Args:
        first (int): Their depth, as in :class:`ParamGroup`.
        last (int): The same, or the depth of the last of consecutive layers.
        num_layers (int): Layers of the backbone.
        names (Iterable[str]): Their names in the model; only those beyond the layers matter.

    Returns:
        str: Such as "layer 3", "layers 3 to 5" or "neck, rpn_head, roi_head".
    """
    if first == 0:
        return "patch embedding, positions"
    if first <= num_layers:
        return f"layer {first - 1}" if first == last else f"layers {first - 1} to {last - 1}"
    parts = (name.split(".")[: 2 if name.startswith("backbone.") else 1] for name in names)
    return ", ".join(dict.fromkeys(map(".".join, parts)))


def format_groups(groups: Groups, lr: float, num_layers: int) -> str:
    """Write groups as a table: depth, learning rate, and how many parameters decay how much.

    Consecutive layers that learn at the same rate share a line; frozen parts have lines of their
    own. Of a sharded parameter (DTensor) the whole counts.

    Args:
        groups (Groups): The groups, in ascending order.
        lr (float): The optimizer's learning rate.
        num_layers (int): Layers of the backbone.

    Returns:
        str: The table, without a line break at its end.
    """
    rows = _rows(groups, num_layers)
    decays = sorted({group.weight_decay for group in groups if not group.frozen}, reverse=True)
    columns: dict[float | None, str] = {decay: f"decay {decay:g}" for decay in decays}
    if any(row.group.frozen for row in rows):
        columns[None] = "frozen"
    lines = [["group", "layer id", "lr scale", "lr", *columns.values()]]
    lines += [_cells(row, lr, num_layers, list(columns)) for row in rows]
    totals = [sum(row.counts.get(column, 0) for row in rows) for column in columns]
    lines.append(["total", "", "", "", *(f"{total:,}" for total in totals)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        line[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


@dataclass
class _Row:
    """A group without its weight decay, up to the depth ``last``; parameters by weight decay."""

    group: ParamGroup
    last: int
    names: list[str] = field(default_factory=list)
    counts: dict[float | None, int] = field(default_factory=dict)


def _rows(groups: Groups, num_layers: int) -> list[_Row]:
    rows: list[_Row] = []
    for group, members in groups.items():
        kind = group._replace(weight_decay=0.0)
        row = next((row for row in rows if _goes_on(row, kind, num_layers)), None)
        if row is None:
            rows.append(row := _Row(kind, kind.layer))
        decay = None if group.frozen else group.weight_decay
        row.last = group.layer
        row.names += [name for name, _ in members]
        row.counts[decay] = row.counts.get(decay, 0) + sum(p.numel() for _, p in members)
    return rows


def _goes_on(row: _Row, kind: ParamGroup, num_layers: int) -> bool:
    """Tell whether a group is of the row's depth, or of the next one and learns as fast."""
    if kind._replace(layer=row.group.layer) != row.group:
        return False
    return kind.layer == row.last or (row.last >= 1 and kind.layer == row.last + 1 <= num_layers)


def _cells(row: _Row, lr: float, num_layers: int, columns: list[float | None]) -> list[str]:
    group = row.group
    name = place_name(group.layer, row.last, num_layers, row.names)
    name = f"frozen: {name}" if group.frozen else name + (f" ({group.key!r})" if group.key else "")
    ids = f"{group.layer}" if group.layer == row.last else f"{group.layer}-{row.last}"
    rates = [f"{group.lr_scale:.4g}", f"{lr * group.lr_scale:.3e}"]
    counts = [f"{row.counts[column]:,}" if column in row.counts else "-" for column in columns]
    return [name, ids, *(["-", "-"] if group.frozen else rates), *counts]
