"""Load weights into a model all or nothing, and report what fitted and what did not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from mmbeit3.checkpoint.fetching import without_secrets
from mmbeit3.checkpoint.fitting import FittedTower, fit_tower
from mmbeit3.checkpoint.layouts import Tower, find_layout, holds_text, own_prefix, read_tower
from mmbeit3.checkpoint.reading import read_checkpoint, state_dict_of
from mmbeit3.checkpoint.report import (
    LoadReport,
    compare,
    misses_backbone,
    model_hint,
    rejection,
    summary,
    tower_hint,
)
from mmbeit3.checkpoint.sharded import shard_like
from mmbeit3.checkpoint.values import check_values
from mmbeit3.utils import InputError
from mmbeit3.utils.towers import find_towers


def load_backbone(
    backbone: nn.Module,
    source: str | Path | Mapping[str, Any],
    logger: Any = "current",
    origin: str = "the checkpoint",
) -> LoadReport:
    """Load a BEiT-3 tower of any layout; when it raises, the backbone is as it was.

    Official files, timm's and this project's (a backbone or a whole detector) are read. Positions
    and patch kernel are resized, weights in half precision widened first; what the tower has no use
    for is counted and left out. Of an official file the tower's ``branch`` is taken.

    Args:
        backbone: A :class:`mmbeit3.models.BEiT3` or :class:`mmbeit3.models.BEiT3Text`.
        source: A checkpoint file or its address, or its content as :func:`read_checkpoint` returns
            it.
        logger: Where the summary goes, as ``mmengine.logging.print_log`` takes it. Defaults to
            'current', the runner's logger.
        origin: What to call a checkpoint whose content is given. A file is called by its path.

    Returns:
        What fitted, what was resized and what was left out.

    Raises:
        InputError: The file cannot be read, is not of BEiT-3, not every weight of the backbone is
            in it at the same size, or some are NaN, infinite or no floating-point numbers.
    """
    origin, state = _open(source, origin)
    tower, fitted, report = _fit(backbone, state, origin)
    backbone.load_state_dict(shard_like(fitted.weights, backbone.state_dict()), strict=False)
    dtypes = {str(value.dtype).removeprefix("torch.") for value in tower.weights.values()}
    what = "backbone" if backbone.branch == "A" else "text tower"
    kind = f"{tower.layout} layout, {' and '.join(sorted(dtypes))}"
    print_log(
        f"loaded all {len(report.matched)} weights of the {what} from {origin} ({kind})"
        + fitted.summary(),
        logger,
    )
    return report


def _fit(
    backbone: nn.Module, state: Mapping[str, Tensor], origin: str
) -> tuple[Tower, FittedTower, LoadReport]:
    """Fit a file's weights to a tower, which stays as it is, or raise what keeps them from it."""
    tower = read_tower(state, origin, backbone.branch)
    own = backbone.state_dict()
    check_values(tower.weights, origin, own)
    fitted = fit_tower(tower, backbone, origin)
    report = compare(fitted.weights, own)
    report.fitted = fitted
    report.missing = [name for name in report.missing if name not in fitted.left_as_initialized]
    if not report.complete:
        raise InputError(rejection(report, origin, tower_hint(report, fitted, own)))
    return tower, fitted, report


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
        source: A checkpoint file or its address, or its content as :func:`read_checkpoint` returns
            it.
        strict: Whether every name and shape must be the same on both sides. False, for
            fine-tuning, loads what fits, logs what did not, and asks that at least something of
            the backbone fits. A file of a BEiT-3 vision tower alone must then fit the model's
            backbone as in :func:`load_backbone`, and a detector's positions are resized.
            Defaults to True.
        logger: Where the summary goes, as ``mmengine.logging.print_log`` takes it. Defaults to
            'current', the runner's logger.
        origin: What to call a checkpoint whose content is given. A file is called by its path.

    Returns:
        What fitted and what did not.

    Raises:
        InputError: The file cannot be read, it belongs to another model, or weights in it are NaN,
            infinite or of another kind than the model's.
    """
    origin, state = _open(source, origin)
    own = model.state_dict()
    check_values({name: value for name, value in state.items() if name in own}, origin, own)
    prefix, fitted = _tower_of(model, "A"), None
    if prefix and find_layout(state):
        place = own_prefix(state)
        if place != prefix and not (place and strict):  # as part of another model: compared below
            return _load_tower_alone(model, prefix, state, strict, logger, origin)
        if not strict:
            inside = {name: value for name, value in state.items() if name.startswith(prefix)}
            tower = model.get_submodule(prefix[:-1])
            fitted = fit_tower(read_tower(inside, origin), tower, origin)
            state = {name: value for name, value in state.items() if name not in inside}
            state.update({prefix + name: value for name, value in fitted.weights.items()})
    report = compare(state, own)
    if strict and not report.complete:
        raise InputError(rejection(report, origin, model_hint(report)))
    if not report.matched or misses_backbone(report):
        raise InputError(rejection(report, origin, model_hint(report)))
    matched = {name: state[name] for name in report.matched}
    model.load_state_dict(shard_like(matched, own), strict=False)
    report.fitted = fitted
    print_log(summary(report, origin), logger)
    return report


def _open(source: str | Path | Mapping[str, Any], origin: str) -> tuple[str, dict[str, Tensor]]:
    if not isinstance(source, Mapping):
        origin, source = without_secrets(str(source)), read_checkpoint(source)
    return origin, state_dict_of(source)


def _tower_of(model: nn.Module, branch: str) -> str:
    """Prefix of the BEiT-3 tower of a branch, "" where the model has none or is no more than it."""
    towers = find_towers(model).items()
    return next((prefix for prefix, tower in towers if getattr(tower, "branch", "") == branch), "")


def _load_tower_alone(
    model: nn.Module,
    prefix: str,
    state: Mapping[str, Tensor],
    strict: bool,
    logger: Any,
    origin: str,
) -> LoadReport:
    if strict:
        raise InputError(
            f"{origin} is a BEiT-3 vision tower alone ({find_layout(state)} layout); testing, "
            "inference and resuming need a checkpoint that training wrote. To train from it, set "
            "load_from, or model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...)"
        )
    text = _tower_of(model, "B")
    has_text = bool(text) and holds_text(state)
    if has_text:  # refused, if it is, before the vision half is changed
        _fit(model.get_submodule(text[:-1]), state, origin)
    report = load_backbone(model.get_submodule(prefix[:-1]), state, logger, origin)
    report.matched = [prefix + name for name in report.matched]
    if has_text:
        words = load_backbone(model.get_submodule(text[:-1]), state, logger, origin)
        report.matched += [text + name for name in words.matched]
    matched = set(report.matched)
    report.missing = [name for name in model.state_dict() if name not in matched]
    parts = sorted({name.partition(".")[0] for name in report.missing})
    if parts:
        left = f"left as initialized: {', '.join(parts)} ({len(report.missing)} weights)"
        print_log(left, logger)
    return report
