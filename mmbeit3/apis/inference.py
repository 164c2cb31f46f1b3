"""A model over a folder of images: results, pictures and a summary, written as it goes.

Threads read and transform the next images, and draw and write the last ones, while the model works
in the main thread. Decoding, resizing and drawing release Python's lock, so threads overlap with
the model as processes would, without copying images through shared memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from mmbeit3.apis.config import is_segmentation
from mmbeit3.apis.detection_results import DetectionResults
from mmbeit3.apis.detector import Detector
from mmbeit3.apis.predictor import Failed, Loaded, Predicted, Predictor
from mmbeit3.apis.results import Results, Written
from mmbeit3.apis.segmentation_results import SegmentationResults, check_labels_folder
from mmbeit3.apis.sources import Source, list_sources, make_folder
from mmbeit3.apis.stream import map_ahead, track, write_json
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
) -> dict[str, Any]:
    """Run a detector or a segmentor over all images of a folder and write what was found.

    ``out_dir`` receives ``summary.json`` and ``overlays/``, a picture of each image. Besides them

    - a detector writes ``results.json``, a COCO results list of all detections that it returns; the
      summary holds the images and categories that the list refers to, so that
      ``COCO("summary.json").loadRes("results.json")`` works;
    - a segmentor writes ``labels/``, a PNG as large as each image whose 8-bit pixels are the
      indices of classes; the summary says what they mean, and the share of pixels of each.

    An image that cannot be read is reported in the summary. Ctrl-C ends the run early; what was
    done is kept, as it is when the model raises an error.

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
            of CPU cores, at most 4.
        device (str): A device of PyTorch, or 'auto': the first GPU if there is one. Defaults to
            'auto'.
        dtype (str): Compute in 'float32' or 'bfloat16'; see
            :func:`mmbeit3.apis.acceleration.accelerate`. Defaults to 'float32'.
        compiles (bool): Whether to compile the backbone by torch.compile. Defaults to False.
        overlays (bool): Whether to draw pictures. Defaults to True.

    Returns:
        dict: The content of ``summary.json``.

    Raises:
        InputError: If there are no images, the output folder cannot be used, or config,
            checkpoint, device and options do not go together.
    """
    folder, out_dir = Path(folder), Path(out_dir)
    segments = is_segmentation(cfg)
    sources = list_sources(folder, out_dir, overlays, labels=segments)
    make_folder(out_dir)
    setup = _segmentation if segments else _detection
    predictor, results = setup((cfg, checkpoint, device, dtype, compiles), out_dir, score_thr)
    batch_size = batch_size or cfg.test_dataloader.get("batch_size", 1)
    num_workers = num_workers or min(4, os.cpu_count() or 1)
    report = Report(results, len(sources))
    try:
        with results.opened():
            outcomes = process(sources, predictor, report, batch_size, num_workers)
            for outcome in track(outcomes, len(sources)):
                report.add(outcome)
    except KeyboardInterrupt:
        report.interrupted = True
    settings = {
        "task": results.task,
        "folder": str(folder),
        "config": str(cfg.filename or ""),
        "checkpoint": str(checkpoint),
        "device": str(predictor.device),
        "dtype": dtype,
        "compiled": compiles,
        "batch_size": batch_size,
    }
    summary = settings | report.summary()
    write_json(out_dir / "summary.json", summary)
    if report.error:
        raise report.error
    return summary


def _detection(
    model: tuple[Any, ...], out_dir: Path, score_thr: float | None
) -> tuple[Predictor, Results]:
    detector = Detector(*model)
    return detector, DetectionResults(out_dir, detector.classes, score_thr)


def _segmentation(
    model: tuple[Any, ...], out_dir: Path, score_thr: float | None
) -> tuple[Predictor, Results]:
    from mmbeit3.apis.segmentor import Segmentor  # detectors run without mmseg

    if score_thr is not None:
        raise InputError("a score threshold is for detectors, and this config is of a segmentor")
    check_labels_folder(out_dir)
    segmentor = Segmentor(*model)
    return segmentor, SegmentationResults(out_dir, segmentor.meanings)


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
            yield from predictor.predict(items, batch_size)
        except KeyboardInterrupt:  # what was predicted until now is still written
            report.interrupted = True
        except Exception as error:
            report.interrupted, report.error = True, error

    def write(item: Predicted | Failed) -> Written | Failed:
        return item if isinstance(item, Failed) else report.results.write(item)

    with ThreadPoolExecutor(num_workers) as pool:
        loaded = map_ahead(pool, predictor.load, sources, limit=batch_size + num_workers)
        yield from map_ahead(pool, write, predict(loaded), MAX_WAITING_BYTES, weigh=_nbytes)


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
        self._num_images = num_images
        self._images: list[dict[str, Any]] = []
        self._failed: list[dict[str, str]] = []
        self._start = time.perf_counter()

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
