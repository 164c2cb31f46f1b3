"""Models that refuse what mmengine's loading lets pass: missing weights, heads of other classes.

``mmengine.runner.load_checkpoint``, and with it mmdet's and mmseg's ``init_detector``,
``init_model``, inferencers and plain ``Runner``, skips what does not fit with a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log
from torch import Tensor, nn

from mmbeit3.checkpoint.report import (
    CLASS_LAYERS,
    LoadReport,
    Mismatch,
    compare,
    model_hint,
    rejection,
)
from mmbeit3.utils import InputError

NOT_A_WEIGHT = "num_batches_tracked"  # a counter of batch norm, which old files lack
THRESHOLD = 0.3  # mmseg's default for heads of a single class

_partial: ContextVar[bool] = ContextVar("partial", default=False)


@contextmanager
def partial_loading() -> Iterator[None]:
    """Let weights be loaded in part here, for fine-tuning."""
    token = _partial.set(True)
    try:
        yield
    finally:
        _partial.reset(token)


def is_partial() -> bool:
    """Tell whether weights may be loaded in part here."""
    return _partial.get()


if TYPE_CHECKING:
    from torch.nn import Module as _Base  # the class of mmdet or mmseg that comes after it
else:
    _Base = object


class StrictLoading(_Base):
    """Mixin of a detector or a segmentor whose weights, heads and class names agree, or it raises.

    To be inherited from before the class of mmdet or mmseg. When mmengine loads a checkpoint,

    - every weight of the model must be in it at the same size, and no other;
    - heads that were built for another number of classes take that of the checkpoint, as a config
      whose classes come from the annotation file does not know it. Such heads predict; their
      training is refused, as data and weights may have different classes;
    - ``dataset_meta``, which mmdet and mmseg set after that, must name as many classes.

    PyTorch's own ``load_state_dict`` is as ever.
    """

    #: Number of classes that the heads had before a checkpoint changed it.
    _built_for: int | None = None
    _is_loaded = False
    _dataset_meta: dict[str, Any] | None

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As PyTorch's."""
        with partial_loading():
            return super().load_state_dict(state_dict, *args, **kwargs)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if not _partial.get():
            own = {
                name.removeprefix(prefix): value
                for name, value in state_dict.items()
                if name.startswith(prefix)
            }
            self._fit_to(own)
            self._is_loaded = True
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _fit_to(self, state: Mapping[str, Tensor]) -> None:
        report = compare(state, self.state_dict())
        report.missing = [name for name in report.missing if not name.endswith(NOT_A_WEIGHT)]
        number = None if report.missing or report.unexpected else number_of_classes(report)
        if number is None and not report.complete:
            raise InputError(
                rejection(report, "the checkpoint", model_hint(report))
                + "\n  To start a training from a part of a checkpoint, set load_from and use "
                "tools/train.py"
            )
        if number is not None:
            self._built_for = self._built_for or num_classes(self)
            resize_heads(self, report.mismatched, number)
            print_log(
                f"the heads, built for {self._built_for} classes, take the {number} of the "
                "checkpoint",
                "current",
            )

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """dict: What the training data were: ``classes`` and ``palette``."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict[str, Any] | None) -> None:
        names, number = (meta or {}).get("classes"), num_classes(self)
        if self._is_loaded and names is not None and number not in (None, len(names)):
            raise InputError(
                f"the weights are of {number} classes, and {len(names)} are named: "
                f"{', '.join(map(str, names[:5]))}{', ...' if len(names) > 5 else ''}. mmdet and "
                "mmseg guess names where a file holds weights alone: give the checkpoint that "
                "training wrote, with the names in its meta.dataset_meta"
            )
        self._dataset_meta = meta

    def loss(self, *args: Any, **kwargs: Any) -> Any:
        """As mmdet's and mmseg's, but not with heads of other classes than the config's."""
        if self._built_for is not None:
            raise InputError(
                f"the config builds heads of {self._built_for} classes, and those of the "
                f"checkpoint have {num_classes(self)}: they predict, but must not be trained. Set "
                "num_classes of all heads to that of the data, or use tools/train.py, which does; "
                "it starts heads of other classes anew"
            )
        return super().loss(*args, **kwargs)


def class_heads(model: nn.Module) -> list[nn.Module]:
    """Find the parts of a model whose layers have an output for each class.

    Args:
        model (nn.Module): Of mmdet or mmseg.
    """
    return [
        module
        for module in model.modules()
        if hasattr(module, "num_classes") and CLASS_LAYERS.keys() & dict(module.named_children())
    ]


def num_classes(model: nn.Module) -> int | None:
    """Tell how many classes the heads of a model have; None without such heads.

    Args:
        model (nn.Module): Of mmdet or mmseg.
    """
    return next((head.num_classes for head in class_heads(model)), None)


def number_of_classes(report: LoadReport) -> int | None:
    """Tell how many classes a file has if nothing but that keeps it from fitting, else None.

    Args:
        report (LoadReport): File and model compared; nothing is missing.
    """
    found = map(_classes_of, report.mismatched)
    numbers = {number for number in found if number is not None}
    if len(numbers) != 1:
        return None
    number = numbers.pop()
    return number if all(_follows(entry, number) for entry in report.mismatched) else None


def resize_heads(model: nn.Module, mismatched: list[Mismatch], number: int) -> None:
    """Give the heads of a model layers for another number of classes, without content.

    Args:
        model (nn.Module): Of mmdet or mmseg.
        mismatched (list[Mismatch]): Their weights, and the shapes that they are to have.
        number (int): Of the classes.
    """
    for name, shape, _ in mismatched:
        path, _, attribute = name.rpartition(".")
        layer = model.get_submodule(path)
        former = getattr(layer, attribute)
        setattr(layer, attribute, nn.Parameter(former.new_empty(shape), former.requires_grad))
        for size in ("out_features", "out_channels"):
            if hasattr(layer, size):
                setattr(layer, size, shape[0])
    for part in [model, *class_heads(model)]:
        for size in ("num_classes", "out_channels"):
            if hasattr(part, size):
                setattr(part, size, number)
        if number == 1 and getattr(part, "threshold", THRESHOLD) is None:
            part.threshold = THRESHOLD


def _classes_of(entry: Mismatch) -> int | None:
    extra = CLASS_LAYERS.get(_layer(entry.name))
    return None if extra is None else entry.in_file[0] - extra


def _follows(entry: Mismatch, number: int) -> bool:
    layer = _layer(entry.name)
    if layer not in CLASS_LAYERS or entry.in_file[1:] != entry.in_model[1:]:
        return False
    extra = CLASS_LAYERS[layer]
    return entry.in_file[0] == (4 * number if extra is None else number + extra)


def _layer(name: str) -> str:
    return name.split(".")[-2] if "." in name else name
