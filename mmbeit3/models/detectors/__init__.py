from mmbeit3.models.detectors.cascade_rcnn import CascadeRCNN

__all__ = ["CascadeRCNN"]
