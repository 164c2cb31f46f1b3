"""Kinds of models that are exported: their graphs, and how a model runs by them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmbeit3.export.files import Exported
from mmbeit3.export.graphs import (
    Graph,
    backbone_graphs,
    check_detector,
    detector_graphs,
    dual_encoder_graphs,
    segmentor_graphs,
)
from mmbeit3.utils import InputError


@dataclass
class Kind:
    """A kind of model.

    Attributes:
        graphs (Callable): From a model to its graphs.
        check (Callable): Raises an InputError for a model, maybe without weights, whose graphs
            cannot be made.
        use (Callable, optional): Has a model without weights run by the graphs of a file. None if
            nothing can be done with the file but run it.
    """

    graphs: Callable[[Any], list[Graph]]
    check: Callable[[nn.Module], None] = lambda model: None
    use: Callable[[Any, Exported], None] | None = None


def build_empty(cfg: Config) -> nn.Module:
    """Build a config's model without memory for its weights, in evaluation mode."""
    model_cfg = copy.deepcopy(cfg.model)
    model_cfg.pop("class_embeddings", None)
    preprocessor = MODELS.build(model_cfg.pop("data_preprocessor"))
    model_cfg["data_preprocessor"] = preprocessor
    with torch.device("meta"):
        return MODELS.build(model_cfg).eval()


def exported_model(cfg: Config, exported: Exported) -> nn.Module:
    """Build the model of a config that computes by the graphs of its file.

    Raises:
        InputError: The file holds a part of a model.
    """
    use = KINDS[exported.facts["kind"]].use
    if use is None:
        raise InputError(
            f"{exported} holds the {exported.facts['kind']} alone, which finds nothing in an "
            "image; expected an export of the whole model"
        )
    model = build_empty(cfg)
    use(model, exported)
    return model


def _use_detector(model: Any, exported: Exported) -> None:
    roi_head = model.roi_head

    def predict(inputs: Tensor, samples: list, rescale: bool = True) -> list:
        found = []
        for image, sample in zip(inputs, samples, strict=True):
            height, width = sample.img_shape[:2]  # without padding, which the graph does itself
            found.append(exported.graphs[""](image[None, :, :height, :width].contiguous()))
        boxes, scores, *parts = zip(*found, strict=True)
        levels = tuple(torch.cat(part) for part in parts)
        roi_head._cascade = lambda *_: (list(boxes), list(scores))
        proposals = [InstanceData(bboxes=box) for box in boxes]
        results = roi_head.predict(levels, proposals, samples, rescale=rescale)
        return model.add_pred_to_datasample(samples, results)

    def masks(levels: tuple[Tensor, ...], regions: Tensor) -> Tensor:
        found = []
        for index in range(len(levels[0])):
            own = regions[regions[:, 0] == index]
            own[:, 0] = 0
            image = [level[index : index + 1] for level in levels]
            found += exported.graphs["masks"](*image, own)
        return torch.cat(found)

    model.predict, roi_head._mask_forward = predict, masks


def _use_segmentor(model: Any, exported: Exported) -> None:
    def scores(inputs: Tensor, metas: list[dict]) -> Tensor:
        return torch.cat([exported.graphs[""](image[None])[0] for image in inputs])

    model.encode_decode = scores


def _use_dual_encoder(model: Any, exported: Exported) -> None:
    def images(inputs: Tensor) -> Tensor:
        return torch.cat([exported.graphs[""](image[None])[0] for image in inputs])

    def texts(ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        keep = torch.ones_like(ids) if padding_mask is None else 1 - padding_mask.long()
        texts = [text[: int(kept.sum())] for text, kept in zip(ids, keep, strict=True)]
        return torch.cat([exported.graphs["texts"](text[None])[0] for text in texts])

    model.encode_image, model.encode_text = images, texts


KINDS = {
    "backbone": Kind(backbone_graphs),
    "detector": Kind(detector_graphs, check_detector, _use_detector),
    "segmentor": Kind(segmentor_graphs, use=_use_segmentor),
    "dual encoder": Kind(dual_encoder_graphs, use=_use_dual_encoder),
}
