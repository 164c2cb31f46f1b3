"""A model over a folder of images: results, pictures and a summary, written as it goes.

Threads read and transform the next images, and draw and write the last ones, while the model works
in the main thread. Decoding, resizing and drawing release Python's lock, so threads overlap with
the model as processes would, without copying images through shared memory.

Where torch.distributed runs, its processes share the folder; see
:mod:`mmbeit3.inference.rank_parts`.
"""

from __future__ import annotations

import shutil
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_dist_info
from rich.console import Console
from rich.table import Table

from mmbeit3.engine.interruption import Termination
from mmbeit3.export.files import Exported
from mmbeit3.inference.image_list import NotListed, Source
from mmbeit3.inference.inferencer import Inferencer, default_workers
from mmbeit3.inference.loading import load_by_task
from mmbeit3.inference.pipeline import map_ahead, track, write_json
from mmbeit3.inference.rank_parts import (
    Journal,
    await_all,
    endings,
    make_parts,
    merge,
    own_share,
)
from mmbeit3.inference.result import Failed, Predicted
from mmbeit3.inference.staging import Staging
from mmbeit3.inference.task import Task, find_task, named_task
from mmbeit3.inference.tiles import Tiles
from mmbeit3.inference.writer import ResultWriter, Written
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.collective import broadcast_from_rank0, run_on_all_ranks
from mmbeit3.utils.folder_lock import folder_locked
from mmbeit3.utils.text_files import printable, read_small_json
from mmbeit3.utils.whole_files import WriteError, make_folder
from mmbeit3.version import __version__

#: Predictions waiting to be written hold at most this many bytes, then the model waits for them.
MAX_WAITING_BYTES = 512 * 2**20

SUMMARY = "summary.json"


