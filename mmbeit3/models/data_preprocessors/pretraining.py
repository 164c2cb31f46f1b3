"""Images, texts and pairs of a pretraining step as tensors."""

from __future__ import annotations

from typing import Any

from mmbeit3.models.data_preprocessors.image_text import ImageTextPreprocessor
from mmbeit3.registry import MODELS


@MODELS.register_module()
class PretrainingPreprocessor(ImageTextPreprocessor):
    """An :class:`ImageTextPreprocessor` of each part of a batch.

    Args:
        *args: As there.
        **kwargs: As there.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Make a batch.

        Args:
            data (dict): Batches as :class:`ImageTextPreprocessor` takes them, or lists of such, by
                what they are of: ``images``, ``texts`` and ``pairs``.
            training (bool): As in mmengine; without effect. Defaults to False.

        Returns:
            dict: What :class:`ImageTextPreprocessor` makes of each, by the same names.
        """
        make = super().forward
        return {name: make(_joined(part), training) for name, part in data.items()}


def _joined(part: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
    """One batch of several, as of items with several samples of a part."""
    if isinstance(part, dict):
        return part
    return {name: [value for batch in part for value in batch[name]] for name in part[0]}
