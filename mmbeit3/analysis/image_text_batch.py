"""Images, texts and labels for training steps without content.

Texts are as long as the tokenizer lets them be, which is what the plan of memory asks for. Their
ids and what is padding have content, so that the models' own code masks words and patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from mmbeit3.analysis.live_memory import LiveMemory
from mmbeit3.datasets.pretraining import PARTS
from mmbeit3.models.classifiers import BEiT3ImageClassifier
from mmbeit3.models.multimodal import BEiT3Captioning, BEiT3NLVR2, BEiT3Pretraining
from mmbeit3.text.tokenizer import BEGIN, END, PADDING, UNKNOWN


def make_image_text_batch(
    model: nn.Module, dataset: Mapping[str, Any], batch_size: int, image_size: tuple[int, int]
) -> dict[str, Any]:
    """What an :class:`mmbeit3.models.ImageTextPreprocessor` gives a model to train on.

    Args:
        model (nn.Module): The model.
        dataset (Mapping): Config of the training's data set; of a pretraining it says which parts
            a batch has, and how many samples of each.
        batch_size (int): Items of it.
        image_size (tuple[int, int]): Height and width of the images, in pixels.
    """
    if not isinstance(model, BEiT3Pretraining):
        with_texts = not isinstance(model, BEiT3ImageClassifier)
        return _part(model, batch_size, image_size, with_images=True, with_texts=with_texts)
    parts = [part for part in PARTS if part in dataset["datasets"]]
    return {
        part: _part(
            model,
            batch_size * (dataset.get("samples") or {}).get(part, 1),
            image_size,
            with_images=part != "texts",
            with_texts=part != "images",
        )
        for part in parts
    }


def expect_masked_words(model: nn.Module, batch: Mapping[str, Any], memory: LiveMemory) -> None:
    """Tell how many words captioning hides: it draws them, where the others follow numbers."""
    if isinstance(model, BEiT3Captioning):
        lengths = (~batch["padding_mask"]).sum(1).tolist()
        count = sum(max(min(int(n * model.mask_rate + 0.5), n - 1), 1) for n in lengths)
        memory.matches[tuple(batch["ids"].shape)] = count


def _part(
    model: nn.Module, count: int, image_size: tuple[int, int], with_images: bool, with_texts: bool
) -> dict[str, Any]:
    ids = padding_mask = inputs = None
    if with_images:
        each = (2,) if isinstance(model, BEiT3NLVR2) else ()
        inputs = torch.randn(count, *each, len(model.data_preprocessor.mean), *image_size)
    if with_texts:
        with _disable_current_modes():
            ids = torch.full((count, model.data_preprocessor.tokenizer.max_length), UNKNOWN + 1)
            ids[:, 0], ids[:, -1] = BEGIN, END
            ids[1:, -2:] = torch.tensor([END, PADDING])  # texts differ in length
            padding_mask = ids == PADDING
    samples = [BaseDataElement(metainfo=_truth(number)) for number in range(count)]
    return dict(inputs=inputs, ids=ids, padding_mask=padding_mask, data_samples=samples)


def _truth(number: int) -> dict[str, Any]:
    """What some task asks of a sample."""
    return dict(
        texts=["text"],
        image_id=number,
        answer_labels=[0],
        answer_scores=[1.0],
        gt_label=0,
        mask_seed=number,
    )
