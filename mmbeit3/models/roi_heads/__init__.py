from mmbeit3.models.roi_heads.precise_roi_extractor import PreciseRoIExtractor
from mmbeit3.models.roi_heads.vitdet_cascade_roi_head import ViTDetCascadeRoIHead

__all__ = ["PreciseRoIExtractor", "ViTDetCascadeRoIHead"]
