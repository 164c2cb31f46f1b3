"""The language expert of BEiT-3 as a text encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from mmbeit3.checkpoint import load_backbone
from mmbeit3.models.layers import EncoderLayer, init_encoder_layers
from mmbeit3.models.layers.checkpointing import check_with_cp, recomputed
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from mmbeit3.utils.archs import resolve_arch
from mmbeit3.utils.towers import depth_in_tower


@MODELS.register_module()
class BEiT3Text(BaseModule):
    """Language expert of BEiT-3 (arXiv 2208.10442).

    Computes what the published code computes for text alone. Padding is never seen by other tokens,
    and columns that are padding in every text are not computed.

    Args:
        arch (str | dict): See :class:`mmbeit3.models.BEiT3`. Defaults to "base".
        vocab_size (int): Rows of the embedding. Defaults to 64010, those of the official files: the
            64,000 pieces of ``beit3.spm``, its special tokens and 8 rows without a use.
        max_tokens (int): Rows of the position table. Defaults to 1022, those that official files
            have a use for.
        drop_path_rate (float): Drop path of the last layer; it grows linearly from 0 at the first.
            Defaults to 0.
        final_norm (bool): Apply the LN after the last layer. Defaults to True; official ImageNet
            and VQA files have none.
        with_cp (bool | str): See :class:`mmbeit3.models.BEiT3`. Defaults to False.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from the text
            branch of an official file, or from one of this project. Defaults to None.

    Raises:
        InputError: The sizes given cannot work together, or the weights are of another model.
    """

    #: The half of the official files that is the tower's: text.
    branch = "B"

    def __init__(
        self,
        arch: str | dict = "base",
        vocab_size: int = 64010,
        max_tokens: int = 1022,
        drop_path_rate: float = 0.0,
        final_norm: bool = True,
        with_cp: bool | str = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        arch = resolve_arch(arch)
        check_with_cp(with_cp)
        self.embed_dims: int = arch["embed_dims"]
        self.num_layers: int = arch["num_layers"]
        self.vocab_size = vocab_size
        self.max_tokens = max_tokens
        self.with_cp = with_cp
        self.text_embed = nn.Embedding(vocab_size, self.embed_dims)
        self.pos_embed = nn.Parameter(torch.zeros(1, max_tokens, self.embed_dims))
        self.layers = nn.ModuleList(
            EncoderLayer(
                self.embed_dims,
                arch["num_heads"],
                arch["feedforward_channels"],
                drop_path_rate * index / max(self.num_layers - 1, 1),
            )
            for index in range(self.num_layers)
        )
        self.norm = nn.LayerNorm(self.embed_dims, eps=1e-5) if final_norm else nn.Identity()

    def forward(self, ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Encode texts.

        Args:
            ids (Tensor): (B, N) int64 ids as :class:`mmbeit3.text.Tokenizer` makes them.
            padding_mask (Tensor, optional): (B, N), True or 1 where ``ids`` is padding. Defaults to
                None, no padding.

        Returns:
            Tensor: (B, N, C); what stands at padding means nothing.

        Raises:
            InputError: There are more tokens than positions, or a text is all padding.
        """
        total = ids.shape[1]
        if padding_mask is not None and not torch.compiler.is_compiling():
            ids, padding_mask = _without_padded_columns(ids, padding_mask)
        x, keep = self.embed(ids, padding_mask), None
        if padding_mask is not None:
            keep = ~padding_mask.bool()[:, None, None]  # (B, 1, 1, N): which keys are seen
        args = (((1, x.shape[1]),), None, keep)
        for layer in self.layers:
            if self.with_cp and self.training:
                x = recomputed(layer, x, *args, offload=self.with_cp == "offload")
            else:
                x = layer(x, *args)
        x = self.norm(x)
        return F.pad(x, (0, 0, 0, total - x.shape[1])) if x.shape[1] < total else x

    def embed(self, ids: Tensor, padding_mask: Tensor | None = None, start: int = 0) -> Tensor:
        """Texts to what the first layer takes.

        Args:
            ids (Tensor): (B, N), as in :meth:`forward`.
            padding_mask (Tensor, optional): (B, N), as in :meth:`forward`. Defaults to None.
            start (int): Position of the first id, where a text goes on. Defaults to 0.

        Returns:
            Tensor: (B, N, C), zero at padding.

        Raises:
            InputError: There are more tokens than positions.
        """
        if ids.ndim != 2 or (padding_mask is not None and padding_mask.shape != ids.shape):
            mask = None if padding_mask is None else tuple(padding_mask.shape)
            raise InputError(
                f"ids have the shape {tuple(ids.shape)} and padding_mask {mask}; expected "
                "(texts, tokens) of both"
            )
        end = start + ids.shape[1]
        if end > self.max_tokens:
            raise InputError(
                f"the texts have {end} tokens and the model {self.max_tokens} positions: "
                "cut the texts (max_length of mmbeit3.text.Tokenizer), or raise max_tokens"
            )
        x = self.text_embed(ids) + self.pos_embed[:, start:end]
        return x if padding_mask is None else x.masked_fill(padding_mask.bool()[..., None], 0)

    @property
    def repeated_layers(self) -> nn.ModuleList:
        """The layers, for what treats them one by one: sharding and compilation."""
        return self.layers

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Tell how deep a parameter lies, as :meth:`mmbeit3.models.BEiT3.get_layer_depth` does."""
        return depth_in_tower(self, param_name, prefix, ("text_embed.", "pos_embed"), ("norm.",))

    def init_weights(self) -> None:
        """Initialize for training from nothing, then as ``init_cfg`` says.

        Embeddings are drawn as in the released code (std C ** -0.5), layers as those of the vision
        tower.
        """
        init_encoder_layers(self.layers)
        nn.init.normal_(self.text_embed.weight, std=self.embed_dims**-0.5)
        trunc_normal_(self.pos_embed, std=0.02)
        # mmengine would load whatever fits of any file and go on; this one must be of this model.
        if (self.init_cfg or {}).get("type") == "Pretrained":
            load_backbone(self, self.init_cfg["checkpoint"])
        else:
            super().init_weights()


def _without_padded_columns(ids: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Cut the last columns where they are padding in every text; the mask goes if none is left."""
    if padding_mask.shape != ids.shape:
        return ids, padding_mask  # refused where it is embedded
    keep = ~padding_mask.cpu().bool()  # once: each question to a GPU would wait for it
    empty = (~keep.any(1)).nonzero().flatten().tolist()
    if empty:
        raise InputError(
            f"text {empty[0]} of {len(ids)} is all padding; expected at least one token: "
            "leave empty texts out"
        )
    longest = int(keep.any(0).nonzero().max()) + 1 if keep.numel() else 0
    is_full = bool(keep[:, :longest].all())
    return ids[:, :longest], None if is_full else padding_mask[:, :longest].bool()
