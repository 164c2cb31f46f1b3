from mmbeit3.datasets.ade20k import ADE20KDataset
from mmbeit3.datasets.class_list import read_class_list
from mmbeit3.datasets.coco import CocoDataset, read_classes
from mmbeit3.datasets.coco_stuff import COCOStuffDataset
from mmbeit3.datasets.seg_folder import SegFolderDataset
from mmbeit3.datasets.shapes import make_shapes
from mmbeit3.datasets.transforms import (
    ChannelsFirst,
    ContiguousImage,
    LoadImageFromFile,
    PhotoMetricDistortion,
    PolygonRandomCrop,
    SegRandomCrop,
)

__all__ = [
    "ADE20KDataset",
    "COCOStuffDataset",
    "ChannelsFirst",
    "CocoDataset",
    "ContiguousImage",
    "LoadImageFromFile",
    "PhotoMetricDistortion",
    "PolygonRandomCrop",
    "SegFolderDataset",
    "SegRandomCrop",
    "make_shapes",
    "read_class_list",
    "read_classes",
]
