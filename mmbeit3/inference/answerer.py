"""A trained model that answers questions about images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmbeit3.config.classes import resolve_classes
from mmbeit3.inference.asked_images import AskedSource, LastImages
from mmbeit3.inference.asked_model import AskedModel
from mmbeit3.inference.browser_pages import show_answers
from mmbeit3.inference.classification_result import ClassificationResult
from mmbeit3.inference.classifier import Classifier
from mmbeit3.inference.inferencer import Loaded
from mmbeit3.inference.inputs import read_inputs, single_source
from mmbeit3.inference.judge import checked_text
from mmbeit3.inference.layer_maps import (
    AttentionMap,
    PairAttentionMap,
    layer_calls,
    layer_number,
    pair_attention_maps,
)
from mmbeit3.inference.result import all_found, in_order
from mmbeit3.utils import InputError
from mmbeit3.visualization.text_strip import add_text, draw_text

NUM_SHOWN = 5  # best answers


@dataclass(eq=False, repr=False)
class AnswerResult(ClassificationResult):
    """How likely each answer to a question is, for itself: their sum is not one.

    Attributes:
        scores (np.ndarray): (K,) probabilities, float32.
        classes (Sequence[str]): The K answers.
        question (str): The question.
        attention (PairAttentionMap, optional): Where the model looked. Defaults to None.
    """

    question: str
    attention: PairAttentionMap | None = None

    def draw(self, *, channels: str = "bgr") -> np.ndarray:
        """Draw the image, or the attention on it, with question and answer below."""
        text = f"{self.question}\n{self.name} ({self.score:.2f})"
        if self.attention is None:
            return in_order(draw_text(self.image, text), channels)
        return in_order(add_text(self.attention.draw(), text), channels)

    def to_json(self) -> str:
        """Return the image's facts, the question and the five best answers."""
        found = [{"answer": name, "score": score} for name, score in self.top(NUM_SHOWN)]
        return json.dumps(self._facts() | {"question": self.question, "answers": found})

    def __repr__(self) -> str:
        found = ", ".join(f"{score:.2f} {name}" for name, score in self.top(3))
        return f"AnswerResult({self.source.file_name}, {self.question!r}: {found})"


