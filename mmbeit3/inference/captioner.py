"""A trained writer of captions that takes images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmbeit3.inference.browser_pages import show_caption
from mmbeit3.inference.inferencer import Inferencer, Loaded
from mmbeit3.inference.result import Predicted, all_found, in_order
from mmbeit3.visualization.text_strip import draw_text


@dataclass(eq=False, repr=False)
class CaptionResult(Predicted):
    """The caption of an image.

    Attributes:
        caption (str): It.
        score (float): Its score, see :class:`mmbeit3.models.multimodal.generation.Decoding`:
            0 at most.
    """

    caption: str
    score: float

    def draw(self, *, channels: str = "bgr") -> np.ndarray:
        """Draw the image with its caption below; see :meth:`Predicted.draw`."""
        return in_order(draw_text(self.image, self.caption), channels)

    def to_coco(self, image_id: int | None = None) -> list[dict[str, Any]]:
        """Return the entry of a COCO results list.

        Args:
            image_id (int, optional): The image's. Defaults to None, its number in the run.
        """
        number = self.source.image_id if image_id is None else image_id
        return [{"image_id": number, "caption": self.caption}]

    def to_json(self) -> str:
        """Return the image's facts, its ``caption`` and ``score``."""
        return json.dumps(self._facts() | {"caption": self.caption, "score": self.score})

    def __repr__(self) -> str:
        return f"CaptionResult({self.source.file_name}: {self.caption!r})"


class Captioner(Inferencer):
    """A writer of captions with trained weights; arguments and errors as :class:`Inferencer`.

    A call returns a :class:`CaptionResult` for each image.
    """

    scope = "mmbeit3"
    show_page = staticmethod(show_caption)
    model: Any  # mmbeit3.BEiT3Captioning

    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        """Set no ``classes``: a caption has any words."""
        self.classes, self.palette = (), []

    def result(self, loaded: Loaded, sample: BaseDataElement) -> CaptionResult:
        """Take the caption of an image."""
        return CaptionResult(
            loaded.source, loaded.image, sample.pred_caption, float(sample.pred_score)
        )

    def caption(
        self,
        images: Any,
        *,
        beams: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        **options: Any,
    ) -> str | list[str]:
        """Write captions.

        Args:
            images (Any): As in a call: a path, array, PIL image, a list of them, a folder, ...
            beams (int, optional): How many captions are followed at a time; 1 takes the likeliest
                word each time. Defaults to None, that of the config's ``model.generation``.
            length_penalty (float, optional): Larger values make longer captions. Defaults to None,
                the config's.
            max_length (int, optional): Most tokens, begin and end among them. Defaults to None, the
                config's.
            **options: Those of a call, such as ``channels`` and ``batch_size``.

        Returns:
            str | list[str]: The caption of one image, or those of several in their order.

        Raises:
            InputError: An image cannot be read, there is none, or an option is out of range.
        """
        given = dict(beams=beams, length_penalty=length_penalty, max_length=max_length)
        with self._decoding({name: value for name, value in given.items() if value is not None}):
            found: Any = self(images, **options)
            if isinstance(found, CaptionResult):
                return found.caption
            return [result.caption for result in all_found(found)]

    @contextmanager
    def _decoding(self, options: dict[str, Any]) -> Iterator[None]:
        """Search by other options for a time."""
        before = self.model.decoding
        self.model.decoding = self.model.changed_decoding(**options)
        try:
            yield
        finally:
            self.model.decoding = before
