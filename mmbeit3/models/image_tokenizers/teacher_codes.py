"""An image tokenizer without a network: codes of a teacher's own features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmbeit3.models.image_tokenizers.base import ImageTokenizer
from mmbeit3.models.image_tokenizers.quantizer import Quantized, Quantizer
from mmbeit3.registry import MODELS


@MODELS.register_module()
class TeacherCodes(ImageTokenizer):
    """Codes of what a teacher says of patches: the nearest of a book of vectors, by the cosine.

    :class:`VQKD` has a network make codes of patches from which the teacher's features can be told.
    Where these are computed from the pixels, as edges are, a small network imitates them badly;
    here they are quantized as they are. Training moves the book alone, as
    :class:`mmbeit3.models.image_tokenizers.quantizer.Quantizer` does: k-means from batch to batch,
    for which a few hundred steps are enough.

    Args:
        teacher (dict): Config of a :class:`mmbeit3.models.EdgeTeacher` or another one. It is
            neither trained nor saved.
        img_size (int | tuple[int, int]): Image size in pixels (height, width). Defaults to 224.
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        num_codes (int): Vectors in the book. Defaults to 8192.
        quantizer (dict, optional): ``decay``, ``beta`` and ``revive_below`` of the quantizer.
            Defaults to None, its own.
        data_preprocessor (dict, optional): A :class:`mmbeit3.models.ImageTextPreprocessor` with
            mean and std of 127.5. Defaults to None: the model is given tensors.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from a file
            of this model. Defaults to None.

    Raises:
        InputError: Patches do not divide the image, or the weights are of another model.
    """

    def __init__(
        self,
        teacher: dict,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        num_codes: int = 8192,
        quantizer: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(teacher, img_size, patch_size, num_codes, data_preprocessor, init_cfg)
        self.quantize = Quantizer(num_codes, self.teacher.out_channels, **quantizer or {})
        # The book moves without gradients; optimizers, and DDP, want something that has one.
        self.anchor = nn.Parameter(torch.zeros(()))

    def features(self, images: Tensor) -> Tensor:
        """Ask the teacher; see :meth:`ImageTokenizer.features`."""
        return self._ask_teacher(images)

    def _losses(self, images: Tensor, features: Tensor, quantized: Quantized) -> dict[str, Tensor]:
        return dict(loss_codes=quantized.loss + 0 * self.anchor, codes_used=quantized.used)

    def _cosine(self, images: Tensor, features: Tensor, quantized: Quantized) -> Tensor:
        return F.cosine_similarity(
            features, self.quantize.embedding.weight[quantized.codes], dim=-1
        )
