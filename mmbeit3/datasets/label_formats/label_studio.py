"""Labels in Label Studio's JSON tasks, as annotations or, of a model, as predictions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from mmbeit3.datasets.checks.coco import read_json
from mmbeit3.datasets.label_formats.labels import (
    LabeledImage,
    LabeledObject,
    Labels,
    Notes,
    Source,
    number,
)
from mmbeit3.datasets.label_formats.outlines import (
    bitmap,
    bitmap_object,
    blank,
    ellipse,
    polygon_object,
    turned,
)
from mmbeit3.datasets.label_formats.xml_files import add
from mmbeit3.utils.image_reading import EXTENSIONS

LOCAL = "/data/local-files/?d="
TAGS = {"rectangle": "RectangleLabels", "polygon": "PolygonLabels", "brush": "BrushLabels"}


def is_labels(content: Any) -> bool:
    """Whether a JSON file has tasks of Label Studio."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in content)
    )


def read(source: Source) -> Labels:
    """Read an export: the annotations, or where no task has one the predictions."""
    tasks = read_json(source.path, cure="give an export of Label Studio (JSON)")
    if not is_labels(tasks):
        source.report.error("expected a list of tasks with 'data': export as JSON, not JSON-MIN")
        return Labels([], [])
    found = source.folder()
    kinds = ("annotations", "predictions")
    kind = next((each for each in kinds if any(map(_chosen, tasks, [each] * len(tasks)))), kinds[0])
    images = []
    for index, task in enumerate(tasks):
        where = f"{source.path}, task {task.get('id', index + 1)}"
        results = _chosen(task, kind)
        if results is None:
            source.notes.add(f"tasks without {kind}, which are left out", where)
            continue
        if len([entry for entry in task[kind] if isinstance(entry, dict)]) > 1:
            source.notes.add(f"tasks with several {kind}, of which the last is read", where)
        image = found.take(where, _names(task["data"]), _size(task, results))
        if image is None:
            continue
        for result in results:
            _add_region(result, image, source)
        images.append(image)
    names = sorted({each.name for image in images for each in image.objects})
    return Labels(names, images, found.root, are_predictions=kind == "predictions")


def _chosen(task: dict[str, Any], kind: str) -> list[Any] | None:
    """The regions of a task's last annotation or prediction; None if there is none."""
    entries = task.get(kind)
    for entry in reversed(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict) and not entry.get("was_cancelled"):
            result = entry.get("result")
            if isinstance(result, list):
                return result
    return None


def _names(data: dict[str, Any]) -> list[str]:
    """What the image of a task may be called: its path, then the end of it."""
    values = [data.get("image"), *data.values()]
    texts = [value for value in values if isinstance(value, str)]
    chosen = next((text for text in texts if _path(text).lower().endswith(EXTENSIONS)), None)
    if chosen is None:
        return []
    path = _path(chosen).lstrip("/")
    return (
        [path, path.rpartition("/")[2]] if "://" not in chosen else [path.rpartition("/")[2], path]
    )


def _path(address: str) -> str:
    parts = urlsplit(address)
    return unquote(parts.query[2:] if parts.query.startswith("d=") else parts.path)


def _size(task: dict[str, Any], results: list[Any]) -> tuple[int, int] | None:
    for facts, keys in (
        *((result, ("original_width", "original_height")) for result in results),
        (task["data"], ("width", "height")),
    ):
        sides = [number(facts.get(key)) if isinstance(facts, dict) else 0 for key in keys]
        if all(side >= 1 for side in sides):
            return int(sides[0]), int(sides[1])
    return None


def _add_region(result: Any, image: LabeledImage, source: Source) -> None:
    if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
        source.report.error(f"{image.where}: a region has no value")
        return
    kind, value = str(result.get("type")), result["value"]
    names = value.get(kind) or value.get("labels")
    shape = kind.removesuffix("labels")
    if shape not in ("rectangle", "polygon", "ellipse", "brush") or not isinstance(names, list):
        if kind not in ("choices", "textarea", "rating"):
            text = f"{kind} regions, which have no area or class and are left out"
            source.notes.add(text, image.where)
        return
    if len(names) > 1:
        source.notes.add("regions with several labels, of which the first is read", image.where)
    try:
        found = _object(shape, str(names[0]), value, image)
    except (ValueError, TypeError, IndexError) as error:
        source.report.error(f"{image.where}: a region cannot be read: {error}")
        return
    score = result.get("score")
    found.score = None if score is None else number(score)
    image.objects.append(found)


def _object(shape: str, name: str, value: dict[str, Any], image: LabeledImage) -> LabeledObject:
    size = np.array([image.width, image.height]) / 100
    angle = number(value.get("rotation") or 0)
    if shape == "polygon":
        points = [[number(x), number(y)] for x, y in value["points"]]
        return polygon_object(name, np.array(points) * size)
    if shape == "brush":
        blank(image)
        mask = decode_brush(value.get("rle"), image.height, image.width)
        return bitmap_object(name, mask)
    corner = np.array([number(value.get("x")), number(value.get("y"))]) * size
    if shape == "ellipse":
        radii = np.array([number(value.get("radiusX")), number(value.get("radiusY"))]) * size
        return polygon_object(name, ellipse(corner, radii, angle))
    width, height = np.array([number(value.get("width")), number(value.get("height"))]) * size
    if angle:  # about the left upper corner
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]])
        return polygon_object(name, turned(corners, angle) + corner)
    x, y = corner.tolist()
    return LabeledObject(name, (x, y, x + float(width), y + float(height)))


