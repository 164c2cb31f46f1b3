"""LoRA (arXiv 2106.09685): a tower learns by low-rank matrices beside its frozen weights.

The matrices are of a training alone. The Runner puts them on by ``peft``; a checkpoint's
``state_dict`` has them added to the weights, under the names of a tower without them, so that
whatever reads a checkpoint reads this one. What resuming needs is beside it, under
:data:`UNMERGED`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from mmbeit3.utils.errors import InputError
from mmbeit3.utils.optional_packages import optional_package
from mmbeit3.utils.towers import find_towers

#: Where a checkpoint has the weights and matrices apart.
UNMERGED = "lora_state_dict"
#: What the names of the matrices hold.
MARK = ".lora_"
#: The linear maps of a layer that get them.
TARGETS = ("attn.qkv", "attn.proj", "ffn.fc1", "ffn.fc2")
# What released towers do not have, and so is trained as a whole.
NEW = ("adapter.", ".rel_pos.")
OPTIONS = {"rank", "alpha", "dropout"}


def check_lora(lora: Mapping[str, Any] | None) -> None:
    """Raise an InputError unless a tower's option ``lora`` is one that :func:`add_lora` takes."""
    if lora is None:
        return
    if unknown := sorted(set(lora) - OPTIONS):
        raise InputError(f"lora has {unknown}; expected {', '.join(sorted(OPTIONS))}")
    rank = lora.get("rank")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise InputError(f"lora.rank is {rank!r}; expected a positive whole number, such as 8")
    if not lora.get("alpha", 1) > 0 or not 0 <= lora.get("dropout", 0) < 1:
        raise InputError(f"lora is {dict(lora)}; expected alpha above 0 and dropout in [0, 1)")


def add_lora(model: nn.Module) -> None:
    """Put matrices beside the weights of the towers whose option ``lora`` asks for them.

    Of such a tower they alone are trained, and what released files do not have (the ViT-Adapter,
    relative positions); what is outside of towers is as it was. Names of the state dict stay.

    Args:
        model (nn.Module): A model whose optimizer is not built yet. It is changed.

    Raises:
        InputError: peft is not installed.
    """
    for prefix, tower in find_towers(model).items():
        if options := getattr(tower, "lora", None):
            _add(tower, options)
            trained = sum(p.numel() for p in tower.parameters() if p.requires_grad)
            total = sum(p.numel() for p in tower.parameters())
            print_log(
                f"LoRA of rank {options['rank']}: {trained:,} of {total:,} parameters of "
                f"{prefix.rstrip('.') or 'the tower'} are trained",
                "current",
            )


def _add(tower: Any, options: Mapping[str, Any]) -> None:
    peft = optional_package("peft", "LoRA (the backbone's option lora)", "lora")
    layers = range(max(tower.frozen_stages, 0), tower.num_layers)
    config = peft.LoraConfig(
        r=options["rank"],
        lora_alpha=options.get("alpha", 2 * options["rank"]),
        lora_dropout=options.get("dropout", 0.0),
        target_modules=[f"layers.{index}.{name}" for index in layers for name in TARGETS],
    )
    new = {
        name
        for name, param in tower.named_parameters()
        if param.requires_grad and any(part in name for part in NEW)
    }
    peft.inject_adapter_in_model(config, tower)  # freezes all that it has not put on
    for name, param in tower.named_parameters():
        if name in new:
            param.requires_grad_(True)
    for _, layer in lora_layers(tower):
        layer._register_state_dict_hook(_name_as_without)
        layer._register_load_state_dict_pre_hook(partial(_name_as_peft, layer))


def lora_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Names and modules of the linear maps that have matrices beside them."""
    for name, module in model.named_modules():
        if hasattr(module, "base_layer") and hasattr(module, "lora_A"):
            yield name, module


def _name_as_without(
    layer: nn.Module, state: MutableMapping[str, Tensor], prefix: str, metadata: Any
) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}base_layer.")]:
        state[name.replace("base_layer.", "")] = state.pop(name)


def _name_as_peft(
    layer: nn.Module, state: MutableMapping[str, Tensor], prefix: str, *args: Any
) -> None:
    for name in ("weight", "bias"):
        if prefix + name in state:
            state[f"{prefix}base_layer.{name}"] = state.pop(prefix + name)


def merge_lora(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Add the matrices to the weights in a checkpoint that is about to be written.

    Args:
        model (nn.Module): The model, without a wrapper.
        checkpoint (dict): Its ``state_dict``, whole tensors, is changed; one with the state of an
            optimizer gets :data:`UNMERGED`.
    """
    state = checkpoint["state_dict"]
    apart: dict[str, Tensor] = {}
    for name, layer in lora_layers(model):
        for adapter, scale in layer.scaling.items():
            keys = [f"{name}.lora_{side}.{adapter}.weight" for side in "AB"]
            down, up = (state.pop(key) for key in keys)
            weight = state[f"{name}.weight"]
            apart |= {f"{name}.weight": weight, keys[0]: down, keys[1]: up}
            state[f"{name}.weight"] = weight + scale * (up @ down).to(weight.dtype)
    if apart and "optimizer" in checkpoint:
        checkpoint[UNMERGED] = apart


def part_lora(model: nn.Module, checkpoint: dict[str, Any], resume: bool, origin: str) -> None:
    """Fit the weights of a checkpoint to a model with matrices; of others nothing is changed.

    Args:
        model (nn.Module): The model, without a wrapper.
        checkpoint (dict): Its ``state_dict`` is replaced.
        resume (bool): Whether the training that wrote it goes on, with its matrices. Otherwise
            they begin where they add nothing to the weights of the file.
        origin (str): What to call the checkpoint.

    Raises:
        InputError: A training is to go on that had no matrices, or without those that it had.
    """
    own = {name: value for name, value in model.state_dict().items() if MARK in name}
    if not own:
        if resume and checkpoint.get(UNMERGED):
            raise InputError(
                f"{origin} cannot be resumed with this config: it was trained with LoRA, and the "
                "backbone has no option lora: set model.backbone.lora as it was. To train from its "
                "weights, set load_from to it and leave resume out"
            )
        return
    if resume:
        if not isinstance(checkpoint.get(UNMERGED), Mapping):
            raise InputError(
                f"{origin} cannot be resumed with this config: it was trained without LoRA, and "
                "the backbone has the option lora. To train from its weights, set load_from to it "
                "and leave resume out"
            )
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **checkpoint[UNMERGED]}
        return
    start = {
        name: value.new_zeros(value.shape) if "_B." in name else value
        for name, value in own.items()
    }
    checkpoint["state_dict"] = {**start, **checkpoint["state_dict"]}
