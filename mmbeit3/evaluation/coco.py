"""COCO average precision of boxes and masks, unrounded, by either of two programs.

The definitions are those of the COCO API (https://cocodataset.org/#detection-eval): IoU 0.50 to
0.95, at most 100 detections of a class in an image (unless asked for more), areas split at 32^2
and 96^2 pixels. A value is -1 where there is no ground truth to measure it on.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmbeit3.datasets.checks.coco import (
    box_problem,
    check_coco,
    is_finite_number,
    is_id,
    load_coco,
    no_garbage_collection,
    raise_on_errors,
    read_json,
    rle_problem,
)
from mmbeit3.datasets.checks.rle import read_codes
from mmbeit3.datasets.coco_content import MASK
from mmbeit3.datasets.coco_index import CocoIndex, open_index
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.tables import text_table

BACKENDS = ("faster-coco-eval", "pycocotools")
IOU_TYPES = ("bbox", "segm")
MAX_DETS = (1, 10, 100)
# key: (array, index of the IoU threshold, index of the area range), at most detections
SUMMARY = {
    "AP": ("precision", None, 0),
    "AP50": ("precision", 0, 0),
    "AP75": ("precision", 5, 0),
    "APs": ("precision", None, 1),
    "APm": ("precision", None, 2),
    "APl": ("precision", None, 3),
    "ARs": ("recall", None, 1),
    "ARm": ("recall", None, 2),
    "ARl": ("recall", None, 3),
}
PLAIN = {int, float, str, bytes, bool, type(None)}  # what needs no conversion
AP_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
#: Objects and results that are compared at a time, if one category has not more.
MAX_ENTRIES = 10_000


@no_garbage_collection()
def evaluate_coco(
    ground_truth: dict | str | Path | COCO | CocoIndex,
    results: list[dict] | str | Path,
    iou_type: str = "bbox",
    backend: str = "faster-coco-eval",
    classwise: bool = False,
    category_ids: Sequence[int] | None = None,
    max_dets: Sequence[int] = MAX_DETS,
) -> dict[str, float]:
    """Score detections against COCO annotations.

    Args:
        ground_truth: Annotations: a file, its content, or an index of it. All its images count,
            those without detections as missed. Numbers and arrays may be numpy's.
        results: COCO results: a file or its content, one dict for each detection with ``image_id``,
            ``category_id``, ``score`` and ``bbox`` [x, y, width, height] or ``segmentation``
            (compressed RLE). Numbers and arrays may be numpy's; for boxes, as with pycocotools, an
            array (N, 7) of image id, x, y, width, height, score and category id will do.
        iou_type: 'bbox' or 'segm'. Defaults to 'bbox'.
        backend: 'faster-coco-eval', or 'pycocotools', the slower official program: the numbers are
            the same. Defaults to 'faster-coco-eval'.
        classwise: Whether to add ``<key>/<class name>`` for the six AP keys. Defaults to False.
        category_ids: Categories to evaluate. Defaults to all.
        max_dets: How many detections of a class in an image count at most: AR is measured for each
            number, all else for the largest. Defaults to (1, 10, 100).

    Returns:
        ``AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl`` in 0..1, float64 and
        unrounded; -1 where there is no ground truth. The numbers in the keys are ``max_dets``.

    Raises:
        InputError: A file cannot be used, or results name unknown images or categories.
    """
    if isinstance(ground_truth, (str, Path)):
        ground_truth = open_index(ground_truth, str(ground_truth)) or ground_truth
    found = accumulate_coco(ground_truth, results, iou_type, backend, category_ids, max_dets)
    metrics = summarize(found.arrays, found.max_dets)
    if classwise:
        for index, name in enumerate(found.classes):
            values = summarize(found.arrays, found.max_dets, index)
            metrics |= {f"{key}/{name}": values[key] for key in AP_KEYS}
    _explain_zero(metrics["AP"], found.detections, iou_type)
    return metrics


@dataclass(frozen=True)
class Accumulated:
    """Results next to their ground truth, as the COCO API accumulates them.

    Attributes:
        truth (dict): The annotations, with ids from 1.
        detections (list[dict]): The results, with ids from 1.
        category_ids (list[int]): The K categories, ascending.
        max_dets (list[int]): The M limits of detections, ascending.
        arrays (dict[str, np.ndarray]): 'precision' and 'recall' as of :func:`summarize`.
    """

    truth: dict
    detections: list[dict]
    category_ids: list[int]
    max_dets: list[int]
    arrays: dict[str, np.ndarray]

    @property
    def classes(self) -> list[str]:
        """list[str]: Name of each category."""
        names = {category["id"]: category["name"] for category in self.truth["categories"]}
        return [names[number] for number in self.category_ids]


@no_garbage_collection()
def accumulate_coco(
    ground_truth: dict | str | Path | COCO | CocoIndex,
    results: list[dict] | str | Path,
    iou_type: str = "bbox",
    backend: str = "faster-coco-eval",
    category_ids: Sequence[int] | None = None,
    max_dets: Sequence[int] = MAX_DETS,
) -> Accumulated:
    """Find precision and recall of detections; arguments and errors as of :func:`evaluate_coco`."""
    if iou_type not in IOU_TYPES:
        raise InputError(f"iou_type is {iou_type!r}, expected one of {IOU_TYPES}")
    max_dets = check_max_dets(max_dets)
    accumulate = _find_backend(backend)
    truth = _load_ground_truth(ground_truth, iou_type)
    detections = _load_results(results, truth, iou_type)
    if category_ids is None:
        category_ids = [category["id"] for category in truth["categories"]]
    numbers = sorted(set(map(int, category_ids)))
    found = _by_category(detections)
    if isinstance(ground_truth, CocoIndex):
        counts = ground_truth.counts()
    else:
        objects = _by_category(truth["annotations"])
        counts = {number: len(objects[number]) for number in numbers}
    parts = []
    for chosen in _portions(numbers, {n: counts.get(n, 0) + len(found[n]) for n in numbers}):
        if isinstance(ground_truth, CocoIndex):
            there = _numbered(ground_truth.annotations_of(chosen))
        else:
            there = [entry for number in chosen for entry in objects[number]]
        here = [entry for number in chosen for entry in found[number]]
        shown = {entry["image_id"] for entry in there} | {entry["image_id"] for entry in here}
        images = [image for image in truth["images"] if image["id"] in shown]
        some = truth | {"annotations": there, "images": images or truth["images"][:1]}
        parts.append(accumulate(some, here, iou_type, chosen, max_dets))
    arrays = {
        name: np.concatenate([np.asarray(part[name]) for part in parts], axis)
        for name, axis in (("precision", 2), ("recall", 1))
    }
    return Accumulated(truth, detections, numbers, max_dets, arrays)


def _portions(numbers: Sequence[int], counts: Mapping[int, int]) -> Iterator[list[int]]:
    """Categories that are evaluated together, of at most :data:`MAX_ENTRIES` objects and results.

    What the programs keep of a pair of image and category takes memory, in empty pairs as well.
    """
    portion: list[int] = []
    size = 0
    for number in numbers:
        if portion and size + counts[number] > MAX_ENTRIES:
            yield portion
            portion, size = [], 0
        portion.append(number)
        size += counts[number]
    if portion or not numbers:
        yield portion


def check_max_dets(max_dets: Sequence[int], name: str = "max_dets") -> list[int]:
    """Sort the numbers of detections that count at most.

    Args:
        max_dets: The numbers.
        name: What to call them in the message. Defaults to 'max_dets'.

    Raises:
        InputError: They are not whole numbers from 1 on.
    """
    numbers = to_python(max_dets)
    fits = isinstance(numbers, (list, tuple)) and {int} == set(map(type, numbers))
    if not fits or min(numbers) < 1:
        raise InputError(
            f"{name} is {max_dets!r}, expected numbers of detections such as (1, 10, 100)"
        )
    return sorted(set(numbers))


def to_python(value: Any) -> Any:
    """Make numpy's numbers and arrays Python's, inside lists and dicts too."""
    if isinstance(value, dict):
        return {key: to_python(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        is_plain = PLAIN.issuperset(map(type, value))
        return value if is_plain else [to_python(entry) for entry in value]
    return value.tolist() if hasattr(value, "tolist") else value


def summarize(
    arrays: dict[str, np.ndarray], max_dets: Sequence[int], category: int | None = None
) -> dict[str, float]:
    """Average the accumulated arrays into the 12 numbers of the COCO API.

    Args:
        arrays: 'precision' (T, R, K, A, M) and 'recall' (T, K, A, M) over T IoU thresholds, R
            recall levels, K categories, A area ranges, M limits of detections; -1 for no data.
        max_dets: The M limits, ascending.
        category: Index of one category. Defaults to None, all of them.
    """
    chosen = slice(None) if category is None else slice(category, category + 1)
    last = len(max_dets) - 1
    summary = {key: (*entry, last) for key, entry in SUMMARY.items() if key in AP_KEYS}
    summary |= {f"AR{n}": ("recall", None, 0, limit) for limit, n in enumerate(max_dets)}
    summary |= {key: (*entry, last) for key, entry in SUMMARY.items() if key not in AP_KEYS}
    metrics = {}
    for key, (name, threshold, area, limit) in summary.items():
        values = np.asarray(arrays[name])[..., chosen, area, limit]
        if threshold is not None:
            values = values[threshold]
        values = values[values > -1]
        metrics[key] = float(values.mean()) if values.size else -1.0
    return metrics


def format_table(metrics: dict[str, dict[str, float]]) -> str:
    """A text table of the AP keys and the last AR, one row for each entry ('bbox', 'segm')."""
    recalls = [key for row in metrics.values() for key in row if re.fullmatch(r"AR\d+", key)]
    keys = (*AP_KEYS, *recalls[-1:])
    rows = [[name, *(_text(values.get(key)) for key in keys)] for name, values in metrics.items()]
    return text_table(["", *keys], rows)


def class_rows(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    """Regroup the ``<key>/<class name>`` entries by class, for ``format_table``."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        key, slash, label = name.partition("/")
        if slash:
            rows.setdefault(label, {})[key] = value
    return rows


