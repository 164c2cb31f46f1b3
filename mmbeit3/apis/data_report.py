"""What is in a data set and what is wrong with it: a report in JSON, tables and a page of pictures.

``tools/misc/check_dataset.py`` runs it.
"""

from __future__ import annotations

import html
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmdet.datasets.transforms import LoadAnnotations as LoadObjects
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from rich.console import Console
from rich.table import Table

from mmbeit3.config.classes import resolve_classes
from mmbeit3.config.data_checks import build_dataset
from mmbeit3.config.datasets import COCO_TYPE, dataset_class, distinct, own_datasets
from mmbeit3.config.tokenizers import read_tokenizer
from mmbeit3.datasets import (
    CocoDataset,
    ImageFolderDataset,
    ImagesDataset,
    ShapesDataset,
    ShardsDataset,
    TextDataset,
    TextLinesDataset,
)
from mmbeit3.datasets.checks.captions import describe_long
from mmbeit3.datasets.checks.coco import check_coco, read_json
from mmbeit3.datasets.checks.segmentation import IGNORED, count_labels
from mmbeit3.datasets.checks.sizes import find_size_problems
from mmbeit3.datasets.coco import image_files
from mmbeit3.datasets.image_files import (
    ImageFile,
    Loader,
    describe_turned,
    find_image_problems,
    read_size,
)
from mmbeit3.datasets.palette import palette_or_made
from mmbeit3.datasets.text_dataset import image_files as files_of_texts
from mmbeit3.datasets.transforms.loading import image_loader, load_bgr
from mmbeit3.inference.staging import staged
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError
from mmbeit3.utils.image_damage import finds_jpeg_damage
from mmbeit3.utils.image_reading import decode_image
from mmbeit3.utils.text_files import printable
from mmbeit3.utils.whole_files import WriteError, write_whole
from mmbeit3.visualization.example_mask import draw_labels, write_example_mask
from mmbeit3.visualization.overlay import draw_instances
from mmbeit3.visualization.pictures import write_picture
from mmbeit3.visualization.text_strip import side_by_side

MAX_KEPT = 10_000  # errors and warnings of a data set that the report holds in words
MAX_SHOWN = 10
PICTURES = "samples"

Draw = Callable[[], np.ndarray]
"""Makes the picture of one sample, (H, W, 3), BGR."""


class Sample(NamedTuple):
    """A sample of the page: its picture, and its texts."""

    draw: Draw
    texts: Sequence[str] = ()


@dataclass
class DatasetReport:
    """What was found in one data set.

    Attributes:
        place: Where it stands in the config, or the annotation file.
        source: The annotation file, or the folder of label maps.
        num_images: Images that are used.
        num_texts: Captions, questions or statements that are used.
        text_name: What these are.
        num_errors: Entries that cannot be used.
        errors: What is wrong with which of them.
        num_warnings: Entries that look like mistakes.
        warnings: The same for them.
        classes: For each class its ``name``, the ``images`` that have it, and ``objects`` (crowds
            apart) or ``pixels``; in folders of classes ``images`` alone.
        pictures: Paths of the sample pictures, below the folder of the report.
        texts: What is written beside each of them.
    """

    place: str
    source: str = ""
    num_images: int = 0
    num_texts: int = 0
    text_name: str = "captions"
    num_errors: int = 0
    errors: list[str] = field(default_factory=list)
    num_warnings: int = 0
    warnings: list[str] = field(default_factory=list)
    classes: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    texts: list[list[str]] = field(default_factory=list)

    @property
    def contents(self) -> str:
        """How many images and texts are used, for a person."""
        counts = [f"{self.num_images:,} images"] if self.num_images or not self.num_texts else []
        counts += [f"{self.num_texts:,} {self.text_name}"] if self.num_texts else []
        return ", ".join(counts)

    def add_errors(self, texts: Sequence[str]) -> None:
        """Count errors."""
        self.num_errors += len(texts)
        self.errors += texts[: MAX_KEPT - len(self.errors)]

    def add_warning(self, text: str) -> None:
        """Count a warning, and put it before the others."""
        self.num_warnings += 1
        self.warnings.insert(0, text)


