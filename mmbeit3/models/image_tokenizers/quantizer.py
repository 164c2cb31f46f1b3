"""A book of unit vectors that follows what it quantizes (BEiT v2, arXiv 2208.06366)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, broadcast
from torch import Tensor, nn

KMEANS_STEPS = 10
CHUNK = 4096  # features that are compared with the whole book at once


class Quantized(NamedTuple):
    """What features became.

    Attributes:
        vectors: (..., C) vectors of the codes, through which gradients pass as if they were the
            features.
        codes: (...) int64.
        loss: How far the features are from their vectors, 0-dimensional.
        used: Share of the codes that features have, in training all processes', 0-dimensional.
    """

    vectors: Tensor
    codes: Tensor
    loss: Tensor
    used: Tensor


class CodeBook(nn.Module):
    """The vectors, with the names of weights of BEiT v2's files.

    Args:
        num_codes (int): K.
        dims (int): C.
    """

    def __init__(self, num_codes: int, dims: int) -> None:
        super().__init__()
        start = F.normalize(torch.randn(num_codes, dims), dim=-1)
        self.weight = nn.Parameter(start, requires_grad=False)
        # In the files, and of no use: the published code keeps them and changes the first alone.
        self.cluster_size = nn.Parameter(torch.zeros(num_codes), requires_grad=False)
        self.embed_avg = nn.Parameter(start.clone(), requires_grad=False)
        self.register_buffer("initted", torch.zeros(1))


class Quantizer(nn.Module):
    """Features to the nearest of K unit vectors, which move towards them in training.

    A vector is moved by the mean of its features in a step, of all processes, with a factor of
    ``1 - decay``, and has length 1 again. The book starts by k-means over the first batch of the
    first process. Other than in the published code, all processes get that start, and a vector that
    has been used by hardly any feature for long begins anew at a feature.

    Args:
        num_codes (int): K, vectors in the book. Defaults to 8192.
        dims (int): C, their width. Defaults to 32.
        decay (float): What stays of a vector and of the counts of its use in a step. Defaults to
            0.99.
        beta (float): Factor on the loss. Defaults to 1.0.
        revive_below (float): A vector begins anew when the running count of its features falls
            below this share of the mean; 0 lets it be. Defaults to 0.1.
    """

    def __init__(
        self,
        num_codes: int = 8192,
        dims: int = 32,
        decay: float = 0.99,
        beta: float = 1.0,
        revive_below: float = 0.1,
    ) -> None:
        super().__init__()
        self.decay = decay
        self.beta = beta
        self.revive_below = revive_below
        self.embedding = CodeBook(num_codes, dims)
        self.register_buffer("cluster_size", torch.zeros(num_codes))

    def forward(self, features: Tensor) -> Quantized:
        """Quantize, and in training move the book.

        Args:
            features (Tensor): (..., C), of any length.

        Returns:
            Quantized: Of unit features; vectors as the book has them before the step.
        """
        with torch.autocast(features.device.type, enabled=False):
            unit = F.normalize(features.to(self.embedding.weight.dtype), dim=-1)
            flat = unit.detach().flatten(0, -2)
            if self.training and not self.embedding.initted.item():
                self._start(flat)
            codes = self.nearest(flat)
            nearest = self.embedding.weight[codes].view_as(unit)
            counts = torch.bincount(codes, minlength=len(self.cluster_size)).to(unit.dtype)
            if self.training:
                all_reduce(counts)
                self._move(flat, codes, counts)
            used = (counts > 0).to(unit.dtype).mean()
            loss = self.beta * F.mse_loss(nearest, unit)
            vectors = unit + (nearest - unit).detach()
        return Quantized(vectors, codes.view(unit.shape[:-1]), loss, used)

    def nearest(self, unit: Tensor) -> Tensor:
        """Unit features (N, C) -> (N,) codes: the nearest vector has the largest product.

        In the type of the book, under autocast too: bfloat16 cannot tell vectors from each other.
        """
        book = self.embedding.weight
        with torch.autocast(unit.device.type, enabled=False):
            parts = unit.to(book.dtype).split(CHUNK)
            return torch.cat([(part @ book.T).argmax(1) for part in parts])

    @torch.no_grad()
    def _move(self, unit: Tensor, codes: Tensor, counts: Tensor) -> None:
        """Move the book by features (N, C) with codes (N,), of which all processes count (K,)."""
        book = self.embedding.weight
        sums = torch.zeros_like(book).index_add_(0, codes, unit)
        all_reduce(sums)
        target = torch.where(counts[:, None] > 0, F.normalize(sums, dim=-1), book)
        book.copy_(F.normalize(book * self.decay + target * (1 - self.decay), dim=-1))
        self.cluster_size.mul_(self.decay).add_(counts, alpha=1 - self.decay)
        dead = self.cluster_size < self.revive_below * self.cluster_size.mean()
        if dead.any():
            drawn = _draw(unit, int(dead.sum()))
            broadcast(drawn)
            book[dead] = drawn
            self.cluster_size[dead] = self.cluster_size.mean()

    @torch.no_grad()
    def _start(self, unit: Tensor) -> None:
        """Begin with the means of k-means by cosine."""
        book = self.embedding.weight
        book.copy_(_draw(unit, len(book)))
        for _ in range(KMEANS_STEPS):
            codes = self.nearest(unit)
            counts = torch.bincount(codes, minlength=len(book))
            sums = torch.zeros_like(book).index_add_(0, codes, unit)
            book.copy_(torch.where(counts[:, None] > 0, F.normalize(sums, dim=-1), book))
        broadcast(book)
        count = torch.tensor(float(len(unit)), device=unit.device)
        all_reduce(count)
        self.embedding.embed_avg.copy_(book)
        self.cluster_size.fill_(count / len(book))  # so that no vector is dead at once
        self.embedding.initted.fill_(1)


def _draw(unit: Tensor, number: int) -> Tensor:
    """Draw features (number, C) by torch's generator of the CPU, each once where they suffice."""
    if len(unit) >= number:
        rows = torch.randperm(len(unit))[:number]
    else:
        rows = torch.randint(len(unit), (number,))
    return unit[rows.to(unit.device)].contiguous()
