from mmbeit3.datasets.coco import CocoDataset, read_classes
from mmbeit3.datasets.shapes import make_shapes

__all__ = ["CocoDataset", "make_shapes", "read_classes"]
