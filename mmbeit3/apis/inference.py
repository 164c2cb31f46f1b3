"""A model over a folder of images: results, pictures and a summary, written as it goes.

Threads read and transform the next images, and draw and write the last ones, while the model works
in the main thread. Decoding, resizing and drawing release Python's lock, so threads overlap with
the model as processes would, without copying images through shared memory.

Where torch.distributed runs, its processes share the folder, as :mod:`mmbeit3.apis.shares` says.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_dist_info
from rich.console import Console
from rich.table import Table

from mmbeit3.apis.config import is_segmentation
from mmbeit3.apis.detection_results import DetectionResults
from mmbeit3.apis.detector import Detector
from mmbeit3.apis.predictor import Failed, Loaded, Predicted, Predictor
from mmbeit3.apis.results import Results, Written
from mmbeit3.apis.segmentation_results import SegmentationResults, check_labels_folder
from mmbeit3.apis.shares import (
    Journal,
    await_all,
    endings,
    make_parts,
    merge,
    own_share,
)
from mmbeit3.apis.sources import Source, list_sources, make_folder
from mmbeit3.apis.stream import map_ahead, track, write_json
from mmbeit3.engine.agreement import from_first, together
from mmbeit3.engine.interruption import Termination
from mmbeit3.utils import InputError
from mmbeit3.version import __version__

#: Predictions waiting to be written hold at most this many bytes, then the model waits for them.
MAX_WAITING_BYTES = 512 * 2**20

RESULTS = {results.task: results for results in (DetectionResults, SegmentationResults)}


def infer_folder(
    cfg: Config,
    checkpoint: str | Path,
    folder: str | Path,
    out_dir: str | Path,
    *,
    score_thr: float | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    compiles: bool = False,
    overlays: bool = True,
) -> dict[str, Any] | None:
    """Run a detector or a segmentor over all images of a folder and write what was found.

    ``out_dir`` receives ``summary.json`` and ``overlays/``, a picture of each image. Besides them

    - a detector writes ``results.json``, a COCO results list of all detections that it returns; the
      summary holds the images and categories that the list refers to, so that
      ``COCO("summary.json").loadRes("results.json")`` works;
    - a segmentor writes ``labels/``, a PNG as large as each image whose 8-bit pixels are the
      indices of classes; the summary says what they mean, and the share of pixels of each.

    An image that cannot be read is reported in the summary. Ctrl-C or SIGTERM ends the run early;
    what was done is kept, as it is when the model raises an error.

    Where torch.distributed runs, each process takes a share of the images, on a GPU of its own or
    on the CPU, and the first one writes the same results as it would alone. An error of the model
    is then printed by its process at once, the others go on, and the summary says so.

    Args:
        cfg (Config): The model's config.
        checkpoint (str | Path): Its weights.
        folder (str | Path): Folder of images, searched recursively, or one image.
        out_dir (str | Path): Where results go; made if absent.
        score_thr (float, optional): Draw and count detections of at least this score. Defaults to
            0.3; a segmentor takes none.
        batch_size (int, optional): Images per forward pass, fewer where their sizes differ.
            Defaults to the config's ``test_dataloader.batch_size``.
        num_workers (int, optional): Threads that read and write images. Defaults to the number
            of CPU cores, divided over the processes, at most 4.
        device (str): A device of PyTorch, or 'auto': the first GPU if there is one. Defaults to
            'auto'; in several processes to the GPU of each.
        dtype (str): Compute in 'float32' or 'bfloat16'; see
            :func:`mmbeit3.apis.acceleration.accelerate`. Defaults to 'float32'.
        compiles (bool): Whether to compile the backbone by torch.compile. Defaults to False.
        overlays (bool): Whether to draw pictures. Defaults to True.

    Returns:
        dict | None: The content of ``summary.json``; None in all processes but the first.

    Raises:
        InputError: If there are no images, the output folder cannot be used, or config,
            checkpoint, device and options do not go together.
    """
    folder, out_dir = Path(folder), Path(out_dir)
    segments = is_segmentation(cfg)
    size = get_dist_info()[1]

    def prepare() -> list[Source]:
        if segments and score_thr is not None:
            raise InputError("a score threshold is for detectors, and the config is a segmentor's")
        _check_device(device, size)
        return _prepare(folder, out_dir, overlays, segments)

    def setup() -> tuple[Predictor, Results]:
        model = (cfg, checkpoint, _own_device(device, size), dtype, compiles)
        return (_segmentation if segments else _detection)(model, out_dir, score_thr)

    sources = from_first(prepare)
    predictor, results = together(setup)
    batch_size = batch_size or cfg.test_dataloader.get("batch_size", 1)
    num_workers = num_workers or _default_workers()
    report = Report(results, len(sources))
    with report.termination.awaited():
        run = _run_alone if size == 1 else _run_share
        run(sources, predictor, report, batch_size, num_workers)
        if get_dist_info()[0] > 0:
            return None
        settings = {
            "task": results.task,
            "folder": str(folder),
            "config": str(cfg.filename or ""),
            "checkpoint": str(checkpoint),
            "device": str(predictor.device),
            "dtype": predictor.dtype,
            "compiled": compiles,
            "batch_size": batch_size,
            "processes": size,
        }
        summary = settings | report.summary()
        write_json(out_dir / "summary.json", summary)
    if size == 1 and report.error:
        raise report.error
    return summary


def _prepare(folder: Path, out_dir: Path, overlays: bool, segments: bool) -> list[Source]:
    """List the images, and make the output folder."""
    sources = list_sources(folder, out_dir, overlays, labels=segments)
    make_folder(out_dir)
    if segments:
        check_labels_folder(out_dir)
    return sources


def _check_device(device: str, size: int) -> None:
    if size > 1 and ":" in device:
        raise InputError(
            f"--device {device} would put all {size} processes on one device: leave it out, and "
            "each process takes a GPU of its own"
        )


def _own_device(device: str, size: int) -> str:
    """The GPU that was given to this process, where 'auto' leaves the choice."""
    if size > 1 and device == "auto" and torch.cuda.is_available():
        return f"cuda:{torch.cuda.current_device()}"
    return device


def _default_workers() -> int:
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's, on this machine
    return max(1, min(4, (os.cpu_count() or 1) // processes))


def _detection(
    model: tuple[Any, ...], out_dir: Path, score_thr: float | None
) -> tuple[Predictor, Results]:
    detector = Detector(*model)
    return detector, DetectionResults(out_dir, detector.classes, score_thr)


def _segmentation(model: tuple[Any, ...], out_dir: Path, _: None) -> tuple[Predictor, Results]:
    from mmbeit3.apis.segmentor import Segmentor  # detectors run without mmseg

    segmentor = Segmentor(*model)
    return segmentor, SegmentationResults(out_dir, segmentor.meanings)


def _run_alone(
    sources: list[Source], predictor: Predictor, report: Report, batch_size: int, num_workers: int
) -> None:
    outcomes = process(sources, predictor, report, batch_size, num_workers)
    with report.results.opened():
        _take(track(outcomes, len(sources)), report.add, report)


def _run_share(
    sources: list[Source], predictor: Predictor, report: Report, batch_size: int, num_workers: int
) -> None:
    """Run over this process's images; the first process then adds up those of all."""
    rank, size = get_dist_info()
    results, parts = report.results, make_parts(report.results.out_dir)
    share = own_share(sources, batch_size)
    outcomes = process(share, predictor, report, batch_size, num_workers)
    if rank == 0:
        outcomes = track(outcomes, len(share), f"images of process 1 of {size}")
    with Journal(parts, rank) as journal:
        _take(outcomes, journal.add, report)
        journal.end(report.interrupted, _say_error(report.error, rank, size))
    if rank == 0:
        await_all(parts, size, lambda: report.told_to_end)
        report.take(endings(parts, size))
        with results.opened():
            for outcome in merge(parts, sources, size, results.written):
                report.add(outcome)
        shutil.rmtree(parts)


