from mmbeit3.models.tta.det_tta import DetTTAModel
from mmbeit3.models.tta.seg_tta import SegTTAModel

__all__ = ["DetTTAModel", "SegTTAModel"]
