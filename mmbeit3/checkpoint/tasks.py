"""Whole models in official files: towers and the heads of a task, there and back.

Heads have the same names on both sides; towers are those of :mod:`mmbeit3.checkpoint.layouts`. A
model says by ``released_task`` which kind of official file holds all of its weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mmbeit3.checkpoint.fitting import FittedTower, fit_tower
from mmbeit3.checkpoint.layouts import (
    OFFICIAL,
    find_layout,
    holds_text,
    official_state_dict,
    read_tower,
)
from mmbeit3.checkpoint.sharded import is_sharded
from mmbeit3.checkpoint.values import check_values
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.towers import find_towers

ENCODER, BACKBONE = "encoder.", "backbone."


@dataclass(frozen=True)
class Task:
    """A kind of official file.

    Args:
        title: What it is for, in words.
        heads: Names of the weights around the towers, the same in this project.
        configs: Configs whose models take all of it, or None, where there are none.
    """

    title: str
    heads: frozenset[str]
    configs: str | None = None


def _names(modules: Iterable[str], *others: str) -> frozenset[str]:
    parts = (f"{name}.{kind}" for name in modules for kind in ("weight", "bias"))
    return frozenset([*parts, *others])


TASKS = {
    "retrieval": Task(
        "image-text retrieval (_itc_, _retrieval)",
        frozenset({"language_head.weight", "vision_head.weight", "logit_scale"}),
        "configs/beit3_retrieval",
    ),
    "classification": Task(
        "ImageNet classification (_in1k)",
        _names(["fc_norm", "head"]),
        "configs/beit3_imagenet",
    ),
    "vqa": Task(
        "visual question answering (_vqa)",
        _names(["pooler.norm", "pooler.dense", "head.0", "head.1", "head.3"]),
        "configs/beit3_vqa",
    ),
    "nlvr2": Task(
        "NLVR2, statements about two images (_nlvr2)",
        _names([f"head.{name}" for name in ("norm1", "dense1", "norm2", "dense2")]),
        "configs/beit3_nlvr2",
    ),
    "captioning": Task(
        "captioning (_captioning, _nocaps)",
        _names(["mlm_head"]),
        "configs/beit3_captioning",
    ),
    "pretraining": Task(
        "pretraining (masked data modeling)",
        _names(["mlm_head", "mim_head"]),
        "configs/beit3_pretraining",
    ),
    "towers": Task("no task: towers alone", frozenset()),
}


def find_task(state: Iterable[str]) -> str | None:
    """Tell what an official file, or one of this project's names around two towers, is for.

    Args:
        state: Names of its weights.

    Returns:
        A key of ``TASKS``; None where the heads are of no released kind.
    """
    state = set(state)
    layout = find_layout(state)
    parts: tuple[str, ...]
    if layout == "official":
        parts = (OFFICIAL, "encoder.", "vision_embed.", "text_embed.")
    elif layout == "mmbeit3":
        parts = (ENCODER, BACKBONE, "vision.", "text.", "layers.", "data_preprocessor.")
    else:
        return None
    heads = {name for name in state if not name.startswith(parts)}
    return next((name for name, task in TASKS.items() if task.heads == heads), None)


def spare_heads(state: Iterable[str], task: str) -> frozenset[str] | None:
    """Tell which heads a file has beside all weights of a task.

    Args:
        state: As in :func:`find_task`.
        task: A key of ``TASKS``.

    Returns:
        Their names, none in a file of the task itself; None where the file cannot start it.
    """
    kind = find_task(state)
    if kind is None or not TASKS[kind].heads >= TASKS[task].heads:
        return None
    return TASKS[kind].heads - TASKS[task].heads


def describe_task(state: Iterable[str], origin: str) -> str:
    """Say what a file is a checkpoint of, and what takes it, as a sentence without an end."""
    kind = find_task(state)
    if kind is None:
        return f"{origin} is of no released task of BEiT-3"
    task = TASKS[kind]
    fits = (
        f"the configs in {task.configs} take it"
        if task.configs
        else "no config here takes all of it"
    )
    return (
        f"{origin} is a checkpoint of {task.title}: {fits}; its towers alone start any model by "
        "init_cfg=dict(type='Pretrained', checkpoint=...) of the encoder or backbone"
    )


def fit_official(
    model: nn.Module, state: Mapping[str, Tensor], origin: str
) -> tuple[dict[str, Tensor], FittedTower]:
    """Give an official file of a model's task the names and sizes of the model.

    Args:
        model: A model with ``released_task``. It is not changed.
        state: Weights of an official file.
        origin: What to call the file in errors.

    Returns:
        Names of the model to tensors, and what was resized and left out.

    Raises:
        InputError: The file is of another task, or its towers do not fit.
    """
    wanted = model.released_task
    spare = spare_heads(state, wanted)
    if spare is None:
        raise InputError(
            f"{describe_task(state, origin)}. Expected a checkpoint of {TASKS[wanted].title}, "
            f"with {listed(sorted(TASKS[wanted].heads))}"
        )
    own = model.state_dict()
    weights = {name: state[name] for name in TASKS[wanted].heads}
    both = FittedTower(weights)
    for prefix, tower in towers_of(model).items():
        found = read_tower(state, origin, tower.branch)
        check_values(found.weights, origin)
        fitted = fit_tower(found, tower, origin)
        weights.update({prefix + name: value for name, value in fitted.weights.items()})
        both.resized += fitted.resized
        both.left_as_initialized += fitted.left_as_initialized
        both.unused |= fitted.unused
    branches = {tower.branch for tower in towers_of(model).values()}
    both.unused.pop("heads", None)
    if spare:
        both.unused["heads"] = sorted(spare)
    for branch, kind in (("A", "vision branch"), ("B", "text branch")):
        if branch in branches:
            both.unused.pop(kind, None)
    check_values({name: weights[name] for name in TASKS[wanted].heads}, origin, own)
    check_shared(own, weights, origin)
    return weights, both


def towers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The vision and text towers of a model by what their weights' names begin with."""
    return {
        prefix: tower for prefix, tower in find_towers(model).items() if hasattr(tower, "branch")
    }