def _text(value: float | None) -> str:
    return "-" if value is None or value < 0 else f"{value:.3f}"


def _load_ground_truth(source: dict | str | Path | COCO | CocoIndex, iou_type: str) -> dict:
    """A copy whose annotations may be altered, with ids from 1.

    Both programs mark an unmatched detection by annotation id 0, so that an annotation which has
    the id 0 would never count as found.
    """
    if isinstance(source, CocoIndex):
        if iou_type == "segm":
            check_has_masks(source, str(source.path))
        return without_annotations(source)
    if isinstance(source, (str, Path)):
        data = load_coco(source, check_meaning=False, cure="check the path")
    elif isinstance(source, dict):
        data = to_python(source)
        raise_on_errors(check_coco(data, check_meaning=False), "the ground truth")
    else:
        data = to_python(source.dataset)
    annotations = _numbered(data.get("annotations", []))
    if iou_type == "segm":
        check_has_masks(annotations, "the ground truth")
    return data | {"annotations": annotations}


def without_annotations(index: CocoIndex) -> dict:
    """Images and categories of a large file, as far as an evaluation needs them."""
    sizes = zip(index.columns.ids.tolist(), index.columns.sizes.tolist(), strict=True)
    images = [{"id": number, "width": size[0], "height": size[1]} for number, size in sizes]
    return {"images": images, "categories": index.categories}


