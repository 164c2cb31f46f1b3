from mmbeit3.models.multimodal.multiway import BEiT3Multiway
from mmbeit3.models.multimodal.text import BEiT3Text

__all__ = ["BEiT3Multiway", "BEiT3Text"]
