from mmbeit3.models.decode_heads.mask2former_head import Mask2FormerHead

__all__ = ["Mask2FormerHead"]
