from mmbeit3.datasets.ade20k import ADE20KDataset
from mmbeit3.datasets.answers import read_answers, write_answers
from mmbeit3.datasets.class_list import read_class_list
from mmbeit3.datasets.coco import CocoDataset, read_classes
from mmbeit3.datasets.coco_captions import CocoCaptionsDataset
from mmbeit3.datasets.coco_stuff import COCOStuffDataset
from mmbeit3.datasets.image_folder import ImageFolderDataset
from mmbeit3.datasets.image_text import ImageTextDataset
from mmbeit3.datasets.image_text_table import ImageTextTableDataset
from mmbeit3.datasets.imagenet import imagenet_class_names
from mmbeit3.datasets.images import ImagesDataset
from mmbeit3.datasets.karpathy import KarpathyDataset
from mmbeit3.datasets.nlvr2 import NLVR2Dataset, NLVR2TableDataset, StatementsDataset
from mmbeit3.datasets.pretraining import PretrainingDataset, collate_parts
from mmbeit3.datasets.questions import QuestionsDataset
from mmbeit3.datasets.seg_folder import SegFolderDataset
from mmbeit3.datasets.shape_scenes import ShapesDataset
from mmbeit3.datasets.shapes import make_shapes
from mmbeit3.datasets.shards import ShardsDataset
from mmbeit3.datasets.text_dataset import TextDataset
from mmbeit3.datasets.text_lines import TextLinesDataset
from mmbeit3.datasets.transforms import (
    ChannelsFirst,
    ContiguousImage,
    ForEachImage,
    LoadImageCodes,
    LoadImageFromFile,
    PackImageText,
    PhotoMetricDistortion,
    PolygonRandomCrop,
    RandAugment,
    RandomResizedCrop,
    ResizeCenterCrop,
    SegRandomCrop,
    TimmAugment,
)
from mmbeit3.datasets.vqa import VQAv2Dataset
from mmbeit3.datasets.vqa_table import VQATableDataset

__all__ = [
    "ImagesDataset",
    "PretrainingDataset",
    "TextLinesDataset",
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
    "LoadImageCodes",
    "LoadImageFromFile",
    "NLVR2Dataset",
    "NLVR2TableDataset",
    "PackImageText",
    "PhotoMetricDistortion",
    "PolygonRandomCrop",
    "QuestionsDataset",
    "RandAugment",
    "RandomResizedCrop",
    "ResizeCenterCrop",
    "SegFolderDataset",
    "SegRandomCrop",
    "ShapesDataset",
    "ShardsDataset",
    "StatementsDataset",
    "TextDataset",
    "TimmAugment",
    "VQATableDataset",
    "VQAv2Dataset",
    "collate_parts",
    "imagenet_class_names",
    "make_shapes",
    "read_answers",
    "read_class_list",
    "read_classes",
    "write_answers",
]