def _take(
    outcomes: Iterable[Failed | Written],
    add: Callable[[Failed | Written], None],
    report: Report,
) -> None:
    """Add up the outcomes, until Ctrl-C."""
    try:
        for outcome in outcomes:
            add(outcome)
    except KeyboardInterrupt:
        report.interrupted = True


def _say_error(error: Exception | None, rank: int, size: int) -> str | None:
    """Print what ended this process before its time, while the others go on."""
    if error is None:
        return None
    if not isinstance(error, InputError):
        traceback.print_exception(error)
    reason = f"process {rank + 1} of {size} stopped: {_describe(error)}"
    print(reason, file=sys.stderr, flush=True)
    return reason


def print_summary(summary: dict[str, Any], out_dir: str | Path) -> None:
    """Print what was found, what failed, and where the results are.

    Args:
        summary (dict): What :func:`infer_folder` returned.
        out_dir (str | Path): Its output folder.
    """
    results = RESULTS[summary["task"]]
    table = Table(show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    table.add_row("images", f"{summary['num_done']} of {summary['num_images']}")
    table.add_row("failed", str(summary["num_failed"]))
    table.add_row("seconds", f"{summary['seconds']:.1f}")
    table.add_row("images/s", f"{summary['images_per_second']:.1f}", end_section=True)
    for row in results.rows(summary):
        table.add_row(*row)
    Console().print(table)
    for failure in summary["failed"]:
        print(f"failed: {failure['file_name']}: {failure['reason']}")
    if summary["error"]:
        print(summary["error"])
    if summary["interrupted"]:
        print("interrupted; what was done is kept")
    overlays = ", overlays" if any("overlay" in image for image in summary["images"]) else ""
    print(f"results are in {out_dir}: {results.files}, summary.json{overlays}")


def process(
    sources: Sequence[Source],
    predictor: Predictor,
    report: Report,
    batch_size: int,
    num_workers: int,
) -> Iterator[Failed | Written]:
    """Read, predict and write, overlapping; yields what became of each image, in order."""

    def predict(items: Iterator[Loaded | Failed]) -> Iterator[Predicted | Failed]:
        try:
            for found in predictor.predict(items, batch_size):
                yield found
                if report.termination.requested:
                    report.interrupted = True
                    return
        except KeyboardInterrupt:  # what was predicted until now is still written
            report.interrupted = True
        except Exception as error:
            report.interrupted, report.error = True, error

    def write(item: Predicted | Failed) -> Written | Failed:
        return item if isinstance(item, Failed) else report.results.write(item)

    with ThreadPoolExecutor(num_workers) as pool:
        loaded = map_ahead(pool, predictor.load, sources, limit=batch_size + num_workers)
        yield from map_ahead(pool, write, predict(loaded), MAX_WAITING_BYTES, weigh=_nbytes)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _nbytes(item: Failed | Predicted) -> int:
    return 0 if isinstance(item, Failed) else item.nbytes


class Report:
    """Adds up what became of the images, and holds what ended the run before its time.

    Args:
        results (Results): What counts the results themselves.
        num_images (int): Images in the folder.
    """

    def __init__(self, results: Results, num_images: int) -> None:
        self.results = results
        self.interrupted = False
        self.error: Exception | None = None
        self.termination = Termination()
        self._errors: list[str] = []
        self._num_images = num_images
        self._images: list[dict[str, Any]] = []
        self._failed: list[dict[str, str]] = []
        self._start = time.perf_counter()

    @property
    def told_to_end(self) -> bool:
        """Whether this process was told to end, by Ctrl-C or SIGTERM."""
        return self.termination.requested or (self.interrupted and self.error is None)

    def take(self, endings: list[dict[str, Any]]) -> None:
        """Note how the processes ended, as :func:`mmbeit3.apis.shares.endings` says it."""
        self.interrupted = any(ending["interrupted"] for ending in endings)
        self._errors = [ending["error"] for ending in endings if ending["error"]]

    def add(self, outcome: Failed | Written) -> None:
        """Count one image."""
        source = outcome.source
        if isinstance(outcome, Failed):
            self._failed.append({"file_name": source.file_name, "reason": outcome.reason})
            return
        further = self.results.add(outcome)
        image = {"id": source.image_id, "file_name": source.file_name}
        image |= {"width": outcome.width, "height": outcome.height}
        image |= {"overlay": source.overlay} if source.overlay else {}
        self._images.append(image | further)

    def summary(self) -> dict[str, Any]:
        """Return all that was counted; ends the time."""
        seconds = time.perf_counter() - self._start
        libraries = [import_module(name) for name in ("mmcv", self.results.library, "mmengine")]
        counts = {
            "interrupted": self.interrupted,
            "error": "\n".join(self._errors) or (self.error and _describe(self.error)),
            "num_images": self._num_images,
            "num_done": len(self._images),
            "num_failed": len(self._failed),
            "seconds": round(seconds, 3),
            "images_per_second": round(len(self._images) / seconds, 3),
            "versions": {"mmbeit3": __version__, "torch": torch.__version__}
            | {module.__name__: module.__version__ for module in libraries},
            "failed": self._failed,
        }
        return counts | self.results.summary() | {"images": self._images}
