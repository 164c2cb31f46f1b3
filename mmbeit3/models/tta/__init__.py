from mmbeit3.models.tta.seg_tta import SegTTAModel

__all__ = ["SegTTAModel"]
