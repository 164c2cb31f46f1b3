"""Image classification by the names of the classes, as BEiT-3's paper did it for ImageNet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbeit3.models.classifiers.classification import (
    MixedTargets,
    cross_entropy,
    labels_of,
    top1,
    with_scores,
)
from mmbeit3.models.multimodal.class_texts import check_names, check_told_apart, encode_classes
from mmbeit3.models.multimodal.retrieval import BEiT3Retrieval
from mmbeit3.registry import MODELS
from mmbeit3.text.templates import SLOT, read_templates
from mmbeit3.utils import InputError


@MODELS.register_module()
class BEiT3TextClassifier(BEiT3Retrieval):
    """Class of an image by the similarity to the texts of all classes.

    The dual encoder of :class:`mmbeit3.models.BEiT3Retrieval`, with its weights. The logit of a
    class is ``logit_scale.exp()`` times the dot product of the image's feature and that of the
    class, both of length 1; trained by the softmax over all classes. The feature of a class is that
    of its name, or with templates the mean of all sentences' features, normalized before and after.

    Classes can be exchanged at any time, by :meth:`set_classes`: the weights are of no number of
    them. In a run ``mmbeit3.ClassesHook`` sets those of the data set.

    In training the texts of all classes are encoded in each step, in every process: 1,000 names
    are about as many tokens as 30 images of 224 pixels, twenty times as many classes or sentences
    twenty times that. ``with_cp`` of the encoder is for their memory, too. In evaluation they are
    encoded once, and again when the weights have changed.

    Args:
        encoder (dict): Config of a :class:`mmbeit3.models.BEiT3Multiway`.
        class_names (Sequence[str], optional): Names of the classes. Defaults to None: set before
            the first image.
        templates (Sequence[str] | str, optional): Sentences with ``{}`` for the name, a file of
            them, or "default", see :func:`mmbeit3.text.templates.read_templates`. Defaults to None:
            the name alone, as in the paper.
        texts_per_batch (int): Texts, of nearly the same length, that are encoded at once. Defaults
            to 256.
        mixup (float): See :class:`mmbeit3.models.classifiers.classification.MixedTargets`. Defaults
            to 0.
        cutmix (float): As ``mixup``.
        label_smoothing (float): As ``mixup``; 0.1 in the paper.
        max_logit_scale (float, optional): See :class:`mmbeit3.models.BEiT3Retrieval`. Defaults to
            None.
        data_preprocessor (dict, optional): Config of a
            :class:`mmbeit3.models.ImageTextPreprocessor` with the tokenizer. Defaults to None.
        init_cfg (dict, optional): See :class:`mmbeit3.models.BEiT3Retrieval`. Defaults to None.

    Raises:
        InputError: The options, the templates or the class names cannot be used.
    """

    #: The classes of data sets may differ, as each one's names are read.
    reads_class_names = True

    def __init__(
        self,
        encoder: dict,
        class_names: Sequence[str] | None = None,
        templates: Sequence[str] | str | Path | None = None,
        texts_per_batch: int = 256,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        label_smoothing: float = 0.0,
        max_logit_scale: float | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            encoder,
            max_logit_scale=max_logit_scale,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        if texts_per_batch < 1:
            raise InputError(f"texts_per_batch is {texts_per_batch}; expected 1 or more")
        self.texts_per_batch = texts_per_batch
        self.mixed_targets = MixedTargets(mixup, cutmix, label_smoothing)
        self._kept: tuple[Any, Tensor] | None = None
        self.class_names: tuple[str, ...] = ()
        self.templates = (SLOT,) if templates is None else read_templates(templates)
        if class_names:
            self.set_classes(class_names)

    def set_classes(
        self,
        names: Sequence[str],
        templates: Sequence[str] | str | Path | None = None,
    ) -> None:
        """Say which classes there are.

        Args:
            names (Sequence[str]): Their names, in the order of the labels.
            templates (Sequence[str] | str | Path, optional): Other templates than so far. Defaults
                to None, the same.

        Raises:
            InputError: They are no list of texts, one is empty, or two are the same to the
                tokenizer.
        """
        names = check_names(names)
        if names == self.class_names and templates is None:
            return
        templates = self.templates if templates is None else read_templates(templates)
        check_told_apart(names, templates, self._tokenizer)
        self.class_names, self.templates, self._kept = names, templates, None

    def forward(  # type: ignore[override]  # images are needed
        self,
        inputs: Tensor,
        ids: Tensor | None = None,
        padding_mask: Tensor | None = None,
        data_samples: list[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> dict[str, Tensor] | list[BaseDataElement] | Tensor:
        """Run the model on what its preprocessor returns.

        Args:
            inputs (Tensor): (B, 3, H, W) images.
            ids (Tensor, optional): Not used: the texts are those of the classes. Defaults to None.
            padding_mask (Tensor, optional): Not used. Defaults to None.
            data_samples (list, optional): B samples, with ``gt_label`` for "loss". Defaults to
                None.
            mode (str): "loss", "predict" or "tensor". Defaults to "tensor".

        Returns:
            dict | list | Tensor: Of "loss" ``dict(loss=..., top1=...)``. Of "predict" the samples,
            each with ``pred_scores`` (classes,), probabilities, and ``pred_label``, on the CPU. Of
            "tensor" the logits (B, classes).

        Raises:
            InputError: No classes are set, a label is missing or no class, or the batch cannot be
                mixed.
        """
        if mode == "loss":
            return self._loss(inputs, data_samples or [])
        logits = self.logits(inputs)
        if mode == "predict":
            return with_scores(data_samples or [], logits.softmax(1))
        if mode == "tensor":
            return logits
        raise InputError(f"mode is {mode!r}; expected 'loss', 'predict' or 'tensor'")

    def _loss(self, images: Tensor, samples: list[BaseDataElement]) -> dict[str, Tensor]:
        number = len(self._checked_classes())
        labels = labels_of(samples, number, images.device)
        images, targets = self.mixed_targets(images, labels, number)
        if self.max_logit_scale is not None:
            with torch.no_grad():
                self.logit_scale.clamp_(max=math.log(self.max_logit_scale))
        logits = self.logits(images)
        return dict(loss=cross_entropy(logits, targets), top1=top1(logits, labels))

    def logits(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), normalized -> (B, classes), in float32."""
        features, classes = self.encode_image(images), self.class_features()
        with torch.autocast(images.device.type, enabled=False):
            return self.logit_scale.exp() * features @ classes.T

    def class_features(self) -> Tensor:
        """The features (classes, D) of length 1 of all classes.

        Kept from call to call in evaluation without gradients, for as long as weights, classes and
        precision stay the same.
        """
        self._checked_classes()
        if self.training or torch.is_grad_enabled():
            return self._encode()
        # Every update in place changes a version, but for those of ``.data``: see train().
        versions = [
            (id(p), None if p.is_inference() else p._version)
            for module in (self.encoder.text, self.language_head)
            for p in module.parameters()
        ]
        device = self.language_head.weight.device.type
        key = versions, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._encode()
        return self._kept[1]

    def _encode(self) -> Tensor:
        return encode_classes(
            self.class_names, self.templates, self._tokenizer, self, self.texts_per_batch
        )

    @property
    def _tokenizer(self) -> Any:
        tokenizer = getattr(self.data_preprocessor, "tokenizer", None)
        if tokenizer is None:
            raise InputError(
                "the model reads names of classes and has no tokenizer: set "
                "model.data_preprocessor=dict(type='mmbeit3.ImageTextPreprocessor', "
                "tokenizer=dict(file='beit3.spm'))"
            )
        return tokenizer

    def _checked_classes(self) -> tuple[str, ...]:
        if not self.class_names:
            raise InputError(
                "the model does not know the names of its classes: call set_classes(names), set "
                "model.class_names, or have default_hooks.classes=dict(type='mmbeit3.ClassesHook') "
                "take those of the data set"
            )
        return self.class_names

    def train(self, mode: bool = True) -> BEiT3TextClassifier:
        """Set the mode; what was kept goes, since ``.data`` updates (EMA) leave no version."""
        self._kept = None
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> BEiT3TextClassifier:
        self._kept = None
        return super()._apply(*args, **kwargs)
