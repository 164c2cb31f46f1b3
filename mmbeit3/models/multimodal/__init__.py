from mmbeit3.models.multimodal.captioning import BEiT3Captioning
from mmbeit3.models.multimodal.class_embeddings import ClassEmbeddings
from mmbeit3.models.multimodal.image_text_loss import image_text_loss
from mmbeit3.models.multimodal.multiway import BEiT3Multiway
from mmbeit3.models.multimodal.nlvr2 import BEiT3NLVR2
from mmbeit3.models.multimodal.pretraining import BEiT3Pretraining
from mmbeit3.models.multimodal.retrieval import BEiT3Retrieval
from mmbeit3.models.multimodal.text import BEiT3Text
from mmbeit3.models.multimodal.vqa import BEiT3VQA

__all__ = [
    "BEiT3Captioning",
    "BEiT3Multiway",
    "BEiT3NLVR2",
    "BEiT3Pretraining",
    "BEiT3Retrieval",
    "BEiT3Text",
    "BEiT3VQA",
    "ClassEmbeddings",
    "image_text_loss",
]
