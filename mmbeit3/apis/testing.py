"""Evaluate a checkpoint on the test set of a config: what ``tools/test.py`` runs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmbeit3.config.tta import use_tta
from mmbeit3.engine.prepare import prepare
from mmbeit3.engine.process_state import separate_run
from mmbeit3.engine.runner import build_runner
from mmbeit3.evaluation.output_places import check_output_files
from mmbeit3.inference.evaluation_outputs import EvaluationOutputs
from mmbeit3.inference.pipeline import write_json
from mmbeit3.inference.task import find_task
from mmbeit3.models.acceleration import accelerate
from mmbeit3.utils.whole_files import WriteError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
METRICS_FILE = "metrics.json"
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
    report: str | Path | None = None,
    force: bool = False,
) -> dict[str, float]:
    """Evaluate; the metrics are also written to ``metrics.json`` in ``cfg.work_dir``.

    For a segmentor that file holds the metrics of each class, too, under ``classes``.

    Args:
        cfg: The config, as :func:`mmbeit3.config.load_config` returns it. It stays as it is.
        checkpoint: The weights; their every name and shape must be the model's.
        out: Where to keep the predictions. Of a detector: a ``.pkl`` file of all of mmdet's
            fields, or ``NAME.json`` for ``NAME.bbox.json`` and ``NAME.segm.json`` as COCO servers
            take them. Of a segmentor: a folder for a PNG of each image, with the values that its
            label map has. Of VQA, NLVR2 and captioning: the file that the official server takes.
            Of retrieval: a ``.json`` file of ranks. Defaults to None, not kept.
        show_dir: Folder for pictures, one for each image: ground truth left (where the test
            pipeline loads it), prediction right. Defaults to None, no pictures.
        tta: Test-time augmentation, 'multi-scale' or 'flip'; see
            :func:`mmbeit3.config.tta.use_tta`. Defaults to None, without.
        dtype: Compute in 'float32', 'bfloat16' or 'int8'; see
            :func:`mmbeit3.accelerate`. Defaults to 'float32'.
        compiles: Whether to compile the backbone by torch.compile. Defaults to False.
        report: Folder for a page on where the model is wrong, see
            :func:`mmbeit3.inference.reports.report`, and for the predictions if ``out`` is not
            given. Defaults to None, no page.
        force: Whether to compute in bfloat16 where the CPU has no instructions for it, too.
            Defaults to False.

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
    task = find_task(cfg)
    if report is not None:
        out = Path(report, task.report_predictions) if out is None else out
        task.check_report(cfg, Path(out))
    if tta is not None:
        use_tta(cfg, tta, task.tta_model)
    with ExitStack() as stack:
        outputs, hook = EvaluationOutputs(cfg, stack), None
        if out is not None:
            task.keep_predictions(cfg, Path(out), outputs)
        if show_dir is not None:
            hook = task.drawing_hook(cfg, meta, outputs.drawing_options(Path(show_dir)))
        runner = build_runner(plan)
        suffix = task.prediction_suffix
        _check_output_files(runner, [(show_dir, ".jpg"), (suffix and out, suffix)], outputs)
        dtype = accelerate(runner.model, dtype, compiles, force)
        if hook is not None:
            runner.register_hook(hook)
        with _writing(out or runner.log_dir):
            metrics = runner.test()
        if is_main_process():
            settings: dict[str, Any] = {"tta": tta} if tta else {}
            settings |= {"dtype": dtype, "compiled": compiles}
            _write_metrics(cfg, checkpoint, metrics, settings, _by_class(runner))
    if out is not None:
        print_log(f"predictions are in {task.kept_files(Path(out))}", "current")
    if report is not None and out is not None and is_main_process():
        dataset = runner.test_loop.dataloader.dataset
        task.write_report(cfg, Path(out), Path(report), dataset, outputs.image_root)
    if show_dir is not None:
        print_log(f"pictures are in {show_dir}", "current")
    return metrics


@contextmanager
def _writing(out: str | Path) -> Iterator[None]:
    """Let an error of a full disk say of which results."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:  # of reading
            raise
        raise WriteError(error.filename or out, error) from error


def _check_output_files(
    runner: Runner, places: list[tuple[str | Path | None, str | None]], outputs: EvaluationOutputs
) -> None:
    """Make sure that no file of one image would overwrite that of another."""
    used = [(folder, suffix) for folder, suffix in places if folder is not None and suffix]
    if not used:
        return
    dataset = runner.test_loop.dataloader.dataset
    images = [dataset.get_data_info(index)["img_path"] for index in range(len(dataset))]
    for folder, suffix in used:
        check_output_files(images, folder, suffix, outputs.image_root)


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
