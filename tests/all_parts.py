"""The tiny pretraining of 64 pixels, which has pairs alone, with images and texts besides."""

from mmengine.config import Config

from mmbeit3.config.loading import load_config

PRETRAINING = "beit3-tiny-pretraining_64_shapes"


def load_all_parts() -> Config:
    """Its config with the images and the texts of the trial of 128 pixels, of its own data."""
    cfg = load_config(PRETRAINING)
    parts = cfg.train_dataloader.dataset.datasets
    others = load_config("beit3-tiny-pretraining_128_shapes").train_dataloader.dataset.datasets
    for name in ("images", "texts"):
        parts[name] = dict(others[name], data_root=cfg.data_root)
    parts["images"]["pipeline"] = parts["pairs"]["pipeline"]
    return cfg
