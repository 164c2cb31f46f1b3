"""Masked data modeling in the plain way, as a peer to compare with."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain import (
    attend_plainly,
    attended_output,
    linear,
    plain_ffn,
    project_plainly,
)
from mmbeit3.models import VQKD, BEiT3Multiway, BEiT3Pretraining
from mmbeit3.models.multimodal.masking import mask_images, mask_texts
from mmbeit3.text.tokenizer import PADDING


class PlainPretraining:
    """The losses of a step by three passes of images and texts that are filled up to one length.

    Images alone get a text of padding, texts alone an image that no token sees, and all texts have
    ``max_tokens`` tokens. Attention scores are held as a matrix, with a softmax in float32. Codes
    are found as the code of BEiT v2 does it: distances to the whole book, and one-hot vectors of
    the nearest. Heads see the masked tokens alone, as in the published code.

    Args:
        model (BEiT3Pretraining): The model whose weights are used.
        max_tokens (int): Tokens of every text.
    """

    def __init__(self, model: BEiT3Pretraining, max_tokens: int) -> None:
        self.model, self.max_tokens = model, max_tokens
        for block in model.image_tokenizer.encoder.blocks:
            block.attn.fused_attn = False

    def __call__(self, images: dict, texts: dict, pairs: dict) -> dict[str, Tensor]:
        """Batches as the model takes them -> the four losses by their names."""
        model = self.model
        ids = torch.full((len(images["inputs"]), self.max_tokens), PADDING)
        alone = self._part(images | dict(ids=ids.to(images["inputs"].device)), text_rate=None)
        blank = images["inputs"].new_zeros(len(texts["ids"]), *images["inputs"].shape[1:])
        words = self._part(texts | dict(inputs=blank), model.text_mask_rate, image=False)
        both = self._part(pairs, model.pair_text_mask_rate)
        found = dict(image=alone["image"], text=words["text"])
        found |= dict(pair_image=both["image"], pair_text=both["text"])
        return {f"loss_{name}": loss for name, loss in found.items()}

    def _part(
        self, batch: dict[str, Any], text_rate: float | None, image: bool = True
    ) -> dict[str, Tensor]:
        model, images = self.model, batch["inputs"]
        seeds = [sample["mask_seed"] for sample in batch["data_samples"]]
        grid = model.encoder.vision.grid_size
        mask = torch.zeros(len(images), grid[0] * grid[1], dtype=torch.bool)
        if image:
            mask = mask_images(len(images), *grid, model.image_mask_rate, seeds)
        ids = F.pad(batch["ids"], (0, self.max_tokens - batch["ids"].shape[1]), value=PADDING)
        seen, chosen = ids, torch.zeros_like(ids, dtype=torch.bool)
        if text_rate is not None:
            seen, chosen = mask_texts(ids, text_rate, model.tokenizer.mask_id, seeds)
        mask = mask.to(images.device)
        states, words = encode(model.encoder, images, mask, seen, image)
        found = {}
        if image:
            logits = linear(model.mim_head, states[:, 1:][mask])
            found["image"] = F.cross_entropy(logits, codes(model.image_tokenizer, images)[mask])
        if text_rate is not None:
            found["text"] = F.cross_entropy(linear(model.mlm_head, words[chosen]), ids[chosen])
        return found


def encode(
    encoder: BEiT3Multiway, images: Tensor, mask: Tensor, ids: Tensor, sees_images: bool
) -> tuple[Tensor, Tensor]:
    """One pass of images and texts of one length, to the states of both."""
    image = encoder.vision.embed(images, mask)[0]
    padding, split = ids == PADDING, image.shape[1]
    x = torch.cat([image, encoder.text.embed(ids, padding)], 1)
    shown = torch.full(image.shape[:2], sees_images, device=x.device)
    keep = torch.cat([shown, ~padding], 1)
    for vision, text in zip(encoder.vision.layers, encoder.text.layers, strict=True):
        experts = ((vision, slice(0, split)), (text, slice(split, None)))
        projected = [project_plainly(e, e.norm1(x[:, own])) for e, own in experts]
        q, k, v = (torch.cat(parts, 2) for parts in zip(*projected, strict=True))
        attended = attend_plainly(q, k, v, keep)
        x = x + torch.cat([attended_output(e, attended[:, own]) for e, own in experts], 1)
        x = x + torch.cat([plain_ffn(e, x[:, own]) for e, own in experts], 1)
    return encoder.vision.norm(x[:, :split]), encoder.text.norm(x[:, split:])


@torch.no_grad()
def codes(tokenizer: VQKD, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) -> (B, patches) codes, as BEiT v2's quantizer finds them."""
    features = F.normalize(tokenizer.features(images), dim=-1)
    flat, book = features.flatten(0, 1), tokenizer.quantize.embedding.weight
    distances = flat.square().sum(1, keepdim=True) + book.square().sum(1) - 2 * flat @ book.T
    nearest = distances.argmin(1)
    F.one_hot(nearest, len(book)).to(flat.dtype).sum(0)  # counted even where nothing is trained
    return nearest.view(features.shape[:2])