def infer_folder(
    cfg: Config,
    checkpoint: str | Path | Exported,
    folder: str | Path,
    out_dir: str | Path,
    *,
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    compiles: bool = False,
    force: bool = False,
    overlays: bool = True,
    classes: Sequence[str] | None = None,
    tta: str | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    **options: Any,
) -> dict[str, Any] | None:
    """Run a model over all images of a folder and write what was found.

    ``out_dir`` receives ``summary.json``. Besides

    - detectors and segmentors write ``overlays/``, a picture of each image;
    - a detector writes ``results.json``, a COCO results list of all detections that it returns; the
      summary holds the images and categories that the list refers to, so that
      ``COCO("summary.json").loadRes("results.json")`` works;
    - a segmentor writes ``labels/``, a PNG as large as each image whose 8-bit pixels are the
      indices of classes; the summary says what they mean, and the share of pixels of each;
    - a dual encoder writes ``features.safetensors``, which a later run uses again, with ``texts``
      ``ranking.{json,csv,html}``, the images of each, and with ``classes``
      ``labels.{json,csv,html}``, the name that fits each image; a classifier writes the latter;
    - a writer of captions writes ``captions.{json,csv,html}`` and ``overlays/``;
    - a model that answers questions, ``questions``, writes ``answers.{json,csv,html}``, and with
      ``show_attention`` ``overlays/``; one that judges ``statements`` about pairs of images
      ``judgments.{json,csv,html}``. The summary counts questions and statements as images.

    An image that cannot be read, or whose files cannot be written, is reported in the summary, and
    so is a damaged one of which a part was decoded and predicted.
    Ctrl-C or SIGTERM ends the run early; what was done is kept, as it is when the model raises an
    error or the disk is full.

    All files get their places at the end, so that the results of an earlier run are whole until
    then. Of a run that ended early they do so only where ``out_dir`` does not hold the results of a
    whole run; if it does, they are put into a new folder ``unfinished_*`` in it. A second run with
    the same ``out_dir`` is refused while the first one goes on.

    Where torch.distributed runs, each process takes a share of the images, on a GPU of its own or
    on the CPU, and the first one writes the same results as it would alone. An error of the model
    is then printed by its process at once, the others go on, and the summary says so.

    Args:
        cfg (Config): The model's config.
        checkpoint (str | Path | Exported): Its weights, or the files that it was exported to.
        folder (str | Path): Folder of images, searched recursively, or one image.
        out_dir (str | Path): Where results go; made if absent.
        batch_size (int, optional): Images per forward pass, fewer where their sizes differ.
            Defaults to the config's ``test_dataloader.batch_size``.
        num_workers (int, optional): Threads that read and write images. Defaults to the number
            of CPU cores, divided over the processes, at most 4.
        device (str): A device of PyTorch, or 'auto': the first GPU if there is one. Defaults to
            'auto'; in several processes to the GPU of each.
        dtype (str): Compute in 'float32', 'bfloat16' or 'int8'; see
            :func:`mmbeit3.accelerate`. Defaults to 'float32'.
        compiles (bool): Whether to compile the backbone by torch.compile. Defaults to False.
        force (bool): Whether to compute in bfloat16 where the CPU has no instructions for it, too.
            Defaults to False.
        overlays (bool): Whether to draw pictures. Defaults to True.
        classes (Sequence[str], optional): Names of what to look for, see
            :meth:`mmbeit3.inference.inferencer.Inferencer.set_classes`. Defaults to None, those of
            the training.
        tta (str, optional): Merge several views of each image, 'multi-scale' or 'flip'; see
            :func:`mmbeit3.load`. Defaults to None.
        tile (int, optional): Predict images by tiles of so many pixels each way, see
            :class:`mmbeit3.inference.tiles.Tiles`: the image and its masks are never held in full.
            ``results.json`` is of the whole images; a class map is a tiled TIFF. An image with a
            georeference gets a file in ``maps/``, or has it in its class map. Defaults to None.
        overlap (float, optional): The share of a tile that lies in the next, with ``tile``.
            Defaults to 0.2.
        **options: Those of the task. Of a detector ``score_thr``, to draw and count detections of
            at least this score; 0.3 unless given; ``formats``, further formats to write them in,
            see :data:`mmbeit3.datasets.label_formats.WRITTEN`; and ``hide_duplicates``, to draw
            none that overlaps a surer one, as the config's ``visualizer`` says unless given. Of a
            dual encoder ``texts``, a list of queries, ``top``, images of each, and ``templates`` of
            the classes, see
            :class:`mmbeit3.inference.retrieval_writer.RetrievalWriter`. ``questions`` and
            ``statements``, see :mod:`mmbeit3.inference.asked_lists`; ``show_attention``, see
            :meth:`mmbeit3.inference.answerer.Answerer.show_attention`.

    Returns:
        dict | None: The content of ``summary.json``; None in all processes but the first.

    Raises:
        InputError: If there are no images, the output folder cannot be used or written, another
            run uses it, or config, checkpoint, device and options do not go together.
    """
    with ExitStack() as stack:
        return _infer_folder(
            stack,
            cfg,
            checkpoint,
            Path(folder),
            Path(out_dir),
            options,
            batch_size,
            num_workers,
            device,
            dtype,
            compiles,
            force,
            overlays,
            classes,
            tta,
            _tiles_of(tile, overlap),
        )


def _infer_folder(
    stack: ExitStack,
    cfg: Config,
    checkpoint: str | Path | Exported,
    folder: Path,
    out_dir: Path,
    options: dict[str, Any],
    batch_size: int | None,
    num_workers: int | None,
    device: str,
    dtype: str,
    compiles: bool,
    force: bool,
    overlays: bool,
    classes: Sequence[str] | None,
    tta: str | None,
    tiles: Tiles | None,
) -> dict[str, Any] | None:
    """Run as :func:`infer_folder` says; what is to be left at the end goes on the stack."""
    task = find_task(cfg)
    options = {name: value for name, value in options.items() if value is not None}
    chosen = cfg.get("visualizer") or {}
    drawing = {name: chosen[name] for name in task.drawing if name in chosen}
    size = get_dist_info()[1]
    staging = Staging(out_dir)

    def prepare() -> tuple[Sequence[Source], NotListed]:
        _check_options(task, options)
        _check_device(device, size)
        not_listed = NotListed()
        sources = task.list_sources(folder, out_dir, overlays, not_listed, options)
        make_folder(out_dir)
        stack.enter_context(folder_locked(out_dir, "an inference", "out_dir"))
        check_folders(task, out_dir)
        stack.callback(staging.remove)
        staging.make()
        return sources, not_listed

    def setup() -> tuple[Inferencer, ResultWriter]:
        own_device = _own_device(device, size)
        model = load_by_task(task, cfg, checkpoint, own_device, dtype, compiles, tta, force)
        if classes is not None:
            model.set_classes(classes)
        if tiles is not None:
            model.check_tiles()
            model.tiles = tiles
        writer = task.writer(model, staging.folder, **drawing | options)
        writer.resume(out_dir)
        return model, writer

    sources, not_listed = broadcast_from_rank0(prepare)
    predictor, results = run_on_all_ranks(setup)
    batch_size = batch_size or cfg.test_dataloader.get("batch_size", 1)
    num_workers = num_workers or default_workers()
    report = Report(results, staging, len(sources), not_listed)
    if tiles is not None:
        predictor.tiles = replace(tiles, watch=partial(_watch, report))
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
            "tta": tta,
            "batch_size": batch_size,
            "tile": tiles and tiles.size,
            "overlap": tiles and tiles.overlap,
            "processes": size,
            "files": results.files,
        }
        summary = settings | report.summary()
        _put(summary, report)
        if not summary["interrupted"]:
            results.finish(out_dir, summary)
    if size == 1 and report.error:
        raise report.error
    return summary


