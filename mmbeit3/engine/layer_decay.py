"""Layer-wise learning-rate decay: the nearer a parameter is to the image, the slower it learns."""

from __future__ import annotations

import re
from typing import NamedTuple

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from mmbeit3.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmbeit3.utils import InputError


class _Group(NamedTuple):
    """What the parameters of one optimiser group share; sorts from the patches to the heads."""

    layer: int
    lr: float
    weight_decay: float


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor:
    """Builds the optimiser with learning rates that decay from the heads down to the patches.

    The rule is that of BEiT and of ViTDet: of L layers, patch embedding, positions and CLS token
    have the id 0, layer i has i + 1, and all the rest (neck, heads, the backbone's last norm and
    its adapter) has L + 1; the learning rate is multiplied by ``layer_decay_rate ** (L + 1 - id)``.

    Args:
        optim_wrapper_cfg (dict): Optimiser wrapper with its ``optimizer``, as in mmengine; the
            optimiser must state ``lr`` and ``weight_decay``.
        paramwise_cfg (dict): ``layer_decay_rate`` (float) in (0, 1]; ``flat_decay_mult`` (float),
            the factor on the weight decay of parameters with one dimension, biases and norms among
            them, defaults to 1; and ``custom_keys`` (dict[str, dict], optional): ``lr_mult`` and
            ``decay_mult`` for the parameters whose name contains the key, the longest key that fits
            wins. Names and meaning are mmengine's.

    Raises:
        InputError: if an option is missing, unknown or impossible, or a parameter of the backbone
            matches no rule.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        paramwise_cfg = dict(paramwise_cfg or {})
        self.decay_rate = paramwise_cfg.pop("layer_decay_rate", None)
        self.flat_decay_mult = paramwise_cfg.pop("flat_decay_mult", 1.0)
        self.custom_keys = paramwise_cfg.pop("custom_keys", {})
        if self.decay_rate is None or not 0 < self.decay_rate <= 1:
            raise InputError(
                f"paramwise_cfg.layer_decay_rate is {self.decay_rate!r}; "
                "LayerDecayConstructor needs a number above 0 and up to 1."
            )
        if paramwise_cfg:
            raise InputError(
                f"paramwise_cfg has {sorted(paramwise_cfg)}; LayerDecayConstructor knows "
                "layer_decay_rate, flat_decay_mult and custom_keys."
            )
        self.wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = self.wrapper_cfg.pop("optimizer")

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser of ``model`` (bare, or wrapped for distributed training)."""
        model = getattr(model, "module", model)
        groups: dict[_Group, list[nn.Parameter]] = {}
        for name, param in model.named_parameters():
            if param.requires_grad:
                group = self._group_of(name, param.ndim, len(model.backbone.layers))
                groups.setdefault(group, []).append(param)
        groups = dict(sorted(groups.items()))
        _log_table(groups)
        params = [
            dict(params=members, lr=group.lr, weight_decay=group.weight_decay)
            for group, members in groups.items()
        ]
        optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg, params=params))
        cfg = dict(type="OptimWrapper") | self.wrapper_cfg
        return OPTIM_WRAPPERS.build(cfg, default_args=dict(optimizer=optimizer))

    def _group_of(self, name: str, ndim: int, num_layers: int) -> _Group:
        layer = layer_id(name, num_layers)
        keys = sorted((key for key in self.custom_keys if key in name), key=len)
        custom = self.custom_keys[keys[-1]] if keys else {}
        scale = self.decay_rate ** (num_layers + 1 - layer)
        flat = self.flat_decay_mult if ndim == 1 else 1.0
        return _Group(
            layer,
            self.optimizer_cfg["lr"] * scale * custom.get("lr_mult", 1.0),
            self.optimizer_cfg["weight_decay"] * custom.get("decay_mult", flat),
        )


def _log_table(groups: dict[_Group, list[nn.Parameter]]) -> None:
    lines = [f"{'layer':>5}  {'lr':>10}  {'weight decay':>12}  {'parameters':>12}"]
    for group, members in groups.items():
        count = sum(param.numel() for param in members)
        lines.append(
            f"{group.layer:>5}  {group.lr:>10.3e}  {group.weight_decay:>12g}  {count:>12,}"
        )
    print_log("Layer-wise learning-rate decay:\n" + "\n".join(lines), "current")


def layer_id(name: str, num_layers: int) -> int:
    """Depth of a parameter, 0 (input) to ``num_layers + 1`` (neck and heads).

    Args:
        name (str): Name in the detector or segmentor, such as ``backbone.layers.3.norm1.weight``.
        num_layers (int): Layers of the backbone.

    Raises:
        InputError: if a parameter of the backbone matches no rule.
    """
    if not name.startswith("backbone."):
        return num_layers + 1
    if re.match(r"backbone\.(patch_embed\.|pos_embed$|cls_token$|mask_token$)", name):
        return 0
    if match := re.match(r"backbone\.layers\.(\d+)\.", name):
        return int(match.group(1)) + 1
    if name.startswith(("backbone.norm.", "backbone.adapter.")):
        return num_layers + 1
    raise InputError(
        f"the parameter {name} matches no rule of layer-wise learning-rate decay. Expected "
        "backbone.patch_embed.*, backbone.pos_embed, backbone.cls_token, backbone.layers.N.*, "
        "backbone.norm.* or backbone.adapter.*."
    )
