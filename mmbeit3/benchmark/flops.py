"""Floating-point operations of a tower, by its definition: 2 for each multiply-add."""

from __future__ import annotations

import math

from mmbeit3.models import BEiT3
from mmbeit3.models.layers import window_layout


def layer_products(tokens: int, embed_dims: int, hidden: int) -> list[tuple[int, int, int]]:
    """Sizes (rows, inner, columns) of the four matrix products of a layer with its weights."""
    c = embed_dims
    return [(tokens, c, 3 * c), (tokens, c, c), (tokens, c, hidden), (tokens, hidden, c)]


def product_flops(products: list[tuple[int, int, int]]) -> float:
    """Operations of matrix products of the sizes (rows, inner, columns)."""
    return float(sum(2 * math.prod(sizes) for sizes in products))


def tower_flops(model: BEiT3, height: int, width: int) -> float:
    """Operations of a forward pass of one image (H, W); norms and activations are left out."""
    rows, columns = (-(-size // model.patch_size) for size in (height, width))
    tokens = rows * columns + (model.cls_token is not None)
    hidden = model.layers[0].ffn.fc1.out_features
    segments = window_layout(rows, columns, model.window_size or 0).segments
    windowed = sum(count * inside**2 for count, inside in segments)
    num_global = len(model.global_attn_indexes)
    pairs = num_global * tokens**2 + (model.num_layers - num_global) * windowed
    products = product_flops(layer_products(tokens, model.embed_dims, hidden)) * model.num_layers
    patches = 2.0 * rows * columns * model.patch_embed.proj.weight.numel()
    return products + 4.0 * model.embed_dims * pairs + patches
