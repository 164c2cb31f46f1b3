"""The linear classifier on BEiT-3's vision tower, as it was released for ImageNet."""

from __future__ import annotations

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbeit3.checkpoint import load_task
from mmbeit3.models.classifiers.classification import (
    MixedTargets,
    cross_entropy,
    labels_of,
    top1,
    with_scores,
)
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError


@MODELS.register_module()
class BEiT3ImageClassifier(BaseModel):
    """Class of an image from the mean of its patches' states: LN, then a linear layer.

    What the released code does for ImageNet, and the official ``_in1k`` files hold. The CLS token
    takes part in the tower, but not in the mean.

    Args:
        backbone (dict): Config of a :class:`mmbeit3.models.BEiT3`; as released it has
            ``with_cls_token=True``, ``final_norm=False`` and ``window_size=0``.
        num_classes (int): Classes; in a run by this project's Runner it follows the data.
        init_scale (float): Factor on the drawn weights of the linear layer. Defaults to 0.001, as
            released.
        mixup (float): See :class:`mmbeit3.models.classifiers.classification.MixedTargets`. Defaults
            to 0.
        cutmix (float): As ``mixup``.
        label_smoothing (float): As ``mixup``.
        data_preprocessor (dict, optional): Config of a
            :class:`mmbeit3.models.ImageTextPreprocessor`; no tokenizer is needed. Defaults to None.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from an
            official ``_in1k`` file or one of this project, of which everything is needed; another
            file of BEiT-3 can be the ``backbone``'s. Defaults to None.

    Raises:
        InputError: The options cannot be used.
    """

    #: The kind of official file that holds all of its weights.
    released_task = "classification"

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        init_scale: float = 0.001,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        label_smoothing: float = 0.0,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if num_classes < 1:
            raise InputError(f"num_classes is {num_classes}; expected 1 or more")
        self.backbone = MODELS.build(backbone)
        self.num_classes, self.init_scale = num_classes, init_scale
        self.mixed_targets = MixedTargets(mixup, cutmix, label_smoothing)
        self.fc_norm = nn.LayerNorm(self.backbone.embed_dims)
        self.head = nn.Linear(self.backbone.embed_dims, num_classes)

    def forward(
        self,
        inputs: Tensor,
        ids: None = None,
        padding_mask: None = None,
        data_samples: list[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> dict[str, Tensor] | list[BaseDataElement] | Tensor:
        """Run the model on what its preprocessor returns.

        Args:
            inputs (Tensor): (B, 3, H, W) images.
            ids (None): Not used: the model reads no texts.
            padding_mask (None): Not used.
            data_samples (list, optional): B samples, with ``gt_label`` for "loss". Defaults to
                None.
            mode (str): "loss", "predict" or "tensor". Defaults to "tensor".

        Returns:
            dict | list | Tensor: Of "loss" ``dict(loss=..., top1=...)``. Of "predict" the samples,
            each with ``pred_scores`` (num_classes,), probabilities, and ``pred_label``, on the CPU.
            Of "tensor" the logits (B, num_classes).

        Raises:
            InputError: A label is missing or no class, or the batch cannot be mixed.
        """
        if mode == "loss":
            labels = labels_of(data_samples or [], self.num_classes, inputs.device)
            images, targets = self.mixed_targets(inputs, labels, self.num_classes)
            logits = self.logits(images)
            return dict(loss=cross_entropy(logits, targets), top1=top1(logits, labels))
        logits = self.logits(inputs)
        if mode == "predict":
            return with_scores(data_samples or [], logits.float().softmax(1))
        if mode == "tensor":
            return logits
        raise InputError(f"mode is {mode!r}; expected 'loss', 'predict' or 'tensor'")

    def logits(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), normalized -> (B, num_classes)."""
        (feature_map,) = self.backbone(images)
        return self.head(self.fc_norm(feature_map.flatten(2).mean(2)))

    def init_weights(self) -> None:
        """Initialize for training from nothing, the head as released, then by ``init_cfg``."""
        self.backbone.init_weights()
        nn.init.trunc_normal_(self.head.weight, std=0.02, a=-0.02, b=0.02)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.mul_(self.init_scale)
        if (self.init_cfg or {}).get("type") == "Pretrained":
            load_task(self, self.init_cfg["checkpoint"])
