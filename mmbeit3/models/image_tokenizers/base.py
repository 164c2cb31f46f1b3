"""What all image tokenizers share: a teacher beside them, codes by the nearest vector, modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbeit3.checkpoint import load_weights, read_checkpoint, state_dict_of
from mmbeit3.checkpoint.fetching import without_secrets
from mmbeit3.models.frozen import AsksFrozen
from mmbeit3.models.image_tokenizers.quantizer import Quantized, Quantizer
from mmbeit3.models.image_tokenizers.teachers import grid_of
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError


class ImageTokenizer(AsksFrozen, BaseModel):
    """A network that gives each patch of an image the code of the vector nearest to its feature.

    Subclasses set ``quantize``, a :class:`mmbeit3.models.image_tokenizers.quantizer.Quantizer`.

    Args:
        teacher (dict, optional): Config of a teacher. It is neither trained nor saved.
        img_size (int | tuple[int, int]): Image size in pixels (height, width).
        patch_size (int): Side of a patch in pixels.
        num_codes (int): Vectors in the book.
        data_preprocessor (dict, optional): As in a subclass.
        init_cfg (dict, optional): As in a subclass.

    Raises:
        InputError: Patches do not divide the image.
    """

    #: Whether random weights are a usual start.
    starts_from_nothing = True

    frozen_name = "teacher"
    teacher: Any
    quantize: Quantizer

    def __init__(
        self,
        teacher: dict | None,
        img_size: int | tuple[int, int],
        patch_size: int,
        num_codes: int,
        data_preprocessor: dict | nn.Module | None,
        init_cfg: dict | None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.patch_size = patch_size
        self.num_codes = num_codes
        self.grid_size = grid_of(img_size, patch_size)
        self._keep_frozen(None if teacher is None else MODELS.build(teacher))

    def features(self, images: Tensor) -> Tensor:
        """Compute what is quantized.

        Args:
            images (Tensor): (B, 3, H, W) pixels from -1 to 1, of the size that the model is for.

        Returns:
            Tensor: (B, patches, channels), row by row, not yet of length 1.

        Raises:
            InputError: They are of another size.
        """
        raise NotImplementedError

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
            their vectors; ``codes_used``, the share of the codes that the batches of all processes
            have; and further losses of a subclass. Of "predict" the samples with ``codes``, those
            that an image has, of how many (``num_codes``), and where there is a teacher ``cosine``,
            the mean of its features and what the codes say of them.

        Raises:
            InputError: The mode is another, the images are of another size, or there is no teacher
                to learn from.
        """
        if mode == "tensor":
            return self.codes(inputs)
        if mode not in ("loss", "predict"):
            raise InputError(f"mode is {mode!r}; expected 'loss', 'predict' or 'tensor'")
        if mode == "loss" and self.teacher is None:
            raise InputError("the tokenizer has no teacher to learn from: set model.teacher")
        features = self.features(inputs)
        quantized = self.quantize(features)
        if mode == "loss":
            return self._losses(inputs, features, quantized)
        samples = data_samples or []
        for sample, codes in zip(samples, quantized.codes, strict=True):
            sample.set_field(codes.unique().tolist(), "codes")
            sample.set_field(self.num_codes, "num_codes")
        if self.teacher is not None:
            cosine = self._cosine(inputs, features, quantized).double().mean(1).tolist()
            for sample, value in zip(samples, cosine, strict=True):
                sample.set_field(value, "cosine")
        return samples

    def _losses(self, images: Tensor, features: Tensor, quantized: Quantized) -> dict[str, Tensor]:
        """What "loss" returns."""
        raise NotImplementedError

    def _cosine(self, images: Tensor, features: Tensor, quantized: Quantized) -> Tensor:
        """How near what codes say is to the teacher's features, (B, patches)."""
        raise NotImplementedError

    def _ask_teacher(self, images: Tensor) -> Tensor:
        """Features of the teacher, (B, patches, channels), in its own precision."""
        self.init_frozen()
        with torch.autocast(images.device.type, enabled=False):
            return self.teacher.features(images, self.grid_size)

    def init_weights(self) -> None:
        """Initialize as ``init_cfg`` says, and the teacher as its own does."""
        if (self.init_cfg or {}).get("type") == "Pretrained":
            origin = self.init_cfg["checkpoint"]
            state = self._fitted(state_dict_of(read_checkpoint(origin)))
            load_weights(self, state, origin=without_secrets(str(origin)))
        self.init_frozen()

    def _fitted(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights of a file as this model has them."""
        return state
