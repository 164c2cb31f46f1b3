"""Everything a config can build under ``model``."""

from mmbeit3.models.backbones import BEiT3
from mmbeit3.models.data_preprocessors import BatchFixedSizePad
from mmbeit3.models.necks import SimpleFeaturePyramid
from mmbeit3.models.roi_heads import PreciseRoIExtractor, ViTDetCascadeRoIHead
from mmbeit3.ops.mmcv_ext import route_soft_nms

route_soft_nms()

__all__ = [
    "BEiT3",
    "BatchFixedSizePad",
    "PreciseRoIExtractor",
    "SimpleFeaturePyramid",
    "ViTDetCascadeRoIHead",
]
