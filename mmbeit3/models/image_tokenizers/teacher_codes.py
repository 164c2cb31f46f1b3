"""An image tokenizer without a network: codes of a teacher's own features."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbeit3.checkpoint import load_weights, read_checkpoint, state_dict_of
from mmbeit3.checkpoint.fetching import without_secrets
from mmbeit3.models.frozen import AsksFrozen
from mmbeit3.models.image_tokenizers.quantizer import Quantizer
from mmbeit3.models.image_tokenizers.teachers import grid_of
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError


@MODELS.register_module()
class TeacherCodes(AsksFrozen, BaseModel):
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

    #: Whether random weights are a usual start.
    starts_from_nothing = True

    frozen_name = "teacher"
    teacher: Any

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
        super().__init__(data_preprocessor, init_cfg)
        self.patch_size = patch_size
        self.num_codes = num_codes
        self.grid_size = grid_of(img_size, patch_size)
        self._keep_frozen(MODELS.build(teacher))
        self.quantize = Quantizer(num_codes, self.teacher.out_channels, **quantizer or {})
        # The book moves without gradients; optimizers, and DDP, want something that has one.
        self.anchor = nn.Parameter(torch.zeros(()))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Ask the teacher.

        Args:
            images (Tensor): (B, 3, H, W) pixels from -1 to 1, of the size that the model is for.

        Returns:
            Tensor: (B, patches, channels), row by row, not yet of length 1.

        Raises:
            InputError: They are of another size.
        """
        self.init_frozen()
        with torch.autocast(images.device.type, enabled=False):
            return self.teacher.features(images, self.grid_size)

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Images as in :meth:`features` -> (B, patches) int64 codes; nothing of the model moves."""
        x = F.normalize(self.features(images), dim=-1)
        return self.quantize.nearest(x.flatten(0, 1)).view(x.shape[:2])

    def forward(
        self,
        inputs: Tensor,
        mode: str = "tensor",
        data_samples: list[BaseDataElement] | None = None,
        **_: Any,
    ) -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """Run the model on what its preprocessor returns.

        Args:
            inputs (Tensor): (B, 3, H, W) images, as in :meth:`features`.
            mode (str): "loss", "predict" or "tensor". Defaults to "tensor".
            data_samples (list, optional): Those of the images, of use to "predict". Defaults to
                None.
            **_: What else the preprocessor returns, without a use here.

        Returns:
            Tensor | dict | list: Of "tensor" the codes; of "loss" ``loss_codes``, from features to
            their vectors, and ``codes_used``, the share of the codes that the batches of all
            processes have. Of "predict" the samples with ``codes``, those that an image has, of how
            many (``num_codes``), and ``cosine``, the mean of features and their vectors.

        Raises:
            InputError: The mode is another, or the images are of another size.
        """
        if mode == "tensor":
            return self.codes(inputs)
        if mode not in ("loss", "predict"):
            raise InputError(f"mode is {mode!r}; expected 'loss', 'predict' or 'tensor'")
        features = self.features(inputs)
        quantized = self.quantize(features)
        if mode == "loss":
            return dict(loss_codes=quantized.loss + 0 * self.anchor, codes_used=quantized.used)
        vectors = self.quantize.embedding.weight[quantized.codes]
        cosines = F.cosine_similarity(features, vectors, dim=-1).double().mean(1).tolist()
        for sample, codes, cosine in zip(data_samples or [], quantized.codes, cosines, strict=True):
            sample.set_field(codes.unique().tolist(), "codes")
            sample.set_field(self.num_codes, "num_codes")
            sample.set_field(cosine, "cosine")
        return data_samples or []

    def init_weights(self) -> None:
        """Have the teacher initialize, then load what ``init_cfg`` says."""
        if (self.init_cfg or {}).get("type") == "Pretrained":
            origin = self.init_cfg["checkpoint"]
            load_weights(
                self, state_dict_of(read_checkpoint(origin)), origin=without_secrets(str(origin))
            )
        self.init_frozen()
