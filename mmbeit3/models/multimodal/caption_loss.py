"""Masked fine-tuning of captions: which words are hidden, and the loss of guessing them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmbeit3.text.tokenizer import UNKNOWN


def mask_words(
    ids: Tensor, padding_mask: Tensor | None, rate: float, mask_id: int
) -> tuple[Tensor, Tensor]:
    """Hide a share of each text's tokens, as released: drawn evenly, begin never, end as others.

    Of n tokens, begin and end among them, ``rate * n`` are chosen, rounded, one at least and all
    but begin at most. Of the chosen, 80 % become ``<mask>``, 10 % any token from ``<unk>`` to
    ``<mask>``, and 10 % stay. Numbers are drawn on the CPU, the same for every device.

    Args:
        ids (Tensor): (M, N) int64 texts, begin first.
        padding_mask (Tensor, optional): (M, N), True at padding, which is never chosen. None is
            none.
        rate (float): Share of the tokens to choose.
        mask_id (int): Id of ``<mask>``, the last one that texts have.

    Returns:
        tuple[Tensor, Tensor]: (M, N) ids with hidden tokens, and (M, N) bool, True where a token
        was chosen.
    """
    order = torch.rand(ids.shape)
    order[:, 0] = 2.0
    kept = torch.ones(ids.shape, dtype=torch.bool)
    if padding_mask is not None:
        kept = ~padding_mask.bool().cpu()
        order[~kept] = 3.0
    lengths = kept.sum(1)
    counts = (lengths * rate + 0.5).int().minimum(lengths - 1).clamp(min=1)
    chosen = order.argsort(1).argsort(1) < counts[:, None]
    draw = torch.rand(ids.shape)
    others = torch.randint(UNKNOWN, mask_id + 1, ids.shape)
    chosen, draw, others = (
        part.to(ids.device, non_blocking=True) for part in (chosen, draw, others)
    )
    hidden = torch.where(draw < 0.8, mask_id, torch.where(draw < 0.9, others, ids))
    return torch.where(chosen, hidden, ids), chosen


def caption_loss(
    logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, drop_worst_ratio: float = 0.0
) -> Tensor:
    """Divergence of what was guessed from smoothed targets, as released.

    The target has ``1 - label_smoothing`` and the others have the rest in equal parts. It is the
    cross-entropy less the entropy of the targets, which is a constant (1.43 of 64,010 tokens at
    0.1): 0 is the least value, and gradients are those of the cross-entropy.

    Args:
        logits (Tensor): (M, V) of M guessed tokens.
        targets (Tensor): (M,) int64 the tokens.
        label_smoothing (float): Probability of all wrong tokens together. Defaults to 0.
        drop_worst_ratio (float): Share of the tokens, those with the highest loss, that are left
            out. Defaults to 0, none.

    Returns:
        Tensor: The mean over the tokens, a scalar.
    """
    total, eps = logits.shape[1], label_smoothing
    # torch's option spreads over all tokens, the target among them.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = F.cross_entropy(
        logits, targets, reduction="none", label_smoothing=eps * total / (total - 1)
    )
    if eps:
        loss = loss + (1 - eps) * math.log(1 - eps) + eps * math.log(eps / (total - 1))
    if drop_worst_ratio:
        kept = max(int(len(loss) * (1 - drop_worst_ratio)), 1)
        loss = loss.topk(kept, largest=False).values
    return loss.mean()
