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
from mmbeit3.checkpoint.tasks import (
    TASKS,
    check_shared,
    describe_task,
    find_task,
    fit_official,
    spare_heads,
    towers_of,
)
from mmbeit3.checkpoint.values import check_values
from mmbeit3.utils import InputError

# What files that were converted from official ones hold beyond any model of this project.
UNREAD = ("mask_token", "pos_embed_unused")


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
    own = {name: v for name, v in backbone.state_dict().items() if ".lora_" not in name}
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
            backbone as in :func:`load_backbone`, and positions of images and texts are resized.
            An official file of the model's own task is taken as a whole in either case.
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
    own, layout = model.state_dict(), find_layout(state)
    check_values({name: value for name, value in state.items() if name in own}, origin, own)
    matrices = {name: value for name, value in state.items() if ".lora_" in name}  # of no file
    state = {name: value for name, value in state.items() if name not in matrices}
    towers, fitted = towers_of(model), None
    prefix = _place_of(towers, "A")
    if layout == "official" and _takes_official(model, state, strict):
        state, fitted = fit_official(model, state, origin)
    elif prefix and layout:
        place = own_prefix(state)
        if place != prefix and not (place and strict):  # as part of another model: compared below
            return _load_tower_alone(model, prefix, state, matrices, strict, logger, origin)
        if strict:
            unread = {prefix + name for prefix in towers for name in UNREAD} - own.keys()
            state = {name: value for name, value in state.items() if name not in unread}
        else:
            state, fitted = _fit_towers(towers, state, origin)
    return _load(model, {**state, **matrices}, fitted, strict, logger, origin)


def _load(
    model: nn.Module,
    state: Mapping[str, Tensor],
    fitted: FittedTower | None,
    strict: bool,
    logger: Any,
    origin: str,
) -> LoadReport:
    """Load weights that have the model's names and sizes, as far as they fit."""
    own = model.state_dict()
    report = compare(state, own)
    if strict and not report.complete:
        raise InputError(rejection(report, origin, model_hint(report)))
    if not report.matched or misses_backbone(report):
        raise InputError(rejection(report, origin, model_hint(report)))
    matched = {name: state[name] for name in report.matched}
    check_shared(own, matched, origin)
    model.load_state_dict(shard_like(matched, own), strict=False)
    report.fitted = fitted
    print_log(summary(report, origin), logger)
    return report


def _open(source: str | Path | Mapping[str, Any], origin: str) -> tuple[str, dict[str, Tensor]]:
    if not isinstance(source, Mapping):
        origin, source = without_secrets(str(source)), read_checkpoint(source)
    return origin, state_dict_of(source)


def load_task(
    model: nn.Module,
    source: str | Path | Mapping[str, Any],
    logger: Any = "current",
    origin: str = "the checkpoint",
) -> LoadReport:
    """Start a model of a released task from a file that has all of its weights.

    That is an official file of the task, or a checkpoint of this project; positions are resized.
    When it raises, the model is as it was.

    Args:
        model: A model with ``released_task``, such as :class:`mmbeit3.models.BEiT3Retrieval`.
        source: As in :func:`load_weights`.
        logger: As in :func:`load_weights`. Defaults to 'current'.
        origin: What to call a checkpoint whose content is given.

    Returns:
        What fitted.

    Raises:
        InputError: The file is of another task or size, or lacks a weight.
    """
    origin, state = _open(source, origin)
    if find_layout(state) != "mmbeit3":
        return load_weights(model, state, True, logger, origin)
    towers = towers_of(model)
    if any(own_prefix(state, tower.branch) != prefix for prefix, tower in towers.items()):
        raise InputError(
            f"{describe_task(state, origin)}. Expected a checkpoint of a {type(model).__name__}"
        )
    spare = spare_heads(state, model.released_task)
    if spare is not None:
        state = {name: value for name, value in state.items() if name not in spare}
    check_values(state, origin)
    return _load(model, *_fit_towers(towers, state, origin), True, logger, origin)


def load_towers(
    model: nn.Module,
    source: str | Path | Mapping[str, Any],
    logger: Any = "current",
    origin: str = "the checkpoint",
) -> None:
    """Load both towers of a model, as :func:`load_backbone` does each; heads stay as they are.

    Args:
        model: A model with a vision and a text tower, such as
            :class:`mmbeit3.models.BEiT3Multiway`. When it raises, the model is as it was.
        source: As in :func:`load_backbone`.
        logger: As in :func:`load_backbone`. Defaults to 'current'.
        origin: What to call a checkpoint whose content is given.

    Raises:
        InputError: A tower does not fit, or what the towers share differs in the file.
    """
    origin, state = _open(source, origin)
    _check_towers(model, state, origin)
    for tower in towers_of(model).values():
        load_backbone(tower, state, logger, origin)


