"""What the training log tells beside the losses."""

from __future__ import annotations

import resource
from typing import Any

import torch
from mmengine.hooks import Hook

MEBIBYTE = 2**10  # of the kibibytes in which Linux counts resident memory


class TrainingRecordHook(Hook):
    """Records images per second, largest learning rate, gradient norm and memory each step.

    Of the norm, mmengine tells only if gradients are clipped, and of memory, only on a GPU; on the
    CPU it is the most that this process has held, in MiB.
    """

    priority = 55  # after mmengine's timer, before its logger

    def before_train(self, runner: Any) -> None:
        """Have the norm of the gradients noted before each optimizer step."""
        wrapper = runner.optim_wrapper
        self.images = runner.images_per_step
        if not wrapper.clip_grad_kwargs:
            wrapper.optimizer.register_step_pre_hook(
                lambda optimizer, *_: self._note_norm(runner, optimizer)
            )

    def after_train_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Record what is known when a step is done."""
        hub = runner.message_hub
        # mmengine tells the first group's, which with layer-wise decay is the smallest.
        rates = [group["lr"] for group in runner.optim_wrapper.param_groups]
        hub.update_scalar("train/max_lr", max(rates))
        seconds = hub.get_scalar("train/time").current()
        hub.update_scalar("train/images_per_s", self.images / seconds)
        if not torch.cuda.is_available():
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            hub.update_scalar("train/memory", peak // MEBIBYTE)

    @staticmethod
    def _note_norm(runner: Any, optimizer: torch.optim.Optimizer) -> None:
        gradients = [
            param.grad
            for group in optimizer.param_groups
            for param in group["params"]
            if param.grad is not None
        ]
        norm = torch.nn.utils.get_total_norm(gradients)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        runner.message_hub.update_scalar("train/grad_norm", float(norm))