def _numbered(annotations: Iterable[dict]) -> list[dict]:
    return [
        {**annotation, "id": index, "iscrowd": crowd, "ignore": crowd}
        for index, annotation in enumerate(annotations, start=1)
        for crowd in [int(annotation.get("iscrowd") or 0)]
    ]


def check_has_masks(truth: Sequence[dict] | COCO | CocoIndex, name: str) -> None:
    """Refuse to score masks where objects have none.

    Args:
        truth: The annotations of a COCO file, or an index of it.
        name: What to call the file in the message.

    Raises:
        InputError: An object has no mask.
    """
    if isinstance(truth, CocoIndex):
        has_mask = truth.columns.flags & MASK > 0
    else:
        entries = truth.dataset.get("annotations", []) if isinstance(truth, COCO) else truth
        has_mask = np.array([bool(entry.get("segmentation")) for entry in entries], bool)
    without = np.flatnonzero(~has_mask)
    if len(without):
        raise InputError(
            f"{len(without)} of the {len(has_mask)} objects of {name} have no segmentation, the "
            f"first is annotations[{without[0]}]: only boxes can be evaluated, with iou_type or "
            "metric 'bbox'"
        )


def _load_results(source: list[dict] | str | Path, truth: dict, iou_type: str) -> list[dict]:
    """Checked copies with the one shape that is to be scored and its area, ids from 1.

    The COCO API takes the area from ``bbox`` where a result has both, which would sort masks into
    small, medium and large by the size of their boxes.
    """
    if isinstance(source, (str, Path)):
        name, results = str(source), read_json(source, "check the path")
    else:
        name, results = "results", source
    if isinstance(results, np.ndarray):
        results = _from_rows(results)
    if not isinstance(results, list):
        raise InputError(f"{name} is not a list of detections: the COCO results format is a list")
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    shape = "bbox" if iou_type == "bbox" else "segmentation"
    areas = _areas_if_all_fit(results, sizes, categories, shape)
    if areas is None:
        results = [to_python(result) for result in results]
        for index, result in enumerate(results):
            problem = _result_problem(result, sizes, categories, shape)
            if problem:
                foreign = _count_foreign(results, sizes, truth["categories"])
                raise InputError(f"{name}[{index}]: {problem}{foreign}")
        areas = _areas(results, shape)
    values = [result[shape] for result in results]
    if shape == "bbox":
        values = np.array(values, np.float64).reshape(-1, 4).tolist()
    rows = zip(results, values, areas, strict=True)
    return [
        {
            "id": number,
            "image_id": int(result["image_id"]),  # float where a table held the numbers
            "category_id": int(result["category_id"]),
            "score": result["score"],
            shape: value,
            "area": area,
        }
        for number, (result, value, area) in enumerate(rows, start=1)
    ]


