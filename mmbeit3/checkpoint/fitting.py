"""A tower of any file made to fit a model's: left out, resized, or refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from mmbeit3.checkpoint.layouts import Tower
from mmbeit3.checkpoint.resizing import resize_patch_kernel, resize_position_embedding
from mmbeit3.utils import InputError

KERNEL = "patch_embed.proj.weight"
WORDS = "text_embed.weight"
ADAPTER = "adapter."
# What a file may hold and a backbone may be built without.
LEFT_OUT = {
    "CLS token and its position": ["cls_token"],
    "final LN (final_norm=False)": ["norm.weight", "norm.bias"],
    "mask token": ["mask_token"],
    "two position rows that BEiT-3 never reads": ["pos_embed_unused"],
}


class Backbone(Protocol):
    """What fitting needs to know of :class:`mmbeit3.models.BEiT3`; of a text tower no sizes."""

    grid_size: tuple[int, int]
    patch_size: int

    def state_dict(self) -> dict[str, Tensor]:
        """Names to tensors."""


@dataclass
class FittedTower:
    """Weights in the sizes of a backbone.

    Args:
        weights: Names of the backbone to tensors, in the dtype of the file.
        resized: One line for each weight that was resized.
        unused: What the file holds besides, by design of no use here: kind to names.
        left_as_initialized: Weights of the backbone that BEiT-3 does not have, or, of an adapter,
            that the file does not have.
    """

    weights: dict[str, Tensor]
    resized: list[str] = field(default_factory=list)
    unused: dict[str, list[str]] = field(default_factory=dict)
    left_as_initialized: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Lines for the log, each begun with a line break; nothing where there is nothing."""
        lines = [f"resized: {what}" for what in self.resized]
        if self.unused:
            kinds = (_counted(kind, names) for kind, names in self.unused.items())
            lines.append(f"unused by design: {'; '.join(kinds)}")
        adapter = sum(name.startswith(ADAPTER) for name in self.left_as_initialized)
        if adapter:
            lines.append(f"left as initialized: {adapter} weights of the adapter")
        positions = len(self.left_as_initialized) - adapter
        if positions:
            lines.append(
                f"left at zero: {positions} relative positions, which BEiT-3 does not have"
            )
        return "".join(f"\n  {line}" for line in lines)


def fit_tower(tower: Tower, backbone: Backbone, origin: str = "the checkpoint") -> FittedTower:
    """Leave out what the backbone is built without, and resize positions and patch kernel.

    Args:
        tower: The tower of a file.
        backbone: The backbone that it is for. It is not changed.
        origin: What to call the file in errors.

    Returns:
        The weights; whether they are all that the backbone needs is for the caller to check.

    Raises:
        InputError: The file's positions are of no square grid, so that they cannot be resized.
    """
    own = backbone.state_dict()
    fitted = FittedTower(dict(tower.weights), unused=dict(tower.unused))
    for kind, names in LEFT_OUT.items():
        dropped = [name for name in names if name in fitted.weights and name not in own]
        if dropped:
            fitted.unused[kind] = dropped
        for name in dropped:
            del fitted.weights[name]
    if tower.layout != "mmbeit3":
        fitted.left_as_initialized = [name for name in own if ".rel_pos." in name]
    if not any(name.startswith(ADAPTER) for name in fitted.weights):
        fitted.left_as_initialized += [name for name in own if name.startswith(ADAPTER)]
    if WORDS in own:
        _fit_text_positions(fitted, own["pos_embed"].shape[1])
    elif "pos_embed" in fitted.weights:
        _fit_positions(fitted, tower, backbone, "cls_token" in own, origin)
    if KERNEL in fitted.weights:
        _fit_kernel(fitted, backbone.patch_size)
        _fit_channels(fitted, own[KERNEL].shape[1])
    return fitted


def _fit_positions(
    fitted: FittedTower, tower: Tower, backbone: Backbone, with_cls: bool, origin: str
) -> None:
    table = tower.weights["pos_embed"]
    file_has_cls = "cls_token" in tower.weights
    if table.ndim != 3 or table.shape[1] <= file_has_cls:
        return  # of no grid: refused for its shape
    cls, patches = table.split([int(file_has_cls), table.shape[1] - file_has_cls], 1)
    old = _grid_of(patches.shape[1], backbone.grid_size, file_has_cls, origin)
    new = backbone.grid_size
    if old != new:
        patches = resize_position_embedding(patches.float().unflatten(1, old), new)
        fitted.resized.append(f"positions {_by(old)} -> {_by(new)} tokens (bicubic)")
    if file_has_cls and with_cls:
        patches = torch.cat([cls.to(patches.dtype), patches], 1)
    fitted.weights["pos_embed"] = patches


def _fit_text_positions(fitted: FittedTower, wanted: int) -> None:
    """Keep the first rows of a table for longer texts; they are those of the same tokens."""
    table = fitted.weights.get("pos_embed")
    if table is not None and table.ndim == 3 and table.shape[1] > wanted:
        fitted.weights["pos_embed"] = table[:, :wanted]
        fitted.resized.append(f"positions {table.shape[1]} -> {wanted} tokens (the first)")


def _fit_kernel(fitted: FittedTower, patch_size: int) -> None:
    kernel = fitted.weights[KERNEL]
    old = tuple(kernel.shape[2:])
    is_square = len(old) == 2 and old[0] == old[1]  # else it is refused for its shape
    if is_square and old[0] != patch_size:
        fitted.weights[KERNEL] = resize_patch_kernel(kernel.float(), patch_size)
        fitted.resized.append(
            f"patch kernel {_by(old)} -> {_by((patch_size, patch_size))} pixels (pseudo-inverse)"
        )


def _fit_channels(fitted: FittedTower, wanted: int) -> None:
    """Make the kernel of a file for colors one of other bands, by the rule of timm.

    The channels are repeated in their order, red, green, blue, red and so on, and scaled to the sum
    that they had (for one channel, they are added): gray bands give the tokens of a gray image.
    """
    kernel = fitted.weights[KERNEL]
    if kernel.ndim != 4 or kernel.shape[1] != 3 or wanted == 3:
        return  # of another file it is refused for its shape
    from timm.models import adapt_input_conv  # brings torchvision: `mmbeit3 info` is faster

    fitted.weights[KERNEL] = adapt_input_conv(wanted, kernel.float())
    fitted.resized.append(
        f"patch kernel 3 -> {wanted} channels (repeated, timm's adapt_input_conv)"
    )


def _grid_of(
    count: int, wanted: tuple[int, int], file_has_cls: bool, origin: str
) -> tuple[int, int]:
    """Height and width of a position table, of which a file stores the number of rows only.

    Tables of published files are square. A table with as many rows as the backbone's is of the same
    grid if it comes from training here, which with windows means without CLS.
    """
    side = math.isqrt(count)
    square = side * side == count
    if count == math.prod(wanted) and not (square and file_has_cls):
        return wanted
    if square:
        return side, side
    raise InputError(
        f"{origin} has {count} positions, which are no square grid and not the "
        f"{_by(wanted)} of this model: set img_size and patch_size to those it was trained with"
    )


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))


def _counted(kind: str, names: list[str]) -> str:
    if kind != "heads":
        return kind if kind in LEFT_OUT else f"{kind} ({len(names)} weights)"
    modules = sorted({name.partition(".")[0] for name in names})
    return f"heads {', '.join(modules)} ({len(names)} weights)"
