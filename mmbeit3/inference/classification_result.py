"""The class of an image, and the forms in which others take it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbeit3.inference.result import Predicted
from mmbeit3.utils import InputError
from mmbeit3.utils.optional_packages import optional_package


@dataclass(eq=False, repr=False)
class ClassificationResult(Predicted):
    """How likely each class is.

    Attributes:
        scores (np.ndarray): (K,) probabilities, float32.
        classes (Sequence[str]): Names of the K classes.
    """

    scores: np.ndarray
    classes: Sequence[str]

    @property
    def label(self) -> int:
        """The index of the most likely class."""
        return int(self.scores.argmax())

    @property
    def name(self) -> str:
        """The name of the most likely class."""
        return self.classes[self.label]

    @property
    def score(self) -> float:
        """Its probability."""
        return float(self.scores.max())

    def top(self, number: int = 5) -> list[tuple[str, float]]:
        """Return the names and probabilities of the most likely classes, the most likely first.

        Args:
            number (int): How many. Defaults to 5.

        Raises:
            InputError: It is less than 1.
        """
        if number < 1:
            raise InputError(f"{number} classes are asked for; expected 1 or more")
        order = np.argsort(-self.scores, kind="stable")[:number].tolist()
        return [(self.classes[label], float(self.scores[label])) for label in order]

    def to_json(self) -> str:
        """Return the image's facts and, under ``classes``, the five most likely."""
        found = [{"name": name, "score": score} for name, score in self.top()]
        return json.dumps(self._facts() | {"classes": found})

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` of all classes, best first: ``label name score``.

        Raises:
            InputError: pandas is not installed.
        """
        pandas = optional_package("pandas", "to_pandas")
        order = np.argsort(-self.scores, kind="stable")
        names = [self.classes[label] for label in order]
        return pandas.DataFrame(dict(label=order, name=names, score=self.scores[order]))

    def to_supervision(self) -> Any:
        """Return ``supervision.Classifications``.

        Raises:
            InputError: supervision is not installed.
        """
        return optional_package("supervision", "to_supervision").Classifications(
            class_id=np.arange(len(self.scores)), confidence=self.scores
        )

    def __repr__(self) -> str:
        found = ", ".join(f"{score:.2f} {name}" for name, score in self.top(3))
        return f"ClassificationResult({self.source.file_name}: {found})"
