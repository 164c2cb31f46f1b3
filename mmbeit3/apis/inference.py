"""A detector over a folder of images: results, pictures and a summary, written as it goes.

Threads read and transform the next images, and draw and write the last ones, while the model works
in the main thread. Decoding, resizing and drawing release Python's lock, so threads overlap with
the model as processes would, without copying images through shared memory.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import mmcv
import mmdet
import mmengine
import numpy as np
import torch
from mmengine.config import Config
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.table import Table

from mmbeit3.apis.detector import Detector, Failed, Loaded, Predicted, Source
from mmbeit3.apis.images import find_images
from mmbeit3.apis.overlay import class_palette, draw_instances
from mmbeit3.apis.stream import JsonList, map_ahead, track, write_json
from mmbeit3.utils import InputError
from mmbeit3.version import __version__

#: Predictions waiting to be written hold at most this many bytes, then the model waits for them.
MAX_WAITING_BYTES = 512 * 2**20
JPEG_QUALITY = 90


@dataclass
class Written:
    """An image that is done: its size, its results as lines of JSON, and the labels drawn."""

    source: Source
    height: int
    width: int
    results: list[str]
    labels: list[int]


def infer_folder(
    cfg: Config,
    checkpoint: str | Path,
    folder: str | Path,
    out_dir: str | Path,
    *,
    score_thr: float = 0.3,
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: str = "auto",
    overlays: bool = True,
) -> dict[str, Any]:
    """Detect objects in all images of a folder and write what was found.

    ``out_dir`` receives ``results.json``, a COCO results list of all detections that the model
    returns; ``summary.json``, which holds the images and categories that the list refers to, so
    that ``COCO("summary.json").loadRes("results.json")`` works; and ``overlays/``, a picture of
    each image. An image that cannot be read is reported in the summary. Ctrl-C ends the run early;
    what was done is kept, as it is when the model raises an error.

    Args:
        cfg (Config): The detector's config.
        checkpoint (str | Path): Its weights.
        folder (str | Path): Folder of images, searched recursively, or one image.
        out_dir (str | Path): Where results go; made if absent.
        score_thr (float): Draw and count detections of at least this score. Defaults to 0.3.
        batch_size (int, optional): Images per forward pass, fewer where their sizes differ.
            Defaults to the config's ``test_dataloader.batch_size``.
        num_workers (int, optional): Threads that read and write images. Defaults to the number
            of CPU cores, at most 4.
        device (str): A device of PyTorch, or 'auto': the first GPU if there is one. Defaults to
            'auto'.
        overlays (bool): Whether to draw pictures. Defaults to True.

    Returns:
        dict: The content of ``summary.json``.

    Raises:
        InputError: If there are no images, the output folder cannot be made, or config,
            checkpoint and device do not go together.
    """
    folder, out_dir = Path(folder), Path(out_dir)
    sources = list_sources(folder, out_dir, overlays)
    make_folder(out_dir)
    detector = Detector(cfg, checkpoint, device)
    batch_size = batch_size or cfg.test_dataloader.get("batch_size", 1)
    num_workers = num_workers or min(4, os.cpu_count() or 1)
    write = Writer(out_dir, detector.classes, score_thr)
    report = Report(detector.classes, len(sources))
    try:
        with JsonList(out_dir / "results.json") as results:
            outcomes = process(sources, detector, write, report, batch_size, num_workers)
            for outcome in track(outcomes, len(sources)):
                if isinstance(outcome, Written):
                    results.append(outcome.results)
                report.add(outcome)
    except KeyboardInterrupt:
        report.interrupted = True
    settings = {
        "folder": str(folder),
        "config": str(cfg.filename or ""),
        "checkpoint": str(checkpoint),
        "device": str(detector.device),
        "batch_size": batch_size,
        "score_thr": score_thr,
    }
    summary = settings | report.summary()
    write_json(out_dir / "summary.json", summary)
    if report.error:
        raise report.error
    return summary


def print_summary(summary: dict[str, Any], out_dir: str | Path) -> None:
    """Print what was found, what failed, and where the results are.

    Args:
        summary (dict): What :func:`infer_folder` returned.
        out_dir (str | Path): Its output folder.
    """
    table = Table(show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    table.add_row("images", f"{summary['num_done']} of {summary['num_images']}")
    table.add_row("failed", str(summary["num_failed"]))
    table.add_row("seconds", f"{summary['seconds']:.1f}")
    table.add_row("images/s", f"{summary['images_per_second']:.1f}", end_section=True)
    table.add_row(f"detections from {summary['score_thr']}", str(summary["num_detections"]))
    found = {name: count for name, count in summary["detections"].items() if count}
    for name in sorted(found, key=found.get, reverse=True):
        table.add_row(f"  {name}", str(found[name]))
    Console().print(table)
    for failure in summary["failed"]:
        print(f"failed: {failure['file_name']}: {failure['reason']}")
    if summary["interrupted"]:
        print("interrupted; what was done is kept")
    overlays = ", overlays" if any("overlay" in image for image in summary["images"]) else ""
    print(f"results are in {out_dir}: results.json, summary.json{overlays}")


def list_sources(folder: Path, out_dir: Path, overlays: bool) -> list[Source]:
    """List the images of a folder, or the one image, and name the picture of each.

    Earlier pictures are not taken for input where ``out_dir`` lies in ``folder``. ``a.jpg`` and
    ``a.png`` get ``overlays/a.jpg`` and ``overlays/a.png.jpg``.

    Raises:
        InputError: If there are no images, or they lie where the pictures would be written.
    """
    pictures = out_dir / "overlays"
    if folder.resolve().is_relative_to(pictures.resolve()):
        raise InputError(
            f"{folder} lies in {pictures}, where the pictures are written: choose another --out-dir"
        )
    root = folder if folder.is_dir() else folder.parent
    paths = find_images(folder, exclude=pictures)
    taken: set[str] = set()
    sources = []
    for image_id, path in enumerate(paths, 1):
        file = path.relative_to(root)
        overlay = str(PurePosixPath("overlays", _picture_name(file, taken))) if overlays else None
        sources.append(Source(image_id, path, file.as_posix(), overlay))
    return sources


def _picture_name(file: Path, taken: set[str]) -> str:
    """Find a free ``.jpg`` name for a file; case does not count, as on some file systems."""
    further = (f"{file.name}.{number}.jpg" for number in itertools.count(2))
    for name in itertools.chain((f"{file.stem}.jpg", f"{file.name}.jpg"), further):
        picture = file.with_name(name).as_posix()
        if picture.lower() not in taken:
            taken.add(picture.lower())
            return picture
    raise AssertionError("unreachable: the names never end")


def make_folder(path: Path) -> None:
    """Make a folder unless it exists.

    Raises:
        InputError: If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {error.strerror}") from None


