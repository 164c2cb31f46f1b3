"""A trained judge of statements about two images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmbeit3.inference.asked_images import AskedSource
from mmbeit3.inference.asked_model import AskedModel
from mmbeit3.inference.browser_pages import show_judgment
from mmbeit3.inference.classification_result import ClassificationResult
from mmbeit3.inference.inferencer import Loaded
from mmbeit3.inference.inputs import single_source
from mmbeit3.inference.result import all_found, in_order
from mmbeit3.utils import InputError
from mmbeit3.visualization.text_strip import draw_text

CLASSES = ("False", "True")  # in the order of the labels


@dataclass(eq=False, repr=False)
class JudgmentResult(ClassificationResult):
    """Whether a statement about two images is true; ``if result:`` asks just that.

    Attributes:
        scores (np.ndarray): (2,) probabilities that it is false and that it is true, float32.
        classes (Sequence[str]): 'False' and 'True'.
        text (str): The statement.
    """

    text: str

    def __bool__(self) -> bool:
        return bool(self.label)

    def draw(self, *, channels: str = "bgr") -> np.ndarray:
        """Draw both images, the statement and the judgment; see :meth:`Predicted.draw`."""
        text = f"{self.text}\n{self.name} ({self.score:.2f})"
        return in_order(draw_text(self.image, text), channels)

    def to_json(self) -> str:
        """Return the statement, the judgment and its probability."""
        return json.dumps({"text": self.text, "judgment": bool(self), "score": self.score})

    def __repr__(self) -> str:
        return f"JudgmentResult({self.text!r}: {self.name}, {self.score:.2f})"


class Judge(AskedModel):
    """A judge with trained weights; arguments and errors as :class:`Inferencer`."""

    scope = "mmbeit3"
    show_page = staticmethod(show_judgment)
    model: Any  # mmbeit3.BEiT3NLVR2

    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        """Set ``classes`` to 'False' and 'True'."""
        self.classes, self.palette = CLASSES, []

    def result(self, loaded: Loaded, sample: BaseDataElement) -> JudgmentResult:
        """Move the probabilities of a statement to the CPU."""
        scores = sample.pred_scores.float().cpu().numpy()
        [text] = loaded.packed["data_samples"].texts
        return JudgmentResult(loaded.source, loaded.image, scores, self.classes, text)

    def __call__(self, images: Any, **options: Any) -> Any:
        """Refuse: an image alone is no statement."""
        raise InputError("this model judges statements: model.judge(left, right, text)")

    def load_one(self, image: Any, channels: str = "bgr") -> Loaded:
        """Refuse: the attention and the features of an image alone say nothing of a statement."""
        raise InputError(
            "this model judges statements about two images; the attention and the features of "
            "detectors, segmentors and models that answer questions can be shown"
        )

    def judge(self, left: Any, right: Any, text: str, *, channels: str = "bgr") -> JudgmentResult:
        """Judge a statement about two images.

        Args:
            left (Any): One image: a path, an address, an array (H, W, 3), or a PIL image.
            right (Any): The other one.
            text (str): The statement.
            channels (str): The order of the channels of arrays, 'bgr' or 'rgb'. Defaults to 'bgr'.

        Returns:
            JudgmentResult: True or false, with the probability of that, ``score``.

        Raises:
            InputError: An image cannot be read, or the statement is empty.
        """
        images = single_source(left, channels), single_source(right, channels)
        source = AskedSource.of(1, images, checked_text(text, "text"))
        [found] = all_found(self._overlapping([source], None, None))
        return found


def checked_text(text: Any, name: str) -> str:
    """Return a text without white space at its ends.

    Raises:
        InputError: It is none, or has no word.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{name} is {text!r:.100}; expected a text")
    return text.strip()
