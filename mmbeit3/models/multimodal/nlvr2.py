"""BEiT-3 judging statements about two images (NLVR2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbeit3.models.classifiers.classification import cross_entropy, top1
from mmbeit3.models.multimodal.fusion import FusionModel, init_head
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError


class TwoLayerHead(nn.Module):
    """LN, linear layer, LN, GELU and linear layer.

    Args:
        in_channels (int): Of the input.
        hidden_channels (int): Between the layers.
        num_classes (int): Of the output.
    """

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_channels)
        self.dense1 = nn.Linear(in_channels, hidden_channels)
        self.norm2 = nn.LayerNorm(hidden_channels)
        self.act = nn.GELU()
        self.dense2 = nn.Linear(hidden_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, in_channels) -> (B, num_classes)."""
        return self.dense2(self.act(self.norm2(self.dense1(self.norm1(x)))))


@MODELS.register_module()
class BEiT3NLVR2(FusionModel):
    """Whether a statement about two images is true.

    What the released code does for NLVR2: each image passes the encoder with the statement, both
    at once in one batch, and a head of two layers sees the CLS token and the begin token of both.

    Args:
        encoder (dict): Config of a :class:`mmbeit3.models.BEiT3Multiway`.
        data_preprocessor (dict, optional): See :class:`FusionModel`. Defaults to None.
        init_cfg (dict, optional): See :class:`FusionModel`, with an official ``_nlvr2`` file.
            Defaults to None.
        init_scale (float): Factor on the head's first weights. With the released one an encoder
            that has learned little gets hardly a gradient, and Adam makes full steps of its noise.
            Defaults to 0.001, as released.

    Raises:
        InputError: The tokenizer does not fit the encoder.
    """

    released_task = "nlvr2"
    text_name = "statement"

    def __init__(
        self,
        encoder: dict,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
        init_scale: float = 0.001,
    ) -> None:
        super().__init__(encoder, data_preprocessor, init_cfg)
        self.init_scale = init_scale
        width = self.encoder.embed_dims
        self.head = TwoLayerHead(4 * width, 2 * width, 2)  # false and true

    def logits(self, images: Tensor, ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Score statements as false and as true.

        Args:
            images (Tensor): (B, 2, 3, H, W), normalized, left and right one of each statement.
            ids (Tensor): (B, N) statements.
            padding_mask (Tensor, optional): (B, N), True at padding. Defaults to None.

        Returns:
            Tensor: (B, 2).

        Raises:
            InputError: There are not two images of each statement.
        """
        if images.ndim != 5 or images.shape[1] != 2:
            raise InputError(
                f"the images of a batch have the shape {tuple(images.shape)}; expected "
                "(B, 2, 3, H, W), two of each statement: load them by mmbeit3.ForEachImage"
            )
        mask = None if padding_mask is None else padding_mask.repeat(2, 1)
        # (B, 2, 3, H, W) -> (2 * B, 3, H, W), the left ones first
        image, text = self.encoder.encode_pair(
            images.transpose(0, 1).flatten(0, 1), ids.repeat(2, 1), mask
        )
        summary = torch.cat([image[:, 0], text[:, 0]], -1)  # (2 * B, 2 * C)
        return self.head(torch.cat(summary.chunk(2), -1))

    def targets(self, samples: Sequence[BaseDataElement]) -> Tensor:
        """``gt_label`` of the samples, (B,).

        Raises:
            InputError: A sample has none, or another than 0 and 1.
        """
        for sample in samples:
            if (label := sample.get("gt_label")) not in (0, 1):
                raise InputError(
                    f"statement {sample.get('identifier')} has the label {label!r}; expected 0 "
                    "(False) or 1 (True): train on statements with labels"
                )
        return torch.tensor([int(sample.gt_label) for sample in samples])

    def losses(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Cross-entropy, and the share of statements that are judged right, in percent."""
        loss = cross_entropy(logits, targets)
        return dict(loss_nlvr2=loss, top1=top1(logits, targets))

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (B, 2) -> probabilities."""
        return logits.softmax(1)

    def init_heads(self) -> None:
        """Draw the head."""
        init_head(self.head, self.init_scale)
