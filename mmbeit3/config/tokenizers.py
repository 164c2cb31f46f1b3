"""The tokenizer of a config's model."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config

from mmbeit3.text import Tokenizer


def read_tokenizer(cfg: Config) -> Tokenizer | None:
    """Read the tokenizer that a config's model has in its ``data_preprocessor``.

    Args:
        cfg: The config.

    Returns:
        It, or None where the model has none.

    Raises:
        InputError: It cannot be read.
    """
    preprocessor = (cfg.get("model") or {}).get("data_preprocessor")
    if not isinstance(preprocessor, dict) or not isinstance(preprocessor.get("tokenizer"), dict):
        return None
    given: dict[str, Any] = dict(preprocessor["tokenizer"])
    if "max_length" in preprocessor:
        given.setdefault("max_length", preprocessor["max_length"])
    return Tokenizer(**given)
