"""Early stopping that a resumed training goes on with."""

from __future__ import annotations

import math
from typing import Any

from mmengine.hooks import EarlyStoppingHook as MMEngineEarlyStoppingHook

from mmbeit3.registry import HOOKS
from mmbeit3.utils import InputError, listed

STATE = "early_stopping"  # where the message hub, which checkpoints keep, has the state


@HOOKS.register_module()
class EarlyStoppingHook(MMEngineEarlyStoppingHook):
    """As mmengine's, and it counts on when a training is resumed.

    mmengine's begins to count anew, by default takes a gain of less than 0.1, ten points of AP,
    for none, and a metric that stays the same for a gain; and it goes on silently without its
    metric. A training that is stopped writes its checkpoint, and does not go on when it is resumed
    unless ``patience`` is raised.

    Args:
        monitor (str): The metric, such as ``coco/bbox_mAP``, ``mIoU`` or ``val/loss``.
        rule (str, optional): 'greater' or 'less' is better. Defaults to None: by the name, as in
            mmengine.
        min_delta (float): What is gained must be more than that. Defaults to 0.
        patience (int): Validations in a row without a gain, after which it ends. Defaults to 5.
        **kwargs: Others of mmengine's; an absent metric is an error in any case.
    """

    best_score: float
    priority = "LOW"  # before the checkpoint of a best metric, which then has the count

    def __init__(
        self,
        monitor: str,
        rule: str | None = None,
        min_delta: float = 0.0,
        patience: int = 5,
        **kwargs: Any,
    ) -> None:
        if patience < 1 or min_delta < 0:
            raise InputError(
                f"EarlyStoppingHook has patience={patience} and min_delta={min_delta}; expected a "
                "patience of 1 or more and a min_delta of 0 or more"
            )
        super().__init__(monitor, rule, min_delta, patience=patience, **kwargs)

    def before_train(self, runner: Any) -> None:
        """Go on from what a resumed training has counted."""
        best, waited = runner.message_hub.runtime_info.get(STATE, (self.best_score, 0))
        self.best_score, self.wait_count = best, waited
        if waited >= self.patience:
            runner.train_loop.stop_training = True
            runner.logger.info(
                f"the training had been stopped early: {self.monitor} did not improve in "
                f"{waited} validations. To go on, raise patience of EarlyStoppingHook"
            )

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Count a validation; see mmengine."""
        metrics = metrics or {}
        if self.monitor not in metrics:
            raise InputError(
                f"EarlyStoppingHook.monitor is {self.monitor!r}, but the validation gives "
                f"{listed(list(metrics), 8) or 'no metrics'}: set it to one of these"
            )
        super().after_val_epoch(runner, metrics)
        runner.message_hub.update_info(STATE, (self.best_score, self.wait_count))

    def _check_stop_condition(self, current_score: float) -> tuple[bool, str]:
        if self.check_finite and not math.isfinite(current_score):
            return super()._check_stop_condition(current_score)
        gain = current_score - self.best_score
        gain = gain if self.rule == "greater" else -gain
        if gain > abs(self.min_delta):
            self.best_score, self.wait_count = current_score, 0
        else:
            self.wait_count += 1
        if self.wait_count >= self.patience:
            return True, (
                f"stopped early: {self.monitor} did not improve in {self.wait_count} validations, "
                f"the best is {self.best_score:.4f}"
            )
        threshold = self.stopping_threshold
        if threshold is not None and self.rule_map[self.rule](current_score, threshold):
            return True, f"stopped early: {self.monitor} is {current_score:.4f}"
        return False, ""
