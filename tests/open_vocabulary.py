"""A small detector and segmentors that score classes by their names."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config, ConfigDict

from tests.test_text.test_tokenizer import train

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
CLASSES = ["disk", "square", "triangle"]


def small_tokenizer(folder: Path) -> Path:
    """A SentencePiece model whose letters are a few words' only."""
    return train(folder / "small.spm")


def embeddings_cfg(tokenizer: Path, **options: object) -> dict:
    """A small text tower for class names."""
    text = dict(type="mmbeit3.BEiT3Text", arch=ARCH, vocab_size=200, max_tokens=40)
    from mmbeit3.text import Tokenizer

    text["vocab_size"] = Tokenizer(tokenizer).vocab_size
    own = dict(type="mmbeit3.ClassEmbeddings", text=text, tokenizer=dict(file=str(tokenizer)))
    return own | options


def detector_cfg(tokenizer: Path, **options: object) -> Config:
    """The trial detector, smaller, by words."""
    cfg = Config.fromfile(CONFIGS / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py")
    cfg.model.backbone.arch = ConfigDict(ARCH)
    cfg.model.neck.in_channels = 32
    cfg.model.class_embeddings = ConfigDict(embeddings_cfg(tokenizer, **options))
    return cfg
