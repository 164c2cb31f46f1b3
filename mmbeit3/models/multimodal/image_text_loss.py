"""Image-text contrast over the pairs of all processes."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import get_rank, get_world_size, is_distributed
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx

from mmbeit3.utils import InputError

SAME_IMAGE = ("negative", "ignore", "positive")


def check_same_image(same_image: str) -> None:
    """Raise an InputError unless the name is one of ``SAME_IMAGE``."""
    if same_image not in SAME_IMAGE:
        raise InputError(f"same_image is {same_image!r}; expected one of {', '.join(SAME_IMAGE)}")


def image_text_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    image_ids: Sequence[Hashable] | None = None,
    same_image: str = "negative",
) -> Tensor:
    """Mean of both cross-entropies between pairs (ITC), over the pairs of all processes.

    Gradients reach the features of the other processes: the mean of the processes' gradients, as
    DDP takes it, is the gradient of one process with all pairs. The mean of the processes' losses
    is that one's loss, too. Processes may have different numbers of pairs.

    Args:
        images (Tensor): (B, D) L2-normalized features; image i belongs to text i.
        texts (Tensor): (B, D) L2-normalized features.
        scale (Tensor): Factor on the similarities, 0-dimensional.
        image_ids (Sequence, optional): B ids of the images, numbers or texts, which tell what pairs
            are of one image. Defaults to None; ``same_image="negative"`` has no use for them.
        same_image (str): What another pair of the same image is: "negative", a wrong answer, as in
            the released code; "ignore", no answer; "positive", a right answer: the target is spread
            evenly over all right ones. Defaults to "negative".

    Returns:
        Tensor: The loss, 0-dimensional.

    Raises:
        InputError: There are not as many texts as images, or no ids where they are needed.
    """
    check_same_image(same_image)
    if len(images) != len(texts):
        raise InputError(
            f"a batch has {len(images)} images and {len(texts)} texts; training takes pairs: one "
            "text for each image"
        )
    images, texts, scale = (
        value.to(torch.promote_types(value.dtype, torch.float32))
        for value in (images, texts, scale)
    )
    counts = _counts(len(images), images.device)
    total, offset = sum(counts), sum(counts[: get_rank()])
    labels = torch.arange(offset, offset + len(images), device=images.device)
    same = None
    if same_image != "negative":
        if image_ids is None:
            raise InputError(f"same_image={same_image!r} needs the image_id of every sample")
        own = torch.tensor([_number(image_id) for image_id in image_ids])
        own = own.to(images.device, non_blocking=True)
        same = own[:, None] == _gather(own, counts)  # (B, total), the pair itself among them
    with torch.autocast(images.device.type, enabled=False):
        loss = sum(
            _cross_entropy(scale * queries @ _gather(keys, counts).T, labels, same, same_image)
            for queries, keys in ((images, texts), (texts, images))
        )
    return loss / 2 * len(counts) / total


def _cross_entropy(logits: Tensor, labels: Tensor, same: Tensor | None, same_image: str) -> Tensor:
    """Sum over the rows of logits (B, total)."""
    if same is None:
        return F.cross_entropy(logits, labels, reduction="sum")
    if same_image == "positive":
        return F.cross_entropy(
            logits, same.to(logits.dtype) / same.sum(1, keepdim=True), reduction="sum"
        )
    others = same & ~F.one_hot(labels, logits.shape[1]).bool()
    return F.cross_entropy(logits.masked_fill(others, -torch.inf), labels, reduction="sum")


def _counts(count: int, device: torch.device) -> list[int]:
    """Pairs of each process."""
    if not is_distributed():
        return [count]
    own = torch.tensor([count], device=device)
    counts = [torch.empty_like(own) for _ in range(get_world_size())]
    distributed.all_gather(counts, own)
    return torch.cat(counts).tolist()


def _gather(values: Tensor, counts: list[int]) -> Tensor:
    """Concatenate the values (B, ...) of all processes; the gradients of all come back."""
    if len(counts) == 1:
        return values
    # Collectives take equal shapes: the shorter ones are filled up, and cut again.
    missing = max(counts) - len(values)
    filled = F.pad(values, (0, 0) * (values.ndim - 1) + (0, missing)) if missing else values
    parts = _AllGather.apply(filled)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class _AllGather(torch.autograd.Function):
    """All-gather whose backward pass sums what the processes say of each one's values."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        """Values (B, ...) -> (processes, B, ...)."""
        parts = [torch.empty_like(values) for _ in range(get_world_size())]
        distributed.all_gather(parts, values.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, grads: Tensor) -> Tensor:
        """Gradient (processes, B, ...) -> that of this process's values (B, ...)."""
        grads = grads.contiguous()
        distributed.all_reduce(grads)
        return grads[get_rank()]


def _number(image_id: Hashable) -> int:
    """An id as a number that is the same in all processes; Python's hash of a text is not."""
    digest = hashlib.blake2b(repr(image_id).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
