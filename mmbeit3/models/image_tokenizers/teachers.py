"""Teachers of an image tokenizer: what it learns to tell of patches.

A teacher has ``out_channels`` and ``features(images, grid_size)``: (B, 3, H, W) pixels from -1 to 1
to (B, height * width, out_channels), row by row. It learns nothing itself.
"""

from __future__ import annotations

import math
from typing import Any

import timm
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmbeit3.checkpoint import read_checkpoint, state_dict_of
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError

SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


@MODELS.register_module()
class PixelTeacher(BaseModule):
    """Pixels of a patch, normalized by its own mean and deviation, as MAE (arXiv 2111.06377) does.

    Args:
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        normalize (bool): Whether to normalize. Pixels from 0 to 1 as they are teach colors, and do
            not make the noise of a flat patch as large as a form. Defaults to True.
    """

    def __init__(self, patch_size: int = 16, normalize: bool = True) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.normalize = normalize
        self.out_channels = 3 * patch_size**2

    @torch.no_grad()
    def features(self, images: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """See the module."""
        _check_patches(images, grid_size, self.patch_size)
        patches = F.unfold(images, self.patch_size, stride=self.patch_size).transpose(1, 2)
        if not self.normalize:
            return (patches + 1) / 2
        deviation, mean = torch.std_mean(patches, dim=-1, keepdim=True)
        return (patches - mean) / (deviation + 1e-3)


@MODELS.register_module()
class HOGTeacher(BaseModule):
    """Histograms of the directions of gradients, those of MaskFeat (arXiv 2112.09133).

    Of each cell of 8 x 8 pixels and each color there are nine directions, of length 1 together.

    Args:
        patch_size (int): Side of a patch in pixels, whole cells. Defaults to 16.
        cell (int): Side of a cell in pixels. Defaults to 8.
        bins (int): Directions. Defaults to 9.

    Raises:
        InputError: Cells do not divide a patch.
    """

    def __init__(self, patch_size: int = 16, cell: int = 8, bins: int = 9) -> None:
        super().__init__()
        if patch_size % cell:
            raise InputError(f"patch_size is {patch_size}; expected a multiple of cell, {cell}")
        self.patch_size, self.cell, self.bins = patch_size, cell, bins
        self.out_channels = 3 * bins * (patch_size // cell) ** 2
        self.register_buffer("sobel", torch.tensor(SOBEL).expand(3, 1, 3, 3), persistent=False)

    @torch.no_grad()
    def features(self, images: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """See the module."""
        _check_patches(images, grid_size, self.patch_size)
        padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
        kernel = self.sobel.to(images.dtype)
        across = F.conv2d(padded, kernel, groups=3)
        down = F.conv2d(padded, kernel.transpose(2, 3), groups=3)
        bins = (torch.atan2(across, down) / torch.pi * self.bins).floor().long() % self.bins
        votes = torch.zeros(*bins.shape, self.bins, dtype=images.dtype, device=images.device)
        votes.scatter_(-1, bins[..., None], torch.hypot(across, down)[..., None])
        # (B, 3, H, W, bins) -> sums of cells (B, 3, H / cell, W / cell, bins)
        cells = votes.unfold(2, self.cell, self.cell).unfold(3, self.cell, self.cell).sum((-1, -2))
        maps = F.normalize(cells, dim=-1).permute(0, 1, 4, 2, 3).flatten(1, 2)
        side = self.patch_size // self.cell
        return F.unfold(maps, side, stride=side).transpose(1, 2)


@MODELS.register_module()
class EdgeTeacher(BaseModule):
    """Directions of the edges in and around a patch: parts of forms, such as corners and arcs.

    Histograms as of :class:`HOGTeacher`, but of the strongest color alone, one of each patch, and
    as long as its edges are strong: the noise of flat ground has none. What a patch is part of
    shows around it, so a feature has the histograms of its neighbors, too.

    Args:
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        reach (int): Patches on each side whose histograms belong to a feature. Defaults to 1, of
            3 x 3 patches.
        bins (int): Directions. Defaults to 8.
        floor (float): Slope that is no edge yet: difference of pixels, from -1 to 1, that are two
            apart in the smoothed image. Defaults to 0.1.
        color (float): Weight of the mean color of the patch, less its gray, which adds three
            features unless it is 0. Defaults to 0.0: forms alone.
    """

    def __init__(
        self,
        patch_size: int = 16,
        reach: int = 1,
        bins: int = 8,
        floor: float = 0.1,
        color: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch_size, self.reach, self.bins, self.floor = patch_size, reach, bins, floor
        self.color = color
        self.out_channels = bins * (2 * reach + 1) ** 2 + (3 if color else 0)
        line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("smooth", (line[:, None] * line).expand(3, 1, 5, 5), persistent=False)

    @torch.no_grad()
    def features(self, images: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """See the module."""
        _check_patches(images, grid_size, self.patch_size)
        padded = F.pad(images, (3, 3, 3, 3), mode="reflect")
        pixels = F.conv2d(padded, self.smooth.to(images.dtype), groups=3)  # a pixel more each side
        across = pixels[..., 1:-1, 2:] - pixels[..., 1:-1, :-2]
        down = pixels[..., 2:, 1:-1] - pixels[..., :-2, 1:-1]
        slope, strongest = torch.hypot(across, down).max(1, keepdim=True)
        angle = torch.atan2(down.gather(1, strongest), across.gather(1, strongest))
        # Each slope votes for the two nearest directions; pi is 0 again.
        bins = torch.arange(self.bins, device=images.device)[:, None, None]
        away = angle / torch.pi * self.bins - bins
        away = (away - self.bins * (away / self.bins).round()).abs()
        votes = (slope - self.floor).clamp(min=0) * (1 - away).clamp(min=0)
        histograms = F.avg_pool2d(votes, self.patch_size).clamp(min=1e-6).sqrt()
        found = F.unfold(histograms, 2 * self.reach + 1, padding=self.reach)
        if self.color:
            means = F.avg_pool2d(images, self.patch_size).flatten(2)
            found = torch.cat([found, self.color * (means - means.mean(1, keepdim=True))], dim=1)
        return found.transpose(1, 2)


@MODELS.register_module()
class TimmTeacher(BaseModule):
    """Features of the patches by any model of timm, such as CLIP's or DINO's.

    Images are resized to the model's own size, and maps to the tokenizer's grid.

    Args:
        model (str): Its name in timm, such as ``vit_base_patch16_clip_224.openai``.
        pretrained (bool): Have timm fetch its weights. Defaults to False.
        with_head (bool): Send the features through the model's last linear layer, as BEiT v2 does
            with CLIP. Defaults to False.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` loads a file with
            timm's names strictly. Defaults to None.
        **kwargs: Other arguments of ``timm.create_model``.

    Raises:
        InputError: timm has no such model or cannot fetch it, or it makes no features of patches.
    """

    def __init__(
        self,
        model: str,
        pretrained: bool = False,
        with_head: bool = False,
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        if not timm.is_model(model):
            raise InputError(
                f"timm {timm.__version__} has no model {model!r}: see timm.list_models()"
            )
        try:
            self.model = timm.create_model(model, pretrained=pretrained, **kwargs).eval()
        except (OSError, RuntimeError) as error:
            if not pretrained:
                raise
            raise InputError(
                f"timm cannot fetch the weights of {model!r} ({type(error).__name__}: "
                f"{str(error).splitlines()[0]}); expected an internet connection, or a file of "
                "them: set init_cfg=dict(type='Pretrained', checkpoint=FILE) in place of pretrained"
            ) from error
        self.head = self.model.get_classifier() if with_head else nn.Identity()
        given = self.model.pretrained_cfg
        patches = getattr(self.model, "patch_embed", None)  # knows of img_size among ``kwargs``
        self.size = getattr(patches, "img_size", None) or tuple(given["input_size"][-2:])
        for name in ("mean", "std"):
            value = torch.tensor(given[name]).view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)
        self.out_channels = getattr(self.head, "out_features", self.model.num_features)

    @torch.no_grad()
    def features(self, images: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """See the module."""
        if tuple(images.shape[-2:]) != self.size:
            images = F.interpolate(images, self.size, mode="bicubic", antialias=True)
        found = self.model.forward_features(((images + 1) / 2 - self.mean) / self.std)
        return _on_grid(self.head(self._channels_last(found)), grid_size)

    def _channels_last(self, found: Any) -> Tensor:
        """Tokens with a prefix, or a map, to (B, h, w, C)."""
        if isinstance(found, Tensor) and found.ndim == 3:
            found = found[:, getattr(self.model, "num_prefix_tokens", 0) :]
            side = math.isqrt(found.shape[1])
            patches = getattr(self.model, "patch_embed", None)
            grid = getattr(patches, "grid_size", None) or (side, side)
            if math.prod(grid) == found.shape[1]:
                return found.unflatten(1, grid)
        elif isinstance(found, Tensor) and found.ndim == 4:
            is_last = found.shape[-1] == self.model.num_features != found.shape[1]
            return found if is_last else found.permute(0, 2, 3, 1)
        raise InputError(
            f"timm's {type(self.model).__name__} makes no tokens or map of an image; expected a "
            "model that does, such as a ViT or a ResNet"
        )

    def init_weights(self) -> None:
        """Load a file of ``init_cfg``; else leave the model as timm has made it."""
        if (self.init_cfg or {}).get("type") != "Pretrained":
            return
        origin = self.init_cfg["checkpoint"]
        try:
            self.model.load_state_dict(state_dict_of(read_checkpoint(origin)))
        except RuntimeError as error:
            name = type(self.model).__name__
            raise InputError(f"{origin} is of another model than timm's {name}: {error}") from error


@MODELS.register_module()
class TowerTeacher(BaseModule):
    """Features of the patches by a vision tower of this project.

    Args:
        tower (dict): Config of a :class:`mmbeit3.models.BEiT3`, with ``init_cfg``.
    """

    def __init__(self, tower: dict) -> None:
        super().__init__()
        self.tower = MODELS.build(tower)
        self.out_channels: int = self.tower.embed_dims

    @torch.no_grad()
    def features(self, images: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """See the module."""
        return _on_grid(self.tower(images)[-1].permute(0, 2, 3, 1), grid_size)


def _on_grid(features: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """Features (B, h, w, C) of any grid -> (B, height * width, C) of the asked one."""
    if tuple(features.shape[1:3]) != grid_size:
        maps = features.permute(0, 3, 1, 2)
        maps = F.interpolate(maps, grid_size, mode="bilinear", align_corners=False)
        features = maps.permute(0, 2, 3, 1)
    return features.flatten(1, 2)


def grid_of(img_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches of an image tokenizer.

    Raises:
        InputError: Patches do not divide the image.
    """
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if height % patch_size or width % patch_size:
        raise InputError(
            f"img_size is {height} x {width} and patch_size {patch_size}; expected sides that "
            "are multiples of it"
        )
    return height // patch_size, width // patch_size


def _check_patches(images: Tensor, grid_size: tuple[int, int], patch_size: int) -> None:
    found = tuple(side // patch_size for side in images.shape[-2:])
    if found != grid_size:
        raise InputError(
            f"the teacher has {found[0]} x {found[1]} patches of {patch_size} pixels, and the "
            f"tokenizer {grid_size[0]} x {grid_size[1]}: give both the same patch_size"
        )
