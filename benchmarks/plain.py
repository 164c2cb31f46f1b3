"""The plain way to write what this project writes fast, as peers to compare with."""

from __future__ import annotations

from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmbeit3.checkpoint.resizing import resize_position_embedding
from mmbeit3.models import BEiT3
from mmbeit3.models.layers import EncoderLayer


def make_plain(model: BEiT3) -> BEiT3:
    """Have a tower without CLS token and relative positions run as plain ViT detectors are written.

    Positions are resized at every call; maps are cut into windows, padded with zeros where they
    do not divide, and put together again in every windowed layer; attention scores are held as a
    matrix, with a softmax in float32.
    """
    model.forward = MethodType(_forward, model)
    return model


def _forward(model: BEiT3, x: Tensor) -> tuple[Tensor]:
    x = model.patch_embed(x).permute(0, 2, 3, 1)  # (B, H, W, C)
    batch, height, width, channels = x.shape
    table = model.pos_embed.unflatten(1, model.grid_size)
    positions = resize_position_embedding(table, (height, width))
    x = x + positions.view(1, height, width, channels)
    for index, layer in enumerate(model.layers):
        x = x + _attend(
            layer, layer.norm1(x), 0 if index in model.global_attn_indexes else model.window_size
        )
        x = x + plain_ffn(layer, x)
    return (model.norm(x).permute(0, 3, 1, 2),)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """A product by torch's function, also of a layer that is accelerated."""
    return F.linear(x, layer.weight, layer.bias)


def _attend(layer: EncoderLayer, x: Tensor, window: int) -> Tensor:
    """Attention over a map (B, H, W, C), within windows where there is a size of them."""
    if not window:
        return _naive_attention(layer, x.flatten(1, 2)).view(x.shape)
    batch, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = (size // window for size in x.shape[1:3])
    x = x.view(batch, rows, window, columns, window, channels).transpose(2, 3)
    x = _naive_attention(layer, x.reshape(-1, window * window, channels))
    x = x.view(batch, rows, columns, window, window, channels).transpose(2, 3)
    return x.reshape(batch, rows * window, columns * window, channels)[:, :height, :width]


def _naive_attention(layer: EncoderLayer, x: Tensor) -> Tensor:
    """Self-attention of tokens (B, N, C) whose scores are held."""
    return attended_output(layer, attend_plainly(*project_plainly(layer, x)))


def project_plainly(layer: EncoderLayer, x: Tensor) -> list[Tensor]:
    """Tokens (B, N, C) to queries, keys and values (B, heads, N, head_dim) by three products."""
    attn = layer.attn
    weights, biases = attn.qkv.weight.chunk(3), attn.qkv.bias.chunk(3)
    parts = (F.linear(x, *pair) for pair in zip(weights, biases, strict=True))
    return [part.unflatten(2, (attn.num_heads, -1)).transpose(1, 2) for part in parts]


def attend_plainly(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
    """Attention to (B, N, C) whose scores (B * heads, N, N) are held.

    ``keep`` (B, N) is False at keys that are not seen.
    """
    batch, heads = q.shape[:2]
    q, k, v = (part.flatten(0, 1) for part in (q * q.shape[-1] ** -0.5, k, v))
    scores = torch.bmm(q, k.transpose(1, 2))
    if keep is not None:
        scores = scores.unflatten(0, (batch, heads))
        scores = scores.masked_fill(~keep[:, None, None], float("-inf")).flatten(0, 1)
    probabilities = F.softmax(scores, dim=-1, dtype=torch.float32).type_as(scores)
    return torch.bmm(probabilities, v).unflatten(0, (batch, heads)).transpose(1, 2).flatten(2)


def attended_output(layer: EncoderLayer, x: Tensor) -> Tensor:
    """Attended tokens (B, N, C) to what the layer adds to its input."""
    return linear(layer.attn.proj, layer.attn.norm(x))


def plain_ffn(layer: EncoderLayer, x: Tensor) -> Tensor:
    """Tokens (B, N, C) to what the layer's FFN adds to them."""
    ffn = layer.ffn
    return linear(ffn.fc2, ffn.norm(F.gelu(linear(ffn.fc1, layer.norm2(x)))))


def plain_soft_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, min_score: float
) -> Tensor:
    """Linear Soft-NMS, one vectorised step over all boxes for each kept box, to the end.

    Args:
        boxes (Tensor): (N, 4) as (x1, y1, x2, y2).
        scores (Tensor): (N,).
        labels (Tensor): (N,).
        threshold (float): Overlap from which a box lowers another.
        min_score (float): A box whose score falls below is dropped.

    Returns:
        Tensor: (K,) indices of what is kept, best first.
    """
    scores, left = scores.clone(), torch.arange(len(scores), device=scores.device)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    keep = []
    while len(left):
        place = scores[left].argmax()
        best = left[place]
        keep.append(best)
        left = torch.cat((left[:place], left[place + 1 :]))
        top_left = torch.maximum(boxes[left, :2], boxes[best, :2])
        bottom_right = torch.minimum(boxes[left, 2:], boxes[best, 2:])
        shared = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        iou = shared / (area[left] + area[best] - shared)
        lower = (iou >= threshold) & (labels[left] == labels[best])
        scores[left] *= torch.where(lower, 1 - iou, 1.0)
        left = left[scores[left] >= min_score]
    return torch.stack(keep)