def check_shared(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], origin: str) -> None:
    """Make sure that weights which are one in a model are equal in a file.

    Args:
        own: The model's; shared ones are there under each of their names.
        weights: What is to be loaded, by the same names.
        origin: What to call the file in errors.

    Raises:
        InputError: They differ: the file is of a model that does not share them.
    """
    first: dict[tuple[int, int], str] = {}
    for name, value in own.items():
        if name not in weights or not value.numel() or value.is_meta or is_sharded(value):
            continue
        key = value.data_ptr(), value.numel()
        known = first.setdefault(key, name)
        if known != name and not weights[name].equal(weights[known]):
            raise InputError(
                f"{origin} has different weights for {known} and {name}, which are one in the "
                "model: the file was trained with attention='decoupled', as released files are; "
                "set that in the encoder"
            )


def to_official(state: Mapping[str, Tensor], origin: str = "the file") -> dict[str, Tensor]:
    """Name all weights of a model of this project as official files do.

    Args:
        state: Weights in this project's names: a vision tower, maybe a text tower, and heads.
        origin: What to call the file in errors.

    Returns:
        ``beit3.*`` and the heads, as in a released file of the task.

    Raises:
        InputError: A tower has weights for which the layout has no place, or the heads are of no
            released task.
    """
    if find_task(state) is None:
        raise InputError(describe_task(state, origin))
    if experts := [name for name in state if name.startswith(f"{ENCODER}vl_layers.")]:
        raise InputError(
            "the official layout has no place for vision-language experts (vl_layers), and "
            f"{origin} has {listed(experts)}: released models have none"
        )
    found = official_state_dict(read_tower(state, origin).weights)
    if holds_text(state):
        found |= official_state_dict(read_tower(state, origin, "B").weights, "B")
    return found | {name: state[name].clone() for name in _heads_of(state)}


def from_official(state: Mapping[str, Tensor], origin: str = "the file") -> dict[str, Tensor]:
    """Name all weights of an official file as models of this project do.

    Towers become ``encoder.vision.`` and ``encoder.text.``; of an ImageNet file the vision tower
    becomes ``backbone.``, and the text branch, which classification does not use, is left out.

    Args:
        state: Weights of an official file.
        origin: What to call the file in errors.

    Raises:
        InputError: The file is of no released task, or a tower is not whole.
    """
    kind = find_task(state)
    if kind is None:
        raise InputError(describe_task(state, origin))
    towers = {"A": BACKBONE} if kind == "classification" else {"A": f"{ENCODER}vision."}
    if kind != "classification" and holds_text(state):
        towers["B"] = f"{ENCODER}text."
    found: dict[str, Tensor] = {}
    for branch, prefix in towers.items():
        tower = read_tower(state, origin, branch).weights
        found |= {prefix + name: value for name, value in tower.items()}
    return found | {name: state[name] for name in TASKS[kind].heads}


def _heads_of(state: Mapping[str, Tensor]) -> list[str]:
    kind = find_task(state)
    return sorted(TASKS[kind].heads) if kind else []