class Answerer(AskedModel, Classifier):
    """A model with trained weights that answers; arguments and errors as :class:`Inferencer`.

    ``classes`` are the answers that it knows: those of the checkpoint, else of the config's data,
    else numbers.
    """

    show_page = staticmethod(show_answers)
    #: The layer whose attention results have; None for none.
    attention_layer: int | None = None

    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        """Set ``classes`` to the answers, and fit the head to their number."""
        super().find_classes(cfg, meta)
        if not self.classes:
            with suppress(InputError):  # the list of answers, or the questions, may not be here
                self.classes = tuple(resolve_classes(cfg) or ())

    def assumed_names(self, number: int) -> tuple[tuple[str, ...], str]:
        """Number the answers."""
        cure = "name the list of answers: train_dataloader.dataset.answers, or classes of load()"
        return tuple(map(str, range(number))), f"numbers; {cure}"

    def result(self, loaded: Loaded, sample: BaseDataElement) -> AnswerResult:
        """Move the probabilities of all answers to the CPU."""
        scores = sample.pred_scores.float().cpu().numpy()
        [question] = loaded.packed["data_samples"].texts
        attention = sample.get("attention")
        return AnswerResult(
            loaded.source, loaded.image, scores, self.classes, question, attention=attention
        )

    def predict_batch(self, images: list[Loaded]) -> list[BaseDataElement]:
        """Run the model on one batch, and watch the layer that was asked for."""
        if self.attention_layer is None:
            return super().predict_batch(images)
        encoder, layer = self.model.encoder, self.attention_layer
        with layer_calls(encoder.vision.layers[layer]) as calls:
            samples = super().predict_batch(images)
        tokenizer = self.model.data_preprocessor.tokenizer
        [(tokens, *_), _] = calls[0]
        maps = pair_attention_maps(encoder, tokenizer, layer, tokens, images)
        for sample, found in zip(samples, maps, strict=True):
            sample.set_field(found, "attention")
        return samples

    def __call__(self, images: Any, **options: Any) -> Any:
        """Refuse: an image alone is no question."""
        raise InputError("this model answers questions: model.answer(image, question)")

    def answer(
        self, images: Any, questions: str | Sequence[str], top: int = 5, *, channels: str = "bgr"
    ) -> list[tuple[str, float]] | list[list[tuple[str, float]]]:
        """Answer questions about images.

        Args:
            images (Any): One image, or several: a path, array, PIL image, a list of them, a folder.
            questions (str | Sequence[str]): One question, or several. One of the one is combined
                with each of the other; of several images and as many questions, each with its own.
            top (int): How many answers. Defaults to 5.
            channels (str): The order of the channels of arrays, 'bgr' or 'rgb'. Defaults to 'bgr'.

        Returns:
            list: The best answers with their probabilities, the best first; of several images or
            questions a list for each.

        Raises:
            InputError: An image cannot be read, a question is empty, or their numbers do not fit.
        """
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise InputError(f"top is {top!r}; expected a whole number of at least 1")
        inputs = read_inputs(images, channels)
        if inputs.is_stream:
            raise InputError("the images are a stream; expected one image, a list or a folder")
        pictures, single = list(inputs.sources), inputs.is_single and isinstance(questions, str)
        texts, last = _checked_texts(questions), None
        if len(pictures) == 1:
            pictures, last = pictures * len(texts), LastImages()
        elif len(texts) == 1:
            texts *= len(pictures)
        if len(pictures) != len(texts):
            raise InputError(
                f"there are {len(pictures)} images and {len(texts)} questions; expected one of the "
                "one, or as many of both"
            )
        pairs = enumerate(zip(pictures, texts, strict=True), 1)
        sources = [AskedSource.of(number, (image,), text, last) for number, (image, text) in pairs]
        found = all_found(self._overlapping(sources, None, None))
        answers = [result.top(top) for result in found]
        return answers[0] if single else answers

    def attention(
        self,
        image: Any,
        layer: int = -1,
        *,
        question: str | None = None,
        at: tuple[float, float] | None = None,
        channels: str = "bgr",
    ) -> AttentionMap:
        """Show where a layer looks, of the image alone or to answer a question.

        The answer is read from the CLS token of the image. With a question the attention is that of
        this token, in one softmax over the patches, itself and the words.

        Args:
            image (Any): One image.
            layer (int): The layer, from 0; negative ones count from the last. Defaults to -1.
            question (str, optional): The question. Defaults to None: the image alone, as
                :meth:`Inferencer.attention`.
            at (tuple[float, float], optional): See there; not with a question. Defaults to None.
            channels (str): See a call. Defaults to 'bgr'.

        Returns:
            AttentionMap: See there; with a question a
            :class:`mmbeit3.inference.layer_maps.PairAttentionMap`.

        Raises:
            InputError: As there, or the question is empty.
        """
        if question is None:
            return super().attention(image, layer, at=at, channels=channels)
        if at is not None:
            raise InputError("at is for an image without a question: leave one of them out")
        picture = single_source(image, channels)
        source = AskedSource.of(1, (picture,), checked_text(question, "question"))
        before = self.attention_layer
        self.show_attention(layer)
        try:
            [found] = all_found(self._overlapping([source], None, None))
        finally:
            self.attention_layer = before
        return found.attention

    def show_attention(self, layer: int = -1) -> None:
        """Give results from now on the attention of a layer, and draw it.

        Args:
            layer (int): The layer, from 0; negative ones count from the last. Defaults to -1.

        Raises:
            InputError: There is no such layer.
        """
        self.attention_layer = layer_number(layer, len(self.model.encoder.vision.layers))


def _checked_texts(questions: Any) -> list[str]:
    given = [questions] if isinstance(questions, str) else questions
    if not isinstance(given, (list, tuple)) or not given:
        raise InputError(f"questions are {given!r:.100}; expected a text or a list of texts")
    return [checked_text(text, f"question {number}") for number, text in enumerate(given, 1)]
