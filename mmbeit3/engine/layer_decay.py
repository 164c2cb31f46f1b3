"""Layer-wise learning-rate decay: the nearer a parameter is to the image, the slower it learns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from mmbeit3.engine.param_groups import Groups, ParamGroup, format_groups
from mmbeit3.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmbeit3.utils import InputError
from mmbeit3.utils.terminal import LogText
from mmbeit3.utils.towers import find_towers

CUSTOM_OPTIONS = {"lr_mult", "decay_mult"}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor:
    """Builds the optimizer with learning rates that decay from the heads down to the patches.

    The rule is that of BEiT and of ViTDet: of L layers, patch embedding, positions and CLS token
    have the id 0, layer i has i + 1, and all the rest (neck, heads, the backbone's last norm and
    its adapter) has L + 1, as the backbone's ``get_layer_depth`` says; the learning rate is
    multiplied by ``layer_decay_rate ** (L + 1 - id)``.
    Relative positions are of the layer that they are in, and decayed as its weights are: ViTDet
    exempts the norms and ``pos_embed``, EVA nothing (``projects/ViTDet/configs/COCO`` of both).

    The log of the first process gets a table of the groups; parameters with ``requires_grad=False``
    are in none, and have rows of their own.

    Args:
        optim_wrapper_cfg (dict): Optimizer wrapper with its ``optimizer``, as in mmengine; the
            optimizer must state ``lr`` and ``weight_decay``.
        paramwise_cfg (dict): ``layer_decay_rate`` (float) in (0, 1]; ``flat_decay_mult`` (float),
            the factor on the weight decay of parameters with one dimension or none, biases, norms
            and a scale among them, defaults to 1; and ``custom_keys`` (dict[str, dict], optional):
            ``lr_mult`` and ``decay_mult`` for the parameters whose name contains the key, the
            longest key that fits
            wins. Names and meaning are mmengine's.

    Raises:
        InputError: if an option is missing, unknown or impossible, a key fits no parameter, or a
            parameter of the backbone matches no rule.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        paramwise_cfg = dict(paramwise_cfg or {})
        self.decay_rate = paramwise_cfg.pop("layer_decay_rate", None)
        self.flat_decay_mult = paramwise_cfg.pop("flat_decay_mult", 1.0)
        # As mmengine: the longest first, of equal length in the order of the alphabet.
        custom = paramwise_cfg.pop("custom_keys", None) or {}
        self.custom_keys = dict(sorted(custom.items(), key=lambda item: (-len(item[0]), item[0])))
        self.wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = self.wrapper_cfg.pop("optimizer")
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
        _check_options(self.custom_keys, self.optimizer_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer of ``model`` (bare, or wrapped for distributed training)."""
        groups = self.groups(model)
        base = self.optimizer_cfg["lr"]
        if is_main_process():
            table = format_groups(groups, base, num_layers_of(model))
            text = f"Layer-wise learning-rate decay:\n{table}"
            print_log(LogText(text, _range(groups, base)), "current")
        params = [
            dict(
                params=[param for _, param in members],
                lr=base * group.lr_scale,
                weight_decay=group.weight_decay,
            )
            for group, members in groups.items()
            if not group.frozen
        ]
        optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg, params=params))
        cfg = dict(type="OptimWrapper") | self.wrapper_cfg
        return OPTIM_WRAPPERS.build(cfg, default_args=dict(optimizer=optimizer))

    def groups(self, model: nn.Module) -> Groups:
        """Sort the parameters of ``model`` into groups.

        Args:
            model (nn.Module): Detector or segmentor, bare or wrapped for distributed training.

        Returns:
            Groups: Names and parameters of each group, in ascending order.

        Raises:
            InputError: if a custom key fits no parameter, or a parameter of the backbone no rule.
        """
        model = _bare(model)
        towers = _towers(model)
        named = dict(model.named_parameters())
        _check_keys(self.custom_keys, named)
        groups: Groups = defaultdict(list)
        for name, param in named.items():
            group = self._group_of(name, param, *layer_depth(towers, name))
            groups[group].append((name, param))
        return dict(sorted(groups.items()))

    def _group_of(self, name: str, param: nn.Parameter, layer: int, depths: int) -> ParamGroup:
        if not param.requires_grad:
            return ParamGroup(True, layer)
        key = next((key for key in self.custom_keys if key in name), "")
        custom = self.custom_keys.get(key, {})
        lr_mult = custom.get("lr_mult", 1.0)
        flat = self.flat_decay_mult if param.ndim <= 1 else 1.0
        return ParamGroup(
            False,
            layer,
            self.decay_rate ** (depths - 1 - layer) * lr_mult,
            key if lr_mult != 1 else "",
            self.optimizer_cfg["weight_decay"] * custom.get("decay_mult", flat),
        )


def _range(groups: Groups, base: float) -> str:
    """Say in a line which learning rates there are."""
    rates = [base * group.lr_scale for group in groups if not group.frozen]
    frozen = any(group.frozen for group in groups)
    return (
        f"learning rates by layer: {min(rates):.3g} to {max(rates):.3g}"
        + (", and frozen parts" if frozen else "")
        + " (the table is in the log file)"
    )


def num_layers_of(model: nn.Module) -> int:
    """Count the layers of the towers of ``model``, of the highest where there are several.

    Raises:
        InputError: No module of the model answers ``get_layer_depth``.
    """
    return max(tower.num_layers for tower in _towers(_bare(model)).values())


def layer_depth(towers: Mapping[str, nn.Module], name: str) -> tuple[int, int]:
    """Ask the towers of a model how deep a parameter lies.

    Args:
        towers (Mapping[str, nn.Module]): As :func:`mmbeit3.utils.towers.find_towers` returns them.
        name (str): The parameter, such as ``backbone.layers.3.norm1.weight``.

    Returns:
        tuple[int, int]: 0 for the input of a tower, one more for each layer, and the highest depth
        for what is in no tower (neck and heads); and how many depths there are.

    Raises:
        InputError: A tower does not know its parameter.
    """
    depths = {prefix: tower.get_layer_depth(name, prefix) for prefix, tower in towers.items()}
    own = (depth for prefix, depth in depths.items() if name.startswith(prefix))
    return next(own, max(depths.values()))


def _towers(model: nn.Module) -> dict[str, nn.Module]:
    towers = find_towers(model)
    if not towers:
        backbone = getattr(model, "backbone", None)
        found = "no backbone" if backbone is None else f"the backbone {type(backbone).__name__}"
        raise InputError(
            f"the model has {found}; LayerDecayConstructor needs one that answers get_layer_depth, "
            "such as mmbeit3.BEiT3. For others set optim_wrapper.constructor to "
            "'DefaultOptimWrapperConstructor', and paramwise_cfg to what that one knows"
        )
    return towers


def _bare(model: nn.Module) -> nn.Module:
    """Take off the wrapper of distributed training, as mmengine's constructors do."""
    return getattr(model, "module", model)


def _check_options(custom_keys: Mapping[str, Any], optimizer_cfg: Mapping[str, Any]) -> None:
    for key, options in custom_keys.items():
        if unknown := sorted(set(options) - CUSTOM_OPTIONS):
            raise InputError(
                f"paramwise_cfg.custom_keys has {unknown} under {key!r}; LayerDecayConstructor "
                f"knows {' and '.join(sorted(CUSTOM_OPTIONS))}."
            )
    if absent := [name for name in ("lr", "weight_decay") if name not in optimizer_cfg]:
        raise InputError(
            f"optim_wrapper.optimizer has no {' and no '.join(absent)}, which "
            "LayerDecayConstructor scales; state both."
        )


def _check_keys(custom_keys: Iterable[str], names: Iterable[str]) -> None:
    """Raise an InputError for a key that no name contains: it would be without effect."""
    names = list(names)
    for key in custom_keys:
        if not any(key in name for name in names):
            raise InputError(
                f"paramwise_cfg.custom_keys has {key!r}, which is in the name of no parameter of "
                f"the model: correct it or take it out. The first names are {', '.join(names[:3])}."
            )
