from mmbeit3.datasets.ade20k import ADE20KDataset
from mmbeit3.datasets.class_list import read_class_list
from mmbeit3.datasets.coco import CocoDataset, read_classes
from mmbeit3.datasets.coco_captions import CocoCaptionsDataset
from mmbeit3.datasets.coco_stuff import COCOStuffDataset
from mmbeit3.datasets.image_folder import ImageFolderDataset
from mmbeit3.datasets.image_text import ImageTextDataset
from mmbeit3.datasets.image_text_table import ImageTextTableDataset
from mmbeit3.datasets.imagenet import imagenet_class_names
from mmbeit3.datasets.karpathy import KarpathyDataset
from mmbeit3.datasets.seg_folder import SegFolderDataset
from mmbeit3.datasets.shapes import make_shapes
from mmbeit3.datasets.transforms import (
    ChannelsFirst,
    ContiguousImage,
    ForEachImage,
    LoadImageFromFile,
    PackImageText,
    PhotoMetricDistortion,
    PolygonRandomCrop,
    RandomResizedCrop,
    ResizeCenterCrop,
    SegRandomCrop,
    TimmAugment,
)

__all__ = [
    "ADE20KDataset",
    "COCOStuffDataset",
    "ChannelsFirst",
    "CocoCaptionsDataset",
    "CocoDataset",
    "ContiguousImage",
    "ForEachImage",
    "ImageFolderDataset",
    "ImageTextDataset",
    "ImageTextTableDataset",
    "KarpathyDataset",
    "LoadImageFromFile",
    "PackImageText",
    "PhotoMetricDistortion",
    "PolygonRandomCrop",
    "RandomResizedCrop",
    "ResizeCenterCrop",
    "SegFolderDataset",
    "SegRandomCrop",
    "TimmAugment",
    "imagenet_class_names",
    "make_shapes",
    "read_class_list",
    "read_classes",
]
