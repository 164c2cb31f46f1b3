"""What one layer of a tower computes for an image: its attention, and its features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmbeit3.inference.inferencer import Inferencer, Loaded
from mmbeit3.inference.result import Predicted, in_order
from mmbeit3.text import Tokenizer
from mmbeit3.text.tokenizer import BEGIN, END
from mmbeit3.utils import InputError
from mmbeit3.utils.towers import find_towers
from mmbeit3.visualization.layer_maps import draw_features, draw_heat

CHUNK = 256  # queries whose scores are held at a time


@dataclass(eq=False, repr=False)
class LayerMap(Predicted):
    """A grid over an image, h rows of w patches, that the model may have padded at its end.

    Attributes:
        layer (int): The layer, from 0.
        covered (tuple[float, float]): How many rows and columns the image itself covers.
    """

    layer: int
    covered: tuple[float, float]

    def _on_image(self, values: np.ndarray) -> np.ndarray:
        """The part of (h, w, ...) values that the image covers, to the nearest patch."""
        rows, columns = (max(1, round(number)) for number in self.covered)
        return values[:rows, :columns]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source.file_name}, layer {self.layer})"


@dataclass(eq=False, repr=False)
class AttentionMap(LayerMap):
    """Where a layer looks.

    Attributes:
        weights (np.ndarray): (heads, h, w), float32: how much attention each patch gets, zero
            outside of a query's window. The weights of a head, with that of the CLS token, sum to
            one.
        cls (np.ndarray): (heads,), float32: how much the CLS token gets; zero without one.
    """

    weights: np.ndarray
    cls: np.ndarray

    def draw(self, head: int | None = None, *, channels: str = "bgr") -> np.ndarray:
        """Draw the attention on the image.

        Args:
            head (int, optional): One head. Defaults to None, the mean of all.
            channels (str): 'bgr' or 'rgb'. Defaults to 'bgr'.

        Returns:
            np.ndarray: The picture, (H', W', 3), uint8.
        """
        values = self.weights.mean(0) if head is None else self.weights[head]
        return in_order(draw_heat(self.image, self._on_image(values)), channels)


@dataclass(eq=False, repr=False)
class PairAttentionMap(AttentionMap):
    """Where the image's CLS token looks that has read a text as well.

    The weights of a head, with those of the CLS token and of the words, sum to one.

    Attributes:
        words (np.ndarray): (heads, T), float32: how much each token of the text gets.
        tokens (tuple[str, ...]): These, in letters; begin and end are '<s>' and '</s>'.
    """

    words: np.ndarray
    tokens: tuple[str, ...]


@dataclass(eq=False, repr=False)
class FeatureMap(LayerMap):
    """What a layer hands on.

    Attributes:
        features (np.ndarray): (h, w, C), float32.
    """

    features: np.ndarray

    def draw(self, *, channels: str = "bgr") -> np.ndarray:
        """Draw the three principal components of the features as colors on the image.

        Args:
            channels (str): 'bgr' or 'rgb'. Defaults to 'bgr'.

        Returns:
            np.ndarray: The picture, (H', W', 3), uint8.
        """
        return in_order(draw_features(self.image, self._on_image(self.features)), channels)


@dataclass
class _Call:
    """What a layer was called with, what it returned, and the grid of patches."""

    layer: nn.Module
    index: int
    arguments: tuple[Any, ...]
    output: Tensor
    grid: tuple[int, int]
    order: Tensor  # (h * w,): row-major index of each patch in the order of the layer
    common: dict[str, Any]


def attention_map(
    model: Inferencer, image: Any, layer: int, at: tuple[float, float] | None, channels: str
) -> AttentionMap:
    """See :meth:`mmbeit3.inference.inferencer.Inferencer.attention`."""
    call = _call_layer(model, image, layer, channels)
    x, segments = call.arguments[:2]
    coords = call.arguments[2] if len(call.arguments) > 2 else None
    num_cls = x.shape[1] - len(call.order)
    query = None if at is None else num_cls + _place(call, at)
    with torch.no_grad():
        weights = attention_received(call.layer, x, segments, coords, query)
    heads = weights.shape[0]
    patches = torch.zeros(heads, len(call.order))
    patches[:, call.order] = weights[:, num_cls:]
    patches = patches.reshape(heads, *call.grid)
    cls = weights[:, :num_cls].sum(1)
    return AttentionMap(**call.common, weights=patches.numpy(), cls=cls.numpy())


def feature_map(model: Inferencer, image: Any, layer: int, channels: str) -> FeatureMap:
    """See :meth:`mmbeit3.inference.inferencer.Inferencer.features`."""
    call = _call_layer(model, image, layer, channels)
    tokens = call.output[0, -len(call.order) :].float().cpu()
    features = torch.empty_like(tokens)
    features[call.order] = tokens
    return FeatureMap(**call.common, features=features.reshape(*call.grid, -1).numpy())


def attention_received(
    layer: nn.Module,
    x: Tensor,
    segments: tuple[tuple[int, int], ...],
    coords: Tensor | None = None,
    query: int | None = None,
) -> Tensor:
    """Compute the softmax of scores, which fused attention does not give away.

    Args:
        layer (EncoderLayer): The layer.
        x (Tensor): (1, N, C), what it is called with.
        segments (tuple[tuple[int, int], ...]): Its windows, as
            :class:`mmbeit3.models.layers.Attention` takes them.
        coords (Tensor, optional): See there. Defaults to None.
        query (int, optional): The token that looks. Defaults to None, the mean of all.

    Returns:
        Tensor: (heads, N) on the CPU, float32: the weight of each token, one in sum.
    """
    attn = layer.attn
    q, k, _ = attn.project(layer.norm1(x))  # (1, heads, N, head_dim)
    received = torch.zeros(q.shape[1], x.shape[1])
    start = 0
    for windows, tokens in segments:
        for _ in range(windows):
            run = slice(start, start := start + tokens)
            if query is not None and not run.start <= query < run.stop:
                continue
            queries, keys, scale = q[:, :, run], k[:, :, run], q.shape[-1] ** -0.5
            if attn.rel_pos is not None:
                assert coords is not None
                (queries, keys), scale = attn.rel_pos(queries, keys, coords[:, run]), 1.0
            if query is not None:
                queries = queries[:, :, query - run.start : query - run.start + 1]
            for part in queries[0].float().split(CHUNK, dim=1):
                scores = part @ keys[0].float().transpose(1, 2) * scale  # (heads, part, tokens)
                received[:, run] += scores.softmax(-1).sum(1).cpu()
    return received if query is not None else received / x.shape[1]


def _call_layer(model: Inferencer, image: Any, index: int, channels: str) -> _Call:
    """Run the backbone on an image, and note one call of a layer."""
    loaded = model.load_one(image, channels)
    tower = _tower(model.model)
    layers = tower.repeated_layers
    index = layer_number(index, len(layers))
    packed = {key: [value] for key, value in loaded.packed.items()}
    with layer_calls(layers[index]) as calls, torch.no_grad():
        data = model.model.data_preprocessor(packed, False)
        getattr(model.model, "backbone", tower)(data["inputs"])
    grid = _grid(data["inputs"], tower.patch_size)
    common = _common(loaded, index, tower.patch_size)
    arguments, output = calls[0]
    order = tower.token_layout(*grid).order
    return _Call(layers[index], index, arguments, output, grid, order, common)


def layer_number(index: int, count: int) -> int:
    """The number from 0 of one of ``count`` layers, that may be counted from the last.

    Raises:
        InputError: There is none.
    """
    if isinstance(index, bool) or not isinstance(index, int) or not -count <= index < count:
        raise InputError(f"layer is {index!r}; expected one of the {count} layers, from 0")
    return index % count


@contextmanager
def layer_calls(layer: nn.Module) -> Iterator[list[tuple[tuple[Any, ...], Tensor]]]:
    """Note what a layer is called with, tokens (B, N, C) first, and what it returns."""
    calls: list[tuple[tuple[Any, ...], Tensor]] = []
    hook = layer.register_forward_hook(
        lambda module, arguments, output: calls.append((arguments, output))
    )
    try:
        yield calls
    finally:
        hook.remove()


def pair_attention_maps(
    encoder: Any, tokenizer: Tokenizer, layer: int, x: Tensor, images: Sequence[Loaded]
) -> list[PairAttentionMap]:
    """Say where the image's CLS token looks in a layer over images and texts.

    Args:
        encoder (BEiT3Multiway): The encoder.
        tokenizer (Tokenizer): That of the texts.
        layer (int): The layer, from 0.
        x (Tensor): (B, N, C), what it was called with.
        images (Sequence[Loaded]): B images, each with one text.
    """
    ids, padding_mask = tokenizer.batch([image.packed["data_samples"].texts[0] for image in images])
    with torch.no_grad():
        weights = pair_attention_received(encoder, layer, x, padding_mask.to(x.device))
    split = x.shape[1] - ids.shape[1]
    patch_size = encoder.vision.patch_size
    maps = []
    for own, row, mask, image in zip(weights.numpy(), ids, padding_mask, images, strict=True):
        tokens = tuple(_letters(tokenizer, int(number)) for number in row[~mask])
        grid = _grid(image.packed["inputs"], patch_size)
        maps.append(
            PairAttentionMap(
                **_common(image, layer, patch_size),
                weights=own[:, 1:split].reshape(-1, *grid),
                cls=own[:, 0],
                words=own[:, split : split + len(tokens)],
                tokens=tokens,
            )
        )
    return maps


def pair_attention_received(encoder: Any, layer: int, x: Tensor, padding_mask: Tensor) -> Tensor:
    """Compute the softmax of the scores of the first token, which fused attention does not give.

    Args:
        encoder (BEiT3Multiway): The encoder.
        layer (int): The layer, from 0.
        x (Tensor): (B, N, C), the tokens of images and texts that it is called with.
        padding_mask (Tensor): (B, T), True at the texts' padding.

    Returns:
        Tensor: (B, heads, N) on the CPU, float32: the weight of each token, one in sum.
    """
    split = x.shape[1] - padding_mask.shape[1]
    vision, text = encoder.vision.layers[layer], encoder.text.layers[layer]
    queries, keys, _ = vision.attn.project(vision.norm1(x[:, :split]))  # (B, heads, N, head_dim)
    _, word_keys, _ = text.attn.project(text.norm1(x[:, split:]))
    keys = torch.cat([keys, word_keys], 2).float()
    scores = queries[:, :, :1].float() @ keys.transpose(2, 3) * keys.shape[-1] ** -0.5
    hidden = nn.functional.pad(padding_mask, (split, 0), value=False)[:, None]
    return scores[:, :, 0].masked_fill(hidden, -torch.inf).softmax(-1).cpu()


def _letters(tokenizer: Tokenizer, number: int) -> str:
    return {BEGIN: "<s>", END: "</s>"}.get(number) or tokenizer.decode([number])


def _grid(images: Tensor, patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches of images (..., H, W)."""
    height, width = images.shape[-2:]
    return -(-height // patch_size), -(-width // patch_size)


def _common(loaded: Loaded, index: int, patch_size: int) -> dict[str, Any]:
    """What every map of an image has."""
    rows, columns = (side / patch_size for side in loaded.packed["inputs"].shape[-2:])
    common = {"source": loaded.source, "image": loaded.image, "damage": loaded.damage}
    return common | {"layer": index, "covered": (rows, columns)}


def _tower(model: nn.Module) -> nn.Module:
    backbone = getattr(model, "backbone", model)
    for tower in find_towers(backbone).values():
        if hasattr(tower, "token_layout"):
            return tower
    raise InputError(
        f"the backbone is a {type(backbone).__name__}, whose layers are not known; expected "
        "mmbeit3.BEiT3 or mmbeit3.BEiT3Adapter"
    )


def _place(call: _Call, at: tuple[float, float]) -> int:
    """The place of the patch at (x, y), in pixels of the image, in the order of the layer."""
    height, width = call.common["image"].shape[:2]
    x, y = at
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(f"at is {at}; expected (x, y) in the image of {width} x {height} pixels")
    rows, columns = call.common["covered"]
    row, column = int(y / height * rows), int(x / width * columns)
    return int((call.order == row * call.grid[1] + column).nonzero())
