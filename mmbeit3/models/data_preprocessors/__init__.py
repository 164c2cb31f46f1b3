from mmbeit3.models.data_preprocessors.batch_fixed_size_pad import BatchFixedSizePad
from mmbeit3.models.data_preprocessors.image_text import ImageTextPreprocessor
from mmbeit3.models.data_preprocessors.multiband import (
    MultibandDetDataPreprocessor,
    MultibandSegDataPreprocessor,
)
from mmbeit3.models.data_preprocessors.pretraining import PretrainingPreprocessor

__all__ = [
    "BatchFixedSizePad",
    "ImageTextPreprocessor",
    "MultibandDetDataPreprocessor",
    "MultibandSegDataPreprocessor",
    "PretrainingPreprocessor",
]
