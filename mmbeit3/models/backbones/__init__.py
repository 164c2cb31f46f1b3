from mmbeit3.models.backbones.beit3 import BEiT3
from mmbeit3.models.backbones.beit3_adapter import BEiT3Adapter

__all__ = ["BEiT3", "BEiT3Adapter"]
