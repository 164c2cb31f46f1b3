"""Images to captions by beam search: the image encoded once, next to once for each beam."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.cases.tower import published_beit3
from benchmarks.data import require
from benchmarks.options import Options
from mmbeit3 import accelerate
from mmbeit3.checkpoint import official_state_dict
from mmbeit3.models import BEiT3Multiway
from mmbeit3.models.multimodal.generation import Decoding, Vocabulary, write_captions
from mmbeit3.text.tokenizer import BEGIN, END, PADDING
from mmbeit3.utils.archs import ARCH_ZOO
from mmbeit3.utils.image_reading import read_image

SIZE = 480  # pixels, that of the released captioning
ROWS, MASK = 64010, 64001  # of the released embedding
BEAMS, PENALTY = 3, 0.6
# A caption is as long as may be: 12 words, near the mean of COCO's with the official tokenizer.
LENGTH = 15
PUBLISHED = "torchscale BEiT3 (published code), image in every beam"
OURS = "mmbeit3, image encoded once"


def caption(options: Options) -> Case:
    """Images of COCO to captions of one length, by three beams."""
    common = dict(
        arch=options.arch,
        folder=require(options.coco / "val2017", "--coco"),
        count=options.num_images,
        device=options.device,
    )
    candidates = tuple(
        Candidate(name, build, common | dict(published=name == PUBLISHED), items=options.num_images)
        for name in (PUBLISHED, OURS)
    )
    title = (
        f"{options.num_images} images of {SIZE} x {SIZE} as one batch, {options.arch}, {BEAMS} "
        f"beams, {LENGTH - 3} words"
    )
    return Case("caption", title, candidates, (Comparison(OURS, PUBLISHED, speed=3, tolerance=0),))


def build(
    arch: str, folder: Path, count: int, device: str, published: bool, size: int = SIZE
) -> Callable[[], Tensor]:
    """Make a call that writes captions of a folder's first images, (images, words) ids.

    Both ways have the same weights, drawn so that what comes next depends on image and words.
    """
    images = read_images(folder, count, size).to(device)
    encoder, head = make_model(arch, size)
    if published:
        theirs = published_beit3(ARCH_ZOO[arch], size, vocab_size=ROWS).eval()
        weights = official_state_dict(encoder.vision.state_dict())
        weights |= official_state_dict(encoder.text.state_dict(), "B")
        theirs.load_state_dict({n.removeprefix("beit3."): v for n, v in weights.items()})
        del encoder, weights
        search = PublishedSearch(theirs.to(device), head.to(device), len(images))
        return lambda: torch.tensor(search(images))
    model = nn.ModuleDict(dict(encoder=encoder, head=head)).eval().to(device)
    accelerate(model)
    decoding = Decoding(BEAMS, PENALTY, LENGTH, released=True)

    def call() -> Tensor:
        with torch.inference_mode():
            found = write_captions(encoder, head, images, Vocabulary(MASK), decoding)
        return torch.tensor([caption.ids for caption in found])

    return call


def make_model(arch: str, size: int) -> tuple[BEiT3Multiway, nn.Linear]:
    """Encoder and head, whose weights are the same at every call."""
    torch.manual_seed(0)
    encoder = BEiT3Multiway(arch, size).eval()
    encoder.init_weights()
    head = nn.Linear(encoder.embed_dims, ROWS)
    nn.init.normal_(head.weight, std=encoder.embed_dims**-0.5)
    nn.init.zeros_(head.bias)
    head.bias.data[END] = -1e4  # to the length that is wanted
    return encoder, head


def read_images(folder: Path, count: int, size: int) -> Tensor:
    """The first images of a folder, resized and normalized: (count, 3, size, size)."""
    found = []
    for file in sorted(folder.glob("*.jpg"))[:count]:
        image = torch.from_numpy(read_image(file)).permute(2, 0, 1)[None].float()
        image = nn.functional.interpolate(
            image, (size, size), mode="bicubic", antialias=True, align_corners=False
        )
        found.append(image.flip(1) / 127.5 - 1)
    return torch.cat(found)


class PublishedSearch:
    """The released procedure: an image for every beam, and keys and values of all in one batch.

    As microsoft/unilm beit3 does it: the first step has the image and two tokens, the next ones two
    tokens and the state; beams are put in order by copying their whole state; an image that is done
    stays in the batch; all rows of the mask are built for each step.
    """

    def __init__(self, model: nn.Module, head: nn.Module, batch: int) -> None:
        self.model, self.head, self.batch = model, head, batch
        self.image_tokens = model.vision_embed.num_position_embeddings()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[list[int]]:
        """(B, 3, H, W) -> the ids of B captions."""
        rows, device = self.batch * BEAMS, images.device
        images = images.repeat_interleave(BEAMS, 0)
        tokens = torch.tensor([[BEGIN, MASK]] * rows, device=device)
        words: list[list[int]] = [[] for _ in range(rows)]
        scores = torch.full((self.batch, BEAMS), -1e9, device=device)
        scores[:, 0] = 0
        best: list[tuple[float, list[int]] | None] = [None] * self.batch
        done = [False] * self.batch
        state: dict[int, dict[str, Tensor]] = {i: {} for i in range(self.model.encoder.num_layers)}
        for length in range(2, LENGTH + 1):
            logits = self._step(images if length == 2 else None, tokens, length, state)
            totals = logits.log_softmax(-1).view(self.batch, BEAMS, -1) + scores[..., None]
            values, places = totals.flatten(1).topk(3 * BEAMS)
            following: list[tuple[float, int, int]] = []
            for index, (totals_, places_) in enumerate(
                zip(values.tolist(), places.tolist(), strict=True)
            ):
                found = best[index]
                bound = totals_[0] / (LENGTH - 1) ** PENALTY
                done[index] = done[index] or (found is not None and found[0] >= bound)
                going = []
                for total, place in zip(totals_, places_, strict=True):
                    if done[index] or len(going) == BEAMS:
                        break
                    row, word = index * BEAMS + place // ROWS, place % ROWS
                    if (word == END and length < LENGTH) or length + 1 == LENGTH:
                        score = total / length**PENALTY
                        if best[index] is None or score > best[index][0]:
                            best[index] = (score, words[row])
                    else:
                        going.append((total, word, row))
                following += going or [(0.0, PADDING, 0)] * BEAMS
            scores = torch.tensor([f[0] for f in following], device=device).view(-1, BEAMS)
            words = [[*words[row], word] for _, word, row in following]
            order = torch.tensor([row for _, _, row in following], device=device)
            for layer in state.values():
                for key in layer:
                    layer[key] = layer[key].index_select(0, order)[:, :, :-1, :]
            tokens = torch.tensor([[word, MASK] for _, word, _ in following], device=device)
            if all(done):
                break
        return [found[1] for found in best if found is not None]

    def _step(self, images: Tensor | None, tokens: Tensor, length: int, state: dict) -> Tensor:
        """The logits (rows, V) of the mask."""
        split, device = self.image_tokens, tokens.device
        mask = torch.zeros(split + length, split + length, dtype=torch.long, device=device)
        mask[split:, split:] = torch.tril(torch.ones(length, length, dtype=torch.long))
        mask[split:, :split] = 1
        mask[:split, :split] = 1
        mask = 1 - mask
        positions = None
        if images is None:
            mask = mask[-2:]
            positions = torch.arange(length, length + 2, device=device)[None]
        padding = torch.zeros_like(tokens) if images is not None else None
        states = self.model(
            textual_tokens=tokens,
            visual_tokens=images,
            text_padding_position=padding,
            attn_mask=mask,
            incremental_state=state,
            positions=positions,
        )["encoder_out"]
        if images is not None:
            states = states[:, split:]
        return self.head(states)[:, 1]  # as released, of both tokens
