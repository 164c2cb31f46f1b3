"""Configs and sample data of the measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose

from mmbeit3.config.loading import load_config
from mmbeit3.inference.inferencer import preparation
from mmbeit3.utils import InputError
from mmbeit3.utils.packaged_configs import packaged_configs


def model_config(name: str, options: dict[str, Any] | None = None) -> Config:
    """Read one of the project's configs; its backbone loads no weights.

    Args:
        name (str): Path below ``configs``.
        options (dict, optional): Values that replace the file's. Defaults to None.
    """
    (path,) = packaged_configs(name)
    return load_config(path, {"model.backbone.init_cfg": None} | (options or {}))


def require(path: Path, option: str) -> Path:
    """Return a path of sample data, or say by which option to give it.

    Raises:
        InputError: If it does not exist.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; name the folder of the data by {option}")
    return path


def batch_of(cfg: Config, image: np.ndarray) -> dict[str, list]:
    """Prepare an image (H, W, 3), BGR, by the test pipeline, as ``test_step`` takes it: a batch."""
    size = image.shape[:2]
    data = {"img": image, "img_id": 0, "img_path": "", "img_shape": size, "ori_shape": size}
    return {key: [value] for key, value in Compose(preparation(cfg))(data).items()}
