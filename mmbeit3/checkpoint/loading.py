"""Load weights into a model all or nothing, and report what fitted and what did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import print_log
from torch import Tensor, nn

from mmbeit3.checkpoint.reading import read_checkpoint, state_dict_of
from mmbeit3.utils import InputError

BACKBONE = "backbone."
# The layers of mm's heads whose size follows the number of classes, and the extra outputs of each.
CLASS_LAYERS = {"conv_logits": 0, "conv_seg": 0, "fc_cls": 1, "cls_embed": 1, "fc_reg": None}
MAX_NAMES = 10


class Mismatch(NamedTuple):
    """A weight that exists on both sides with different shapes."""

    name: str
    in_file: tuple[int, ...]
    in_model: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.in_file} -> {self.in_model}"


@dataclass
class LoadReport:
    """What fitted between a file's weights and a model's.

    Args:
        matched: Names on both sides with the same shape.
        missing: Names of the model that the file lacks.
        unexpected: Names of the file that the model lacks.
        mismatched: Names on both sides with different shapes.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[Mismatch] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether file and model hold exactly the same names and shapes."""
        return not (self.missing or self.unexpected or self.mismatched)

    def differences(self) -> str:
        """One line for each kind of difference: its count and at most ten names."""
        kinds = {
            "of another shape (in the file -> in the model)": self.mismatched,
            "in the model but not in the file": self.missing,
            "in the file but not in the model": self.unexpected,
        }
        return "\n".join(f"  {len(v)} {kind}: {_listed(v)}" for kind, v in kinds.items() if v)


def load_weights(
    model: nn.Module,
    source: str | Path | Mapping[str, Any],
    strict: bool = True,
    logger: Any = "current",
    origin: str = "the checkpoint",
) -> LoadReport:
    """Load a checkpoint into a model; when it raises, the model is as it was.

    Args:
        model: The model, without a DDP wrapper.
        source: A checkpoint file, or its content as :func:`read_checkpoint` returns it.
        strict: Whether every name and shape must be the same on both sides. False, for
            fine-tuning, loads what fits, logs what did not, and asks that at least something of
            the backbone fits. Defaults to True.
        logger: Where the summary goes, as ``mmengine.logging.print_log`` takes it. Defaults to
            'current', the runner's logger.
        origin: What to call a checkpoint whose content is given. A file is called by its path.

    Returns:
        What fitted and what did not.

    Raises:
        InputError: The file cannot be read, or it belongs to another model.
    """
    if not isinstance(source, Mapping):
        origin, source = str(source), read_checkpoint(source)
    state = state_dict_of(source)
    report = _compare(state, model.state_dict())
    if strict and not report.complete:
        raise InputError(_rejection(report, origin))
    if not report.matched or _misses_backbone(report):
        raise InputError(_rejection(report, origin))
    model.load_state_dict({name: state[name] for name in report.matched}, strict=False)
    print_log(_summary(report, origin), logger)
    return report


def _compare(state: Mapping[str, Tensor], own: Mapping[str, Any]) -> LoadReport:
    own = {name: value for name, value in own.items() if isinstance(value, Tensor)}
    report = LoadReport(
        missing=[name for name in own if name not in state],
        unexpected=[name for name in state if name not in own],
    )
    for name in own.keys() & state.keys():
        in_file, in_model = tuple(state[name].shape), tuple(own[name].shape)
        if in_file == in_model:
            report.matched.append(name)
        else:
            report.mismatched.append(Mismatch(name, in_file, in_model))
    report.matched.sort()
    report.mismatched.sort()
    return report


def _misses_backbone(report: LoadReport) -> bool:
    wanted = report.missing + [entry.name for entry in report.mismatched]
    has_backbone = any(name.startswith(BACKBONE) for name in wanted)
    return has_backbone and not any(name.startswith(BACKBONE) for name in report.matched)


def _rejection(report: LoadReport, origin: str) -> str:
    return (
        f"{origin} is of another model: {len(report.matched)} weights fit, the others do not:\n"
        f"{report.differences()}\n  {_hint(report)}"
    )


def _summary(report: LoadReport, origin: str) -> str:
    if report.complete:
        return f"loaded all {len(report.matched)} weights of {origin}"
    head = f"loaded {len(report.matched)} weights of {origin}; left as initialised, or unused, are"
    return f"{head}\n{report.differences()}"


def _hint(report: LoadReport) -> str:
    """Name the cause where the differences show it plainly."""
    same_names = not (report.missing or report.unexpected)
    if same_names and all(_layer(entry.name) in CLASS_LAYERS for entry in report.mismatched):
        in_file, in_model = _class_counts(report.mismatched)
        return (
            f"the number of classes differs: the file has {in_file}, the model {in_model}. Give "
            "the config and annotations it was trained with; to fine-tune on other classes, set "
            "load_from to this file"
        )
    if same_names and all(entry.name.endswith("pos_embed") for entry in report.mismatched):
        return "only the position table differs: img_size or patch_size is not that of the file"
    if set(report.missing) >= {BACKBONE + name for name in report.unexpected} != set():
        return (
            "the file holds a backbone alone: set model.backbone.init_cfg="
            "dict(type='Pretrained', checkpoint=...) to it instead"
        )
    return "give the config it was trained with"


def _layer(name: str) -> str:
    return name.split(".")[-2] if "." in name else name


def _class_counts(mismatched: list[Mismatch]) -> tuple[int | str, int | str]:
    for entry in mismatched:
        extra = CLASS_LAYERS[_layer(entry.name)]
        if extra is not None:
            return entry.in_file[0] - extra, entry.in_model[0] - extra
    return "another", "this"


def _listed(names: list[Any]) -> str:
    listed = ", ".join(str(name) for name in names[:MAX_NAMES])
    return f"{listed}, and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else listed
