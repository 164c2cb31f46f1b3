"""VQ-KD, the image tokenizer of BEiT v2 and BEiT-3: codes of patches."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmbeit3.checkpoint.resizing import resize_position_embedding
from mmbeit3.models.image_tokenizers.base import ImageTokenizer
from mmbeit3.models.image_tokenizers.quantizer import Quantized, Quantizer
from mmbeit3.models.image_tokenizers.vit import TokenizerViT, init_linear
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from mmbeit3.utils.archs import resolve_arch

# What the published files may hold beside the tokenizer, and its own code leaves out, too.
NOT_OF_THE_TOKENIZER = ("loss", "teacher", "scaling")


@MODELS.register_module()
class VQKD(ImageTokenizer):
    """Vector-quantized knowledge distillation (arXiv 2208.06366).

    A ViT makes a feature of each patch, of which the nearest of a book of vectors is its code. In
    training a second ViT tells a teacher's features of the patches from the vectors alone, so that
    patches of like meaning get the same code. Names and arithmetic are those of BEiT v2's files
    (``vqkd_encoder_base_decoder_*.pth``), which load strictly.

    Args:
        arch (str | dict): Of encoder and decoder, see :class:`mmbeit3.models.BEiT3`. Defaults to
            "base".
        img_size (int | tuple[int, int]): Image size in pixels (height, width); no other is taken.
            A file of another one has its positions resized. Defaults to 224.
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        decoder_layers (int): Layers of the decoder. Defaults to 3, as in the file that BEiT v2
            recommends; 1 in the others.
        num_codes (int): Vectors in the book. Defaults to 8192.
        code_dims (int): Width of a vector. Defaults to 32.
        out_channels (int, optional): Channels of the teacher's features: 512 in the files of CLIP,
            768 in that of DINO. Defaults to None: those of ``teacher``, else 512.
        teacher (dict, optional): What the decoder learns to tell, such as a
            :class:`mmbeit3.models.TimmTeacher`, :class:`mmbeit3.models.TowerTeacher`,
            :class:`mmbeit3.models.PixelTeacher` or :class:`mmbeit3.models.HOGTeacher`. It is
            neither trained nor saved. Defaults to None: nothing is trained.
        quantizer (dict, optional): ``decay``, ``beta`` and ``revive_below`` of
            :class:`mmbeit3.models.image_tokenizers.quantizer.Quantizer`. Defaults to None, its own.
        data_preprocessor (dict, optional): A :class:`mmbeit3.models.ImageTextPreprocessor` with
            mean and std of 127.5. Defaults to None: the model is given tensors.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from a file
            of BEiT v2 or one of this project. Defaults to None.

    Raises:
        InputError: The sizes given cannot work together, or the weights are of another model.
    """

    def __init__(
        self,
        arch: str | dict = "base",
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        decoder_layers: int = 3,
        num_codes: int = 8192,
        code_dims: int = 32,
        out_channels: int | None = None,
        teacher: dict | None = None,
        quantizer: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(teacher, img_size, patch_size, num_codes, data_preprocessor, init_cfg)
        sizes = resolve_arch(arch)
        dims = sizes["embed_dims"]
        self.encoder = TokenizerViT(sizes, 3, self.grid_size, patch_size)
        decoder = {**sizes, "num_layers": decoder_layers}
        self.decoder = TokenizerViT(decoder, code_dims, self.grid_size, 1)
        self.quantize = Quantizer(num_codes, code_dims, **quantizer or {})
        self.encode_task_layer = nn.Sequential(
            nn.Linear(dims, dims), nn.Tanh(), nn.Linear(dims, code_dims)
        )
        known = getattr(self.teacher, "out_channels", out_channels or 512)
        if out_channels not in (None, known):
            raise InputError(
                f"out_channels is {out_channels}, and the teacher has {known}; leave it out"
            )
        self.decode_task_layer = nn.Sequential(
            nn.Linear(dims, dims), nn.Tanh(), nn.Linear(dims, known)
        )

    def features(self, images: Tensor) -> Tensor:
        """Encode images up to what is quantized; see :meth:`ImageTokenizer.features`."""
        size = tuple(side * self.patch_size for side in self.grid_size)
        if tuple(images.shape[-2:]) != size:
            raise InputError(
                f"the images have {images.shape[-2]} x {images.shape[-1]} pixels, and the image "
                f"tokenizer takes {size[0]} x {size[1]}: resize them, or set its img_size"
            )
        x = self.encoder(images)
        with torch.autocast(x.device.type, enabled=False):
            return self.encode_task_layer(x.to(self.encode_task_layer[-1].weight.dtype))

    def decode(self, vectors: Tensor) -> Tensor:
        """Vectors of codes (B, patches, code_dims) -> (B, patches, out_channels)."""
        grid = vectors.transpose(1, 2).unflatten(2, self.grid_size)  # (B, code_dims, h, w)
        return self.decode_task_layer(self.decoder(grid))

    def _losses(self, images: Tensor, features: Tensor, quantized: Quantized) -> dict[str, Tensor]:
        cosine = self._cosine(images, features, quantized)
        return dict(
            loss_teacher=1 - cosine.mean(), loss_codes=quantized.loss, codes_used=quantized.used
        )

    def _cosine(self, images: Tensor, features: Tensor, quantized: Quantized) -> Tensor:
        target = self._ask_teacher(images)
        found = self.decode(quantized.vectors)
        dtype = torch.promote_types(found.dtype, torch.float32)
        return F.cosine_similarity(found.to(dtype), target.to(dtype), dim=-1)

    def init_weights(self) -> None:
        """Initialize as BEiT v2 does, then as ``init_cfg`` says."""
        for tower in (self.encoder, self.decoder):
            tower.init_weights()
        for head in (self.encode_task_layer, self.decode_task_layer):
            head.apply(init_linear)
        super().init_weights()

    def _fitted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a file in this model's size, without those of a teacher."""
        found = {n: value for n, value in state.items() if not n.startswith(NOT_OF_THE_TOKENIZER)}
        for name in ("encoder.pos_embed", "decoder.pos_embed"):
            table = found.get(name)
            if table is None or table.ndim != 3:
                continue  # refused where it is compared
            side = math.isqrt(table.shape[1] - 1)
            if (
                table.shape[1] != math.prod(self.grid_size) + 1
                and side * side == table.shape[1] - 1
            ):
                grid = table[:, 1:].float().unflatten(1, (side, side))
                patches = resize_position_embedding(grid, self.grid_size)
                found[name] = torch.cat([table[:, :1].float(), patches], 1)
        return found
