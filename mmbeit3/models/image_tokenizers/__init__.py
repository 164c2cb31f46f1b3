from mmbeit3.models.image_tokenizers.vqkd import VQKD

__all__ = ["VQKD"]
