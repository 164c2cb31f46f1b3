"""BEiT-3 answering questions about images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbeit3.models.multimodal.fusion import FusionModel, init_head
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError


class Pooler(nn.Module):
    """LN, linear layer and tanh of a token.

    Args:
        embed_dims (int): Width C of a token.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dims)
        self.dense = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, C) -> (B, C)."""
        return self.dense(self.norm(x)).tanh()


@MODELS.register_module()
class BEiT3VQA(FusionModel):
    """The answer to a question about an image, one of a list.

    What the released code does for VQAv2: image and question pass the encoder as one sequence, and
    the CLS token of the image, which has seen the question, goes through a pooler and two linear
    layers. Each answer is scored for itself: a question may have several that are right.

    Args:
        encoder (dict): Config of a :class:`mmbeit3.models.BEiT3Multiway`; as released it has
            ``final_norm=False``.
        num_classes (int): Answers; in a run by this project's Runner it follows the data. Defaults
            to 3129, those of the official annotations that occur nine times.
        data_preprocessor (dict, optional): See :class:`FusionModel`. Defaults to None.
        init_cfg (dict, optional): See :class:`FusionModel`, with an official ``_vqa`` file.
            Defaults to None.

    Raises:
        InputError: The options or the tokenizer do not fit the encoder.
    """

    released_task = "vqa"
    text_name = "question"

    def __init__(
        self,
        encoder: dict,
        num_classes: int = 3129,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(encoder, data_preprocessor, init_cfg)
        if num_classes < 1:
            raise InputError(f"num_classes is {num_classes}; expected 1 answer or more")
        self.num_classes = num_classes
        width = self.encoder.embed_dims
        self.pooler = Pooler(width)
        self.head = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.LayerNorm(2 * width),
            nn.GELU(),
            nn.Linear(2 * width, num_classes),
        )

    def logits(self, images: Tensor, ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Score all answers to questions.

        Args:
            images (Tensor): (B, 3, H, W), normalized, one of each question.
            ids (Tensor): (B, N) questions.
            padding_mask (Tensor, optional): (B, N), True at padding. Defaults to None.

        Returns:
            Tensor: (B, num_classes).
        """
        image, _ = self.encoder.encode_pair(images, ids, padding_mask)
        return self.head(self.pooler(image[:, 0]))

    def targets(self, samples: Sequence[BaseDataElement]) -> Tensor:
        """``answer_scores`` of the samples at their ``answer_labels``, 0 elsewhere: (B, classes).

        Raises:
            InputError: A sample has none, or a label that is no class.
        """
        targets = torch.zeros(len(samples), self.num_classes)
        for row, sample in zip(targets, samples, strict=True):
            labels, scores = sample.get("answer_labels"), sample.get("answer_scores")
            name = f"question {sample.get('question_id')} of {sample.get('img_path')}"
            if labels is None or scores is None or len(labels) != len(scores):
                raise InputError(
                    f"{name} has the answer_labels {labels} and the answer_scores {scores}; "
                    "expected as many of both: train on questions with answers"
                )
            if wrong := [label for label in labels if not 0 <= label < self.num_classes]:
                raise InputError(
                    f"{name} has the answer label {wrong[0]}; expected 0 to "
                    f"{self.num_classes - 1}, the model has {self.num_classes} answers: set its "
                    "num_classes to that of the data's answer list"
                )
            row[list(labels)] = torch.tensor(scores, dtype=row.dtype)
        return targets

    def losses(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Binary cross-entropy, summed over answers, as released; and the mean score in percent."""
        with torch.autocast(logits.device.type, enabled=False):
            loss = F.binary_cross_entropy_with_logits(logits.float(), targets) * self.num_classes
        best = logits.detach().argmax(1, keepdim=True)
        return dict(loss_vqa=loss, score=100 * targets.gather(1, best).mean())

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (B, classes) -> the probability of each answer for itself."""
        return logits.sigmoid()

    def init_heads(self) -> None:
        """Draw pooler and head."""
        init_head(self.pooler)
        init_head(self.head)