def _from_rows(rows: np.ndarray) -> list[dict]:
    """Detections of an array as pycocotools' ``loadNumpyAnnotations`` takes it."""
    if rows.ndim != 2 or rows.shape[1] != 7:
        raise InputError(
            f"results is an array of the shape {rows.shape}, expected (N, 7) of image id, x, y, "
            "width, height, score and category id, or a list of detections"
        )
    return [
        {"image_id": image, "bbox": box, "score": score, "category_id": category}
        for image, *box, score, category in rows.tolist()
    ]


def _areas(results: list[dict], shape: str) -> list[float]:
    if shape == "segmentation":
        return [float(mask_api.area(result[shape])) for result in results]
    return [float(result[shape][2]) * float(result[shape][3]) for result in results]


def _areas_if_all_fit(
    results: list, sizes: dict[int, tuple[int, int]], categories: set[int], shape: str
) -> list[float] | None:
    """Areas, after the checks of ``_result_problem`` on whole columns, in a fraction of the time.

    None does not mean that there is a problem: numbers that are numpy's, for one, are left to the
    other function, which also says in words what is wrong.
    """
    try:
        images = [result["image_id"] for result in results]
        scores = [result["score"] for result in results]
        shapes = [result[shape] for result in results]
        numbers = [result["category_id"] for result in results]
        if not categories.issuperset(numbers) or not sizes.keys() >= set(images):
            return None
        if not {int, float}.issuperset(map(type, scores)):
            return None
        if not np.isfinite(np.array(scores, np.float64)).all():
            return None
        return _box_areas(shapes) if shape == "bbox" else _mask_areas(shapes, images, sizes)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _box_areas(boxes: list) -> list[float] | None:
    array = np.array(boxes or np.empty((0, 4)))
    if (
        array.shape != (len(boxes), 4)
        or not np.isfinite(array).all()  # a TypeError where there is text or None
        or (array[:, 2:] < 0).any()
    ):
        return None
    return (array[:, 2].astype(np.float64) * array[:, 3]).tolist()


