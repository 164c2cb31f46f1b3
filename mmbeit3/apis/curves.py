"""Loss, learning rate and metrics of trainings, from their logs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from mmbeit3.apis.lr_plot import SUFFIXES
from mmbeit3.utils import InputError
from mmbeit3.utils.similar_paths import similar_files
from mmbeit3.utils.text_files import read_text
from mmbeit3.utils.whole_files import make_folder, write_whole
from mmbeit3.visualization.interactive_page import interactive_page, page_packages

LOGS = ("*/vis_data/scalars.json", "vis_data/scalars.json", "scalars.json")
#: What a validation's line has besides its metrics.
NO_METRICS = {"step", "iter", "epoch", "time", "data_time", "memory"}
#: How the names of metrics end that a picture shows; without them, the first.
HEADLINES = ("mAP", "mIoU", "accuracy", "CIDEr", "TR@1", "IR@1", "top1")
TRAINED = ("loss", "lr")

Point = tuple[int, float]


@dataclass(frozen=True)
class TrainingRun:
    """What a training wrote into its logs, resumed parts joined.

    Attributes:
        name (str): Its folder.
        curves (dict[str, list[Point]]): Step and value of ``loss``, ``lr`` and each metric.
    """

    name: str
    curves: dict[str, list[Point]]

    @property
    def metrics(self) -> list[str]:
        """list[str]: Names of the metrics."""
        return [key for key in self.curves if key not in TRAINED]


def read_run(folder: str | Path) -> TrainingRun:
    """Read the logs of a work dir, or of one start of a training.

    A log that was begun later replaces what an earlier one has from its first step on: a resumed
    training goes on where it was stopped, and one that was started again replaces the first.

    Args:
        folder: The work dir.

    Raises:
        InputError: There is no log, or none with a number.
    """
    folder = Path(folder)
    logs = next(filter(None, (sorted(folder.glob(pattern)) for pattern in LOGS)), [])
    if not logs:
        cure = similar_files(folder) if not folder.is_dir() else ""
        raise InputError(
            f"{folder} has no log; expected the folder of a training, with "
            f"TIME/vis_data/scalars.json in it{cure}"
        )
    curves: dict[str, list[Point]] = {}
    for log in logs:
        own: dict[str, list[Point]] = {}
        for key, step, value in _values(log):
            own.setdefault(key, []).append((step, value))
        begin = min((points[0][0] for points in own.values()), default=math.inf)
        for key in {**curves, **own}:
            kept = [point for point in curves.get(key, []) if point[0] < begin]
            curves[key] = kept + own.get(key, [])
    curves = {key: points for key, points in curves.items() if points}
    if not curves:
        raise InputError(f"{logs[-1]} has no step yet: wait for the first line of the training")
    return TrainingRun(str(folder), curves)


def read_metrics(folder: Path, step: int) -> dict[str, float]:
    """Read the last validation at a step from the logs of a work dir; {} where there is none.

    Args:
        folder: The work dir.
        step: The iteration, or the epoch of a training by epochs.
    """
    validations = (
        _metrics_of(entry)
        for log in sorted(folder.glob(LOGS[0]))
        for found, entry in _entries(log)
        if found == step
    )
    return next(filter(None, reversed(list(validations))), {})


def _values(log: Path) -> Iterator[tuple[str, int, float]]:
    """Each value of a log with its step."""
    last = 0
    for step, entry in _entries(log):
        if "loss" in entry or "lr" in entry:
            numbers, last = {key: entry[key] for key in TRAINED if key in entry}, step
        else:  # by epochs, it has their number in place of a step
            numbers, step = _metrics_of(entry), max(step, last)
        for key, value in numbers.items():
            yield key, step, float(value)


def _entries(log: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Lines of a log, their numbers alone; what a killed training wrote in part is left out."""
    for line in read_text(log).splitlines():
        try:
            entry = json.loads(line)
            step = int(entry["step"])
        except (ValueError, TypeError, KeyError):
            continue
        yield step, {key: v for key, v in entry.items() if isinstance(v, (int, float))}


def _metrics_of(entry: dict[str, float]) -> dict[str, float]:
    """The metrics of a validation's line that have a value; {} of a training's."""
    if "loss" in entry or "lr" in entry:
        return {}
    return {
        key: value
        for key, value in entry.items()
        if key not in NO_METRICS and value != -1  # -1 is COCO's for what no object is of
    }


def draw_curves(folders: Sequence[str | Path], out: str | Path) -> dict[str, Any]:
    """Draw loss, learning rate and metrics of trainings, as a picture and as a page.

    Args:
        folders: Their work dirs.
        out: The picture; the page, with all metrics, goes beside it as ``.html``.

    Returns:
        The curves by run, as the page has them.

    Raises:
        InputError: A folder has no log, or ``out`` no suffix of a picture, or Jinja2 or Plotly is
            not installed.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out {out}: expected a name that ends in {', '.join(SUFFIXES)}")
    page_packages("the page of curves")
    runs = [read_run(folder) for folder in folders]
    make_folder(out.parent)
    _plot(runs, out)
    content = {
        run.name: {
            key: [[step, value if math.isfinite(value) else None] for step, value in points]
            for key, points in run.curves.items()
        }
        for run in runs
    }
    page = out.with_suffix(".html")
    note = "Loss, learning rate and metrics by step. A double click on a name shows it alone."
    data = {"runs": content, "headlines": _headlines(runs)}
    write_whole(page, interactive_page("curves.html", "Learning curves", note, data))
    print(f"the curves are in {out} and {page}")
    return content


def _headlines(runs: Sequence[TrainingRun]) -> list[str]:
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    names = [n for n in names if not (n.startswith("val/") and "loss" in n)]  # beside the loss
    return [name for name in names if name.endswith(HEADLINES)] or names[:1]


def _plot(runs: Sequence[TrainingRun], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(16, 5), layout="constrained")
    headlines = _headlines(runs)
    panels = (["loss", "val/loss"], ["lr"], headlines)
    for axis, keys, title in zip(axes, panels, ("loss", "learning rate", "metrics"), strict=True):
        keys = [key for key in keys if any(key in run.curves for run in runs)]
        for number, run in enumerate(runs):
            for key, style in zip(keys, cycle(("-", "--", ":", "-.")), strict=False):
                if key not in run.curves:
                    continue
                steps, values = zip(*run.curves[key], strict=True)
                label = run.name if len(keys) == 1 else f"{run.name} {key}"
                marker = "." if key in (*headlines, "val/loss") else ""
                axis.plot(*(steps, values, style), color=f"C{number}", marker=marker, label=label)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
