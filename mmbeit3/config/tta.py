"""Test-time augmentation: a config's test set seen in several views, its model around them."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config, ConfigDict

from mmbeit3.config import TTA_PIPELINES
from mmbeit3.config.datasets import innermost_datasets
from mmbeit3.utils import InputError


def use_tta(cfg: Config, views: str, tta_model: str | None = None) -> None:
    """Test with several views of each image, in place; the class numbers must be final.

    Args:
        cfg: The config. ``tta_pipeline`` (or ``tta_pipeline_flip``) becomes the pipeline of the
            test set, and ``tta_model`` the model, which holds the former one.
        views: 'multi-scale' or 'flip'.
        tta_model: Type of the model where the config has none. Defaults to None.

    Raises:
        InputError: The config does not say what the views are, or how to merge them.
    """
    pipeline, wrapper = tta_parts(cfg, views, tta_model)
    for _, dataset in innermost_datasets(cfg.test_dataloader.dataset):
        dataset["pipeline"] = pipeline
    cfg.model = ConfigDict(wrapper, module=cfg.model)


def tta_parts(
    cfg: Config, views: str, tta_model: str | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Find the pipeline that makes the views, and the model that merges them.

    Args:
        cfg: The config.
        views: See :func:`use_tta`.
        tta_model: See :func:`use_tta`. Defaults to None.

    Returns:
        The pipeline, and the model without its ``module``.

    Raises:
        InputError: See :func:`use_tta`; or there are no such views.
    """
    if views not in TTA_PIPELINES:
        raise InputError(f"{views!r} are no views; expected {' or '.join(TTA_PIPELINES)}", "tta")
    key = TTA_PIPELINES[views]
    wrapper = cfg.get("tta_model")
    if not wrapper and tta_model:
        wrapper = ConfigDict(type=tta_model)
    missing = [name for name, value in ((key, cfg.get(key)), ("tta_model", wrapper)) if not value]
    if missing:
        raise InputError(_what_is_missing(cfg, views, missing), "tta")
    return cfg[key], wrapper


def _what_is_missing(cfg: Config, views: str, missing: list[str]) -> str:
    found = [key for key in ("tta_model", *TTA_PIPELINES.values()) if cfg.get(key)]
    message = (
        f"{views}: the config has no {' and no '.join(missing)}; of the keys for test-time "
        f"augmentation it has {', '.join(found) or 'none'}. "
    )
    if "tta_model" in missing:
        return message + (
            "Expected a tta_model that merges the views; this project has those of detectors and "
            "segmentors, so leave it out"
        )
    others = [name for name, key in TTA_PIPELINES.items() if cfg.get(key)]
    return message + (
        f"Expected {missing[0]}, a test pipeline that ends with TestTimeAug; add it, as the COCO "
        f"and ADE20K configs have it in configs/_base_/datasets{', or use ' if others else ''}"
        f"{' or '.join(others)}"
    )
