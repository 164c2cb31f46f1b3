"""Evaluate a checkpoint on the test set of a config: what ``tools/test.py`` runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mmbeit3.apis.config import check_launcher, resolve_classes
from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.engine.runner import build_runner
from mmbeit3.utils import InputError

METRICS_FILE = "metrics.json"
PICKLE_SUFFIXES = (".pkl", ".pickle")


def test(
    cfg: Config,
    checkpoint: str | Path,
    out: str | Path | None = None,
    show_dir: str | Path | None = None,
) -> dict[str, float]:
    """Evaluate; the metrics are also written to ``metrics.json`` in ``cfg.work_dir``.

    Args:
        cfg: The config, as :func:`mmbeit3.apis.config.load_config` returns it. It is changed.
        checkpoint: The weights; their every name and shape must be the model's.
        out: Where to keep the predictions: a ``.pkl`` file of all of mmdet's fields, or
            ``NAME.json`` for ``NAME.bbox.json`` and ``NAME.segm.json`` as COCO servers take them.
            Defaults to None, not kept.
        show_dir: Folder for pictures, one for each image: ground truth left (where the test
            pipeline loads it), prediction right. Defaults to None, no pictures.

    Returns:
        Metric names to values, as the config's evaluators report them.

    Raises:
        InputError: The config, the annotations, the checkpoint or ``out`` cannot be used.
    """
    if not (cfg.get("test_dataloader") and cfg.get("test_evaluator")):
        raise InputError("the config cannot be tested: it has no test_dataloader or test_evaluator")
    check_launcher(cfg)
    meta = read_checkpoint(checkpoint).get("meta")
    resolve_classes(cfg, meta if isinstance(meta, dict) else None)
    cfg.load_from, cfg.resume = str(checkpoint), False
    if out is not None:
        _keep_predictions(cfg, Path(out))
    if show_dir is not None:
        _draw(cfg, Path(show_dir))
    metrics = build_runner(cfg).test()
    if is_main_process():
        _write_metrics(cfg, checkpoint, metrics)
    if out is not None:
        print_log(f"predictions are in {_written(Path(out))}", "current")
    if show_dir is not None:
        print_log(f"pictures are in {show_dir}", "current")
    return metrics


def _keep_predictions(cfg: Config, out: Path) -> None:
    evaluators = cfg.test_evaluator
    evaluators = list(evaluators) if isinstance(evaluators, (list, tuple)) else [evaluators]
    if out.suffix in PICKLE_SUFFIXES:
        evaluators.append(ConfigDict(type="mmdet.DumpDetResults", out_file_path=str(out)))
    elif out.suffix == ".json":
        writers = [entry for entry in evaluators if str(entry.get("type")).endswith("CocoMetric")]
        if not writers:
            raise InputError(f"--out {out}: only a CocoMetric writes JSON; use a .pkl name")
        for writer in writers:
            writer["outfile_prefix"] = str(out.with_suffix(""))
    else:
        raise InputError(f"--out {out} ends with {out.suffix!r}; expected .json or .pkl")
    out.parent.mkdir(parents=True, exist_ok=True)
    cfg.test_evaluator = evaluators


def _written(out: Path) -> str:
    return f"{out.with_suffix('')}.*.json" if out.suffix == ".json" else str(out)


def _draw(cfg: Config, show_dir: Path) -> None:
    hooks = cfg.setdefault("default_hooks", ConfigDict())
    hook = hooks.get("visualization") or ConfigDict(type="mmdet.DetVisualizationHook")
    # mmdet's hook joins a relative folder to the work dir anew for every batch.
    hook.update(draw=True, test_out_dir=str(show_dir.absolute()))
    hooks["visualization"] = hook


def _write_metrics(cfg: Config, checkpoint: str | Path, metrics: dict[str, Any]) -> None:
    content = {
        "config": str(cfg.filename or ""),
        "checkpoint": str(checkpoint),
        "metrics": {name: float(value) for name, value in metrics.items()},
    }
    file = Path(cfg.work_dir) / METRICS_FILE
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print_log(f"metrics are in {file}", "current")
