"""What a file and a model have in common, and how to say what they have not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from mmbeit3.checkpoint.fitting import FittedTower
from mmbeit3.checkpoint.layouts import BACKBONE
from mmbeit3.utils import listed

# The layers of heads whose size follows the number of classes, and the extra outputs of each.
CLASS_LAYERS = {
    "conv_logits": 0,
    "conv_seg": 0,
    "fc_cls": 1,
    "cls_embed": 1,
    "fc_reg": None,
    "head": 0,
}

TRAINED_WITH = "give the config it was trained with"
# What is a model of a kind alone, by the first part of the names of its weights.
KINDS = {
    "a detector": ("rpn_head", "roi_head", "bbox_head"),
    "a segmentor": ("decode_head",),
    "a dual encoder or classifier by names": ("encoder",),
    "a linear classifier": ("head",),
}


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
        fitted: What was resized, and what was left out by design, of a BEiT-3 vision tower.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[Mismatch] = field(default_factory=list)
    fitted: FittedTower | None = None

    @property
    def complete(self) -> bool:
        """Whether file and model hold exactly the same names and shapes."""
        return not (self.missing or self.unexpected or self.mismatched)

    def differences(self) -> str:
        """One line for each kind of difference: its count and at most ten names."""
        kinds: dict[str, Sequence[object]] = {
            "of another shape (in the file -> in the model)": self.mismatched,
            "in the model but not in the file": self.missing,
            "in the file but not in the model": self.unexpected,
        }
        return "\n".join(f"  {len(v)} {kind}: {listed(v)}" for kind, v in kinds.items() if v)


def compare(state: Mapping[str, Tensor], own: Mapping[str, Any]) -> LoadReport:
    """Sort the names of a file's weights and a model's by whether they fit."""
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


def misses_backbone(report: LoadReport) -> bool:
    """Tell whether the model has a backbone of which nothing was in the file."""
    wanted = report.missing + [entry.name for entry in report.mismatched]
    has_backbone = any(name.startswith(BACKBONE) for name in wanted)
    return has_backbone and not any(name.startswith(BACKBONE) for name in report.matched)


def rejection(report: LoadReport, origin: str, hint: str) -> str:
    """Say that a file was refused, why, and what to do."""
    return (
        f"{origin} is of another model: {len(report.matched)} weights fit, the others do not:\n"
        f"{report.differences()}\n  {hint}"
    )


def summary(report: LoadReport, origin: str) -> str:
    """Say what was loaded and what was not."""
    fitted = report.fitted.summary() if report.fitted else ""
    if report.complete:
        return f"loaded all {len(report.matched)} weights of {origin}{fitted}"
    head = f"loaded {len(report.matched)} weights of {origin}; left as initialized, or unused, are"
    return f"{head}\n{report.differences()}{fitted}"


def tower_hint(report: LoadReport, fitted: FittedTower, own: Mapping[str, Any]) -> str:
    """Name the option of the backbone that keeps a vision tower from fitting."""
    in_file, in_model = _size(fitted.weights), _size(own)
    if in_file != in_model:
        return f"the file's tower has {in_file}, the model's {in_model}: set arch to the file's"
    if set(report.missing) == {"norm.weight", "norm.bias"}:
        return (
            "the file has no final LN, as those of ImageNet, of VQA and of timm: set "
            "final_norm=False"
        )
    if "cls_token" in report.missing:
        return "the file has no CLS token: set with_cls_token=False"
    if hint := _text_hint(report):
        return hint
    return "set the backbone's options to those of the file"


def _size(weights: Mapping[str, Any]) -> str:
    layers = {name.split(".")[1] for name in weights if name.startswith("layers.")}
    widths = [len(weights[name]) for name in weights if name.endswith("norm1.weight")]
    return f"{len(layers)} layers of {max(widths, default=0)} channels"


def model_hint(report: LoadReport) -> str:
    """Name the cause of a whole model's differences, where they show it plainly."""
    if set(report.missing) >= {BACKBONE + name for name in report.unexpected} != set():
        return (
            "the file holds a backbone alone: set model.backbone.init_cfg="
            "dict(type='Pretrained', checkpoint=...) to it instead"
        )
    is_part = report.missing and not (report.unexpected or report.mismatched)
    if is_part and report.matched and all(name.startswith(BACKBONE) for name in report.matched):
        return (
            "the file holds the backbone alone: set load_from to it to train from it; testing and "
            "inference need a checkpoint that training wrote"
        )
    same_names = not (report.missing or report.unexpected)
    if same_names and (hint := _text_hint(report)):
        return hint
    if same_names and all(_layer(entry.name) in CLASS_LAYERS for entry in report.mismatched):
        in_file, in_model = _class_counts(report.mismatched)
        return (
            f"the number of classes differs: the file has {in_file}, the model {in_model} (in VQA "
            "they are answers). Give the config and annotations it was trained with; to fine-tune "
            "on others, set load_from to this file"
        )
    if same_names and all(entry.name.endswith("pos_embed") for entry in report.mismatched):
        return "only the position table differs: img_size or patch_size is not that of the file"
    file_kind = _kind([*report.matched, *report.unexpected])
    model_kind = _kind([*report.matched, *report.missing])
    if file_kind and model_kind and file_kind != model_kind:
        return f"the file is {file_kind}, the config's model {model_kind}: {TRAINED_WITH}"
    return TRAINED_WITH


def _kind(names: Sequence[str]) -> str | None:
    first = {name.split(".")[0] for name in names}
    return next((kind for kind, parts in KINDS.items() if first.intersection(parts)), None)


def _text_hint(report: LoadReport) -> str | None:
    """Name the option of a text tower, where vocabulary or positions differ and nothing else."""
    options = []
    for name, in_file, _ in report.mismatched:
        if name.endswith("text_embed.weight"):
            options.append(f"vocab_size={in_file[0]}")
        elif name.endswith("pos_embed") and (
            name.endswith("text.pos_embed") or name == "pos_embed"
        ):
            options.append(f"max_tokens={in_file[1]}")
        else:
            return None
    if not options:
        return None
    return f"set {' and '.join(options)} of the text tower, as in the file"


def _layer(name: str) -> str:
    """The layer of a weight, or what has it as one of several that are numbered."""
    parts = [part for part in name.split(".") if not part.isdigit()]
    return parts[-2] if len(parts) > 1 else name


def _class_counts(mismatched: list[Mismatch]) -> tuple[int | str, int | str]:
    for entry in mismatched:
        extra = CLASS_LAYERS[_layer(entry.name)]
        if extra is not None:
            return entry.in_file[0] - extra, entry.in_model[0] - extra
    return "another", "this"
