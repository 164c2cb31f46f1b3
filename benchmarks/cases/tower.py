"""The vision tower: forward pass, next to the published code and timm's port."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from timm import create_model
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.flops import tower_flops
from benchmarks.options import Options
from benchmarks.plain import make_plain
from mmbeit3.checkpoint import official_state_dict
from mmbeit3.models import BEiT3
from mmbeit3.models.acceleration import accelerate
from mmbeit3.ops.cpu.linear import OneDNNLinear
from mmbeit3.utils import InputError
from mmbeit3.utils.archs import ARCH_ZOO

TORCHSCALE = "torchscale BEiT3 (published code), all global, float32"
TIMM = "timm, all global, float32"
PLAIN = "plain windows + global layers, float32"
GLOBAL = "mmbeit3, all global, float32"
WINDOWS = "mmbeit3, windows + global layers, float32"
BFLOAT16 = "mmbeit3, windows + global layers, bfloat16"


def tower(options: Options) -> Case:
    """One image of ``options.size`` through every way to write the tower."""
    arch, size, device = options.arch, options.size, options.device
    base = dict(arch=arch, size=size, device=device)

    def candidate(name: str, kind: str, dtype: str = "float32") -> Candidate:
        return Candidate(
            name,
            build_tower,
            base | dict(kind=kind, dtype=dtype),
            flops=count(arch, size, kind),
            limit=limit(dtype),
            items=1,
        )

    return Case(
        "tower",
        f"{arch} tower, one image of {size} x {size}",
        (
            *(matrices(dtype, arch, size, device) for dtype in ("float32", "bfloat16")),
            candidate(TORCHSCALE, "torchscale"),
            candidate(TIMM, "timm"),
            candidate(PLAIN, "plain"),
            candidate(GLOBAL, "global"),
            candidate(WINDOWS, "windows"),
            candidate(BFLOAT16, "windows", "bfloat16"),
        ),
        (
            Comparison(WINDOWS, TORCHSCALE, speed=4.5, memory=0.35),
            Comparison(BFLOAT16, TORCHSCALE, speed=8),
            Comparison(GLOBAL, TIMM, speed=1.1, tolerance=1e-5),
            Comparison(GLOBAL, TORCHSCALE, tolerance=1e-5),
            Comparison(WINDOWS, PLAIN, tolerance=1e-5),
            Comparison(BFLOAT16, WINDOWS, tolerance=3e-2),
        ),
        share={WINDOWS: 0.85, BFLOAT16: 0.60},
    )


def tower_sizes(options: Options) -> Case:
    """The tower from 512 to 1792 pixels: windows next to all-global attention."""
    sizes = (512, 768, 1024, 1280, 1536, 1792)
    series = {"windows": "mmbeit3, windows + global layers", "global": "mmbeit3, all global"}
    return Case(
        "tower-sizes",
        f"{options.arch} tower, one square image, float32",
        tuple(
            Candidate(
                f"{name}, {size}",
                build_tower,
                dict(arch=options.arch, size=size, device=options.device, kind=kind),
                flops=count(options.arch, size, kind),
                series=name,
                x=size,
            )
            for size in sizes
            for kind, name in series.items()
            if kind == "windows" or size <= 1280  # beyond, it takes a minute
        ),
        x_label="side of the image, pixels",
    )


def tower_batches(options: Options) -> Case:
    """The tower at batches of 1 to 8 images."""
    name = "mmbeit3, windows + global layers"
    dtype = "float32" if options.device == "cpu" else "bfloat16"
    return Case(
        "tower-batches",
        f"{options.arch} tower, images of 512 x 512, {dtype}",
        tuple(
            Candidate(
                f"{name}, batch {batch}",
                build_tower,
                dict(
                    arch=options.arch,
                    size=512,
                    device=options.device,
                    kind="windows",
                    dtype=dtype,
                    batch=batch,
                ),
                flops=batch * count(options.arch, 512, "windows"),
                items=batch,
                series=name,
                x=batch,
            )
            for batch in ((1, 2, 4, 8) if dtype == "float32" else (1, 8, 64))
        ),
        x_label="images in a batch",
    )


def limit(dtype: str) -> str:
    """Name of the candidate that only multiplies matrices."""
    return f"matrix products alone, {dtype}"


def matrices(dtype: str, arch: str, size: int, device: str) -> Candidate:
    """The four products of a layer with its weights, and nothing else: the limit."""
    arguments = dict(arch=arch, size=size, device=device, dtype=dtype)
    return Candidate(
        limit(dtype),
        build_matrices,
        arguments,
        flops=sum(2.0 * math.prod(sizes) for sizes in _products(arch, size)),
        memory=False,
    )


def build_matrices(arch: str, size: int, device: str, dtype: str) -> Callable[[], None]:
    """Make a call of the products of :func:`matrices`, on oneDNN where that can be had."""
    type_ = getattr(torch, dtype)
    pairs = [
        (
            torch.randn(rows, inner, device=device, dtype=type_),
            OneDNNLinear(inner, columns).eval().to(device, type_),
        )
        for rows, inner, columns in _products(arch, size)
    ]

    @torch.inference_mode()
    def call() -> None:
        for x, layer in pairs:
            layer(x)

    return call


def build_tower(
    arch: str, size: int, device: str, kind: str, dtype: str = "float32", batch: int = 1
) -> Callable[[], Tensor]:
    """Make the forward pass of a tower; all kinds of all-global towers have the same weights.

    Args:
        arch (str): As of :class:`BEiT3`.
        size (int): Side of the images in pixels.
        device (str): Where it runs.
        kind (str): 'torchscale', 'timm', 'global', 'windows' or 'plain'.
        dtype (str): Type that matrix products are computed in. Defaults to 'float32'.
        batch (int): Number of images. Defaults to 1.

    Returns:
        Callable: Returns tokens (B, N, C) of all-global towers, else a map (B, C, H, W).
    """
    torch.manual_seed(0)
    x = torch.randn(batch, 3, size, size).to(device)
    if kind in ("windows", "plain"):
        model = make_tower(arch, size).to(device)
        if kind == "plain":
            make_plain(model)
        else:
            accelerate(model, dtype, force=True)
        run = model.forward
        run = partial(lambda forward: forward(x)[0], run)
    else:
        run = partial(ALL_GLOBAL[kind](arch, size, device), x)
    low = dtype == "bfloat16"  # int8 has its own context

    def call() -> Tensor:
        kind_ = torch.device(device).type
        outer = torch.autocast(kind_, torch.bfloat16) if low else nullcontext()
        with torch.inference_mode(), outer:
            return run()

    return call


def count(arch: str, size: int, kind: str) -> float:
    """Operations of the forward pass of a kind of tower."""
    with torch.device("meta"):
        model = make_tower(arch, size, published=kind not in ("windows", "plain"))
    return tower_flops(model, size, size)


def make_tower(arch: str, size: int, published: bool = False, **options: Any) -> BEiT3:
    """A tower whose weights are the same at every call.

    Args:
        arch (str): As of :class:`BEiT3`.
        size (int): Side of the images in pixels.
        published (bool): All as in the published tower, or else as in detectors.
        **options: Further arguments of :class:`BEiT3`.
    """
    if published:
        options |= dict(window_size=0, with_cls_token=True, final_norm=True)
    torch.manual_seed(0)
    model = BEiT3(arch, size if published else 224, **options).eval()
    nn.init.normal_(model.pos_embed, std=0.02)
    return model


def _ours(arch: str, size: int, device: str) -> Callable[[Tensor], Tensor]:
    model = make_tower(arch, size, published=True).to(device)
    accelerate(model)

    def run(x: Tensor) -> Tensor:
        feature_map, cls = model.encode(x)
        return torch.cat([cls[:, None], feature_map.flatten(2).transpose(1, 2)], 1)

    return run


def _timm(arch: str, size: int, device: str) -> Callable[[Tensor], Tensor]:
    sizes = ARCH_ZOO[arch]
    model = create_model(
        "beit3_base_patch16_224",
        img_size=size,
        embed_dim=sizes["embed_dims"],
        depth=sizes["num_layers"],
        num_heads=sizes["num_heads"],
        mlp_ratio=sizes["feedforward_channels"] / sizes["embed_dims"],
        global_pool="token",  # with this one timm applies the final LN
    ).eval()
    weights = official_state_dict(make_tower(arch, size, published=True).state_dict())
    model.load_state_dict(checkpoint_filter_fn(weights, model), strict=False)
    return model.to(device).forward_features


def _torchscale(arch: str, size: int, device: str) -> Callable[[Tensor], Tensor]:
    model = published_beit3(ARCH_ZOO[arch], size)
    weights = official_state_dict(make_tower(arch, size, published=True).state_dict())
    weights = {name.removeprefix("beit3."): value for name, value in weights.items()}
    model.load_state_dict(weights, strict=False)  # the language expert keeps what it was drawn as
    model.to(device)
    return lambda x: model(visual_tokens=x)["encoder_out"]


def published_beit3(
    sizes: dict[str, int],
    img_size: int,
    patch_size: int = 16,
    vocab_size: int = 64,
    final_norm: bool = True,
) -> nn.Module:
    """The published model of both modalities, set up as microsoft/unilm beit3/modeling_utils.py.

    Args:
        sizes (dict): As those in :data:`ARCH_ZOO`.
        img_size (int): Side of the images in pixels.
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        vocab_size (int): Number of text tokens. Defaults to 64.
        final_norm (bool): Whether there is a final LN. Defaults to True.

    Raises:
        InputError: If torchscale cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it imports timm by a former name
            from torchscale.architecture.config import EncoderConfig
            from torchscale.model.BEiT3 import BEiT3 as Published
    except ImportError as error:
        raise InputError(
            f"the published code cannot be imported ({error}): pip install --no-deps torchscale"
        ) from error

    config = EncoderConfig(
        img_size=img_size,
        patch_size=patch_size,
        vocab_size=vocab_size,
        encoder_embed_dim=sizes["embed_dims"],
        encoder_layers=sizes["num_layers"],
        encoder_attention_heads=sizes["num_heads"],
        encoder_ffn_embed_dim=sizes["feedforward_channels"],
        multiway=True,
        layernorm_embedding=False,
        normalize_output=final_norm,
        no_output_layer=True,
    )
    return Published(config).eval()


ALL_GLOBAL = {"global": _ours, "timm": _timm, "torchscale": _torchscale}


def _products(arch: str, size: int) -> list[tuple[int, int, int]]:
    """Rows, inner and columns of the four products of a layer with its weights."""
    tokens, sizes = (size // 16) ** 2, ARCH_ZOO[arch]
    c, hidden = sizes["embed_dims"], sizes["feedforward_channels"]
    return [(tokens, c, 3 * c), (tokens, c, c), (tokens, c, hidden), (tokens, hidden, c)]
