from mmbeit3.models.dense_heads.rpn_head import RPNHead

__all__ = ["RPNHead"]
