"""Ground truth for training steps without content, and what is decided by content in them.

The model's own code computes its loss. Which boxes are sampled and which queries are matched
depends on content; every image gets the most RoIs and positives that its sampler gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.task_modules.assigners import hungarian_assigner
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData, PixelData
from mmengine.utils import to_2tuple
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from mmbeit3.analysis.live_memory import LiveMemory

# In an image: a COCO image has 7 on average. Only targets, which are small, grow with them.
OBJECTS = 20
# Classes in a crop of ADE20K: about as many.
CLASSES = 10


class _Sample(DetDataSample):
    """Copied shallowly: torch would copy what its tensors do not have."""

    def __deepcopy__(self, memo: dict) -> _Sample:
        return self.clone()


def make_samples(model: nn.Module, batch_size: int, image_size: tuple[int, int]) -> list[Any]:
    """Ground truth as a data preprocessor gives it: 20 objects, or label maps of 10 classes.

    Args:
        model (nn.Module): The model; with a ``decode_head`` it wants label maps.
        batch_size (int): Images.
        image_size (tuple[int, int]): Their height and width in pixels.
    """
    names = ("img_shape", "batch_input_shape", "pad_shape", "ori_shape")
    meta = dict.fromkeys(names, image_size) | {"scale_factor": (1.0, 1.0)}
    if hasattr(model, "decode_head"):
        with _disable_current_modes():  # with content: which classes there are is asked of it
            labels = torch.arange(image_size[0])[:, None].expand(image_size) % CLASSES  # (H, W)
            data = PixelData(data=labels[None].contiguous())
        return [SegDataSample(metainfo=meta, gt_sem_seg=data) for _ in range(batch_size)]
    objects = InstanceData(
        bboxes=torch.zeros(OBJECTS, 4),
        labels=torch.zeros(OBJECTS, dtype=torch.long),
        masks=BitmapMasks(np.zeros((OBJECTS, *image_size), np.uint8), *image_size),
    )
    none = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    return [
        _Sample(metainfo=meta, gt_instances=objects, ignored_instances=none)
        for _ in range(batch_size)
    ]


@contextmanager
def decisions(model: nn.Module, batch_size: int, memory: LiveMemory) -> Iterator[None]:
    """Within, what the loss of a model decides by content is decided without.

    Args:
        model (nn.Module): The model.
        batch_size (int): Images.
        memory (LiveMemory): Told how many entries of masks are true.
    """
    queries = getattr(getattr(model, "decode_head", None), "num_queries", None)
    if queries:
        memory.matches |= {(queries,): CLASSES, (batch_size, queries): batch_size * CLASSES}
    masks = import_module("mmdet.structures.mask.mask_target")  # a function has its name
    with (
        patch.object(hungarian_assigner, "linear_sum_assignment", _match),
        patch.object(masks, "mask_target_single", _mask_targets),
        patch.object(BBoxHead, "refine_bboxes", _refined_boxes),
        patch.object(PseudoSampler, "sample", _in_halves(PseudoSampler.sample, memory)),
    ):
        yield


def _match(costs: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Match the first queries with the classes, in their order."""
    indices = np.arange(min(costs.shape))
    return indices, indices


def _mask_targets(proposals: Tensor, _indices: Tensor, _masks: Any, cfg: ConfigDict) -> Tensor:
    return proposals.new_zeros(len(proposals), *to_2tuple(cfg.mask_size))


def _refined_boxes(_head: BBoxHead, sampled: Sequence[Any], *_: Any) -> list[InstanceData]:
    """The boxes that a stage of mmdet's cascade hands on, as many as it was given."""
    return [InstanceData(bboxes=result.priors) for result in sampled]


def _in_halves(sample: Callable[..., Any], memory: LiveMemory) -> Callable[..., Any]:
    """Have a sampler that takes every prior call one half of them positive, the other negative."""

    def run(self: PseudoSampler, assigned: Any, predicted: InstanceData, *args: Any) -> Any:
        shape = (len(predicted.priors),)
        memory.matches[shape] = shape[0] // 2
        try:
            return sample(self, assigned, predicted, *args)
        finally:
            del memory.matches[shape]

    return run
