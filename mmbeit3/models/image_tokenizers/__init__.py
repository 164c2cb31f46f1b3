from mmbeit3.models.image_tokenizers.teachers import (
    HOGTeacher,
    PixelTeacher,
    TimmTeacher,
    TowerTeacher,
)
from mmbeit3.models.image_tokenizers.vqkd import VQKD

__all__ = ["VQKD", "HOGTeacher", "PixelTeacher", "TimmTeacher", "TowerTeacher"]
