"""One label map of the training data as a picture with names, to look at before training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmbeit3.config.data_checks import build_dataset
from mmbeit3.config.datasets import COCO_TYPE, find_datasets
from mmbeit3.datasets.palette import palette_or_made
from mmbeit3.datasets.transforms.loading import image_loader, load_bgr
from mmbeit3.utils.whole_files import WriteError
from mmbeit3.visualization.overlay import draw_class_map
from mmbeit3.visualization.pictures import write_picture

FILE = "example_mask.jpg"
MAX_LOOKED_AT = 20


def write_example_mask(cfg: Config, out_dir: str | Path) -> Path | None:
    """Draw a label map of a segmentor's training set with names and colors, as it is learned.

    Of some label maps the one with most classes is drawn. Damaged data give no picture: the checks
    say what is wrong with them.

    Args:
        cfg: The config, with its classes resolved.
        out_dir: Where ``example_mask.jpg`` goes.

    Returns:
        The picture; None for detectors, data sets of other packages, data that cannot be drawn, and
        a folder that cannot be written.
    """
    datasets = [
        config for _, config in find_datasets(cfg, ("train",)) if config["type"] != COCO_TYPE
    ]
    if not datasets:
        return None
    try:
        dataset = build_dataset(
            datasets[0], cfg.get("default_scope"), lazy_init=True, check_labels=False
        )
        infos = dataset.load_data_list()
        some = np.unique(np.linspace(0, len(infos) - 1, MAX_LOOKED_AT).round().astype(int))
        info = max((infos[index] for index in some), key=_count_classes)
        picture = draw_labels(info, dataset)
    except Exception:
        return None
    path = Path(out_dir) / FILE
    try:
        write_picture(path, picture)
    except WriteError as error:
        print_log(str(error), "current", logging.WARNING)
        return None
    print_log(f"one label map with the names that its values stand for is in {path}", "current")
    return path


def draw_labels(info: dict[str, Any], dataset: BaseDataset) -> np.ndarray:
    """Draw the label map of an image as training loads it.

    Args:
        info: The image, as mmseg's data sets list it.
        dataset: Its data set.

    Returns:
        (H, W, 3), BGR, uint8.
    """
    image = load_bgr(image_loader(dataset.pipeline.transforms), info["img_path"])
    classes = dataset.metainfo["classes"]
    palette = palette_or_made(dataset.metainfo.get("palette"), len(classes))
    return draw_class_map(image, _load(info), classes, [color[::-1] for color in palette])


def _load(info: dict[str, Any]) -> np.ndarray:
    from mmseg.datasets.transforms import LoadAnnotations  # detectors run without mmseg

    return LoadAnnotations()(dict(info, seg_fields=[]))["gt_seg_map"].astype(np.uint8)


def _count_classes(info: dict[str, Any]) -> int:
    return len(np.unique(_load(info)))
