"""The layouts in which BEiT-3's towers are stored, translated to and from this project's.

``official``: the files of microsoft/unilm ``beit3``, written by torchscale: separate q, k and v, a
vision branch (A) and a text branch (B) of everything, two unused rows before the positions.
``timm``: the vision tower alone, q, k and v fused. ``mmbeit3``: the names of
:class:`mmbeit3.models.BEiT3`, alone, as the ``backbone.`` of a detector, or as the ``vision.`` next
to the ``text.`` of a :class:`mmbeit3.models.BEiT3Multiway`, which may be part of a larger model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmbeit3.utils import InputError, listed

BACKBONE = "backbone."
OFFICIAL = "beit3."
TOWERS = {"A": "vision", "B": "text"}
# Modules of a layer: our name to the official ones; q, k and v are stacked in this order.
OFFICIAL_LAYER = {
    "norm1": ["self_attn_layer_norm.{branch}"],
    "attn.qkv": [f"self_attn.{part}_proj.{{branch}}" for part in "qkv"],
    "attn.norm": ["self_attn.inner_attn_ln.{branch}"],
    "attn.proj": ["self_attn.out_proj.{branch}"],
    "norm2": ["final_layer_norm.{branch}"],
    "ffn.fc1": ["ffn.{branch}.fc1"],
    "ffn.norm": ["ffn.{branch}.ffn_layernorm"],
    "ffn.fc2": ["ffn.{branch}.fc2"],
}
# What comes before the layers, by branch: weights of no other branch.
OFFICIAL_INPUT = {
    "A": {
        "patch_embed.proj.weight": "vision_embed.proj.weight",
        "patch_embed.proj.bias": "vision_embed.proj.bias",
        "cls_token": "vision_embed.cls_token",
        "mask_token": "vision_embed.mask_token",
    },
    "B": {"text_embed.weight": "text_embed.weight"},
}
POSITIONS = ("pos_embed", "pos_embed_unused")
# Not in every file: ImageNet and VQA files and timm's have no final LN, timm's no mask token.
OPTIONAL = ("norm.weight", "norm.bias", "mask_token", "pos_embed_unused")
FINGERPRINTS = {
    "official": re.compile(r"^(beit3\.)?encoder\.layers\.\d+\.self_attn\.\w+\.A\."),
    "timm": re.compile(r"^blocks\.\d+\.attn\.norm\."),
    "mmbeit3": re.compile(r"^(backbone\.|(\w+\.)*(vision|text)\.)?layers\.\d+\.attn\.norm\."),
}
# Where a tower of ours is in a file, by branch.
OWN = {
    "A": re.compile(r"^(backbone\.|(?:\w+\.)*vision\.|)layers\.\d+\.attn\.norm\."),
    "B": re.compile(r"^((?:\w+\.)*text\.|)layers\.\d+\.attn\.norm\."),
}


@dataclass
class Tower:
    """A tower of a file, under this project's names.

    Args:
        layout: "official", "timm" or "mmbeit3".
        weights: Of vision the names of ``BEiT3(with_cls_token=True, final_norm=True)``, as far as
            the file has them, and of official files ``mask_token`` (1, 1, C); ``pos_embed`` begins
            with CLS where there is a ``cls_token``. Of text ``text_embed.weight`` (vocabulary, C)
            in place of patches and CLS. Of official files ``pos_embed_unused`` (1, 2, C) too, the
            two rows before the others.
        unused: What else the file holds, by design of no use to the tower: kind to names.
    """

    layout: str
    weights: dict[str, Tensor]
    unused: dict[str, list[str]] = field(default_factory=dict)


def find_layout(names: Iterable[str]) -> str | None:
    """Tell the layout of a file from its names: "official", "timm", "mmbeit3", or None."""
    names = list(names)
    for layout, fingerprint in FINGERPRINTS.items():
        if any(fingerprint.match(name) for name in names):
            return layout
    return None


def own_prefix(state: Iterable[str], branch: str = "A") -> str | None:
    """What stands before the names of this project's tower in a file; None where there is none."""
    match = next((match for name in state if (match := OWN[branch].match(name))), None)
    if match is None or (branch == "B" and f"{match[1]}text_embed.weight" not in state):
        return None
    return match[1]


