"""Text to ids and back."""

from mmbeit3.text.tokenizer import Tokenizer

__all__ = ["Tokenizer"]
