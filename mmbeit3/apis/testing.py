"""Evaluate a checkpoint on the test set of a config: what ``tools/test.py`` runs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from os import path as osp
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmbeit3.apis.acceleration import accelerate
from mmbeit3.config.datasets import innermost_datasets
from mmbeit3.config.tta import use_tta
from mmbeit3.engine.agreement import from_first
from mmbeit3.engine.prepare import prepare
from mmbeit3.engine.process_state import separate_run
from mmbeit3.engine.runner import build_runner
from mmbeit3.evaluation.output_places import check_output_files
from mmbeit3.inference.detection_writer import DEFAULT_SCORE_THR
from mmbeit3.inference.image_list import make_folder
from mmbeit3.inference.inferencer import image_loader_of
from mmbeit3.inference.pipeline import write_json
from mmbeit3.inference.staging import staged, staged_files
from mmbeit3.inference.task import is_segmentation
from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import WriteError
from mmbeit3.visualization.detection_hook import DetectionDrawingHook

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
METRICS_FILE = "metrics.json"
PICKLE_SUFFIXES = (".pkl", ".pickle")
IOU_METRIC = "mmbeit3.IoUMetric"
ClassTable = dict[str, dict[str, float | None]]


@separate_run
def test(
    cfg: Config,
    checkpoint: str | Path,
    out: str | Path | None = None,
    show_dir: str | Path | None = None,
    tta: str | None = None,
    dtype: str = "float32",
    compiles: bool = False,
) -> dict[str, float]:
    """Evaluate; the metrics are also written to ``metrics.json`` in ``cfg.work_dir``.

    For a segmentor that file holds the metrics of each class, too, under ``classes``.

    Args:
        cfg: The config, as :func:`mmbeit3.config.load_config` returns it. It stays as it is.
        checkpoint: The weights; their every name and shape must be the model's.
        out: Where to keep the predictions. Of a detector: a ``.pkl`` file of all of mmdet's
            fields, or ``NAME.json`` for ``NAME.bbox.json`` and ``NAME.segm.json`` as COCO servers
            take them. Of a segmentor: a folder for a PNG of each image, with the values that its
            label map has. Defaults to None, not kept.
        show_dir: Folder for pictures, one for each image: ground truth left (where the test
            pipeline loads it), prediction right. Defaults to None, no pictures.
        tta: Test-time augmentation, 'multi-scale' or 'flip'; see
            :func:`mmbeit3.config.tta.use_tta`. Defaults to None, without.
        dtype: Compute in 'float32' or 'bfloat16'; see
            :func:`mmbeit3.apis.acceleration.accelerate`. Defaults to 'float32'.
        compiles: Whether to compile the backbone by torch.compile. Defaults to False.

    Returns:
        Metric names to values, as the config's evaluators report them.

    What is written gets its place at the end: an earlier run's results stay until then, and after
    an error.

    Raises:
        InputError: The config, the annotations, the checkpoint or ``out`` cannot be used, or
            results cannot be written.
    """
    cfg.load_from, cfg.resume = str(checkpoint), False
    plan = prepare(cfg, "test")
    cfg, meta = plan.cfg, plan.meta
    segments = is_segmentation(cfg)
    if tta is not None:
        use_tta(cfg, tta)
    with ExitStack() as stack:
        written = _prepare_maps if segments else _prepare_detections
        hook = written(cfg, meta, out, show_dir, _Staged(stack))
        runner = build_runner(plan)
        _check_output_files(runner, cfg, out if segments else None, show_dir)
        dtype = accelerate(runner.model, torch.device(get_device()), dtype, compiles)
        if hook is not None:
            runner.register_hook(hook)
        with _writing(out or runner.log_dir):
            metrics = runner.test()
        if is_main_process():
            settings = {"tta": tta} if tta else {}
            settings |= {"dtype": dtype, "compiled": compiles}
            _write_metrics(cfg, checkpoint, metrics, settings, _by_class(runner))
    if out is not None:
        print_log(f"predictions are in {_written(Path(out))}", "current")
    if show_dir is not None:
        print_log(f"pictures are in {show_dir}", "current")
    return metrics


class _Staged:
    """Where files are written until the end of a stack, by the first process for all.

    Args:
        stack (ExitStack): Puts the files into their places.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._folders: dict[Path, str] = {}

    def folder(self, place: str | Path, option: str) -> str:
        """Where the files of a folder are written."""
        real = Path(place).resolve()
        if real not in self._folders:
            kept = staged(Path(place), "a test", option)
            self._folders[real] = from_first(lambda: str(self._stack.enter_context(kept)))
        return self._folders[real]

    def file(self, place: Path) -> str:
        """Where a file, or several that begin with its name, is written."""
        return from_first(lambda: str(self._stack.enter_context(staged_files(place))))


@contextmanager
def _writing(out: str | Path) -> Iterator[None]:
    """Let an error of a full disk say of which results."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:  # of reading
            raise
        raise WriteError(error.filename or out, error) from error


def _prepare_detections(
    cfg: Config,
    meta: dict[str, Any],
    out: str | Path | None,
    show_dir: str | Path | None,
    staging: _Staged,
) -> Hook | None:
    """Have a detector's predictions written; its pictures are drawn by the hook returned."""
    if out is not None:
        _keep_predictions(cfg, Path(out), staging)
    return None if show_dir is None else _detection_drawing(cfg, Path(show_dir), staging)


