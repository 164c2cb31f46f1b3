"""What is wrong when training cannot go on: in terms of data, losses and memory."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from mmengine.dist import get_rank
from torch import Tensor

from mmbeit3.utils import InputError, listed

if TYPE_CHECKING:
    from mmbeit3.engine.train_loop import TrainLoop

NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
LOST = re.compile(
    r"Connection (reset|closed|refused)|Broken pipe|ncclRemoteError|NCCL error.*abort"
)
UNUSED = "find_unused_parameters=True"  # DDP, of weights without a gradient
REMEDY = "lower the learning rate or set optim_wrapper.clip_grad=dict(max_norm=1.0), and resume"


def check_losses(loop: TrainLoop, losses: dict[str, Tensor], data: Any) -> str | None:
    """Say which loss terms of a micro-batch are not finite.

    Args:
        loop (TrainLoop): The loop.
        losses (dict[str, Tensor]): The terms and their sum, ``loss``.
        data (Any): The micro-batch, for the names of its files.

    Returns:
        str | None: The message, or None if all is well.
    """
    numbers = torch.stack([value.detach().float() for value in losses.values()])
    values = dict(zip(losses, numbers.tolist(), strict=True))  # one wait for the device
    if len(values) > 1:  # the sum tells nothing that its terms do not
        values.pop("loss", None)
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    if not bad:
        return None
    found = ", ".join(f"{name} is {value}" for name, value in bad.items())
    rest = ", ".join(f"{name} {value:.4g}" for name, value in values.items() if name not in bad)
    return (
        f"iteration {loop.iter + 1}, process {get_rank()}: {found} (the other terms: "
        f"{rest or 'none'}).\nThe images: {listed(_files(data), limit=64)}.\nLook at their "
        f"annotations (tools/misc/check_dataset.py); if they are fine, {REMEDY}"
    )


def check_gradients(loop: TrainLoop) -> str | None:
    """Say so if losses were finite and the norm of their gradients is not.

    It is the same in all processes. Under a dynamic loss scale, gradients that overflow are a
    matter of course and not looked at.
    """
    norm = loop.runner.message_hub.log_scalars.get("train/grad_norm")
    if norm is None or _scales_dynamically(loop.runner.optim_wrapper):
        return None
    if math.isfinite(float(norm.current())):
        return None
    return (
        f"iteration {loop.iter + 1}: the norm of the gradients is {float(norm.current())}, though "
        f"all losses are finite: {REMEDY}"
    )


def _scales_dynamically(wrapper: Any) -> bool:
    scaler = getattr(wrapper, "loss_scaler", None)
    return scaler is not None and wrapper._scale_update_param is None


def _files(data: Any) -> list[str]:
    return [str(getattr(sample, "img_path", "unnamed")) for sample in _samples(data)] or ["unnamed"]


def _samples(data: Any) -> list[Any]:
    """Samples of a batch, or of all parts of one that has images, texts and pairs."""
    if isinstance(data, list):
        return [sample for part in data for sample in _samples(part)]
    if not isinstance(data, dict):
        return []
    parts = [part for part in data.values() if isinstance(part, (dict, list))]
    return [*data.get("data_samples", ()), *(s for part in parts for s in _samples(part))]


def explain(error: BaseException, loop: TrainLoop) -> str | None:
    """Say what an error in training means for the user.

    Args:
        error (BaseException): What a data loader or the model raised.
        loop (TrainLoop): The loop.

    Returns:
        str | None: The message; None for an error that is nothing but a mistake in the code.
    """
    text = str(error)
    if isinstance(error, InputError):
        # A worker hands its error on as text, its traceback in front.
        return text.rpartition("InputError: ")[2].rstrip()
    if loop.world_size > 1 and isinstance(error, RuntimeError) and LOST.search(text):
        reason = _first_line(text).partition(". This is")[0]
        return (
            f"another process of the training has ended, seen by process {get_rank()} in iteration "
            f"{loop.iter + 1}: {reason}\nIts own output says why; without a word it was killed, "
            "mostly as main memory ran out"
        )
    if loop.world_size > 1 and isinstance(error, RuntimeError) and UNUSED in text:
        return (
            f"iteration {loop.iter + 1}: some weights got no gradient, as those of a tower whose "
            "kind of data is absent, and several processes wait for them: set "
            "find_unused_parameters=True in the config"
        )
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and NO_MEMORY.search(text)
    ):
        return _no_memory(text, loop)
    if isinstance(error, OSError):  # of logs and pictures; checkpoints have their own answer
        return f"training stopped in iteration {loop.iter + 1}: {error}"
    return None


def _no_memory(text: str, loop: TrainLoop) -> str:
    reason = _first_line(text)
    advice = "tools/analysis_tools/memory_plan.py says which switches make it fit"
    device = next(loop.runner.model.parameters()).device
    if device.type == "cuda":
        from mmbeit3.analysis import advise  # takes a second to import

        available = torch.cuda.get_device_properties(device).total_memory
        with suppress(Exception):  # the message must not be lost for want of advice
            advice = advise(loop.runner.cfg, available, loop.world_size)
    return f"out of memory in iteration {loop.iter + 1}, process {get_rank()}: {reason}\n{advice}"


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip()