def report_config(
    cfg: Config, splits: Sequence[str], out_dir: Path, decode: bool = False, num_samples: int = 12
) -> list[DatasetReport]:
    """Check the data sets of a config, print what was found, and write it to a folder.

    Args:
        cfg: The config; its classes are resolved in place.
        splits: Of 'train', 'val' and 'test'.
        out_dir: Where ``report.json`` and ``samples.html`` go, pictures, in ``samples/``, and of
            a segmentor's training set ``example_mask.jpg``.
        decode: Whether to decode every image in full. Defaults to False.
        num_samples: Pictures of each data set. Defaults to 12.

    Raises:
        InputError: The config has no data set of this package's types in these splits, or the
            report cannot be written; an earlier one is as it was then.
    """
    reports = []
    try:
        resolve_classes(cfg)
    except InputError as error:
        reports.append(DatasetReport("classes", num_errors=1, errors=[str(error)]))
    datasets = distinct(own_datasets(cfg, splits))
    if not datasets:
        raise InputError(
            f"the config has no data set of a type mmbeit3.* in {', '.join(splits)}: others are "
            "not checked"
        )
    write_example_mask(cfg, out_dir)
    scope = cfg.get("default_scope")
    try:
        tokenizer = read_tokenizer(cfg)
    except InputError as error:
        tokenizer = None
        reports.append(DatasetReport("tokenizer", num_errors=1, errors=[str(error)]))
    return _report(
        [(*dataset, scope) for dataset in datasets],
        reports,
        out_dir,
        decode,
        num_samples,
        tokenizer,
    )


def report_coco(
    ann_file: Path, images: Path, out_dir: Path, decode: bool = False, num_samples: int = 12
) -> list[DatasetReport]:
    """Check a COCO file and its images, as :func:`report_config` does it.

    Args:
        ann_file: The annotation file.
        images: Folder of the images.
        out_dir: See there.
        decode: See there. Defaults to False.
        num_samples: See there. Defaults to 12.
    """
    config = ConfigDict(
        type=COCO_TYPE,
        ann_file=str(ann_file.resolve()),
        data_prefix=dict(img=str(images.resolve())),
    )
    return _report([(str(ann_file), config, "mmdet")], [], out_dir, decode, num_samples)


def _report(
    datasets: Sequence[tuple[str, ConfigDict, str | None]],
    reports: list[DatasetReport],
    out_dir: Path,
    decode: bool,
    num_samples: int,
    tokenizer: Tokenizer | None = None,
) -> list[DatasetReport]:
    """Add a report for each data set (its place, its settings, its scope) to those there are."""
    if decode and not finds_jpeg_damage():
        text = "damage in the middle of JPEG files is not found: pip install simplejpeg"
        print_log(text, "current", logging.WARNING)
    with staged(out_dir, "a data check", "--out-dir") as new:
        _inspect_all(datasets, reports, new, decode, num_samples, tokenizer)
        content = json.dumps([asdict(report) for report in reports], indent=1, ensure_ascii=False)
        write_whole(new / "report.json", content + "\n")
        write_whole(new / "samples.html", _page(reports))
    console = Console()
    for report in reports:
        _print(report, console)
    return reports


