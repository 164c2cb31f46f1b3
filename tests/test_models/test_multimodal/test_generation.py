"""Captions word by word, next to a plain one that keeps nothing, and to the released procedure.

The oracles run torchscale's BEiT3 over the whole sequence at every step, one image for each beam.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmbeit3.models import BEiT3Multiway
from mmbeit3.models.multimodal.generation import Decoding, Found, Vocabulary, write_captions

SMALL = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=80)
# arch, image size, patch size, vocabulary
SIZES = [
    (SMALL, 32, 8, 50),
    (dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=160), 48, 16, 33),
    ("tiny", 64, 16, 130),
]
SIZES = pytest.mark.parametrize("size", SIZES, ids=["small", "wide heads", "tiny"])
BEGIN, PAD, END, UNKNOWN = range(4)


class Captioner(nn.Module):
    """An encoder and a head with wide weights, so that captions differ and end anywhere."""

    def __init__(self, size: tuple, seed: int = 0, end: float = 0.0, **options) -> None:
        super().__init__()
        arch, img_size, patch, words = size
        self.size, self.mask_id = size, words - 4
        self.encoder = BEiT3Multiway(
            arch, img_size, patch, vocab_size=words, max_tokens=30, **options
        )
        self.head = nn.Linear(self.encoder.embed_dims, words)
        torch.manual_seed(seed)
        for param in self.parameters():
            std = 1.4 * self.encoder.embed_dims**-0.5
            nn.init.normal_(param, mean=float(param.ndim == 1) / 2, std=std)
        self.head.bias.data[END] += end
        self.vocabulary = Vocabulary(self.mask_id, (BEGIN, PAD, END, UNKNOWN, 7, 9, self.mask_id))
        self.eval()

    def images(self, count: int = 3, size: int | None = None) -> Tensor:
        side = size or self.size[1]
        return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))

    def write(self, images: Tensor, **options) -> list[Found]:
        options = dict(max_length=12) | options
        return write_captions(self.encoder, self.head, images, self.vocabulary, Decoding(**options))

    def log_probabilities(self, image: Tensor, ids: list[int], released: bool = False) -> Tensor:
        """(V,) of the next word, by one pass over everything."""
        ids = torch.tensor([[BEGIN, *ids, self.mask_id]])
        logits = self.head(self.encoder.encode_pair(image[None], ids, causal=True)[1][0, -1])
        if not released:
            logits[[BEGIN, PAD, UNKNOWN]] = -torch.inf
            logits[self.mask_id :] = -torch.inf
        return logits.log_softmax(-1)


@SIZES
@torch.no_grad()
def test_states_kept_equal_those_computed_anew(size: tuple) -> None:
    for options in ({}, dict(attention="shared", vl_layers=2)):
        model = Captioner(size, **options)
        encoder, images = model.encoder, model.images(2, size[1] + 2 * size[2])
        ids = torch.randint(0, size[3], (6, 9))  # three texts of each image
        image_states, states = encoder.encode_image_states(images), None
        for place in range(8):
            pair = torch.stack([ids[:, place], torch.full((6,), model.mask_id)], 1)
            found, states = encoder.encode_words(pair, image_states, states)
            states = [(k[:, :, :-1], v[:, :, :-1]) for k, v in states]
            whole = torch.cat([ids[:, : place + 1], pair[:, 1:]], 1)
            want = encoder.encode_pair(images.repeat_interleave(3, 0), whole, causal=True)[1]
            difference = (found - want[:, -2:]).abs().max() / want.abs().max()
            assert difference < 1e-5
        assert states[0][0].shape[2] == 8 and states[0][0].shape[0] == 6
        at_once, _ = encoder.encode_words(ids, image_states)  # many words in one call
        want = encoder.encode_pair(images.repeat_interleave(3, 0), ids, causal=True)[1]
        assert (at_once - want).abs().max() / want.abs().max() < 1e-5
