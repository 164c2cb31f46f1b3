"""Memory of real training steps, to hold the plan against."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import set_random_seed
from torch import nn

from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from mmbeit3.utils.lora import add_lora
from mmbeit3.utils.processes import in_new_process

STEPS = 2  # the first one makes the optimizer's states
CHOICE = 4  # samples to choose each of the batch from
MOST_LOOKED_AT = 200


def measure_memory(cfg: Config) -> int:
    """Train two steps on the config's own data, without accumulation, in a fresh process.

    The steps are in the type that :class:`mmbeit3.AmpOptimWrapper` finds here. A detector's
    proposals are replaced: those of an RPN without training meet hardly any object, so that the
    mask head would have little to do.

    Returns:
        int: Bytes of tensors at the peak, by torch's allocator, since before the model was built.

    Raises:
        InputError: The steps failed; with the trace of the other process.
    """
    try:
        return in_new_process(_measure, cfg.to_dict())
    except RuntimeError as error:
        raise InputError(
            f"the training steps failed, so there is nothing to compare:\n{error}"
        ) from error


def _measure(cfg: dict[str, Any]) -> int:
    logging.disable(logging.INFO)  # how each weight was initialized
    return take_steps(Config(cfg))


def take_steps(cfg: Config) -> int:
    """As :func:`measure_memory`, in this process."""
    set_random_seed(0)
    init_default_scope(cfg.get("default_scope", "mmdet"))
    batch = _batch(cfg)
    if torch.cuda.is_available():
        _train(cfg, batch, "cuda")
        return torch.cuda.max_memory_allocated()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        _train(cfg, batch, "cpu")
    return max(_allocated(profiler.profiler.kineto_results.experimental_event_tree()))


def _allocated(events: Iterable[Any]) -> Iterable[int]:
    """What was allocated altogether, at every allocation of a profile."""
    stack = list(events)
    while stack:
        event = stack.pop()
        stack += event.children
        if event.tag == torch._C._profiler._EventType.Allocation:
            yield event.extra_fields.total_allocated


def _batch(cfg: Config) -> Any:
    """Of the first samples of the training data those that fill the most of an image.

    Augmentation may shrink an image to a tenth; next to no proposals lie in it then.
    """
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    size = cfg.train_dataloader.batch_size
    indices = range(max(MOST_LOOKED_AT, size))
    later = (dataset[index % len(dataset)] for index in indices)
    first = next(later)
    drawn = chain([first], later)
    truth = first.get("data_samples", ())
    if "gt_instances" not in truth and "gt_sem_seg" not in truth:  # images of one size
        return pseudo_collate(list(islice(drawn, size)))
    filled = (s for s in drawn if len(s["data_samples"].get("gt_instances", "label map")))
    samples = list(islice(filled, CHOICE * size))
    if len(samples) < size:
        raise InputError(f"the training data has fewer than {size} samples with an object")
    samples.sort(key=lambda sample: math.prod(sample["data_samples"].img_shape[:2]))
    return pseudo_collate(samples[-size:])


def _train(cfg: Config, batch: Any, device: str) -> None:
    model = MODELS.build(cfg.model)
    add_lora(model)
    model.init_weights()
    model.to(device).train()
    if getattr(model, "rpn_head", None) is not None:
        _propose_objects(model.rpn_head)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    for _ in range(STEPS):
        model.train_step(batch, wrapper)


def _propose_objects(head: nn.Module) -> None:
    """Let a quarter of an RPN's proposals be objects, a little moved, as after training."""
    own = head.loss_and_predict

    def loss_and_predict(x: Any, samples: Any, proposal_cfg: Any = None) -> Any:
        losses, results = own(x, samples, proposal_cfg)
        for result, sample in zip(results, samples, strict=True):
            boxes, count = sample.gt_instances.bboxes.to(result.bboxes), len(result) // 4 + 1
            near = boxes[torch.arange(count) % len(boxes)]
            sides = (near[:, 2:] - near[:, :2]).repeat(1, 2)
            near = near + sides * 0.05 * (torch.rand_like(near) - 0.5)
            result.bboxes[:count] = near[: len(result)]
        return losses, results

    head.loss_and_predict = loss_and_predict
