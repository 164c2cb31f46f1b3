from mmbeit3.datasets.transforms.classification import ResizeCenterCrop, TimmAugment
from mmbeit3.datasets.transforms.copy_paste import CopyPaste
from mmbeit3.datasets.transforms.cropping import RandomResizedCrop
from mmbeit3.datasets.transforms.each_image import ForEachImage
from mmbeit3.datasets.transforms.image_codes import LoadImageCodes
from mmbeit3.datasets.transforms.layout import ChannelsFirst, ContiguousImage
from mmbeit3.datasets.transforms.loading import LoadImageFromFile
from mmbeit3.datasets.transforms.multiband import LoadMultibandImage
from mmbeit3.datasets.transforms.packing import PackImageText
from mmbeit3.datasets.transforms.polygons import PolygonRandomCrop
from mmbeit3.datasets.transforms.rand_augment import RandAugment
from mmbeit3.datasets.transforms.segmentation import PhotoMetricDistortion, SegRandomCrop

__all__ = [
    "ChannelsFirst",
    "ContiguousImage",
    "CopyPaste",
    "ForEachImage",
    "LoadImageCodes",
    "LoadImageFromFile",
    "LoadMultibandImage",
    "PackImageText",
    "PhotoMetricDistortion",
    "PolygonRandomCrop",
    "RandAugment",
    "RandomResizedCrop",
    "ResizeCenterCrop",
    "SegRandomCrop",
    "TimmAugment",
]