def _prepare_maps(
    cfg: Config,
    meta: dict[str, Any],
    out: str | Path | None,
    show_dir: str | Path | None,
    staging: _Staged,
) -> Hook | None:
    """Have a segmentor's predictions written; its pictures are drawn by the hook returned."""
    if out is not None:
        _keep_class_maps(cfg, Path(out), staging)
    return None if show_dir is None else _seg_drawing(cfg, meta, Path(show_dir), staging)


def _keep_class_maps(cfg: Config, out: Path, staging: _Staged) -> None:
    if out.suffix in (*PICKLE_SUFFIXES, ".json") or out.is_file():
        raise InputError(
            f"--out {out} names a file; a segmentor's predictions are a PNG for each image: give "
            "a folder"
        )
    writers = [entry for entry in _evaluators(cfg) if entry.get("type") == IOU_METRIC]
    if not writers:
        types = ", ".join(str(entry.get("type")) for entry in _evaluators(cfg))
        raise InputError(
            f"--out {out}: the predictions are written by {IOU_METRIC}, and test_evaluator has the "
            f"type {types}; set test_evaluator=dict(type={IOU_METRIC!r}, iou_metrics=['mIoU'])"
        )
    make_folder(out)
    staging_dir = staging.folder(out, "--out")
    for writer in writers:
        writer.update(output_dir=str(out), image_root=_image_root(cfg), staging_dir=staging_dir)


def _seg_drawing(cfg: Config, meta: dict[str, Any], show_dir: Path, staging: _Staged) -> Hook:
    from mmbeit3.inference.seg_classes import find_seg_classes
    from mmbeit3.visualization.segmentation_hook import (
        SegDrawingHook,  # detectors run without mmseg
    )

    classes = find_seg_classes(cfg, meta)
    make_folder(show_dir)
    return SegDrawingHook(classes, **_drawing_options(cfg, show_dir, staging))


def _detection_drawing(cfg: Config, show_dir: Path, staging: _Staged) -> Hook:
    hook = (cfg.get("default_hooks") or {}).get("visualization") or {}
    score_thr = hook.get("score_thr", DEFAULT_SCORE_THR)
    make_folder(show_dir)
    return DetectionDrawingHook(score_thr, **_drawing_options(cfg, show_dir, staging))


def _drawing_options(cfg: Config, show_dir: Path, staging: _Staged) -> dict[str, Any]:
    return dict(
        show_dir=show_dir,
        loader=image_loader_of(cfg),
        image_root=_image_root(cfg),
        staging_dir=staging.folder(show_dir, "--show-dir"),
    )


def _image_root(cfg: Config) -> str:
    """The folder that holds the images of all test sets."""
    folders = []
    for _, dataset in innermost_datasets(cfg.test_dataloader.dataset):
        prefix = dataset.get("data_prefix") or {}
        folder = prefix.get("img_path") or prefix.get("img") or ""
        folders.append(osp.abspath(osp.join(dataset.get("data_root") or "", folder)))
    return osp.commonpath(folders)


def _check_output_files(
    runner: Runner, cfg: Config, out: str | Path | None, show_dir: str | Path | None
) -> None:
    """Make sure that no file of one image would overwrite that of another."""
    if out is None and show_dir is None:
        return
    dataset = runner.test_loop.dataloader.dataset
    images = [dataset.get_data_info(index)["img_path"] for index in range(len(dataset))]
    for folder, suffix in ((out, ".png"), (show_dir, ".jpg")):
        if folder is not None:
            check_output_files(images, folder, suffix, _image_root(cfg))


def _keep_predictions(cfg: Config, out: Path, staging: _Staged) -> None:
    evaluators = _evaluators(cfg)
    if out.suffix in PICKLE_SUFFIXES:
        evaluators.append(ConfigDict(type="mmdet.DumpDetResults", out_file_path=staging.file(out)))
    elif out.suffix == ".json":
        writers = [entry for entry in evaluators if str(entry.get("type")).endswith("CocoMetric")]
        if not writers:
            raise InputError(f"--out {out}: only a CocoMetric writes JSON; use a .pkl name")
        prefix = staging.file(out.with_suffix(""))
        for writer in writers:
            writer["outfile_prefix"] = prefix
    else:
        raise InputError(f"--out {out} ends with {out.suffix!r}; expected .json or .pkl")
    cfg.test_evaluator = evaluators


def _evaluators(cfg: Config) -> list[ConfigDict]:
    evaluators = cfg.test_evaluator
    return list(evaluators) if isinstance(evaluators, (list, tuple)) else [evaluators]


def _written(out: Path) -> str:
    return f"{out.with_suffix('')}.*.json" if out.suffix == ".json" else str(out)


def _by_class(runner: Runner) -> ClassTable:
    """The metrics of each class, {} where the evaluators count none."""
    tables = (getattr(metric, "by_class", None) for metric in runner.test_evaluator.metrics)
    return next(filter(None, tables), {})


def _write_metrics(
    cfg: Config,
    checkpoint: str | Path,
    metrics: dict[str, Any],
    settings: dict[str, Any],
    by_class: ClassTable,
) -> None:
    content = {"config": str(cfg.filename or ""), "checkpoint": str(checkpoint)} | settings
    content |= {"metrics": {name: float(value) for name, value in metrics.items()}}
    content |= {"classes": by_class} if by_class else {}
    file = Path(cfg.work_dir) / METRICS_FILE
    write_json(file, content)
    print_log(f"metrics are in {file}", "current")
