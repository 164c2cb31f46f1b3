"""Everything a config can build under ``model``."""

from mmbeit3.models.backbones import BEiT3, BEiT3Adapter
from mmbeit3.models.classifiers import BEiT3ImageClassifier, BEiT3TextClassifier
from mmbeit3.models.data_preprocessors import (
    BatchFixedSizePad,
    ImageTextPreprocessor,
    MultibandDetDataPreprocessor,
    MultibandSegDataPreprocessor,
    PretrainingPreprocessor,
)
from mmbeit3.models.decode_heads import Mask2FormerHead
from mmbeit3.models.dense_heads import RPNHead
from mmbeit3.models.detectors import CascadeRCNN
from mmbeit3.models.image_tokenizers import (
    VQKD,
    EdgeTeacher,
    HOGTeacher,
    PixelTeacher,
    TeacherCodes,
    TimmTeacher,
    TowerTeacher,
)
from mmbeit3.models.multimodal import (
    BEiT3Captioning,
    BEiT3Multiway,
    BEiT3NLVR2,
    BEiT3Pretraining,
    BEiT3Retrieval,
    BEiT3Text,
    BEiT3VQA,
    ClassEmbeddings,
)
from mmbeit3.models.necks import SimpleFeaturePyramid
from mmbeit3.models.roi_heads import (
    FCNMaskHead,
    PreciseRoIExtractor,
    Shared4Conv1FCBBoxHead,
    ViTDetCascadeRoIHead,
)
from mmbeit3.models.segmentors import EncoderDecoder
from mmbeit3.models.task_modules import DeltaXYWHBBoxCoder, MaxIoUAssigner
from mmbeit3.models.tta import DetTTAModel, SegTTAModel
from mmbeit3.ops.mmcv_ext import route_operators

route_operators()

__all__ = [
    "EdgeTeacher",
    "HOGTeacher",
    "PixelTeacher",
    "TeacherCodes",
    "TimmTeacher",
    "TowerTeacher",
    "VQKD",
    "BEiT3",
    "BEiT3Adapter",
    "BEiT3Captioning",
    "BEiT3ImageClassifier",
    "BEiT3Multiway",
    "BEiT3NLVR2",
    "BEiT3Pretraining",
    "BEiT3Retrieval",
    "BEiT3Text",
    "BEiT3TextClassifier",
    "BEiT3VQA",
    "BatchFixedSizePad",
    "CascadeRCNN",
    "ClassEmbeddings",
    "DeltaXYWHBBoxCoder",
    "DetTTAModel",
    "EncoderDecoder",
    "FCNMaskHead",
    "ImageTextPreprocessor",
    "Mask2FormerHead",
    "MultibandDetDataPreprocessor",
    "MultibandSegDataPreprocessor",
    "MaxIoUAssigner",
    "PreciseRoIExtractor",
    "PretrainingPreprocessor",
    "RPNHead",
    "SegTTAModel",
    "Shared4Conv1FCBBoxHead",
    "SimpleFeaturePyramid",
    "ViTDetCascadeRoIHead",
]
