"""A picture of learning rates, and their numbers as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from mmbeit3.engine.lr_schedule import Curve, simulate
from mmbeit3.inference.pipeline import write_json
from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import make_folder

SUFFIXES = (".png", ".jpg", ".svg", ".pdf")

#: The left panel shows this share of the training, in which the warm-up is.
BEGINNING = 0.05
#: Learning rates this much below the lowest peak are not drawn: they may fall to zero.
DRAWN = 1e-3
#: So many curves are named in the legend; of more, an even choice.
NAMED = 14
#: The JSON has so many iterations, and those beside a step.
SAMPLES = 250
STEP = 0.05


def report(cfg: Config, out: Path, epoch_iters: int | None = None) -> None:
    """Draw the learning rates of a config, write their numbers beside, and say where both are.

    Args:
        cfg (Config): The config.
        out (Path): The picture; its suffix names the format, such as ``.png`` or ``.svg``.
        epoch_iters (int, optional): As for :func:`mmbeit3.engine.lr_schedule.simulate`.

    Raises:
        InputError: If the config has no learning rates, or ``out`` no suffix of a picture.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out {out}: expected a name that ends in {', '.join(SUFFIXES)}")
    make_folder(out.parent)
    curves = simulate(cfg, epoch_iters)
    name = Path(cfg.filename or "config").stem
    draw(curves, f"{name}: {len(curves[0].lr):,} iterations", out)
    numbers = out.with_suffix(".json")
    write_json(numbers, as_json(curves, str(cfg.filename or "")))
    print(f"results are in {out} and {numbers}")


def draw(curves: list[Curve], title: str, path: Path) -> None:
    """Draw the learning rates over the iterations, the beginning and the whole side by side.

    Args:
        curves (list[Curve]): From the patches to the heads.
        title (str): What to write above.
        path (Path): The picture; its suffix names the format.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, 2, figsize=(13, 5.5), sharey=True, width_ratios=(2, 3), layout="constrained"
    )
    iterations = len(curves[0].lr)
    beginning = max(2, round(iterations * BEGINNING))
    colors = pyplot.get_cmap("viridis")(np.linspace(0, 0.92, len(curves)))
    named = set(np.linspace(0, len(curves) - 1, min(NAMED, len(curves))).round().astype(int))
    for axis, length in zip(axes, (beginning, iterations), strict=True):
        # A picture has few pixels: drawing all of 100,000 points only takes longer.
        places = _places(curves, length)
        for index, (curve, color) in enumerate(zip(curves, colors, strict=True)):
            label = curve.name if index in named else None
            axis.plot(places + 1, curve.lr[places], color=color, label=label, linewidth=1.3)
        axis.set(xlabel="iteration (optimizer step)", yscale="log", xlim=(1, length))
        axis.ticklabel_format(axis="x", useOffset=False, style="plain")
        axis.grid(alpha=0.3)
    lowest = min(curve.lr.max() for curve in curves)
    highest = max(curve.lr.max() for curve in curves)
    axes[0].set(ylabel="learning rate", ylim=(lowest * DRAWN, highest * 1.5))
    axes[0].set_title(f"the first {BEGINNING:.0%}")
    axes[1].set_title("the whole training")
    handles, labels = axes[1].get_legend_handles_labels()
    axes[1].legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.suptitle(title)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def as_json(curves: list[Curve], config: str) -> dict[str, Any]:
    """Return the learning rates for a program: some iterations, and both sides of every step.

    Args:
        curves (list[Curve]): From the patches to the heads.
        config (str): The config's path.

    Returns:
        dict: ``config``, ``num_iterations``, ``iterations`` (counted from 1) and ``groups``, each
        with its ``name``, ``parameters``, and ``lr``, one for each of ``iterations``.
    """
    total = len(curves[0].lr)
    places = _places(curves, total)
    groups = [
        {"name": curve.name, "parameters": curve.parameters, "lr": curve.lr[places].tolist()}
        for curve in curves
    ]
    return {
        "config": config,
        "num_iterations": total,
        "iterations": (places + 1).tolist(),
        "groups": groups,
    }


def _places(curves: list[Curve], length: int) -> np.ndarray:
    """Choose iterations, counted from 0, of the first ``length``, that show what happens."""
    even = [np.linspace(0, end - 1, SAMPLES).round() for end in (length, length * BEGINNING)]
    lr = np.stack([curve.lr[:length] for curve in curves])
    before, after = lr[:, :-1], lr[:, 1:]
    steps = np.flatnonzero((np.abs(after - before) > STEP * np.maximum(before, after)).any(0))
    return np.unique(np.concatenate([*even, steps, steps + 1]).astype(int).clip(0))
