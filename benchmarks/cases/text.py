"""Texts to features: grouped by length, next to the published code's padding to one length."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.cases.tower import published_beit3
from benchmarks.options import Options
from mmbeit3 import accelerate
from mmbeit3.checkpoint import official_state_dict
from mmbeit3.models import BEiT3Text
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError
from mmbeit3.utils.archs import ARCH_ZOO

LENGTH = 64  # tokens, to which the published code pads
TEXTS_AT_ONCE = 128
NUM_TEXTS = 1024
PUBLISHED = "torchscale BEiT3 (published code), padded to 64"


def text(options: Options) -> Case:
    """Captions through the language expert."""
    common = dict(arch=options.arch, captions=options.captions, tokenizer=options.tokenizer)
    candidates = tuple(
        Candidate(name, build, common | dict(kind=kind, device=options.device), items=NUM_TEXTS)
        for name, kind in (
            (PUBLISHED, "torchscale"),
            ("mmbeit3, in order", "in order"),
            ("mmbeit3, by length", "by length"),
        )
    )
    comparisons = (
        Comparison("mmbeit3, by length", PUBLISHED, speed=3, tolerance=1e-5),
        Comparison("mmbeit3, in order", PUBLISHED, tolerance=1e-5),
    )
    title = f"{NUM_TEXTS:,} captions, {options.arch}"
    return Case("text", title, candidates, comparisons)


def build(
    arch: str, captions: Path, tokenizer: Path, kind: str, device: str
) -> Callable[[], Tensor]:
    """Make a call that returns the states (texts, C) of the begin tokens."""
    words, texts = Tokenizer(tokenizer), read_captions(captions)
    torch.manual_seed(0)
    model = BEiT3Text(arch, vocab_size=words.vocab_size).eval()
    model.init_weights()
    if kind == "torchscale":
        peer = published_beit3(ARCH_ZOO[arch], 224, vocab_size=words.vocab_size).eval()
        weights = official_state_dict(model.state_dict(), "B")
        weights = {name.removeprefix("beit3."): value for name, value in weights.items()}
        missing = peer.load_state_dict(weights, strict=False).missing_keys
        assert not [name for name in missing if ".B." in name or "text" in name], missing
        peer.to(device)
        return lambda: _encode(
            lambda ids, padding: peer(textual_tokens=ids, text_padding_position=padding)[
                "encoder_out"
            ],
            _padded(words, texts),
            device,
        )
    model.to(device)
    accelerate(model)
    if kind == "in order":
        return lambda: _encode(model, _padded(words, texts), device)
    return lambda: _encode(model, words.batches(texts, TEXTS_AT_ONCE), device)


def read_captions(file: Path) -> list[str]:
    """The first captions of a COCO file.

    Raises:
        InputError: It is not there, or has too few.
    """
    if not Path(file).is_file():
        raise InputError(f"there is no file {file}; expected captions in COCO's format", "captions")
    entries = json.loads(Path(file).read_text(encoding="utf-8"))["annotations"]
    texts = [entry["caption"] for entry in entries[:NUM_TEXTS]]
    if len(texts) < NUM_TEXTS:
        raise InputError(f"{file} has {len(texts)} captions; expected {NUM_TEXTS}", "captions")
    return texts


def _encode(encode: Callable, batches: object, device: str) -> Tensor:
    found: list[Tensor] = []
    places: list[int] = []
    with torch.inference_mode():
        for indexes, ids, padding in batches:
            found.append(encode(ids.to(device), padding.to(device))[:, 0])
            places += indexes
    return torch.cat(found)[torch.tensor(places).argsort()]


def _padded(words: Tokenizer, texts: list[str]) -> list[tuple[list[int], Tensor, Tensor]]:
    """Batches in the order of the texts, all of one length."""
    found = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        ids, padding = words.batch(texts[start : start + TEXTS_AT_ONCE])
        missing = LENGTH - ids.shape[1]
        ids = torch.nn.functional.pad(ids, (0, missing), value=1)
        padding = torch.nn.functional.pad(padding, (0, missing), value=True)
        found.append((list(range(start, start + len(ids))), ids, padding))
    return found
