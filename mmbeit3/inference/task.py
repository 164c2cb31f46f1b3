"""What a config is for."""

from __future__ import annotations

from mmengine.config import Config


def is_segmentation(cfg: Config) -> bool:
    """Tell whether a config is one of semantic segmentation: its model is mmseg's.

    The scope of ``model.type`` decides, else ``default_scope``; without any it is a detector's.
    """
    kind = cfg.model.get("type", "")
    name = kind if isinstance(kind, str) else f"{kind.__module__}."
    scope = name.partition(".")[0] if "." in name else ""
    return (scope if scope in ("mmdet", "mmseg") else cfg.get("default_scope")) == "mmseg"
