from mmbeit3.models.image_tokenizers.teacher_codes import TeacherCodes
from mmbeit3.models.image_tokenizers.teachers import (
    EdgeTeacher,
    HOGTeacher,
    PixelTeacher,
    TimmTeacher,
    TowerTeacher,
)
from mmbeit3.models.image_tokenizers.vqkd import VQKD

__all__ = [
    "VQKD",
    "EdgeTeacher",
    "HOGTeacher",
    "PixelTeacher",
    "TeacherCodes",
    "TimmTeacher",
    "TowerTeacher",
]