def _inspect_all(
    datasets: Sequence[tuple[str, ConfigDict, str | None]],
    reports: list[DatasetReport],
    out_dir: Path,
    decode: bool,
    num_samples: int,
    tokenizer: Tokenizer | None,
) -> None:
    for number, (place, config, scope) in enumerate(datasets):
        report = DatasetReport(place)
        reports.append(report)
        try:
            kind = dataset_class(config)
            if config["type"] == COCO_TYPE:
                samples = _inspect_coco(report, config, scope, decode)
            elif isinstance(kind, type) and issubclass(kind, TextDataset):
                samples = _inspect_texts(report, config, scope, decode, tokenizer)
            elif isinstance(kind, type) and issubclass(kind, TextLinesDataset):
                samples = _inspect_lines(report, config, scope)
            elif isinstance(kind, type) and issubclass(kind, (ShapesDataset, ShardsDataset)):
                samples = _inspect_contents(report, config, scope, decode, num_samples)
            elif isinstance(kind, type) and issubclass(kind, (ImageFolderDataset, ImagesDataset)):
                samples = _inspect_folder(report, config, scope, decode)
            else:
                samples = _inspect_seg(report, config, scope, decode)
            for index, sample in _choose(samples, num_samples):
                name = f"{PICTURES}/{number}-{index:06d}.jpg"
                write_picture(out_dir / name, sample.draw())
                report.pictures.append(name)
                report.texts.append(list(sample.texts))
        except WriteError:
            raise
        except InputError as error:
            report.add_errors([str(error)])


def _choose(samples: Sequence[Any], number: int) -> Iterator[tuple[int, Any]]:
    """Samples at equal distances, with their indices."""
    count = min(number, len(samples))
    for index in np.linspace(0, len(samples) - 1, count).astype(int).tolist():
        yield index, samples[index]


def _inspect_coco(
    report: DatasetReport, config: ConfigDict, scope: str | None, decode: bool
) -> list[Sample]:
    dataset: CocoDataset = build_dataset(config, scope, lazy_init=True)
    report.source = dataset.ann_file
    data = read_json(dataset.ann_file)
    found = check_coco(data, not dataset.test_mode, MAX_KEPT, dataset.check_meaning)
    report.num_warnings, report.warnings = found.num_warnings, found.warnings
    report.num_errors, report.errors = found.num_errors, found.errors
    if found.num_errors:
        return []
    dataset.data_list = dataset.load_data_list()
    infos = dataset.select_images()
    report.num_images = len(infos)
    report.classes = _count_objects(infos, dataset.metainfo["classes"])
    files = image_files(infos)
    loader = image_loader(dataset.pipeline.transforms)
    turned: list[str] = []
    bad = find_image_problems(files, report.source, loader, decode, turned)
    if turned:
        report.add_warning(describe_turned(turned, report.source))
    report.add_errors(list(bad.values()))
    report.add_errors(find_size_problems(files, dataset.pipeline.transforms))
    annotated = [info for info in infos if info["instances"] and info["img_path"] not in bad]
    return [Sample(partial(_draw_objects, info, dataset)) for info in annotated]


def _count_objects(infos: Sequence[dict], classes: Sequence[str]) -> list[dict[str, Any]]:
    objects: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for info in infos:
        labels = [one["bbox_label"] for one in info["instances"] if not one["ignore_flag"]]
        objects.update(labels)
        images.update(set(labels))
    return [
        {"name": name, "images": images[label], "objects": objects[label]}
        for label, name in enumerate(classes)
    ]


def _draw_objects(info: dict, dataset: CocoDataset) -> np.ndarray:
    """Draw the boxes and masks of an image as training loads them; crowds have names of their own.

    Args:
        info: The image, as the data set lists it.
        dataset: Its data set.
    """
    image = load_bgr(image_loader(dataset.pipeline.transforms), info["img_path"])
    metainfo = dataset.metainfo
    classes = [*metainfo["classes"], *(f"{name} (crowd)" for name in metainfo["classes"])]
    colors = palette_or_made(metainfo.get("palette"), len(metainfo["classes"]))
    palette = [color[::-1] for color in colors]
    boxes, labels, masks = [], [], []
    for one in info["instances"]:
        boxes.append(one["bbox"])
        labels.append(one["bbox_label"] + one["ignore_flag"] * len(palette))
        mask = one.get("mask")
        masks.append(np.zeros(image.shape[:2]) if mask is None else _decode(mask, image))
    return draw_instances(
        image,
        np.array(boxes),
        np.array(labels),
        None,
        np.array(masks, bool),
        classes,
        palette * 2,
    )


