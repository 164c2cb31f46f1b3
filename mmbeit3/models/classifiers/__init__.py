from mmbeit3.models.classifiers.image_classifier import BEiT3ImageClassifier
from mmbeit3.models.classifiers.text_classifier import BEiT3TextClassifier

__all__ = ["BEiT3ImageClassifier", "BEiT3TextClassifier"]
