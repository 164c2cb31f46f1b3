"""Translate BEiT-3 weights to another layout, and check that they compute the same."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from mmbeit3.checkpoint import (
    Tower,
    check_checkpoint,
    find_layout,
    find_task,
    from_official,
    load_backbone,
    official_state_dict,
    read_checkpoint,
    read_tower,
    state_dict_of,
    to_official,
)
from mmbeit3.checkpoint.layouts import BACKBONE, OFFICIAL, TOWERS, holds_text, own_prefix
from mmbeit3.checkpoint.saving import check_suffix, save_checkpoint
from mmbeit3.checkpoint.tasks import TASKS, describe_task
from mmbeit3.checkpoint.values import check_values
from mmbeit3.models import BEiT3, BEiT3Text
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.archs import ARCH_ZOO
from mmbeit3.version import __version__

LAYOUTS = ("mmbeit3", "official")
LIMIT = 1e-5
OUTER = ("patch_embed.proj.weight", "pos_embed", "layers.0.ffn.fc1.weight")


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    to: str = "mmbeit3",
    check: bool = False,
    trust: bool = False,
    whole: bool = False,
) -> Path:
    """Write the vision tower of a file in another layout; dtype and values stay bit for bit.

    Args:
        source: An official, timm or mmbeit3 file (a detector's backbone too), path or address.
        target: The file to write, .pth or .safetensors.
        to: The layout to write, "mmbeit3" or "official". Defaults to "mmbeit3".
        check: Whether to run both on a random image and to translate back, before the file is
            written. Defaults to False.
        trust: Whether the source may build any Python object. Defaults to False.
        whole: Whether the text tower and the heads go with it: from an official file, or from a
            model of this project whose task was released. Defaults to False.

    Returns:
        The file written.

    Raises:
        InputError: The source cannot be read, is not of BEiT-3 or is the target, the target layout
            has no place for its weights, the check failed, or the target cannot be written; what
            was there is as it was then.
    """
    if to not in LAYOUTS:
        raise InputError(f"to is {to!r}; it must be one of {', '.join(LAYOUTS)}")
    target = Path(target).expanduser()
    check_suffix(target)
    path = check_checkpoint(source)
    if os.path.exists(target) and target.samefile(path):
        raise InputError(
            f"{target} is SRC itself, which holds more than its translation: give another DST"
        )
    state = state_dict_of(read_checkpoint(path, trust))
    # An address without its query, where access tokens stand: the file may go to others.
    origin = str(source).partition("?")[0] if "://" in str(source) else str(path)
    tower = read_tower(state, origin)
    _require_outer(tower, origin)
    if whole:
        check_values(state, origin)
        converted = _whole(state, to, origin)
        print(_description(replace(tower, unused=_dropped(state, to)), origin))
        print(f"  with it: {_extent(converted)}")
    else:
        check_values(tower.weights, origin)
        converted = official_state_dict(tower.weights) if to == "official" else tower.weights
        print(_description(tower, origin))
    if check:
        _compare_outputs(state, tower, converted)
        if whole:
            _compare_texts(state, converted)
            back = _whole(
                converted, "official" if tower.layout == "official" else "mmbeit3", origin
            )
            left_out = {name for names in _dropped(state, to).values() for name in names}
            kept = {name: value for name, value in state.items() if name not in left_out}
            _compare_bits(_as_encoder(kept), _as_encoder(back))
        else:
            left_out = {_bare(name) for names in tower.unused.values() for name in names}
            kept = {_bare(name): v for name, v in state.items() if _bare(name) not in left_out}
            _compare_bits(kept, _translated_back(converted, tower.layout))
    if to == "official":
        content = {"model": converted}
    else:
        meta = {"mmbeit3_version": __version__, "converted_from": Path(origin).name}
        content = {"meta": meta, "state_dict": converted}
    save_checkpoint(content, target)
    size = target.stat().st_size / 1e6
    print(f"wrote {target}: {to} layout, {len(converted)} weights, {size:.1f} MB")
    return target


def layer_outputs(state: Mapping[str, Tensor], image: Tensor) -> list[Tensor]:
    """Run a vision tower with global attention in float32, official and timm layouts by timm.

    Args:
        state: Weights in any layout.
        image: (B, 3, H, W), of the size that the positions are made for.

    Returns:
        (B, N, C) tokens after each layer.

    Raises:
        InputError: The size of the tower is none of ``ARCH_ZOO``, or it has relative positions.
    """
    tower = read_tower(state)
    if tower.layout == "mmbeit3":
        model, layers = _our_model(tower)
    else:
        model, layers = _timm_model(state, tower)
    outputs: list[Tensor] = []
    for layer in layers:
        layer.register_forward_hook(lambda _module, _args, out: outputs.append(out))
    with torch.inference_mode():
        model.eval()(image)
    return outputs


def _description(tower: Tower, source: str) -> str:
    embed_dims, num_layers, _ = _size(tower)
    dtypes = sorted({str(value.dtype).removeprefix("torch.") for value in tower.weights.values()})
    lines = [
        f"{source}: {tower.layout} layout, {' and '.join(dtypes)}, {num_layers} layers of "
        f"{embed_dims} channels, patches of {_patch_size(tower)} pixels, "
        f"{_num_patches(tower)} positions"
    ]
    lines += [f"  left out: {kind} ({len(names)} weights)" for kind, names in tower.unused.items()]
    return "\n".join(lines)


def _whole(state: Mapping[str, Tensor], to: str, origin: str) -> dict[str, Tensor]:
    """Towers and heads of a file in a layout."""
    layout = find_layout(state)
    if layout == "timm":
        raise InputError(
            f"{origin} is timm's and holds a vision tower alone: convert it without --all"
        )
    if find_task(state) is None:
        raise InputError(describe_task(state, origin))
    if layout == to:
        return dict(state)
    return to_official(state, origin) if to == "official" else from_official(state, origin)


def _as_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file of this project with its towers at one place, whatever they are part of."""
    if find_layout(state) != "mmbeit3":
        return dict(state)
    places = {
        prefix: tower
        for branch, tower in TOWERS.items()
        if (prefix := own_prefix(state, branch)) is not None
    }
    found = {}
    for name, value in state.items():
        place = next((prefix for prefix in places if name.startswith(prefix)), None)
        inside = name if place is None else f"{places[place]}.{name.removeprefix(place)}"
        found[inside] = value
    return found


def _dropped(state: Mapping[str, Tensor], to: str) -> dict[str, list[str]]:
    """What a whole translation leaves out: the texts of an ImageNet file."""
    if (find_layout(state), find_task(state), to) != ("official", "classification", "mmbeit3"):
        return {}
    names = read_tower(state).unused.get("text branch")
    return {"text branch": names} if names else {}


def _extent(state: Mapping[str, Tensor]) -> str:
    task = TASKS[find_task(state) or "towers"]
    heads = sorted({name.partition(".")[0] for name in task.heads})
    parts = ["text tower"] * holds_text(state) + heads
    return f"{', '.join(parts) or 'nothing'} ({task.title})"


def _compare_outputs(
    before: Mapping[str, Tensor], tower: Tower, after: Mapping[str, Tensor]
) -> None:
    side = math.isqrt(_num_patches(tower)) * _patch_size(tower)
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    worst = _difference(layer_outputs(before, image), layer_outputs(after, image))
    ran = ["mmbeit3" if find_layout(s) == "mmbeit3" else "timm" for s in (before, after)]
    print(
        f"check: SRC run by {ran[0]}, DST by {ran[1]} on a random {side} x {side} image: largest "
        f"relative difference of a layer {worst:.1e} (limit {LIMIT:.0e})"
    )
    _refuse_difference(worst)


def _compare_texts(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """Run the text towers of two files on random words."""
    if not (holds_text(before) and holds_text(after)):
        return
    rows = len(read_tower(before, branch="B").weights["text_embed.weight"])
    ids = torch.randint(rows, (2, 12), generator=torch.Generator().manual_seed(0))
    (one, first), (two, second) = (text_outputs(state, ids) for state in (before, after))
    worst = _difference(first, second)
    print(
        f"check: SRC run by {one}, DST by {two} on 2 random texts of 12 words: largest relative "
        f"difference of a layer {worst:.1e} (limit {LIMIT:.0e})"
    )
    _refuse_difference(worst)


def text_outputs(state: Mapping[str, Tensor], ids: Tensor) -> tuple[str, list[Tensor]]:
    """Run a text tower in float32, an official one by torchscale where that is installed.

    Args:
        state: Weights in the official layout, or in this project's.
        ids: (B, N) of words.

    Returns:
        What ran it, and (B, N, C) tokens after each layer.

    Raises:
        InputError: The size of the tower is none of ``ARCH_ZOO``.
    """
    arch = _arch_of(read_tower(state))
    tower = read_tower(state, branch="B").weights
    by, outputs = "mmbeit3", []
    published = _published(arch, tower) if find_layout(state) == "official" else None
    if published is not None:
        by, model, layers = "torchscale", published, published.encoder.layers
        inner = {f"{OFFICIAL}{name.removeprefix(OFFICIAL)}": v for name, v in state.items()}
        text = {n.removeprefix(OFFICIAL): v.float() for n, v in inner.items() if _is_text(n)}
        model.load_state_dict(text, strict=False)
    else:
        rows, positions = tower["text_embed.weight"], tower["pos_embed"]
        model = BEiT3Text(arch, len(rows), positions.shape[1])
        load_backbone(model, dict(tower) | _norms(tower, arch), logger="silent")
        layers = model.layers
    for layer in layers:
        layer.register_forward_hook(
            lambda _module, _args, out: outputs.append(out[0] if isinstance(out, tuple) else out)
        )
    with torch.inference_mode():
        model.eval()(**{"textual_tokens" if published is not None else "ids": ids})
    return by, outputs


def _norms(tower: Mapping[str, Tensor], arch: Mapping[str, int]) -> dict[str, Tensor]:
    """A final LN where a file has none: layers are compared, which come before it."""
    plain = {"weight": torch.ones(arch["embed_dims"]), "bias": torch.zeros(arch["embed_dims"])}
    return {f"norm.{kind}": v for kind, v in plain.items() if f"norm.{kind}" not in tower}


def _is_text(name: str) -> bool:
    return ".B." in name or name == f"{OFFICIAL}text_embed.weight"


def _published(arch: Mapping[str, int], tower: Mapping[str, Tensor]) -> nn.Module | None:
    """The published code, by torchscale; None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it imports timm by a former name
            from torchscale.architecture.config import EncoderConfig
            from torchscale.model.BEiT3 import BEiT3 as Published
    except ImportError:
        return None
    config = EncoderConfig(
        img_size=32,  # images are not run
        patch_size=16,
        vocab_size=len(tower["text_embed.weight"]),
        multiway=True,
        layernorm_embedding=False,
        normalize_output=True,
        no_output_layer=True,
        encoder_embed_dim=arch["embed_dims"],
        encoder_attention_heads=arch["num_heads"],
        encoder_ffn_embed_dim=arch["feedforward_channels"],
        encoder_layers=arch["num_layers"],
        max_source_positions=tower["pos_embed"].shape[1] + 2,
    )
    return Published(config)


def _difference(before: list[Tensor], after: list[Tensor]) -> float:
    pairs = zip(before, after, strict=True)
    differences = torch.stack([(a - b).abs().max() / a.abs().max() for a, b in pairs])
    return differences.max().item()  # unlike Python's max, never past a NaN


def _refuse_difference(worst: float) -> None:
    if not worst <= LIMIT:
        raise InputError("the check failed, nothing was written: SRC and DST compute differently")


def _compare_bits(kept: Mapping[str, Tensor], back: Mapping[str, Tensor]) -> None:
    changed = [name for name, value in kept.items() if not _same(value, back.get(name))]
    if changed:
        raise InputError(
            "the check failed, nothing was written: not equal when translated back are "
            f"{listed(changed)}"
        )
    print(f"check: translated back, all {len(kept)} weights are equal bit for bit")


def _translated_back(state: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Name the weights of a converted tower as the layout that it came from, without a prefix."""
    weights = read_tower(state).weights
    if layout == "official":
        weights = official_state_dict(weights)
    elif layout == "timm":
        weights = {
            re.sub(r"^layers\.", "blocks.", name).replace(".ffn.", ".mlp."): value
            for name, value in weights.items()
        }
    return {_bare(name): value for name, value in weights.items()}


def _bare(name: str) -> str:
    """A name of a tower's weight without that of the model it is in."""
    for prefix in (OFFICIAL, BACKBONE, f"encoder.{TOWERS['A']}."):
        name = name.removeprefix(prefix)
    return name


def _same(a: Tensor, b: Tensor | None) -> bool:
    return b is not None and a.dtype == b.dtype and torch.equal(a, b)


def _our_model(tower: Tower) -> tuple[nn.Module, nn.ModuleList]:
    if any(".rel_pos." in name for name in tower.weights):
        raise InputError(
            "the tower has relative positions, which BEiT-3 as published does not: there is "
            "nothing to compare it with. Leave --check out"
        )
    model = BEiT3(
        _arch_of(tower),
        img_size=math.isqrt(_num_patches(tower)) * _patch_size(tower),
        patch_size=_patch_size(tower),
        window_size=0,
        with_cls_token="cls_token" in tower.weights,
    )
    load_backbone(model, tower.weights, logger="silent")
    return model, model.layers


def _timm_model(
    state: Mapping[str, Tensor], tower: Tower
) -> tuple[VisionTransformer, nn.Sequential]:
    arch = _arch_of(tower)
    model = VisionTransformer(
        img_size=math.isqrt(_num_patches(tower)) * _patch_size(tower),
        patch_size=_patch_size(tower),
        embed_dim=arch["embed_dims"],
        depth=arch["num_layers"],
        num_heads=arch["num_heads"],
        mlp_ratio=arch["feedforward_channels"] / arch["embed_dims"],
        scale_attn_norm=True,
        scale_mlp_norm=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        global_pool="avg",
        num_classes=0,
    )
    weights = {name: value.float() for name, value in state.items()}
    if tower.layout == "official":  # by this prefix timm knows the layout
        weights = {OFFICIAL + name.removeprefix(OFFICIAL): weights[name] for name in weights}
    missing = model.load_state_dict(checkpoint_filter_fn(weights, model), strict=False).missing_keys
    lost = [name for name in missing if not name.startswith("fc_norm.")]
    if lost:
        raise InputError(f"timm does not find {lost} in the file")
    return model, model.blocks


def _arch_of(tower: Tower) -> dict[str, int]:
    """Find the size in ``ARCH_ZOO``: the number of heads cannot be told from the weights."""
    size = _size(tower)
    for arch in ARCH_ZOO.values():
        if size == (arch["embed_dims"], arch["num_layers"], arch["feedforward_channels"]):
            return arch
    raise InputError(
        f"the tower has {size[1]} layers of {size[0]} channels, FFN {size[2]}; to run it for the "
        "check, its number of heads must be known, which weights do not tell: it is for the sizes "
        f"{', '.join(ARCH_ZOO)}. Leave --check out"
    )


def _size(tower: Tower) -> tuple[int, int, int]:
    """Channels, layers, and channels inside the FFN."""
    layers = {name.split(".")[1] for name in tower.weights if name.startswith("layers.")}
    feedforward_channels, embed_dims = tower.weights["layers.0.ffn.fc1.weight"].shape
    return embed_dims, len(layers), feedforward_channels


def _require_outer(tower: Tower, origin: str) -> None:
    """Refuse what was cut down in our own layout; other layouts are checked on reading."""
    missing = [name for name in OUTER if name not in tower.weights]
    if missing:
        raise InputError(f"{origin} is cut down: it lacks {listed(missing)}")


def _num_patches(tower: Tower) -> int:
    return tower.weights["pos_embed"].shape[1] - ("cls_token" in tower.weights)


def _patch_size(tower: Tower) -> int:
    return tower.weights["patch_embed.proj.weight"].shape[-1]
