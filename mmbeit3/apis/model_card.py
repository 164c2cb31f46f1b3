"""The model card of a repository of the Hugging Face Hub: what it says of a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from mmengine.config import Config

from mmbeit3.config.datasets import find_datasets
from mmbeit3.inference.task import Task
from mmbeit3.version import __version__

MAX_CLASSES = 200  # that are named; the weights' file has all
TAGS = ("mmbeit3", "beit3", "pytorch")


class Metrics(NamedTuple):
    """Numbers, what they are from, and on which split: 'val' or 'test'."""

    values: Mapping[str, float]
    origin: str
    split: str


@dataclass(frozen=True)
class ModelFacts:
    """What a card tells.

    Attributes:
        repo (str): OWNER/NAME.
        cfg (Config): The config.
        task (Task): Its task.
        classes (Sequence[str]): Names of the classes; empty where the task has none.
        parameters (int): How many numbers the weights are.
        meta (Mapping): That of the checkpoint.
        metrics (Metrics): What was measured.
        license (str | None): Of the weights, as the Hub spells it.
        data_note (str | None): What to say of the data.
    """

    repo: str
    cfg: Config
    task: Task
    classes: Sequence[str]
    parameters: int
    meta: Mapping[str, Any]
    metrics: Metrics
    license: str | None
    data_note: str | None

    @property
    def task_name(self) -> str:
        """str: Of the task."""
        return str(self.cfg.get("task") or self.task.writer_type.task)

    def data(self, split: str) -> str:
        """Name the data sets of a split by their last names; '' where the config has none."""
        datasets = (dataset for _, dataset in find_datasets(self.cfg, [split], own=False))
        return ", ".join(dict.fromkeys(filter(None, map(_dataset_name, datasets))))


def card_text(facts: ModelFacts) -> str:
    """Write a card: metadata in YAML as the Hub reads it, then Markdown."""
    name, address = facts.repo.partition("/")[2], f"hf://{facts.repo}"
    kind = str(facts.cfg.model.get("type", "")).rpartition(".")[2]
    sections = [
        f"---\n{_metadata(facts, name)}\n---",
        f"# {name}",
        f"A BEiT-3 model for {facts.task_name} (`{kind}`, {facts.parameters / 1e6:.1f} M "
        f"parameters), trained with mmbeit3 {facts.meta.get('mmbeit3_version', __version__)}.",
        "## How to use it",
        *_usage(facts, address),
    ]
    if facts.classes:
        names = ", ".join(facts.classes[:MAX_CLASSES])
        rest = len(facts.classes) - MAX_CLASSES
        further = f" and {rest} more" * (rest > 0)
        sections += ["## Classes", f"{len(facts.classes)}: {names}{further}"]
    metrics = facts.metrics
    if metrics.values:
        data = facts.data(metrics.split)
        rows = [f"| {key} | {value:.4g} |" for key, value in metrics.values.items()]
        sections += [
            "## Metrics",
            f"From {metrics.origin}{', on ' * bool(data)}{data}.",
            "\n".join(["| metric | value |", "|---|---|", *rows]),
        ]
    else:
        sections += ["## Metrics", "None were found beside the checkpoint."]
    sections += ["## Training", *_training(facts)]
    license = f"`{facts.license}`" if facts.license else "Not stated: ask who published it."
    sections += [
        "## License",
        f"Of these weights: {license}. The terms of the training data and of the weights that the "
        "training started from apply as well."
        if facts.license
        else license,
    ]
    return "\n\n".join(sections) + "\n"


def _metadata(facts: ModelFacts, name: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData  # needs a while

    data = facts.data(facts.metrics.split) or "not named"
    tag = facts.task.pipeline_tag
    results = [
        EvalResult(
            task_type=tag or facts.task_name,
            dataset_type=data,
            dataset_name=data,
            metric_type=key,
            metric_name=key,
            metric_value=float(value),
        )
        for key, value in facts.metrics.values.items()
    ]
    card = ModelCardData(
        license=facts.license,
        library_name="mmbeit3",
        pipeline_tag=tag,
        tags=list(TAGS),
        model_name=name,
        eval_results=results or None,
    )
    return card.to_yaml().strip()


def _usage(facts: ModelFacts, address: str) -> list[str]:
    parts = []
    if facts.task.example is not None:
        code = f'from mmbeit3 import load\n\nmodel = load("{address}")\n{facts.task.example}'
        command = f"mmbeit3 infer {address} photos --out-dir found{facts.task.infer_options}"
        parts += [
            f"```python\n{code}\n```",
            f"or on a folder of images:\n\n```bash\n{command}\n```",
        ]
    return [
        *parts,
        f'To train on from it, set `load_from = "{address}"` in a config. The config of this model '
        "is in `config.py`; `model.safetensors` holds it as plain values, and no code of either is "
        "run.",
    ]


def _training(facts: ModelFacts) -> list[str]:
    train = facts.data("train")
    note = facts.data_note or "Who published the model has not described the data."
    data = f"Data: {train}. {note}" if train else note
    rows: dict[str, Any] = {
        "iterations": facts.meta.get("iter"),
        "seed": facts.meta.get("seed"),
        "written": facts.meta.get("time"),
        "started from": _start(facts.cfg),
        "mmengine": facts.meta.get("mmengine_version"),
    }
    lines = [f"| {key} | {value} |" for key, value in rows.items() if value is not None]
    return [data, "\n".join(["| | |", "|---|---|", *lines])]


def _start(cfg: Config) -> str | None:
    """The file that a training started from, by its last name."""
    parts = [cfg.model, *(cfg.model.get(part) for part in ("backbone", "encoder"))]
    inits = (part.get("init_cfg") for part in parts if isinstance(part, Mapping))
    files = [init.get("checkpoint") for init in inits if isinstance(init, Mapping)]
    found = cfg.get("load_from") or next(filter(None, files), None)
    return PurePosixPath(str(found)).name if found else None


def _dataset_name(dataset: Mapping[str, Any]) -> str:
    """Last names of its folder and annotation file."""
    root = PurePosixPath(str(dataset.get("data_root") or "")).name
    file = PurePosixPath(str(dataset.get("ann_file") or "")).name
    return "/".join(filter(None, (root, file)))