def decode_brush(code: Any, height: int, width: int) -> np.ndarray:
    """Read the run-length code of a brush, that of a picture of four channels.

    Args:
        code: Bytes as a list of numbers: 32 bits with the number of values, 5 with the bits of one
            less 1, 4 times 4 with the bits of the lengths of runs less 1, then the runs.
        height: Of the image.
        width: Of the image.

    Returns:
        (H, W), bool: where the fourth channel, opacity, is not 0.

    Raises:
        ValueError: It is no such code, or of another size.
    """
    try:
        bits = np.unpackbits(np.array(code, dtype=np.uint8))
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError("its rle is no list of bytes") from error
    text = bits.astype(np.uint8).tobytes().translate(bytes([48, 49]) + bytes(254)).decode()
    place = 0

    def take(number_of_bits: int) -> int:
        nonlocal place
        if place + number_of_bits > len(text):
            raise ValueError("its rle ends too early")
        place += number_of_bits
        return int(text[place - number_of_bits : place], 2)

    total = take(32)
    if total != height * width * 4:
        raise ValueError(f"its rle has {total} values, expected {height * width * 4}")
    bits_of_value = take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values = np.zeros(total, bool)
    done = 0
    while done < total:
        is_run, length = take(1), take(sizes[take(2)]) + 1
        if done + length > total:
            raise ValueError("its rle has more values than it says")
        if is_run:
            values[done : done + length] = take(bits_of_value) > 0
        else:
            values[done : done + length] = [take(bits_of_value) > 0 for _ in range(length)]
        done += length
    return values.reshape(height, width, 4)[:, :, 3]


def encode_brush(mask: np.ndarray) -> list[int]:
    """Write what :func:`decode_brush` reads, of a mask (H, W), bool."""
    values = np.repeat(mask.ravel(), 4)
    starts = np.flatnonzero(np.diff(values.astype(np.int8), prepend=-1))
    lengths = np.diff(starts, append=len(values))
    words = [f"{len(values):032b}", f"{7:05b}", *(f"{2**power - 1:04b}" for power in range(1, 5))]
    sizes = [2**power for power in range(1, 5)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = 255 if values[start] else 0
        while length:
            part = min(length, 2**16)
            index = next(i for i, size in enumerate(sizes) if part <= 2**size)
            words.append(f"1{index:02b}{part - 1:0{sizes[index]}b}{value:08b}")
            length -= part
    bits = np.frombuffer("".join(words).encode(), np.uint8) - 48
    return np.packbits(bits).tolist()


def write(labels: Labels, path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    """Write the tasks, and beside them the labeling interface that they need."""
    tasks = [_task(image, labels.are_predictions) for image in labels.images]
    kinds = {region["type"] for task in tasks for region in _regions(task)}
    yield "", lambda: json.dumps(tasks, ensure_ascii=False)
    config = path.with_name(f"{path.stem}.label_config.xml").name
    yield config, lambda: _interface(labels.classes, kinds)


def _regions(task: dict[str, Any]) -> list[dict[str, Any]]:
    return task["predictions" if "predictions" in task else "annotations"][0]["result"]


def _task(image: LabeledImage, is_predicted: bool) -> dict[str, Any]:
    regions = [_region(f"{index}", found, image) for index, found in enumerate(image.objects, 1)]
    result = [region for region in regions if region]
    data = {"image": LOCAL + quote(image.name), "width": image.width, "height": image.height}
    if not is_predicted:
        return {"data": data, "annotations": [{"result": result}]}
    scores = [region["score"] for region in result if "score" in region]
    prediction: dict[str, Any] = {"model_version": "mmbeit3", "result": result}
    if scores:
        prediction["score"] = sum(scores) / len(scores)
    return {"data": data, "predictions": [prediction]}


def _region(name: str, found: LabeledObject, image: LabeledImage) -> dict[str, Any] | None:
    size = np.array([image.width, image.height]) / 100
    value: dict[str, Any]
    if found.mask is None:
        kind = "rectangle"
        (x1, y1), (x2, y2) = (np.array(found.box).reshape(2, 2) / size).tolist()
        value = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}
    elif isinstance(found.mask, list) and len(found.mask) == 1:
        kind = "polygon"
        value = {"points": (np.array(found.mask[0]).reshape(-1, 2) / size).tolist(), "closed": True}
    else:
        kind = "brush"
        mask = bitmap(found, image)
        if not mask.any():
            return None
        value = {"format": "rle", "rle": encode_brush(mask)}
    region = {
        "id": name,
        "type": f"{kind}labels",
        "from_name": kind,
        "to_name": "image",
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
        "value": value | {f"{kind}labels": [found.name]},
    }
    return region | ({} if found.score is None else {"score": found.score})


def _interface(classes: list[str], kinds: set[str]) -> str:
    root = Element("View")
    add(root, "Image", name="image", value="$image")
    for kind, tag in TAGS.items():
        if f"{kind}labels" in kinds or (not kinds and kind == "rectangle"):
            labels = add(root, tag, name=kind, toName="image")
            for name in classes:
                add(labels, "Label", value=name)
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode")  # Label Studio reads no declaration
