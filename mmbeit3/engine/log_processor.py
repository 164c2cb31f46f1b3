"""Lines of the log: all values in the file, what one watches in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from mmengine.runner import LogProcessor as MMEngineLogProcessor

from mmbeit3.registry import LOG_PROCESSORS
from mmbeit3.utils.terminal import LogText

MOST = 8  # metrics in a line of the terminal
GIB = 1024  # MiB, in which mmengine counts memory


@LOG_PROCESSORS.register_module()
class LogProcessor(MMEngineLogProcessor):
    """As mmengine's, with a short line for the terminal.

    Of a step the terminal shows iteration, loss, learning rate (the largest, where layers have
    their own), images per second, remaining time and memory; of an evaluation the metrics that a
    metric's class names in ``headlines``, or the first ones. The log file, ``scalars.json`` and
    TensorBoard have every value.

    Args:
        **kwargs: As mmengine's.
    """

    def get_log_after_iter(self, runner: Any, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Format the values of a step; see mmengine."""
        tag, text = super().get_log_after_iter(runner, batch_idx, mode)
        if mode == "train":
            short = self._training_line(runner, batch_idx, tag)
        elif getattr(runner, "shows_progress", False):  # by a bar
            short = None
        else:
            total = self._get_dataloader_size(runner, mode)
            what = "validation" if mode == "val" else "test"
            short = "  ".join([f"{what} {_of(batch_idx + 1, total)}", *_remaining(runner)])
        return tag, LogText(text, short)

    def get_log_after_epoch(
        self, runner: Any, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict, str]:
        """Format the metrics of an evaluation; see mmengine."""
        tag, text = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        metrics = {
            name.removeprefix(f"{mode}/"): value
            for name, value in tag.items()
            if isinstance(value, (int, float))
            and name.split("/")[-1] not in ("time", "data_time")
            and not (name.startswith("val/") and "loss" in name)  # of mmbeit3.ValidationLossHook
        }
        loop = runner.val_loop if mode == "val" else runner.test_loop
        shown = _headlines(loop.evaluator, metrics)
        if not shown:
            return tag, LogText(text)
        short = "test: " if mode == "test" else f"validation{self._position(runner)}: "
        if "val/loss" in tag:
            shown = {**shown, "val/loss": tag["val/loss"]}
        short += ", ".join(f"{name} {_number(value)}" for name, value in shown.items())
        return tag, LogText(text, short)

    def _position(self, runner: Any) -> str:
        """After what a validation comes; nothing where nothing trains."""
        if isinstance(runner._train_loop, dict) or runner._train_loop is None:
            return ""
        return f" after {f'epoch {runner.epoch}' if self.by_epoch else f'iteration {runner.iter}'}"

    def _training_line(self, runner: Any, batch_idx: int, tag: Mapping[str, Any]) -> str:
        values = {name.removeprefix("train/"): value for name, value in tag.items()}
        if self.by_epoch:
            of = _of(batch_idx + 1, self._get_dataloader_size(runner, "train"))
            parts = [f"epoch {_of(runner.epoch + 1, runner.max_epochs)}, iteration {of}"]
        else:
            parts = [f"iteration {_of(runner.iter + 1, runner.max_iters)}"]
        losses = [name for name in values if "loss" in name]
        losses = ["loss"] if "loss" in values else losses[:MOST]
        parts += [f"{name} {values[name]:.4g}" for name in losses]
        rates = [values[name] for name in ("max_lr", "base_lr", "lr") if name in values]
        parts += [f"lr {rates[0]:.2e}"] if rates else []
        if "images_per_s" in values:
            parts.append(f"{values['images_per_s']:.3g} images/s")
        parts += _remaining(runner)
        if "memory" in values:
            parts.append(f"{values['memory'] / GIB:.1f} GiB")
        return "  ".join(parts)


def _number(value: float) -> str:
    """Four digits; of shares, the AP among them, four decimals."""
    return f"{value:.4f}" if abs(value) <= 1 else f"{value:.4g}"


def _of(done: int, total: int) -> str:
    return f"{done:>{len(str(total))}}/{total}"


def _remaining(runner: Any) -> list[str]:
    seconds = runner.message_hub.runtime_info.get("eta")
    return [] if seconds is None else [f"{timedelta(seconds=int(seconds))} left"]


def _headlines(evaluator: Any, metrics: Mapping[str, float]) -> dict[str, float]:
    """Pick what the terminal shows of an evaluation."""
    named = [getattr(metric, "headlines", None) for metric in evaluator.metrics]
    if all(named):
        wanted = {name for names in named for name in names or ()}
        found = {k: v for k, v in metrics.items() if k.rpartition("/")[2] in wanted}
        if found:
            return found
    return dict(list(metrics.items())[:MOST])