def process(
    sources: Sequence[Source],
    detector: Detector,
    write: Writer,
    report: Report,
    batch_size: int,
    num_workers: int,
) -> Iterator[Failed | Written]:
    """Read, detect and write, overlapping; yields what became of each image, in order."""

    def predict(items: Iterator[Loaded | Failed]) -> Iterator[Predicted | Failed]:
        try:
            yield from detector.predict(items, batch_size)
        except KeyboardInterrupt:  # what was predicted until now is still written
            report.interrupted = True
        except Exception as error:
            report.interrupted, report.error = True, error

    with ThreadPoolExecutor(num_workers) as pool:
        loaded = map_ahead(pool, detector.load, sources, limit=batch_size + num_workers)
        yield from map_ahead(pool, write, predict(loaded), MAX_WAITING_BYTES, weigh=_nbytes)


def _nbytes(item: Failed | Predicted) -> int:
    return item.nbytes if isinstance(item, Predicted) else 0


class Writer:
    """Draws the picture of a prediction and puts its results into words. Called from threads.

    Args:
        out_dir (Path): Where ``overlays/`` is.
        classes (Sequence[str]): Names of the classes.
        score_thr (float): Draw and count detections of at least this score.
    """

    def __init__(self, out_dir: Path, classes: Sequence[str], score_thr: float) -> None:
        self.out_dir = out_dir
        self.classes = classes
        self.score_thr = score_thr
        self._palette = class_palette(len(classes))

    def __call__(self, item: Predicted | Failed) -> Written | Failed:
        """Write one image; what failed before passes through."""
        if isinstance(item, Failed):
            return item
        drawn = item.scores >= self.score_thr
        if item.source.overlay:
            self._draw(item, drawn, self.out_dir / item.source.overlay)
        height, width = item.image.shape[:2]
        results = [json.dumps(self._result(item, index)) for index in range(len(item.labels))]
        return Written(item.source, height, width, results, item.labels[drawn].tolist())

    def _draw(self, item: Predicted, drawn: np.ndarray, path: Path) -> None:
        """Write the picture."""
        masks = None if item.masks is None else item.masks[drawn]
        found = item.boxes[drawn], item.labels[drawn], item.scores[drawn], masks
        picture = draw_instances(item.image, *found, self.classes, self._palette)
        path.parent.mkdir(parents=True, exist_ok=True)
        # not cv2.imwrite: it fails silently, and on Windows for names that are not ASCII
        path.write_bytes(cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1])

    def _result(self, item: Predicted, index: int) -> dict[str, Any]:
        """Return one detection as an entry of a COCO results list."""
        x1, y1, x2, y2 = item.boxes[index].tolist()
        label = int(item.labels[index])
        result = {
            "image_id": item.source.image_id,
            "file_name": item.source.file_name,
            "category_id": label + 1,
            "category": self.classes[label],
            "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(float(item.scores[index]), 6),
        }
        if item.masks is not None:
            # column-major for the encoder; numpy's own conversion takes three times as long
            columns = cv2.transpose(item.masks[index].view(np.uint8)).T
            rle = coco_mask.encode(columns)
            result["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
        return result


class Report:
    """Adds up what became of the images, and holds what ended the run before its time.

    Args:
        classes (Sequence[str]): Names of the classes.
        num_images (int): Images in the folder.
    """

    def __init__(self, classes: Sequence[str], num_images: int) -> None:
        self.interrupted = False
        self.error: Exception | None = None
        self._classes = classes
        self._num_images = num_images
        self._images: list[dict[str, Any]] = []
        self._failed: list[dict[str, str]] = []
        self._labels: Counter[int] = Counter()
        self._num_results = 0
        self._start = time.perf_counter()

    def add(self, outcome: Failed | Written) -> None:
        """Count one image."""
        source = outcome.source
        if isinstance(outcome, Failed):
            self._failed.append({"file_name": source.file_name, "reason": outcome.reason})
            return
        image = {"id": source.image_id, "file_name": source.file_name}
        image |= {"width": outcome.width, "height": outcome.height}
        self._images.append(image | ({"overlay": source.overlay} if source.overlay else {}))
        self._labels.update(outcome.labels)
        self._num_results += len(outcome.results)

    def summary(self) -> dict[str, Any]:
        """Return all that was counted; ends the time."""
        seconds = time.perf_counter() - self._start
        return {
            "interrupted": self.interrupted,
            "num_images": self._num_images,
            "num_done": len(self._images),
            "num_failed": len(self._failed),
            "num_results": self._num_results,
            "num_detections": sum(self._labels.values()),
            "detections": {name: self._labels[i] for i, name in enumerate(self._classes)},
            "seconds": round(seconds, 3),
            "images_per_second": round(len(self._images) / seconds, 3),
            "versions": {"mmbeit3": __version__, "torch": torch.__version__}
            | {module.__name__: module.__version__ for module in (mmcv, mmdet, mmengine)},
            "failed": self._failed,
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(self._classes)],
            "images": self._images,
        }
