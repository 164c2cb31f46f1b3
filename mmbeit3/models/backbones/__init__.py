from mmbeit3.models.backbones.beit3 import BEiT3

__all__ = ["BEiT3"]