def load_experts(
    experts: nn.ModuleList, state: Mapping[str, Any], origin: str = "the checkpoint"
) -> None:
    """Load vision-language experts, as they are beside the towers of a file of this project.

    A file without any, as all official ones, leaves them as they are.

    Args:
        experts: ``vl_layers`` of a :class:`mmbeit3.models.BEiT3Multiway`.
        state: Content of the file.
        origin: What to call it in errors. Defaults to "the checkpoint".

    Raises:
        InputError: The file has experts of other layers or sizes.
    """
    state = state_dict_of(state)
    place = own_prefix(state) or ""
    prefix = f"{place.removesuffix('vision.')}vl_layers."
    found = {n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)}
    if not found:
        return
    own = experts.state_dict()
    check_values(found, origin, own)
    report = compare(found, own)
    if not report.complete or report.unexpected:
        raise InputError(
            rejection(
                report, origin, "The encoder's vl_layers and arch are to be those of the file"
            )
        )
    experts.load_state_dict(found)


def _check_towers(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    weights: dict[str, Tensor] = {}
    for prefix, tower in towers_of(model).items():
        _, fitted, _ = _fit(tower, state, origin)
        weights |= {prefix + name: value for name, value in fitted.weights.items()}
    check_shared(model.state_dict(), weights, origin)


def _takes_official(model: nn.Module, state: Mapping[str, Tensor], strict: bool) -> bool:
    """Whether an official file is to be taken as a whole, heads included, or refused."""
    task = getattr(model, "released_task", None)
    return task is not None and (strict or spare_heads(state, task) is not None)


def _fit_towers(
    towers: Mapping[str, nn.Module], state: Mapping[str, Tensor], origin: str
) -> tuple[dict[str, Tensor], FittedTower]:
    """Resize what a file of this project has of a model's towers, under the model's names."""
    state, both = dict(state), FittedTower({})
    for prefix, tower in towers.items():
        inside = {name: value for name, value in state.items() if name.startswith(prefix)}
        if own_prefix(inside, tower.branch) != prefix:
            continue
        fitted = fit_tower(read_tower(inside, origin, tower.branch), tower, origin)
        state = {name: value for name, value in state.items() if name not in inside}
        state.update({prefix + name: value for name, value in fitted.weights.items()})
        both.resized += fitted.resized
        both.left_as_initialized += fitted.left_as_initialized
        both.unused |= fitted.unused
    return state, both


def _place_of(towers: Mapping[str, nn.Module], branch: str) -> str:
    """Prefix of the BEiT-3 tower of a branch, "" where there is none or no more than it."""
    return next((prefix for prefix, tower in towers.items() if tower.branch == branch), "")


def _load_tower_alone(
    model: nn.Module,
    prefix: str,
    state: Mapping[str, Tensor],
    matrices: Mapping[str, Tensor],
    strict: bool,
    logger: Any,
    origin: str,
) -> LoadReport:
    if strict:
        task = find_task(state)
        known = (
            f"; it is a checkpoint of {TASKS[task].title}" if task not in (None, "towers") else ""
        )
        raise InputError(
            f"{origin} is a BEiT-3 vision tower alone ({find_layout(state)} layout){known}; "
            "testing, inference and resuming need a checkpoint that training wrote. To train from "
            "it, set load_from, or model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...)"
        )
    text = _place_of(towers_of(model), "B")
    has_text = bool(text) and holds_text(state)
    if has_text:  # refused, if it is, before the vision half is changed
        _check_towers(model, state, origin)
    report = load_backbone(model.get_submodule(prefix[:-1]), state, logger, origin)
    report.matched = [prefix + name for name in report.matched]
    if has_text:
        words = load_backbone(model.get_submodule(text[:-1]), state, logger, origin)
        report.matched += [text + name for name in words.matched]
    own = model.state_dict()
    model.load_state_dict(shard_like(dict(matrices), own), strict=False)
    matched = {*report.matched, *matrices}
    report.missing = [name for name in own if name not in matched]
    parts = sorted({name.partition(".")[0] for name in report.missing})
    if parts:
        left = f"left as initialized: {', '.join(parts)} ({len(report.missing)} weights)"
        print_log(left, logger)
    return report
