"""Text to ids and back."""

from mmbeit3.text.tokenizer import Tokenizer
from mmbeit3.text.training import train_tokenizer

__all__ = ["Tokenizer", "train_tokenizer"]
