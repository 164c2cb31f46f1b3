"""BEiT-3 as a dual encoder of images and texts."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbeit3.models.multimodal.fusion import ImageTextModel, init_head
from mmbeit3.models.multimodal.image_text_loss import check_same_image, image_text_loss
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError


@MODELS.register_module()
class BEiT3Retrieval(ImageTextModel):
    """Images and texts to features of one space, trained by contrast (ITC) of pairs.

    What the released code does for retrieval: the CLS token and the begin token of a text, each
    encoded alone, pass a linear layer and are L2-normalized.

    Args:
        encoder (dict): Config of a :class:`mmbeit3.models.BEiT3Multiway`.
        same_image (str): What another text of the same image in a batch is, "negative", "ignore" or
            "positive", see :func:`mmbeit3.models.multimodal.image_text_loss.image_text_loss`.
            Defaults to "negative", as released.
        max_logit_scale (float, optional): Largest factor on the similarities; training sets the
            parameter back to it. Defaults to None, no limit, as released; CLIP has 100.
        data_preprocessor (dict, optional): Config of a
            :class:`mmbeit3.models.ImageTextPreprocessor` with the tokenizer. Defaults to None: the
            model is given tensors.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from an
            official ``_itc_`` or ``_retrieval`` file or one of this project, of which everything
            is needed; another file of BEiT-3 can be the ``encoder``'s. Defaults to None.

    Raises:
        InputError: The options or the tokenizer do not fit the encoder.
    """

    released_task = "retrieval"

    def __init__(
        self,
        encoder: dict,
        same_image: str = "negative",
        max_logit_scale: float | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(encoder, data_preprocessor, init_cfg)
        check_same_image(same_image)
        if max_logit_scale is not None and max_logit_scale < 1:
            raise InputError(f"max_logit_scale is {max_logit_scale}; expected 1 or more, or None")
        self.same_image = same_image
        self.max_logit_scale = max_logit_scale
        if len(self.encoder.vl_layers):
            raise InputError(
                f"the encoder has {len(self.encoder.vl_layers)} vl_layers, which only pairs use; "
                "expected 0: images and texts are encoded apart here"
            )
        dims = self.encoder.embed_dims
        self.vision_head = nn.Linear(dims, dims, bias=False)
        self.language_head = nn.Linear(dims, dims, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(
        self,
        inputs: Tensor | None = None,
        ids: Tensor | None = None,
        padding_mask: Tensor | None = None,
        data_samples: list[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> dict[str, Tensor] | list[BaseDataElement] | tuple[Tensor | None, Tensor | None]:
        """Run the model on what its preprocessor returns.

        Args:
            inputs (Tensor, optional): (B, 3, H, W) images. Defaults to None.
            ids (Tensor, optional): (M, N) texts, in the order of the samples. Defaults to None.
            padding_mask (Tensor, optional): (M, N), True at padding. Defaults to None.
            data_samples (list, optional): B samples. Defaults to None.
            mode (str): "loss", "predict" or "tensor". Defaults to "tensor".

        Returns:
            dict | list | tuple: Of "loss" ``dict(loss_itc=...)``. Of "predict" the samples, each
            with ``image_feature`` (D,) where there are images and ``text_features``
            (len(texts), D), on the CPU. Of "tensor" the features of images (B, D) and of texts
            (M, D), None for what is not given.
        """
        if mode == "loss":
            return self.loss(inputs, ids, padding_mask, data_samples or [])
        images = None if inputs is None else self.encode_image(inputs)
        texts = None if ids is None else self.encode_text(ids, padding_mask)
        if mode == "tensor":
            return images, texts
        if mode == "predict":
            return self._with_features(data_samples or [], images, texts)
        raise InputError(f"mode is {mode!r}; expected 'loss', 'predict' or 'tensor'")

    def loss(
        self,
        inputs: Tensor | None,
        ids: Tensor | None,
        padding_mask: Tensor | None,
        data_samples: list[BaseDataElement],
    ) -> dict[str, Tensor]:
        """Contrast pairs; arguments and result as in :meth:`forward`."""
        if inputs is None or ids is None:
            raise InputError(f"a batch has no {'texts' if inputs is not None else 'images'}")
        if self.max_logit_scale is not None:
            with torch.no_grad():
                self.logit_scale.clamp_(max=math.log(self.max_logit_scale))
        image_ids = [sample.get("image_id") for sample in data_samples]
        loss = image_text_loss(
            self.encode_image(inputs),
            self.encode_text(ids, padding_mask),
            self.logit_scale.exp(),
            None if None in image_ids else image_ids,
            self.same_image,
        )
        return dict(loss_itc=loss)

    def encode_image(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), normalized -> (B, D) features of length 1, in float32."""
        return _unit(self.vision_head(self.encoder.encode_image(images)[:, 0]))

    def encode_text(self, ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Texts (M, N) of ids, True in the mask at padding -> (M, D) features of length 1."""
        return _unit(self.language_head(self.encoder.encode_text(ids, padding_mask)[:, 0]))

    def init_heads(self) -> None:
        """Draw both heads."""
        init_head(self.vision_head)
        init_head(self.language_head)

    @staticmethod
    def _with_features(
        samples: list[BaseDataElement], images: Tensor | None, texts: Tensor | None
    ) -> list[BaseDataElement]:
        counts = [len(sample.get("texts", ())) for sample in samples]
        images = None if images is None else images.cpu()
        parts = None if texts is None else texts.cpu().split(counts)
        for index, sample in enumerate(samples):
            found: dict[str, Any] = {}
            if images is not None:
                found["image_feature"] = images[index]
            if parts is not None:
                found["text_features"] = parts[index]
            sample.set_data(found)
        return samples


def _unit(features: Tensor) -> Tensor:
    # In half precision lengths would differ by 1e-3, and with them the order of results.
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)
