"""A step of masked data modeling: passes as long as their data, next to three filled up."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from torch import Tensor

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.options import Options
from benchmarks.plain_pretraining import PlainPretraining
from mmbeit3 import accelerate
from mmbeit3.engine import AmpOptimWrapper
from mmbeit3.models import BEiT3Pretraining
from mmbeit3.text.tokenizer import BEGIN, END, PADDING, UNKNOWN

MAX_TOKENS = 64  # of a text, as in the recipe; those alone are packed, and fill them
CAPTION = (9, 20)  # tokens of a text of a pair: 14 in the mean, near that of COCO's captions
PLAIN = "plain: three padded passes, naive attention, one-hot codes"
OURS = "mmbeit3"
CHECKPOINT = "mmbeit3, with_cp=True"  # as in the recipe
MIXED = "mmbeit3, AmpOptimWrapper"  # in bfloat16 where that is faster, as in the recipe


def pretraining(options: Options) -> Case:
    """Forward and backward pass of images, as many texts and as many pairs, no optimizer."""
    size = 128 if options.arch == "tiny" else 224
    common = dict(arch=options.arch, size=size, count=options.num_images, device=options.device)
    kinds = {
        PLAIN: dict(plain=True),
        OURS: dict(),
        CHECKPOINT: dict(with_cp=True),
        MIXED: dict(mixed=True),
    }
    count = options.num_images
    return Case(
        "pretraining",
        f"{options.arch}, forward and backward of {count} images of {size} x {size}, {count} texts "
        f"and {count} pairs",
        tuple(
            Candidate(name, build, common | kind, items=2 * count) for name, kind in kinds.items()
        ),
        (
            Comparison(OURS, PLAIN, speed=2, memory=0.5, tolerance=1e-5),
            Comparison(CHECKPOINT, PLAIN, speed=2, memory=0.5, tolerance=1e-5),
            Comparison(MIXED, PLAIN, tolerance=1e-2),
        ),
    )


def build(
    arch: str,
    size: int,
    count: int,
    device: str,
    plain: bool = False,
    with_cp: bool = False,
    mixed: bool = False,
) -> Callable[[], Tensor]:
    """Make a step without optimizer, in mixed precision if asked; it returns the four losses."""
    model = make_model(arch, size, with_cp).to(device).train()
    data = make_batches(model, size, count, device)
    kind = AmpOptimWrapper if mixed else OptimWrapper
    wrapper = kind(optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
    losses: Callable[..., dict[str, Tensor]] = PlainPretraining(model, MAX_TOKENS)
    if not plain:
        accelerate(model)  # as a training does
        losses = model.loss

    def call() -> Tensor:
        model.zero_grad(set_to_none=True)
        with wrapper.optim_context(model):
            found = losses(**data)
        total = torch.stack([value for name, value in found.items() if "loss" in name])
        total.sum().backward()
        return total.detach()

    return call


def make_model(arch: str, size: int, with_cp: bool = False) -> BEiT3Pretraining:
    """The recipe's model, or for "tiny" the trial's, whose weights are the same at every call."""
    torch.manual_seed(0)
    small = arch == "tiny"
    grid = dict(img_size=size, patch_size=8 if small else 16)
    words = dict(vocab_size=258 if small else 64010, max_tokens=MAX_TOKENS)
    tower = dict(embed_dims=96, num_layers=2, num_heads=4, feedforward_channels=384)
    num_codes = 256 if small else 8192
    tokenizer = dict(arch=tower, code_dims=16, decoder_layers=1) if small else dict(arch="base")
    model = BEiT3Pretraining(
        dict(type="mmbeit3.BEiT3Multiway", arch=arch, with_cp=with_cp, **grid, **words),
        dict(type="mmbeit3.VQKD", num_codes=num_codes, **grid, **tokenizer),
        num_codes,
    )
    MMLogger.get_current_instance().setLevel("WARNING")  # it tells of each weight that it draws
    model.encoder.init_weights()
    model.init_heads()
    model.image_tokenizer.init_weights()
    model.data_preprocessor.tokenizer = SimpleNamespace(mask_id=words["vocab_size"] - 9)
    return model


def make_batches(
    model: BEiT3Pretraining, size: int, count: int, device: str
) -> dict[str, dict[str, Any]]:
    """Random images, texts and pairs, as the model takes them, with the numbers of their masks."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, dict[str, Any]] = {}
    for number, part in enumerate(("images", "texts", "pairs")):
        seeds = range(number * count, (number + 1) * count)
        batch: dict[str, Any] = dict(data_samples=[dict(mask_seed=seed) for seed in seeds])
        if part != "texts":
            pixels = torch.rand(count, 3, size, size, generator=generator)
            batch["inputs"] = (2 * pixels - 1).to(device)
        if part != "images":
            short, long = CAPTION if part == "pairs" else (MAX_TOKENS, MAX_TOKENS + 1)
            lengths = torch.randint(short, long, (count, 1), generator=generator)
            places = torch.arange(int(lengths.max()))
            first, last = UNKNOWN + 1, model.tokenizer.mask_id
            ids = torch.randint(first, last, (count, len(places)), generator=generator)
            ids[:, 0] = BEGIN
            ids[places == lengths - 1] = END
            padding = places >= lengths
            batch |= dict(ids=ids.masked_fill(padding, PADDING), padding_mask=padding)
            batch |= {name: batch[name].to(device) for name in ("ids", "padding_mask")}
        found[part] = batch
    return found