def _mask_areas(
    masks: list, images: list[int], sizes: dict[int, tuple[int, int]]
) -> list[float] | None:
    expected = {number: [height, width] for number, (width, height) in sizes.items()}
    if (
        not {dict}.issuperset(map(type, masks))
        or [mask["size"] for mask in masks] != [expected[number] for number in images]
        or not {type(mask["counts"]) for mask in masks} <= {str, bytes}
    ):
        return None
    # pycocotools reads beyond its memory where they are garbage
    problems, pixels = read_codes(
        [mask["counts"] for mask in masks],
        [height * width for height, width in (mask["size"] for mask in masks)],
    )
    return None if problems else [float(count) for count in pixels.tolist()]


def _count_foreign(results: list, sizes: dict[int, tuple[int, int]], categories: list) -> str:
    """Say how many results are of other images or categories, if several are, and of which."""
    ids: dict[str, list[Any]] = {
        key: [result.get(key) for result in results if isinstance(result, dict)]
        for key in ("image_id", "category_id")
    }
    names = {category["id"]: category["name"] for category in categories}
    parts = []
    for one, key, known in (("an", "image_id", sizes.keys()), ("a", "category_id", names.keys())):
        foreign = [value for value in ids[key] if is_id(value) and value not in known]
        if len(foreign) > 1:
            ours = listed(sorted(set(foreign)), 5)
            parts.append(f"{len(foreign)} have such {one} {key}: {ours}")
    if not parts:
        return ""
    there = f"{len(sizes)} images (ids {listed(sizes, 3)}), classes {listed(names.values(), 5)}"
    cure = "are the results those of another data set?"
    if any(isinstance(result, dict) and "file_name" in result for result in results):
        cure = (
            "mmbeit3 infer counts the images of its folder, so take the results of mmbeit3 test "
            "CONFIG CHECKPOINT --out NAME.json, which have the ids of the annotations"
        )
    found = f"Of all {len(results)} detections {'; '.join(parts)}"
    return f". {found}. The ground truth has {there}: {cure}"


def _result_problem(
    result: Any, sizes: dict[int, tuple[int, int]], categories: set[int], shape: str
) -> str | None:
    if not isinstance(result, dict):
        return f"is {result!r}, expected an object"
    for key in ("image_id", "category_id", "score", shape):
        if key not in result:
            other = {"bbox": "segm", "segmentation": "bbox"}.get(key)
            has_other = {"bbox": "segmentation", "segmentation": "bbox"}.get(key) in result
            cure = f"; evaluate what it has, with iou_type or metric {other!r}" if has_other else ""
            return f"'{key}' is missing (it has {sorted(result)}){cure}"
    if result["image_id"] not in sizes:
        return f"image_id {result['image_id']!r} is not in the ground truth's images"
    if result["category_id"] not in categories:
        return (
            f"category_id {result['category_id']!r} is not in the ground truth's categories "
            f"{sorted(categories)}"
        )
    if not is_finite_number(result["score"]):
        return f"score is {result['score']!r}, expected a finite number"
    if shape == "bbox":
        return box_problem(result["bbox"])
    mask = result["segmentation"]
    if not isinstance(mask, dict) or isinstance(mask.get("counts"), list):
        return "segmentation is not a compressed RLE (pycocotools.mask.encode makes one)"
    return rle_problem(mask, sizes[result["image_id"]])


def _find_backend(name: str) -> Callable[..., dict[str, np.ndarray]]:
    if name == "pycocotools":
        return _by_pycocotools
    if name == "faster-coco-eval":
        try:
            import faster_coco_eval.faster_eval_api_cpp  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"the backend 'faster-coco-eval' cannot be imported ({error}): "
                "pip install faster-coco-eval, or use backend='pycocotools'"
            ) from error
        return _by_faster_coco_eval
    raise InputError(f"backend is {name!r}, expected one of {BACKENDS}")