def _put(summary: dict[str, Any], report: Report) -> None:
    """Put the results of a run into their places; the summary says which, ``results_in``."""
    staging, early = report.staging, summary["interrupted"]
    summary["results_in"] = None
    if early and not summary["num_done"]:
        return
    aside = staging.aside() if early and _holds_whole_run(staging.out_dir) else None
    place = aside or staging.out_dir
    summary["results_in"] = aside.name if aside else "."
    try:
        write_json(staging.folder / SUMMARY, summary)
        if aside:
            staging.put_aside(aside)
        else:
            staging.put([*report.files(), SUMMARY])
    except WriteError as error:
        if report.error is None:
            raise staging.placed(error) from error
        print(f"what was done is lost: {staging.placed(error)}", file=sys.stderr)
        summary["results_in"] = None
        return
    if report.error is not None:
        print(f"what was done until the error is in {place}", file=sys.stderr)


def _holds_whole_run(out_dir: Path) -> bool:
    """Whether a folder holds the results of a run that went to its end."""
    try:
        summary = read_small_json(out_dir / SUMMARY)
        return not (summary["interrupted"] or summary["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_options(task: Task, options: dict[str, Any]) -> None:
    """Refuse options that the task does not take."""
    name = task.writer_type.task
    for option in options:
        if option not in task.options:
            raise InputError(
                f"it is not for the task of this config, {name}, which takes "
                f"{listed(task.options) or 'no options of its own'}",
                argument=option,
            )


def check_folders(task: Task, out_dir: Path) -> None:
    """Refuse an output folder that holds files of another origin where the task's own go.

    A data set often keeps its masks under ``labels/``, beside its images.

    Args:
        task (Task): The task.
        out_dir (Path): The folder.

    Raises:
        InputError: There are such files.
    """
    folders = [out_dir / name for name, _ in task.writer_type.further.values()]
    held = [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]
    try:
        summary = read_small_json(out_dir / SUMMARY)
        ours = summary["task"] == task.writer_type.task
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if held and not ours:
        raise InputError(
            f"{held[0]} exists, and beside it no summary.json says that this command wrote it: "
            "nothing was overwritten; choose another out_dir"
        )


def _tiles_of(tile: int | None, overlap: float | None) -> Tiles | None:
    if tile is not None:
        return Tiles(tile) if overlap is None else Tiles(tile, overlap)
    if overlap is not None:
        raise InputError("is that of tiles; expected tile, their side in pixels, too", "overlap")
    return None


def _watch(report: Report, results: Iterable[Any], total: int) -> Iterator[Any]:
    """Show how many tiles of an image are done, and end the run between two if told to."""
    if get_dist_info()[0] == 0:
        results = track(results, total, "tiles")
    for found in results:
        yield found
        if report.termination.requested:
            raise KeyboardInterrupt


def _check_device(device: str, size: int) -> None:
    if size > 1 and ":" in device:
        raise InputError(
            f"{device} would put all {size} processes on one device: leave it out, and each "
            "process takes a GPU of its own",
            argument="device",
        )


def _own_device(device: str, size: int) -> str:
    """The GPU that was given to this process, where 'auto' leaves the choice."""
    if size > 1 and device == "auto" and torch.cuda.is_available():
        return f"cuda:{torch.cuda.current_device()}"
    return device


def _run_alone(
    sources: Sequence[Source],
    predictor: Inferencer,
    report: Report,
    batch_size: int,
    num_workers: int,
) -> None:
    with (
        _at_its_place(report),
        report.results.opened(),
        closing(process(sources, predictor, report, batch_size, num_workers)) as outcomes,
    ):
        shown: Iterable[Failed | Written] = outcomes
        if predictor.tiles is None:  # of tiles each image has a bar of its own
            shown = track(outcomes, len(sources), report.results.unit)
        _take(shown, report.add, report)


@contextmanager
def _at_its_place(report: Report) -> Iterator[None]:
    """Let an error of writing tell the place where the file would be at the end."""
    try:
        yield
    except WriteError as error:
        raise (report.error or report.staging.placed(error)) from error


def _run_share(
    sources: Sequence[Source],
    predictor: Inferencer,
    report: Report,
    batch_size: int,
    num_workers: int,
) -> None:
    """Run over this process's images; the first process then adds up those of all."""
    rank, size = get_dist_info()
    results, parts = report.results, make_parts(report.staging.out_dir)
    share = own_share(sources, batch_size)
    with (
        Journal(parts, rank) as journal,
        closing(process(share, predictor, report, batch_size, num_workers)) as outcomes,
    ):
        shown: Iterator[Failed | Written] = outcomes
        if rank == 0 and predictor.tiles is None:
            shown = track(outcomes, len(share), f"{results.unit} of process 1 of {size}")
        _take(shown, journal.add, report)
        journal.end(report.interrupted, _say_error(report.error, rank, size))
    if rank == 0:
        await_all(parts, size, lambda: report.told_to_end)
        report.take(endings(parts, size))
        try:
            with _at_its_place(report), results.opened():
                for outcome in merge(parts, sources, size, results.written):
                    report.add(outcome)
        finally:
            shutil.rmtree(parts, ignore_errors=True)


def _take(
    outcomes: Iterable[Failed | Written],
    add: Callable[[Failed | Written], None],
    report: Report,
) -> None:
    """Add up the outcomes, until Ctrl-C or an error, of a full disk for example."""
    try:
        for outcome in outcomes:
            add(outcome)
    except KeyboardInterrupt:
        report.interrupted = True
    except Exception as error:
        if isinstance(error, WriteError):
            error = report.staging.placed(error)
        report.interrupted, report.error = True, report.error or error


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
    results = named_task(summary["task"]).writer_type
    table = Table(show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    table.add_row(results.unit, f"{summary['num_done']} of {summary['num_images']}")
    table.add_row("failed", str(summary["num_failed"]))
    if summary["num_damaged"]:
        table.add_row("done, but damaged", str(summary["num_damaged"]))
    table.add_row("seconds", f"{summary['seconds']:.1f}")
    table.add_row(f"{results.unit}/s", f"{summary['images_per_second']:.1f}", end_section=True)
    for row in results.rows(summary):
        table.add_row(*row)
    Console(markup=False, emoji=False).print(table)
    for failure in summary["failed"]:
        print(printable(f"failed: {failure['file_name']}: {failure['reason']}"))
    for image in summary["damaged"]:
        text = f"damaged: {image['file_name']}: {image['reason']}; the results are those of what "
        print(printable(text + "could be decoded"))
    if summary["error"]:
        print(printable(summary["error"]))
    for name in summary["left_out"]:
        print(printable(f"left out: {name}: pictures that an earlier run wrote"))
    if summary["results_in"] is None:
        print("interrupted; nothing was written")
        return
    place = Path(out_dir, summary["results_in"])
    if summary["interrupted"]:
        print("interrupted; what was done is kept")
    if place != Path(out_dir):
        print(
            printable(
                f"the results in {out_dir} are those of an earlier run, which went to its end"
            )
        )
    folders = {"overlays": "overlay", "maps": "geojson"}
    kinds = [name for name, key in folders.items() if any(key in one for one in summary["images"])]
    files = ", ".join([summary["files"], "summary.json", *kinds])
    print(printable(f"results are in {place}: {files}"))


def process(
    sources: Sequence[Source],
    predictor: Inferencer,
    report: Report,
    batch_size: int,
    num_workers: int,
) -> Generator[Failed | Written, None, None]:
    """Read, predict and write, overlapping; yields what became of each image, in order."""

    def predict(pool: ThreadPoolExecutor) -> Iterator[Predicted | Failed]:
        try:
            for found in predictor.run(sources, batch_size, pool, num_workers):
                yield found
                if report.termination.requested:
                    report.interrupted = True
                    return
        except KeyboardInterrupt:  # what was predicted until now is still written
            report.interrupted = True
        except Exception as error:
            report.interrupted, report.error = True, error

    def write(item: Predicted | Failed) -> Written | Failed:
        if isinstance(item, Failed):
            return item
        try:
            for name in item.source.files:
                report.staging.check(name)
            written = report.results.write(item)
            written.damage = item.damage
            return written
        except WriteError as error:
            if error.is_of_disk:
                raise
            return Failed(item.source, str(report.staging.placed(error)))

    with ThreadPoolExecutor(num_workers) as pool:
        yield from map_ahead(pool, write, predict(pool), MAX_WAITING_BYTES, weigh=_nbytes)


def _describe(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _nbytes(item: Failed | Predicted) -> int:
    return 0 if isinstance(item, Failed) else item.nbytes


class Report:
    """Adds up what became of the images, and holds what ended the run before its time.

    Args:
        results (ResultWriter): What counts the results themselves.
        staging (Staging): Where their files are written.
        num_images (int): Images in the folder.
        not_listed (NotListed): What else is in the folder.
    """

    def __init__(
        self, results: ResultWriter, staging: Staging, num_images: int, not_listed: NotListed
    ) -> None:
        self.results = results
        self.staging = staging
        self.interrupted = False
        self.error: Exception | None = None
        self.termination = Termination()
        self._errors: list[str] = []
        self._num_images = num_images
        self._images: list[dict[str, Any]] = []
        self._failed: list[dict[str, str]] = list(not_listed.unreadable)
        self._damaged: list[dict[str, str]] = []
        self._left_out = not_listed.written
        self._start = time.perf_counter()

    @property
    def told_to_end(self) -> bool:
        """Whether this process was told to end, by Ctrl-C or SIGTERM."""
        return self.termination.requested or (self.interrupted and self.error is None)

    def take(self, endings: list[dict[str, Any]]) -> None:
        """Note how the processes ended, as :func:`mmbeit3.inference.rank_parts.endings` says it."""
        self.interrupted = any(ending["interrupted"] for ending in endings)
        self._errors = [ending["error"] for ending in endings if ending["error"]]

    def add(self, outcome: Failed | Written) -> None:
        """Count one image."""
        source = outcome.source
        if isinstance(outcome, Failed):
            self._failed.append({"file_name": source.file_name, "reason": outcome.reason})
            return
        if outcome.damage:
            self._damaged.append({"file_name": source.file_name, "reason": outcome.damage})
        further = self.results.add(outcome)
        image = {"id": source.image_id, "file_name": source.file_name}
        image |= {"width": outcome.width, "height": outcome.height}
        image |= {"overlay": source.overlay} if source.overlay else {}
        self._images.append(image | further)

    def files(self) -> Iterator[str]:
        """Yield the files of all images that are done, and then those of the run."""
        kinds = ("overlay", *self.results.further)
        for image in self._images:
            yield from (image[key] for key in kinds if key in image)
        yield from self.results.run_files

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
            "num_damaged": len(self._damaged),
            "seconds": round(seconds, 3),
            "images_per_second": round(len(self._images) / seconds, 3),
            "versions": {"mmbeit3": __version__, "torch": torch.__version__}
            | {module.__name__: module.__version__ for module in libraries},
            "failed": self._failed,
            "damaged": self._damaged,
            "left_out": self._left_out,
        }
        return counts | self.results.summary() | {"images": self._images}
