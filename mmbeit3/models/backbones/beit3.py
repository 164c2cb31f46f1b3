"""The vision expert of BEiT-3 as a backbone for dense prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn

from mmbeit3.checkpoint import load_backbone
from mmbeit3.checkpoint.resizing import resize_position_embedding, tile_position_embedding
from mmbeit3.models.layers import (
    EncoderLayer,
    PatchEmbed,
    TokenLayout,
    init_encoder_layers,
    window_layout,
)
from mmbeit3.models.layers.checkpointing import check_with_cp, recomputed
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from mmbeit3.utils.archs import resolve_arch
from mmbeit3.utils.lora import check_lora, lora_layers
from mmbeit3.utils.towers import depth_in_tower


@MODELS.register_module()
class BEiT3(BaseModule):
    """Vision expert of BEiT-3 (arXiv 2208.10442) with the window attention of ViTDet.

    The arithmetic is that of the published code (microsoft/unilm ``beit3`` on torchscale: pre-LN
    layers with two sub-LNs, learned absolute positions, eps 1e-5). Any image size works: images are
    padded on the right and bottom to whole patches, positions are resized to the grid of tokens,
    and windows at the edges are smaller where the window size does not divide the grid. With
    ``global_attn_indexes`` naming every layer, ``with_cls_token`` and ``final_norm`` it computes
    exactly what the published vision tower computes.

    Args:
        arch (str | dict): "tiny", "small", "base", "large", "giant", or a dict with ``embed_dims``,
            ``num_layers``, ``num_heads`` and ``feedforward_channels``. Defaults to "base".
        img_size (int | tuple[int, int]): Image size in pixels (height, width) that the position
            table is made for; other sizes resize it. Defaults to 224, that of pretraining.
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        in_channels (int): Channels of the image. Defaults to 3.
        window_size (int): Side of an attention window in tokens; 0 makes every layer global.
            Defaults to 16.
        global_attn_indexes (Sequence[int], optional): Layers with global attention. Defaults to
            four layers evenly spaced, the last among them, as ViTDet has it.
        drop_path_rate (float): Drop path of the last layer; it grows linearly from 0 at the first.
            Defaults to 0.
        with_cls_token (bool): Keep the CLS token; needs every layer global. Defaults to False.
        final_norm (bool): Apply the LN after the last layer. Defaults to False, as ViTDet feeds its
            pyramid.
        rel_pos (bool): Add ViTDet's decomposed relative positions (zero at the start); needs
            ``with_cls_token=False``. Defaults to False: BEiT-3 has none.
        with_mask_token (bool): Have a token in the place of masked patches, see :meth:`embed`, for
            pretraining. Defaults to False.
        tile_positions (bool): Repeat the position table from window to window instead of resizing
            it to the grid, so that a window sees the positions of pretraining; ``img_size`` must be
            that of one window, ``window_size * patch_size``. Defaults to False.
        with_cp (bool | str): Compute the layers again in the backward pass to save memory: True, or
            "offload" to keep their inputs in the CPU's memory, too. Defaults to False.
        frozen_stages (int): What is not trained: 0 for patches, positions and tokens, N for the
            first N layers, too, and all layers with the last LN. They are in no optimizer, keep
            nothing for a backward pass, and drop no paths. Defaults to -1, all is trained.
        lora (dict, optional): ``dict(rank=8, alpha=16, dropout=0.0)`` trains matrices of a low
            rank beside the linear maps of the layers, and the tower's own weights not at all, see
            :func:`mmbeit3.utils.lora.add_lora`; ``alpha`` is twice the rank where it is not
            given. It needs ``mmbeit3.Runner``, and acts in training alone. Defaults to None.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from an
            official ``beit3_*.pth``, a file of timm or of this project (a path, an ``https://`` or
            an ``hf://`` address); every weight must be there, positions and patches are resized.
            Defaults to None.

    Raises:
        InputError: if the sizes given cannot work together, or the weights are of another model.
    """

    #: The half of the official files that is the tower's: vision.
    branch = "A"
    #: How the names of parameters begin that come after the layers.
    _after_layers: tuple[str, ...] = ("norm.",)

    def __init__(
        self,
        arch: str | dict = "base",
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        window_size: int = 16,
        global_attn_indexes: Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        with_cls_token: bool = False,
        final_norm: bool = False,
        rel_pos: bool = False,
        with_mask_token: bool = False,
        tile_positions: bool = False,
        with_cp: bool | str = False,
        frozen_stages: int = -1,
        lora: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        arch = resolve_arch(arch)
        self.embed_dims: int = arch["embed_dims"]
        self.num_layers: int = arch["num_layers"]
        self.patch_size = patch_size
        self.window_size = window_size
        self.grid_size = _grid_size(img_size, patch_size)
        self.global_attn_indexes = _global_layers(
            global_attn_indexes, self.num_layers, window_size, with_cls_token
        )
        check_with_cp(with_cp)
        self.with_cp = with_cp
        if not isinstance(frozen_stages, int) or not -1 <= frozen_stages <= self.num_layers:
            raise InputError(
                f"frozen_stages is {frozen_stages!r}; expected -1 (none), 0 (patches and "
                f"positions) or the number of layers from the first, up to {self.num_layers}"
            )
        self.frozen_stages = frozen_stages
        check_lora(lora)
        self.lora = lora
        self.with_rel_pos = rel_pos
        self.tile_positions = tile_positions
        if rel_pos and with_cls_token:
            raise InputError(
                "rel_pos is of places on the grid of patches, and a CLS token has none: set "
                "rel_pos=False or with_cls_token=False."
            )
        if tile_positions:
            _check_one_window(self.grid_size, window_size, patch_size)

        self.patch_embed = PatchEmbed(in_channels, self.embed_dims, patch_size)
        self.cls_token = (
            nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if with_cls_token else None
        )
        self.mask_token = (
            nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if with_mask_token else None
        )
        num_positions = math.prod(self.grid_size) + with_cls_token
        self.pos_embed = nn.Parameter(torch.zeros(1, num_positions, self.embed_dims))
        self.layers = nn.ModuleList(
            EncoderLayer(
                self.embed_dims,
                arch["num_heads"],
                arch["feedforward_channels"],
                drop_path_rate * index / max(self.num_layers - 1, 1),
                rel_pos_size=self._attended_size(index) if rel_pos else 0,
            )
            for index in range(self.num_layers)
        )
        self.norm = nn.LayerNorm(self.embed_dims, eps=1e-5) if final_norm else nn.Identity()
        self._positions: dict[tuple, Tensor] = {}
        for name, param in self.named_parameters():
            if self._is_frozen(name):
                param.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Encode images.

        Args:
            x (Tensor): (B, in_channels, H, W) normalized images of any H and W.

        Returns:
            tuple[Tensor]: one map (B, embed_dims, ceil(H / patch_size), ceil(W / patch_size)).
        """
        x, _ = self.encode(x)
        return (x,)

    def encode(self, x: Tensor, patch_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """As :meth:`forward`, but returns the map and the CLS token (B, embed_dims) or None.

        ``patch_mask`` is as in :meth:`embed`.
        """
        x, layout, (height, width) = self.embed(x, patch_mask)
        x = self.norm(self._run_layers(x, layout, width, range(self.num_layers)))
        cls, x = self._split(x)
        x = layout.restore(x).transpose(1, 2)
        x = x.reshape(*x.shape[:2], height, width)  # not unflatten(), which ONNX lacks
        return x, None if cls is None else cls[:, 0]

    def token_layout(self, height: int, width: int) -> TokenLayout:
        """Return the order in which the layers have the patches of a (height, width) grid."""
        return window_layout(height, width, self.window_size if self._has_windows else 0)

    def embed(
        self, x: Tensor, patch_mask: Tensor | None = None
    ) -> tuple[Tensor, TokenLayout, tuple[int, int]]:
        """Images to what the first layer takes.

        Args:
            x (Tensor): As in :meth:`forward`.
            patch_mask (Tensor, optional): (B, height * width) bool, True at patches, row by row,
                in whose place the mask token is. Defaults to None, no mask.

        Returns:
            tuple[Tensor, TokenLayout, tuple[int, int]]: (B, N, C) tokens, CLS first where there is
            one; their layout; height and width of the grid of patches.

        Raises:
            InputError: The mask is of another shape, or there is no mask token.
        """
        if self.lora and self.training and torch.is_grad_enabled() and not any(lora_layers(self)):
            raise InputError(
                "the backbone has the option lora, and no LoRA was put on: train it by our Runner "
                "(runner_type='mmbeit3.Runner' in the config), or call mmbeit3.utils.lora.add_lora"
            )
        x = self.patch_embed(x)
        height, width = x.shape[-2:]
        layout = self.token_layout(height, width)
        # Sums keep the layout of memory: in the convolution's, each norm would copy its input.
        x = x.flatten(2).transpose(1, 2).contiguous()
        if patch_mask is not None:
            x = self._masked(x, patch_mask)
        x = x + self._patch_positions(height, width)
        x = layout.arrange(x)
        if self.cls_token is not None:
            cls = self.cls_token + self.pos_embed[:, :1]
            x = torch.cat([cls.expand(len(x), -1, -1), x], 1)
        return x, layout, (height, width)

    def _masked(self, x: Tensor, patch_mask: Tensor) -> Tensor:
        """Tokens (B, N, C), with the mask token where the mask (B, N) is True."""
        if self.mask_token is None:
            raise InputError(
                "patches are masked, and the tower has no token for them: set with_mask_token=True"
            )
        if patch_mask.shape != x.shape[:2]:
            raise InputError(
                f"patch_mask has the shape {tuple(patch_mask.shape)}; expected "
                f"{tuple(x.shape[:2])}, images and their patches"
            )
        return torch.where(patch_mask.bool()[..., None], self.mask_token.to(x.dtype), x)

    def _split(self, x: Tensor) -> tuple[Tensor | None, Tensor]:
        """Tokens to CLS (B, 1, C), or None, and patches."""
        return (None, x) if self.cls_token is None else (x[:, :1], x[:, 1:])

    def _run_layers(self, x: Tensor, layout: TokenLayout, width: int, indexes: range) -> Tensor:
        everything = ((1, x.shape[1]),)
        coords = None
        if self.with_rel_pos:
            coords = torch.stack([layout.order // width, layout.order % width])
        for index in indexes:
            segments = everything if index in self.global_attn_indexes else layout.segments
            x = self._call(self.layers[index], x, segments, coords)
        return x

    def _call(self, module: nn.Module, *args: Any) -> Tensor:
        """Run a module, recomputed in the backward pass where ``with_cp`` asks for that."""
        # A frozen layer whose input needs no gradient keeps nothing as it is.
        if self.with_cp and self.training and (module.training or args[0].requires_grad):
            return recomputed(module, *args, offload=self.with_cp == "offload")
        return module(*args)

    @property
    def out_strides(self) -> tuple[int, ...]:
        """Strides in pixels of the maps that :meth:`forward` returns."""
        return (self.patch_size,)

    @property
    def repeated_layers(self) -> nn.ModuleList:
        """The layers, for what treats them one by one: sharding and compilation."""
        return self.layers

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Tell how deep a parameter lies, as the towers of mmpretrain do.

        Args:
            param_name (str): Its name, such as ``backbone.layers.3.norm1.weight``.
            prefix (str): What stands before the tower's own names, such as ``backbone.``. Defaults
                to "".

        Returns:
            tuple[int, int]: 0 for patches, positions and CLS token, i + 1 for layer i, L + 1 for
            what comes after the L layers, and for names without the prefix; and L + 2, how many
            depths there are.

        Raises:
            InputError: The tower does not know the parameter.
        """
        before = ("patch_embed.", "pos_embed", "cls_token", "mask_token")
        return depth_in_tower(self, param_name, prefix, before, self._after_layers)

    @property
    def _has_windows(self) -> bool:
        return len(self.global_attn_indexes) < self.num_layers

    def _attended_size(self, index: int) -> int:
        """Side in tokens of what layer ``index`` attends to at ``img_size``."""
        return max(self.grid_size) if index in self.global_attn_indexes else self.window_size

    def _patch_positions(self, height: int, width: int) -> Tensor:
        """Positions (1, height * width, C) of a grid, kept per size while nothing is trained."""
        table = self.pos_embed[:, self.cls_token is not None :].unflatten(1, self.grid_size)
        spread = tile_position_embedding if self.tile_positions else resize_position_embedding
        changes = self.training or torch.is_grad_enabled()
        if changes or torch.compiler.is_compiling() or self.pos_embed.is_inference():
            return spread(table, (height, width))
        # _version changes with every in-place update of the table, loading included.
        key = (height, width, table.dtype, table.device, self.pos_embed._version)
        if key not in self._positions:
            if len(self._positions) >= 32:
                self._positions.clear()
            self._positions[key] = spread(table, (height, width))
        return self._positions[key]

    def _sine_positions(self) -> Tensor:
        """Positions (height * width, C) to start from where there are none to load.

        BEiT draws them (std 0.02); those are faint beside the patches, and attention is slow to
        find its way on the few images that a tower is trained on from nothing. The temperature is
        that of a grid, not of a text: at 10000 most waves are longer than the grid.
        """
        dims = _round_up(self.embed_dims, 4)
        table = build_sincos2d_pos_embed(list(self.grid_size), dims, temperature=100.0)
        return 0.5 * table[:, : self.embed_dims]

    def train(self, mode: bool = True) -> BEiT3:
        """Set the mode; the kept positions go, since ``.data`` updates (EMA) leave no version."""
        self._positions.clear()
        super().train(mode)
        for index in range(max(self.frozen_stages, 0)):
            self.layers[index].eval()
        return self

    def _is_frozen(self, name: str) -> bool:
        """Whether ``frozen_stages`` keeps a parameter as it is."""
        depth, depths = self.get_layer_depth(name)
        if name.startswith("norm."):
            return self.frozen_stages == self.num_layers
        return depth <= self.frozen_stages and depth < depths - 1

    def init_weights(self) -> None:
        """Initialize for training from nothing, then as ``init_cfg`` says.

        Layers as :func:`mmbeit3.models.layers.init_encoder_layers` does; positions start as
        sinusoids.
        """
        init_encoder_layers(self.layers)
        # Orthogonal: a token starts as its patch, whole where C allows, and not faint beside what
        # the branches add, as with torch's default for convolutions.
        nn.init.orthogonal_(self.patch_embed.proj.weight.data.flatten(1), gain=2.0)
        trunc_normal_(self.pos_embed, std=0.02)
        self.pos_embed.data[:, self.cls_token is not None :] = self._sine_positions()
        if self.cls_token is not None:
            trunc_normal_(self.cls_token, std=0.02)
        if self.mask_token is not None:
            trunc_normal_(self.mask_token, std=0.02)
        # mmengine would load whatever fits of any file and go on; this one must be of this model.
        if (self.init_cfg or {}).get("type") == "Pretrained":
            load_backbone(self, self.init_cfg["checkpoint"])
        else:
            super().init_weights()


def _grid_size(img_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    if not isinstance(patch_size, int) or patch_size < 1:
        raise InputError(f"patch_size is {patch_size!r}; it must be a positive whole number.")
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if min(height, width) < patch_size or height % patch_size or width % patch_size:
        raise InputError(
            f"img_size is {height} x {width} and patch_size {patch_size}: both sides must be "
            f"multiples of the patch size, for example {_round_up(height, patch_size)} x "
            f"{_round_up(width, patch_size)}. (Images of other sizes still work: img_size only "
            "sets the size of the position table.)"
        )
    return height // patch_size, width // patch_size


def _check_one_window(grid_size: tuple[int, int], window_size: int, patch_size: int) -> None:
    if grid_size == (window_size, window_size):
        return
    if not window_size:
        raise InputError("tile_positions needs windows to repeat the table in; window_size is 0.")
    raise InputError(
        f"tile_positions repeats the table of one window, {window_size} x {window_size} tokens, "
        f"but img_size makes it {grid_size[0]} x {grid_size[1]}; set "
        f"img_size={window_size * patch_size}."
    )


def _round_up(size: int, step: int) -> int:
    return max(-(-size // step) * step, step)


def _global_layers(
    indexes: Sequence[int] | None, num_layers: int, window_size: int, with_cls_token: bool
) -> frozenset[int]:
    if not isinstance(window_size, int) or window_size < 0:
        raise InputError(
            f"window_size is {window_size!r}; it must be a positive number of tokens, or 0 for "
            "global attention everywhere."
        )
    if window_size == 0:
        indexes = range(num_layers)
    elif indexes is None:
        # detectron2's ViTDet: 2,5,8,11 of 12; 5,11,17,23 of 24; EVA's 40 layers: every fourth.
        indexes = [max((part + 1) * num_layers // 4 - 1, 0) for part in range(4)]
    outside = [index for index in indexes if not 0 <= index < num_layers]
    if outside:
        raise InputError(
            f"global_attn_indexes has {outside}; a model of {num_layers} layers has the indexes "
            f"0 to {num_layers - 1}."
        )
    if with_cls_token and len(set(indexes)) < num_layers:
        raise InputError(
            f"with_cls_token needs global attention in all {num_layers} layers (a CLS token lies "
            f"in no window), but global_attn_indexes is {sorted(indexes)}. Set window_size=0, or "
            "with_cls_token=False."
        )
    return frozenset(indexes)
