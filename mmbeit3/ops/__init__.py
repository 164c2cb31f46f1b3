"""The operators that detectors and segmentors need, in plain torch and torchvision."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmbeit3.ops.cpu.pasting import paste_masks
    from mmbeit3.ops.cpu.roi_align import multi_level_roi_align
    from mmbeit3.ops.deform_attn import multi_scale_deformable_attn
    from mmbeit3.ops.rle import encode_masks
    from mmbeit3.ops.softnms import soft_nms

__all__ = [
    "encode_masks",
    "multi_level_roi_align",
    "multi_scale_deformable_attn",
    "paste_masks",
    "soft_nms",
]

# Loaded on first use, since `import mmbeit3` passes here and must not wait for torch.
_HOMES = {
    "encode_masks": "rle",
    "multi_level_roi_align": "cpu.roi_align",
    "multi_scale_deformable_attn": "deform_attn",
    "paste_masks": "cpu.pasting",
    "soft_nms": "softnms",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