def _by_pycocotools(
    truth: dict, detections: list[dict], iou_type: str, category_ids: list[int], max_dets: list[int]
) -> dict[str, np.ndarray]:
    """Precision and recall of some categories, all of it by the COCO API."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        found = truth | {"annotations": detections}
        evaluator = COCOeval(_index(truth), _index(found), iou_type)
        evaluator.params.catIds, evaluator.params.maxDets = category_ids, max_dets
        evaluator.evaluate()
        evaluator.accumulate()
    return {name: evaluator.eval[name] for name in ("precision", "recall")}


def _by_faster_coco_eval(
    truth: dict, detections: list[dict], iou_type: str, category_ids: list[int], max_dets: list[int]
) -> dict[str, np.ndarray]:
    """The same by the compiled part of faster-coco-eval.

    What it does in Python around that (indices, copies, its own reading and comparing of masks)
    takes longer than all the rest together.
    """
    from faster_coco_eval import COCOeval_faster
    from faster_coco_eval.faster_eval_api_cpp import COCOevalEvaluateAccumulate

    evaluator = COCOeval_faster(iouType=iou_type)
    params, sets = evaluator.params, (evaluator.gt_dataset, evaluator.dt_dataset)
    images = {image["id"]: image for image in truth["images"]}
    params.imgIds, params.catIds, params.maxDets = sorted(images), category_ids, max_dets
    objects, found = (_by_place(entries) for entries in (truth["annotations"], detections))
    for kept, groups in zip(sets, (objects, found), strict=True):
        for place, entries in groups.items():
            for entry in entries:
                kept.append_ref(*place, entry)
    ious: list[list[Any]] = []
    for number in params.imgIds:
        ious.append([])
        for category in category_ids:
            there, here = objects.get((number, category)), found.get((number, category))
            if there and here:
                best = sorted(here, key=itemgetter("score"), reverse=True)[: max_dets[-1]]
                # the other program takes lists in a fraction of the time
                ious[-1].append(find_ious(best, there, images[number], iou_type).tolist())
            else:
                ious[-1].append([])
    return COCOevalEvaluateAccumulate(params, ious, *sets, params.imgIds, category_ids, True)


def find_ious(
    detections: list[dict], objects: list[dict], image: dict, iou_type: str
) -> np.ndarray:
    """The IoUs of D detections and G objects of an image by the COCO API's own code.

    Args:
        detections: Results, with ``bbox`` or with a compressed RLE as ``segmentation``.
        objects: COCO annotations.
        image: With their ``height`` and ``width``.
        iou_type: 'bbox' or 'segm', what is compared.

    Returns:
        np.ndarray: (D, G).
    """
    crowds = [entry["iscrowd"] for entry in objects]
    if iou_type == "bbox":
        boxes = [
            np.array([entry["bbox"] for entry in each], float) for each in (detections, objects)
        ]
        return mask_api.iou(*boxes, crowds)
    size = image["height"], image["width"]
    return mask_api.iou(
        [entry["segmentation"] for entry in detections],
        [to_rle(entry["segmentation"], *size) for entry in objects],
        crowds,
    )


def _by_category(entries: list[dict]) -> dict[int, list[dict]]:
    groups = defaultdict(list)
    for entry in entries:
        groups[entry["category_id"]].append(entry)
    return groups


def _by_place(entries: list[dict]) -> dict[tuple[int, int], list[dict]]:
    groups = defaultdict(list)
    for entry in entries:
        groups[entry["image_id"], entry["category_id"]].append(entry)
    return groups


def to_rle(segmentation: list | dict, height: int, width: int) -> dict:
    """Polygons, or an RLE of either kind, as a compressed RLE."""
    if isinstance(segmentation, list):
        return mask_api.merge(mask_api.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask_api.frPyObjects(segmentation, height, width)
    return segmentation


def _index(data: dict) -> COCO:
    coco = COCO()
    coco.dataset = data
    coco.createIndex()
    return coco


def _explain_zero(value: float, detections: list[dict], iou_type: str) -> None:
    if not detections:
        text = f"there is not one detection to score: {iou_type} AP is 0. Is the score threshold "
        text += "too high, or the checkpoint not loaded?"
    elif value == 0:
        text = f"{iou_type} AP is exactly 0: none of {len(detections)} detections matches a ground "
        text += "truth object of its class. Do the classes have the same order as in training, and "
        text += "are the coordinates those of the original images?"
    elif value < 0:
        text = "the ground truth has no object of the evaluated classes: AP cannot be measured (-1)"
    else:
        return
    print_log(text, "current", logging.WARNING)