def _decode(mask: list | dict, image: np.ndarray) -> np.ndarray:
    """The pixels of polygons or RLE, (H, W), as mmdet's loading makes them."""
    parts = [np.array(part) for part in mask] if isinstance(mask, list) else mask
    return LoadObjects()._poly2mask(parts, *image.shape[:2])


def _inspect_texts(
    report: DatasetReport,
    config: ConfigDict,
    scope: str | None,
    decode: bool,
    tokenizer: Tokenizer | None,
) -> list[Sample]:
    dataset: TextDataset = build_dataset(config, scope, lazy_init=True)
    report.source, report.text_name = dataset.source, dataset.text_name
    entries, found = dataset.inspect(MAX_KEPT)
    report.num_warnings, report.warnings = found.num_warnings, found.warnings
    report.num_errors, report.errors = found.num_errors, found.errors
    if found.num_errors:
        return []
    files = files_of_texts(dataset.items_of(entries))
    texts = [text for entry in entries for text in entry.texts]
    report.num_images, report.num_texts = len(files), len(texts)
    if tokenizer is not None:
        long = describe_long(texts, tokenizer.lengths(texts), tokenizer.max_length)
        if long:
            report.add_warning(long)
    loader = image_loader(dataset.pipeline.transforms)
    bad = find_image_problems(files, report.source, loader, decode)
    report.add_errors(list(bad.values()))
    return [
        Sample(partial(_draw_images, loader, paths), entry.lines)
        for entry in entries
        if not bad.keys() & set(paths := dataset.paths_of(entry))
    ]


def _draw_images(loader: Loader, paths: Sequence[str]) -> np.ndarray:
    return side_by_side([load_bgr(loader, path) for path in paths])


def _inspect_folder(
    report: DatasetReport, config: ConfigDict, scope: str | None, decode: bool
) -> list[Sample]:
    dataset: ImageFolderDataset | ImagesDataset = build_dataset(config, scope, lazy_init=True)
    report.source = dataset.data_prefix["img_path"]
    infos = dataset.load_data_list()  # headers and ends of the files are checked here
    classes = dataset.metainfo.get("classes", ())
    counts = Counter(info.get("gt_label") for info in infos)
    report.num_images = len(infos)
    report.classes = [{"name": name, "images": counts[label]} for label, name in enumerate(classes)]
    loader = image_loader(dataset.pipeline.transforms)
    if decode:
        files = [ImageFile(info["img_path"]) for info in infos]
        bad = find_image_problems(files, report.source, loader, decode)
        report.add_errors(list(bad.values()))
        infos = [info for info in infos if info["img_path"] not in bad]
    return [
        Sample(
            partial(load_bgr, loader, info["img_path"]),
            (classes[info["gt_label"]],) if classes else (),
        )
        for info in infos
    ]


def _inspect_lines(report: DatasetReport, config: ConfigDict, scope: str | None) -> list[Sample]:
    dataset: TextLinesDataset = build_dataset(config, scope)  # all lines are checked here
    report.source = ", ".join(dataset.files)
    report.num_texts, report.text_name = len(dataset), "texts"
    return []


def _inspect_contents(
    report: DatasetReport, config: ConfigDict, scope: str | None, decode: bool, num_samples: int
) -> list[Sample]:
    """Inspect images that have no files of their own."""
    dataset: ShapesDataset | ShardsDataset = build_dataset(config, scope)  # all are checked here
    report.source = dataset.source
    if getattr(dataset, "endless", False):
        report.source += f"; the first {num_samples}"
    report.num_images = num_samples if getattr(dataset, "endless", False) else len(dataset)
    items = map(dataset.read, range(report.num_images if decode else 0))
    loader = image_loader(dataset.pipeline.transforms)
    for item in items:
        size = read_size(item["img_path"], loader, True, item["img_bytes"])
        if size.damage:
            report.add_errors([f"{item['img_path']} is damaged: {size.damage}"])
    chosen = [dataset.read(index) for index, _ in _choose(range(report.num_images), num_samples)]
    report.num_texts = report.num_images if chosen and "texts" in chosen[0] else 0
    return [
        Sample(partial(decode_image, item["img_bytes"]), item.get("texts", ())) for item in chosen
    ]