def holds_text(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a file of BEiT-3 holds a text tower."""
    official = ("text_embed.weight", f"{OFFICIAL}text_embed.weight")
    in_official = find_layout(state) == "official" and any(name in state for name in official)
    return in_official or own_prefix(state, "B") is not None


def read_tower(
    state: Mapping[str, Tensor], origin: str = "the checkpoint", branch: str = "A"
) -> Tower:
    """Pick a tower out of the weights of a file, whatever its layout.

    Args:
        state: Names to tensors, as :func:`mmbeit3.checkpoint.state_dict_of` returns them.
        origin: What to call the file in errors. Defaults to "the checkpoint".
        branch: Which one of an official file: "A", vision, or "B", text. Defaults to "A".

    Returns:
        The tower; tensors keep their dtype.

    Raises:
        InputError: The file is not of BEiT-3, or an official or timm file lacks a weight of the
            tower or has one that BEiT-3 does not know.
    """
    layout = find_layout(state)
    if layout is None or (layout, branch) == ("timm", "B"):
        raise InputError(f"{origin} holds no BEiT-3 {TOWERS[branch]} tower{_guess(state)}")
    if layout == "official":
        return _read_official(state, origin, branch)
    return _read_timm(state, origin) if layout == "timm" else _read_own(state, origin, branch)


def official_state_dict(weights: Mapping[str, Tensor], branch: str = "A") -> dict[str, Tensor]:
    """Name a tower as the official files do: the exact inverse of reading one.

    Args:
        weights: ``Tower.weights``.
        branch: "A", vision, or "B", text. Defaults to "A".

    Returns:
        ``beit3.*`` names to tensors: those of the branch only. A mask token and the two unused rows
        of positions are zeros where the tower has none.

    Raises:
        InputError: The vision tower has no CLS token, or weights for which the layout has no place.
    """
    if branch == "A" and "cls_token" not in weights:
        raise InputError(
            "the official layout needs the CLS token and its position, which this file lacks: it "
            "was trained with with_cls_token=False"
        )
    names = _official_names(_depth(weights, r"layers\.(\d+)\."), branch)
    _require(names, weights, "the file", branch)
    no_place = [name for name in weights if name not in names and name not in POSITIONS]
    if no_place:
        raise InputError(f"the official layout has no place for {listed(no_place)}")
    weights = dict(weights)
    positions = weights.pop("pos_embed")
    unused_rows = weights.pop("pos_embed_unused", torch.zeros_like(positions[:, :2]))
    weights["pos_embed"] = torch.cat([unused_rows, positions], 1)[0]
    if branch == "A":
        weights.setdefault("mask_token", torch.zeros_like(weights["cls_token"]))
    state: dict[str, Tensor] = {}
    for name, parts in names.items():
        if name in weights:
            state.update(zip(parts, weights[name].chunk(len(parts)), strict=True))
    return {OFFICIAL + name: value.clone() for name, value in state.items()}


def _read_official(state: Mapping[str, Tensor], origin: str, branch: str) -> Tower:
    # The released files hold BEiT3 as `beit3.` of a task model; torchscale's BEiT3 has no prefix.
    prefix = OFFICIAL if any(name.startswith(OFFICIAL) for name in state) else ""
    inner = (OFFICIAL,) if prefix else ("encoder.", "vision_embed.", "text_embed.")
    core = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(inner)}
    sources = _official_names(_depth(core, r"encoder\.layers\.(\d+)\."), branch)
    needed = [part for name, parts in sources.items() if name not in OPTIONAL for part in parts]
    _require(needed, core, origin, branch)
    weights = {
        name: torch.cat([core.pop(part) for part in parts])
        if len(parts) > 1
        else core.pop(parts[0])
        for name, parts in sources.items()
        if parts[0] in core
    }
    # Rows 0 and 1: unused; of vision 2: CLS, 3 and on: patches; of text 2 and on: tokens.
    table = weights["pos_embed"][None]
    weights["pos_embed_unused"], weights["pos_embed"] = table[:, :2], table[:, 2:]
    other = "B" if branch == "A" else "A"
    embed = f"{TOWERS[other]}_embed."
    rest = [name for name in core if f".{other}." in name or name.startswith(embed)]
    _refuse_unknown([name for name in core if name not in rest], origin, branch)
    heads = [name for name in state if not name.startswith(inner)]
    unused = {f"{TOWERS[other]} branch": [prefix + name for name in rest], "heads": heads}
    return Tower("official", weights, {kind: names for kind, names in unused.items() if names})


def _read_timm(state: Mapping[str, Tensor], origin: str) -> Tower:
    heads = [name for name in state if name.startswith(("fc_norm.", "head."))]
    weights = {
        re.sub(r"^blocks\.", "layers.", name).replace(".mlp.", ".ffn."): value
        for name, value in state.items()
        if name not in heads
    }
    known = _official_names(_depth(weights, r"layers\.(\d+)\."), "A")
    del known["mask_token"]
    _require(known, weights, origin, "A")
    _refuse_unknown([name for name in weights if name not in known], origin, "A")
    return Tower("timm", weights, {"heads": heads} if heads else {})


def _read_own(state: Mapping[str, Tensor], origin: str, branch: str) -> Tower:
    prefix = own_prefix(state, branch)
    if prefix is None:
        raise InputError(f"{origin} holds no BEiT-3 {TOWERS[branch]} tower{_guess(state)}")
    if not prefix:
        return Tower("mmbeit3", dict(state))
    weights = {n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)}
    rest = [name for name in state if not name.startswith(prefix)]
    return Tower("mmbeit3", weights, {"other parts of the model": rest} if rest else {})


def _official_names(depth: int, branch: str) -> dict[str, list[str]]:
    """Our names of a tower to the official ones without their prefix."""
    names = {ours: [theirs] for ours, theirs in OFFICIAL_INPUT[branch].items()}
    names["pos_embed"] = [f"encoder.embed_positions.{branch}.weight"]
    modules = {"norm": ["layer_norm.{branch}"]}
    for index in range(depth):
        for ours, parts in OFFICIAL_LAYER.items():
            modules[f"layers.{index}.{ours}"] = [f"layers.{index}.{part}" for part in parts]
    for ours, parts in modules.items():
        for kind in ("weight", "bias"):
            names[f"{ours}.{kind}"] = [
                f"encoder.{part.format(branch=branch)}.{kind}" for part in parts
            ]
    return names


def _depth(names: Iterable[str], pattern: str) -> int:
    """One more than the highest layer index."""
    found = (re.match(pattern, name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _require(names: Iterable[str], state: Mapping[str, Tensor], origin: str, branch: str) -> None:
    missing = sorted(name for name in names if name not in state and name not in OPTIONAL)
    if missing:
        raise InputError(
            f"{origin} lacks {len(missing)} weights of BEiT-3's {TOWERS[branch]} tower: "
            f"{listed(missing)}. "
            "The file was cut down or is of another model; download it again"
        )


def _refuse_unknown(names: list[str], origin: str, branch: str) -> None:
    if names:
        raise InputError(
            f"{origin} has {len(names)} weights that BEiT-3's {TOWERS[branch]} tower does not "
            f"know: {listed(sorted(names))}. It is of a changed model; loading the rest would "
            "compute something else"
        )


def _guess(state: Mapping[str, Tensor]) -> str:
    """Say what the file may be instead, as the end of a message."""
    known = {
        r"^(model\.)?layers\.\d+\.(?!attn\.norm)": "a transformer without the sub-LNs of BEiT-3",
        r"^blocks\.\d+\.attn\.": "a ViT, BEiT or BEiT-2 without the sub-LNs of BEiT-3",
        r"^(visual|vision_model|image_encoder)\.": "a CLIP or SAM model",
        r"^(layer1|backbone\.layer1)\.": "a ResNet",
    }
    hits = [what for pattern, what in known.items() if any(re.match(pattern, n) for n in state)]
    what = f"; it looks like {hits[0]}" if hits else ""
    return (
        f"{what}. Its names are {listed(list(state))}; expected those of an official beit3_*.pth, "
        "of timm's beit3_* or of this project"
    )
