"""A trained classifier that takes images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmbeit3.checkpoint import dataset_meta_of
from mmbeit3.config.classes import follow_checkpoint
from mmbeit3.datasets import imagenet_class_names
from mmbeit3.inference.browser_pages import show_classes
from mmbeit3.inference.classification_result import ClassificationResult
from mmbeit3.inference.inferencer import Inferencer, Loaded
from mmbeit3.models.multimodal.class_texts import check_names
from mmbeit3.utils import InputError, warn

IMAGENET = 1000


class Classifier(Inferencer):
    """A classifier with trained weights; arguments and errors as :class:`Inferencer`.

    The classes are those that the checkpoint was trained on. Of a linear head in a file without
    names they are ImageNet's where there are 1,000, else numbers. A model that reads names can be
    given any, see :meth:`set_classes`.
    """

    scope = "mmbeit3"
    show_page = staticmethod(show_classes)
    model: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.classes and self._reads_names:
            self.model.set_classes(self.classes)
        elif not self.classes and not self._reads_names:
            number = self.model.num_classes
            self.classes, kind = self.assumed_names(number)
            warn(f"the checkpoint has no names of its {number} classes: they are {kind}")

    def assumed_names(self, number: int) -> tuple[tuple[str, ...], str]:
        """Name so many classes that nobody named; and say in words how."""
        if number == IMAGENET:
            return tuple(imagenet_class_names().values()), "those of ImageNet"
        return tuple(map(str, range(number))), "numbers"

    @property
    def _reads_names(self) -> bool:
        return hasattr(self.model, "set_classes")

    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        """Set ``classes`` to those of the checkpoint, and fit the head to their number."""
        trained_on = dataset_meta_of(meta).get("classes")
        if trained_on:
            follow_checkpoint(cfg, trained_on)
        self.classes, self.palette = tuple(trained_on or cfg.model.get("class_names") or ()), []

    def name_classes(self, names: tuple[str, ...]) -> None:
        """See :meth:`set_classes`."""
        self.set_classes(names)

    def set_classes(
        self, names: Sequence[str], templates: str | Path | Sequence[str] | None = None
    ) -> None:
        """Give the classes other names.

        Args:
            names (Sequence[str]): Any, of a model that reads names; of a linear head as many as it
                has classes, in the order of the labels.
            templates (str | Path | Sequence[str], optional): Of a model that reads names, see
                :func:`mmbeit3.text.templates.read_templates`. Defaults to None, the model's.

        Raises:
            InputError: Names or templates cannot be used.
        """
        names = check_names(names)
        if self._reads_names:
            self.model.set_classes(names, templates)
        elif templates is not None:
            raise InputError(
                "templates are for models that read names, and this one has a linear head: leave "
                "them out",
                "templates",
            )
        elif len(names) != self.model.num_classes:
            raise InputError(
                f"there are {len(names)} names and the head has {self.model.num_classes} classes; "
                "expected one name for each, in the order of the labels. A model that takes any "
                "names is mmbeit3.BEiT3TextClassifier"
            )
        self.classes = names

    def result(self, loaded: Loaded, sample: BaseDataElement) -> ClassificationResult:
        """Move the probabilities of an image to the CPU."""
        scores = sample.pred_scores.float().cpu().numpy()
        return ClassificationResult(loaded.source, loaded.image, scores, self.classes)