def _inspect_seg(
    report: DatasetReport, config: ConfigDict, scope: str | None, decode: bool
) -> list[Sample]:
    dataset: BaseSegDataset = build_dataset(config, scope, lazy_init=True)
    map_dir = dataset.data_prefix.get("seg_map_path")
    report.source = map_dir or dataset.data_prefix.get("img_path", "")
    infos = dataset.load_data_list()  # label maps are checked here
    report.num_images = len(infos)
    if decode or not map_dir:
        files = [ImageFile(info["img_path"]) for info in infos]
        loader = image_loader(dataset.pipeline.transforms)
        bad = find_image_problems(files, report.source, loader, decode)
        report.add_errors(list(bad.values()))
        infos = [info for info in infos if info["img_path"] not in bad]
    if not map_dir or not infos:
        return []
    report.classes = _count_pixels(report, infos, dataset)
    return [Sample(partial(draw_labels, info, dataset)) for info in infos]


def _count_pixels(
    report: DatasetReport, infos: list[dict], dataset: BaseSegDataset
) -> list[dict[str, Any]]:
    pairs = [(info["img_path"], info["seg_map_path"]) for info in infos]
    loader = image_loader(dataset.pipeline.transforms)
    counts = count_labels(pairs, dataset.data_prefix["seg_map_path"], loader)
    if counts.turned:
        report.add_warning(describe_turned(counts.turned, report.source))
    # The files hold all classes of a type like ADE20K, where the config may choose some of them.
    names = dataset.METAINFO.get("classes") or dataset.metainfo["classes"]
    values = dict(enumerate(names, int(dataset.reduce_zero_label)))
    values |= {0: "(unlabeled)"} if dataset.reduce_zero_label else {}
    values |= {IGNORED: "(ignored)"} if counts.has(IGNORED) else {}
    return [
        {"name": name, "images": int(counts.maps[value]), "pixels": int(counts.pixels[value])}
        for value, name in sorted(values.items())
    ]


def _print(report: DatasetReport, console: Console) -> None:
    console.rule(printable(report.place))
    if report.num_images or report.num_texts:
        console.print(f"{printable(report.source)}: {report.contents}", markup=False)
    if report.classes:
        units = list(report.classes[0])[1:]
        table = Table("class", *units)
        for row in report.classes:
            table.add_row(printable(row["name"]), *(f"{row[unit]:,}" for unit in units))
        console.print(table)
    for kind in ("warnings", "errors"):
        count, texts = getattr(report, f"num_{kind}"), getattr(report, kind)
        console.print(f"{count:,} {kind}", style="bold red" if kind == "errors" and count else None)
        for text in texts[:MAX_SHOWN]:
            console.print(printable(f"  {text}"), markup=False, highlight=False, soft_wrap=True)
        if count > MAX_SHOWN:
            console.print(f"  ... and {count - MAX_SHOWN:,} more")


def _page(reports: Sequence[DatasetReport]) -> str:
    """The page of sample pictures."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Samples</title>',
        "<style>body{font-family:sans-serif;margin:2em}img{max-width:100%;margin:0 0 1em}</style>",
    ]
    for report in reports:
        parts.append(f"<h2>{html.escape(report.place)}</h2><p>{html.escape(report.source)}: ")
        parts.append(
            f"{report.contents}, {report.num_errors:,} errors, {report.num_warnings:,} warnings</p>"
        )
        for name, texts in zip(report.pictures, report.texts, strict=True):
            captions = "".join(f"<br>{html.escape(text)}" for text in texts)
            parts.append(f'<p><img loading="lazy" src="{name}" alt="">{captions}</p>')
    return "\n".join([*parts, "</html>", ""])
