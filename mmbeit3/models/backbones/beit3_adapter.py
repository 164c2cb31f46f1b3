"""The ViT-Adapter around the vision expert of BEiT-3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from mmbeit3.models.backbones.beit3 import BEiT3
from mmbeit3.models.layers import (
    Extractor,
    Grid,
    Injector,
    SpatialPrior,
    TokenLayout,
    as_maps,
    as_tokens,
    init_conv,
    reference_points,
)
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError

STRIDES = (4, 8, 16, 32)


@MODELS.register_module()
class BEiT3Adapter(BEiT3):
    """BEiT-3 with the ViT-Adapter (`arXiv 2205.08534`_): four maps for dense prediction.

    Convolutions look at the image beside the tower and make a pyramid. The tower's layers run in
    four parts: before each, its tokens are given what they ask of the pyramid (injector, scaled by
    a gamma that starts at zero), and after each, the pyramid what it asks of the tower's map
    (extractor). The maps that come out are the pyramid's, with the tower's map after each part
    added. The defaults are those of ViT-Adapter's ADE20K recipes for BEiT.

    Any image size works. The tower gets exactly the tokens that :class:`BEiT3` has for the image,
    whatever the patch size, and places correspond between maps by their pixels.

    .. _arXiv 2205.08534: https://arxiv.org/abs/2205.08534

    Args:
        arch (str | dict): Size of the tower, as for :class:`BEiT3`. Defaults to "base".
        window_size (int): As for :class:`BEiT3`; windows need ``with_cls_token=False``.
            Defaults to 0: global attention in every layer, which segmentation gains from.
        with_cls_token (bool): Keep the CLS token in the tower. Defaults to True.
        drop_path_rate (float): Drop path of the tower's last layer, and of the extractors.
            Defaults to 0.
        with_cp (bool | str): As for :class:`BEiT3`, for tower layers, injectors and extractors.
            Defaults to False.
        interaction_indexes (Sequence[Sequence[int]], optional): First and last layer of each of
            the four parts. Defaults to equal parts: (0, 2), (3, 5), (6, 8), (9, 11) for base.
        conv_inplane (int): Channels of the convolutional stem. Defaults to 64.
        n_points (int): Places that a head of deformable attention samples of a map.
            Defaults to 4.
        deform_num_heads (int, optional): Heads of deformable attention. Defaults to as many as the
            tower has: 12 for base, 16 for large and giant.
        deform_ratio (float): Width of deformable attention's values as a part of the tower's.
            Defaults to 0.5.
        cffn_ratio (float): Hidden width of the extractors' FFN as a part of the tower's.
            Defaults to 0.25.
        add_vit_feature (bool): Add the tower's maps to the pyramid's. Defaults to True.
        use_extra_extractor (bool): Run two more extractors after the last part. Defaults to True.
        norm_cfg (dict, optional): Norm of the convolutions and of the maps, as in mmcv. Defaults
            to LN over the channels, which works at any batch size; ViT-Adapter's code has
            ``dict(type="SyncBN")``.
        init_cfg (dict, optional): As for :class:`BEiT3`: every weight of the tower must be in the
            file, and the adapter's are left as initialized where it has none. Defaults to None.
        **tower (Any): Further options of :class:`BEiT3`; ``final_norm`` is none of them.

    Raises:
        InputError: if the sizes given cannot work together, or the weights are of another model.
    """

    _after_layers = (*BEiT3._after_layers, "adapter.")

    def __init__(
        self,
        arch: str | dict = "base",
        window_size: int = 0,
        with_cls_token: bool = True,
        drop_path_rate: float = 0.0,
        with_cp: bool | str = False,
        interaction_indexes: Sequence[Sequence[int]] | None = None,
        conv_inplane: int = 64,
        n_points: int = 4,
        deform_num_heads: int | None = None,
        deform_ratio: float = 0.5,
        cffn_ratio: float = 0.25,
        add_vit_feature: bool = True,
        use_extra_extractor: bool = True,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
        **tower: Any,
    ) -> None:
        if tower.get("final_norm"):
            raise InputError(
                "BEiT3Adapter has no final_norm: the maps pass norms of their own. Leave it out."
            )
        super().__init__(
            arch,
            window_size=window_size,
            with_cls_token=with_cls_token,
            drop_path_rate=drop_path_rate,
            with_cp=with_cp,
            init_cfg=init_cfg,
            **tower,
        )
        self.parts = _parts(interaction_indexes, self.num_layers)
        self.add_vit_feature = add_vit_feature
        self.adapter = Adapter(
            self.patch_embed.proj.in_channels,
            self.embed_dims,
            conv_inplane,
            partial(_norm, norm_cfg or dict(type="mmbeit3.LN2d", eps=1e-6)),
            dict(
                num_heads=deform_num_heads or self.layers[0].attn.num_heads,
                num_points=n_points,
                value_ratio=deform_ratio,
            ),
            dict(ffn_ratio=cffn_ratio, drop_path_rate=drop_path_rate),
            num_extra=2 if use_extra_extractor else 0,
        )

    @property
    def out_strides(self) -> tuple[int, ...]:
        """Strides in pixels of the maps, whatever the patch size."""
        return STRIDES

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): (B, in_channels, H, W) normalized images of any H and W.

        Returns:
            tuple[Tensor, ...]: four maps (B, embed_dims, ceil(H / s), ceil(W / s)) for the strides
            s of 4, 8, 16 and 32.
        """
        maps = self.adapter.spatial_prior(x)
        shapes = [(level.shape[-2], level.shape[-1]) for level in maps]
        grids = [Grid(*shape, stride) for shape, stride in zip(shapes, STRIDES, strict=True)]
        tokens, layout, size = self.embed(x)
        tower = Grid(*size, self.patch_size)
        pyramid, features = self._interact(tokens, layout, tower, as_tokens(maps[1:]), grids[1:])
        maps = self.adapter.merge(maps[0], as_maps(pyramid, grids[1:]))
        if self.add_vit_feature:
            features = [
                resample(feature, tower, grid)
                for feature, grid in zip(features, grids, strict=True)
            ]
            maps = [m + feature for m, feature in zip(maps, features, strict=True)]
        return tuple(norm(m) for norm, m in zip(self.adapter.norms, maps, strict=True))

    def _interact(
        self, x: Tensor, layout: TokenLayout, tower: Grid, pyramid: Tensor, grids: list[Grid]
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the tower part by part.

        Args:
            x (Tensor): (B, N, C) tokens as embedded.
            layout (TokenLayout): Their order.
            tower (Grid): Their grid.
            pyramid (Tensor): (B, P, C), the pyramid's cells.
            grids (list[Grid]): Their grids.

        Returns:
            tuple[Tensor, list[Tensor]]: the pyramid's cells, and the tower's map (B, C, H, W)
            after each part.
        """
        in_pyramid = layout.arrange(reference_points([tower], grids, x.device)[None])[0]
        in_tower = reference_points(grids, [tower], x.device)
        features = []
        for index, part in enumerate(self.parts):
            cls, x = self._split(x)
            x = self._call(self.adapter.injectors[index], x, pyramid, in_pyramid, grids)
            x = x if cls is None else torch.cat([cls.to(x.dtype), x], 1)
            x = self._run_layers(x, layout, tower.width, part)
            rows = layout.restore(self._split(x)[1])
            for extractor in self.adapter.extractors[index]:
                pyramid = self._call(extractor, pyramid, rows, in_tower, tower, grids)
            features += as_maps(rows, [tower])
        return pyramid, features


class Adapter(nn.Module):
    """All that the ViT-Adapter adds to a tower.

    Args:
        in_channels (int): Channels of the image.
        embed_dims (int): Width C of the tower.
        inner_channels (int): Channels of the convolutional stem.
        norm (Callable[[int], nn.Module]): Makes a norm of so many channels.
        attention (dict): ``num_heads``, ``num_points`` and ``value_ratio`` of every deformable
            attention.
        extraction (dict): ``ffn_ratio`` and ``drop_path_rate`` of every extractor.
        num_extra (int): Extractors after the last part besides its own.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        inner_channels: int,
        norm: Callable[[int], nn.Module],
        attention: dict,
        extraction: dict,
        num_extra: int,
    ) -> None:
        super().__init__()
        self.spatial_prior = SpatialPrior(in_channels, inner_channels, embed_dims, norm)
        self.injectors = nn.ModuleList(
            Injector(embed_dims, num_levels=3, **attention) for _ in STRIDES
        )
        self.extractors = nn.ModuleList(
            nn.ModuleList(Extractor(embed_dims, **attention, **extraction) for _ in range(count))
            for count in (1, 1, 1, 1 + num_extra)
        )
        self.up = nn.ConvTranspose2d(embed_dims, embed_dims, 2, stride=2)
        self.norms = nn.ModuleList(norm(embed_dims) for _ in STRIDES)
        init_conv(self.up)

    def merge(self, finest: Tensor, pyramid: list[Tensor]) -> list[Tensor]:
        """Add to the map of stride 4 what the pyramid learned at stride 8."""
        up = self.up(pyramid[0])[..., : finest.shape[-2], : finest.shape[-1]]
        return [finest + up, *pyramid]


