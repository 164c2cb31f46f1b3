from mmbeit3.models.roi_heads.fcn_mask_head import FCNMaskHead
from mmbeit3.models.roi_heads.precise_roi_extractor import PreciseRoIExtractor
from mmbeit3.models.roi_heads.shared_4conv_1fc_bbox_head import Shared4Conv1FCBBoxHead
from mmbeit3.models.roi_heads.vitdet_cascade_roi_head import ViTDetCascadeRoIHead

__all__ = [
    "FCNMaskHead",
    "PreciseRoIExtractor",
    "Shared4Conv1FCBBoxHead",
    "ViTDetCascadeRoIHead",
]
