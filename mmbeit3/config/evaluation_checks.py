"""Whether the evaluators of a config fit its data sets and its model, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import path as osp
from typing import Any, NamedTuple

from mmengine.config import Config, ConfigDict

from mmbeit3.config.datasets import COCO_TYPE, data_path, find_datasets
from mmbeit3.utils import InputError

MASKS = "segm"


class _Image(NamedTuple):
    """An image as an annotation file has it, and where."""

    file: str
    path: str
    size: tuple[int, int]


def find_evaluation_problems(cfg: Config, splits: Sequence[str]) -> list[str]:
    """Compare the annotation files of COCO metrics with those of the data sets that they score.

    Image ids tell whose objects a detection is compared with. Data sets that are evaluated together
    must not share any, and the metric's file must have the images of all.

    Args:
        cfg: The config.
        splits: Of 'val' and 'test'.

    Returns:
        What does not fit.
    """
    problems = []
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if not loader or cfg.get(f"{split}_cfg") is None:
            continue
        datasets = [
            found for found in find_datasets(cfg, (split,)) if found[1].get("type") == COCO_TYPE
        ]
        for place, metric, own in _metrics(cfg, split, datasets):
            try:
                problems += _problems_of(place, metric, own)
            except InputError as error:
                problems.append(f"{place}: {error}")
    return problems


def coco_metrics(cfg: Config, split: str) -> Iterator[tuple[str, ConfigDict]]:
    """The COCO metrics of a config with their places.

    Args:
        cfg: The config.
        split: 'val' or 'test'.
    """
    evaluator, place = cfg.get(f"{split}_evaluator"), f"{split}_evaluator"
    if isinstance(evaluator, dict) and "metrics" in evaluator:
        evaluator, place = evaluator["metrics"], f"{place}.metrics"
    if isinstance(evaluator, (list, tuple)):
        entries = [(f"{place}.{index}", entry) for index, entry in enumerate(evaluator)]
    else:
        entries = [(place, evaluator)]
    for where, entry in entries:
        if isinstance(entry, dict) and str(entry.get("type")).endswith("CocoMetric"):
            yield where, entry


def _metrics(
    cfg: Config, split: str, datasets: list[tuple[str, ConfigDict]]
) -> Iterator[tuple[str, ConfigDict, list[tuple[str, ConfigDict]]]]:
    """Place and settings of each metric, and the data sets that it scores."""
    evaluator = cfg.get(f"{split}_evaluator")
    kind = str(evaluator.get("type")) if isinstance(evaluator, dict) else ""
    metrics = list(coco_metrics(cfg, split))
    one_each = kind.endswith("MultiDatasetsEvaluator") and len(metrics) == len(datasets)
    for index, (place, metric) in enumerate(metrics):
        yield place, metric, [datasets[index]] if one_each else datasets


def _problems_of(
    place: str, metric: Mapping[str, Any], datasets: list[tuple[str, ConfigDict]]
) -> list[str]:
    """What keeps the ground truth of a metric from being that of its data sets."""
    files = {where: data_path(dataset, "ann_file") for where, dataset in datasets}
    truth_file = metric.get("ann_file")
    local = [*files.values(), *([truth_file] if truth_file else [])]
    if any("://" in file for file in local):
        return []
    if truth_file and not osp.isfile(truth_file):
        raise InputError(
            f"there is no file {truth_file}; ann_file of the metric is that of the data set, "
            f"{' and '.join(sorted(set(files.values())))}"
        )
    different = {osp.realpath(file) for file in local}
    if len(different) < 2 or not all(map(osp.isfile, local)):
        return []  # that a data set's file is missing is found where it is loaded
    by_id: dict[int, _Image] = {}
    problems = []
    truth = _images(truth_file, "") if truth_file else {}
    for where, dataset in datasets:
        images = _images(files[where], (dataset.get("data_prefix") or {}).get("img", ""), dataset)
        problems += _clash(place, images, by_id)
        by_id |= images
        if truth_file:
            problems += _absent(place, where, truth_file, images, truth)
    return problems


def _clash(place: str, images: dict[int, _Image], others: dict[int, _Image]) -> list[str]:
    from mmbeit3.evaluation.coco_metric import SEPARATE_IDS

    shared = [
        number
        for number, image in images.items()
        if number in others and osp.realpath(image.path) != osp.realpath(others[number].path)
    ]
    if not shared:
        return []
    one, other = others[shared[0]], images[shared[0]]
    return [
        f"{place}: {len(shared)} image ids stand for two images, the first is {shared[0]}: "
        f"{one.path} in {one.file} and {other.path} in {other.file}. One would be scored against "
        f"the objects of the other. {SEPARATE_IDS}"
    ]


def _absent(
    place: str,
    where: str,
    truth_file: str,
    images: dict[int, _Image],
    truth: dict[int, _Image],
) -> list[str]:
    absent = [
        number
        for number, image in images.items()
        if number not in truth
        or truth[number].size != image.size
        or osp.basename(truth[number].path) != osp.basename(image.path)
    ]
    if not absent:
        return []
    number = absent[0]
    image, there = images[number], truth.get(number)
    state = "is not there"
    if there is not None:
        sizes = ["{} x {}".format(*entry.size) for entry in (there, image)]
        state = f"is {there.path}, {sizes[0]}, there and {image.path}, {sizes[1]}, here"
    return [
        f"{place}: {len(absent)} of the {len(images)} images of {where} ({image.file}) are not in "
        f"ann_file of the metric ({truth_file}); the image with the id {number} {state}. They "
        "would be scored against other objects or none: set ann_file to the file of the data set, "
        "or to one that has the images of all data sets"
    ]


def _images(file: str, folder: str, dataset: Mapping[str, Any] | None = None) -> dict[int, _Image]:
    from mmbeit3.datasets.checks.coco import check_coco, raise_on_errors, read_json

    data = read_json(file)
    report = check_coco(data if not isinstance(data, dict) else data | {"annotations": []})
    report.num_warnings = 0  # the data set's loading gives them
    raise_on_errors(report, file)
    root = (dataset or {}).get("data_root") or ""
    return {
        image["id"]: _Image(
            file,
            osp.join(root, folder, image["file_name"].replace("\\", "/")),
            (image["width"], image["height"]),
        )
        for image in data["images"]
    }