def resample(x: Tensor, source: Grid, target: Grid) -> Tensor:
    """Bilinear samples of a map at the centers of another's cells; borders go on outwards.

    Args:
        x (Tensor): (B, C, H, W), the cells of ``source``.
        source (Grid): Grid of ``x``.
        target (Grid): Grid of the result.

    Returns:
        Tensor: (B, C, target.height, target.width) in the type of ``x``.
    """
    if source.stride == target.stride:  # and so of one size
        return x
    points = reference_points([target], [source], x.device).view(1, *target[:2], 2)
    dtype = torch.promote_types(x.dtype, points.dtype)
    grid = (points * 2 - 1).to(dtype).expand(len(x), -1, -1, -1)
    out = F.grid_sample(x.to(dtype), grid, padding_mode="border", align_corners=False)
    return out.to(x.dtype)


def _norm(cfg: dict, channels: int) -> nn.Module:
    return build_norm_layer(cfg, channels)[1]


def _parts(indexes: Sequence[Sequence[int]] | None, num_layers: int) -> list[range]:
    if indexes is None:
        bounds = [part * num_layers // 4 for part in range(5)]
        indexes = [(start, stop - 1) for start, stop in zip(bounds, bounds[1:], strict=False)]
    parts = [range(part[0], part[-1] + 1) for part in indexes if len(part)]
    in_order = [layer for part in parts for layer in part] == list(range(num_layers))
    if len(parts) != len(STRIDES) or not all(parts) or not in_order:
        raise InputError(
            f"interaction_indexes is {[list(part) for part in indexes]}; it must be first and last "
            f"layer of {len(STRIDES)} parts that together are the layers 0 to {num_layers - 1} "
            "in order."
        )
    return parts
