"""What classifiers share: targets that are mixed and smoothed, the loss, and the results."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmbeit3.utils import InputError


class MixedTargets:
    """Mixes the images of a batch, by timm's Mixup and CutMix, and gives what they are to be.

    Args:
        mixup (float): Alpha of Mixup. Defaults to 0, none; as released it is 0.8.
        cutmix (float): Alpha of CutMix. Defaults to 0, none; as released it is 1. Where both are
            given, each batch has one or the other, at random.
        label_smoothing (float): Share of the target that is spread over all classes. Defaults to 0;
            as released it is 0.1.
    """

    def __init__(
        self, mixup: float = 0.0, cutmix: float = 0.0, label_smoothing: float = 0.0
    ) -> None:
        if not (mixup >= 0 and cutmix >= 0 and 0 <= label_smoothing < 1):
            raise InputError(
                f"mixup is {mixup}, cutmix {cutmix} and label_smoothing {label_smoothing}; "
                "expected 0 or more of both, and 0 or more and below 1"
            )
        self.mixup, self.cutmix, self.label_smoothing = mixup, cutmix, label_smoothing

    def __call__(self, images: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            images (Tensor): (B, 3, H, W); left as they are.
            labels (Tensor): (B,) int64.
            num_classes (int): C.

        Returns:
            tuple[Tensor, Tensor]: (B, 3, H, W) images; (B, C) targets, each with the sum 1.

        Raises:
            InputError: The batch cannot be mixed: it is odd.
        """
        if self.mixup or self.cutmix:
            from timm.data import Mixup

            if len(images) % 2:
                raise InputError(
                    f"a batch has {len(images)} images, and mixup and cutmix take them in pairs: "
                    "set train_dataloader.batch_size to an even number"
                )
            mix = Mixup(
                self.mixup,
                self.cutmix,
                label_smoothing=self.label_smoothing,
                num_classes=num_classes,
            )
            return mix(images.clone(), labels)
        targets = F.one_hot(labels, num_classes).float()
        return images, targets * (1 - self.label_smoothing) + self.label_smoothing / num_classes


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, C) and targets (B, C), or labels (B,), in float32."""
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits.float(), targets)


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of images, in percent, whose own class has the highest logit, for the log."""
    return 100 * (logits.detach().argmax(1) == labels).float().mean()


def labels_of(samples: Sequence[BaseDataElement], num_classes: int, device: torch.device) -> Tensor:
    """The labels (B,) of the samples of a batch.

    Raises:
        InputError: A sample has none, or one that is no class.
    """
    labels = [sample.get("gt_label") for sample in samples]
    for sample, label in zip(samples, labels, strict=True):
        if label is None or not 0 <= int(label) < num_classes:
            raise InputError(
                f"{sample.get('img_path')} has the label {label}; expected 0 to {num_classes - 1}, "
                f"the model has {num_classes} classes: set its num_classes to that of the data"
            )
    # A blocking copy would have the CPU wait for all that a GPU has to do before.
    return torch.tensor([int(label) for label in labels]).to(device, non_blocking=True)


def with_scores(samples: Sequence[BaseDataElement], scores: Tensor) -> list[BaseDataElement]:
    """Give each sample its ``pred_scores`` (C,) and ``pred_label``, on the CPU."""
    for sample, row in zip(samples, scores.float().cpu(), strict=True):
        sample.set_data({"pred_scores": row, "pred_label": int(row.argmax())})
    return list(samples)
