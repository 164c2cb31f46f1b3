"""Detections and objects of a data set as arrays, their overlaps, and which belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmbeit3.evaluation.coco import Accumulated, find_ious

#: Overlaps below this are no overlap: detections on background, in TIDE's words.
LEAST = 0.1
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the COCO API


@dataclass(frozen=True)
class Overlaps:
    """N detections, the M objects that should be found, and the P pairs that overlap.

    Detections are those that count by the COCO API, the surest of a class in an image. Pairs are in
    the order in which the COCO API looks at them: by score, the surest detection first.

    Attributes:
        image (np.ndarray): (N,), index of each detection's image.
        label (np.ndarray): (N,), index of its category.
        score (np.ndarray): (N,).
        source (np.ndarray): (N,), its index in the results.
        object_image (np.ndarray): (M,), index of each object's image.
        object_label (np.ndarray): (M,), index of its category.
        is_crowd (np.ndarray): (M,), bool, whether it is a region of many.
        pairs (np.ndarray): (P, 2), indices of detection and object, of any categories.
        iou (np.ndarray): (P,), at least :data:`LEAST`; with a crowd, the part that lies in it.
        num_images (int): How many images there are.
        num_classes (int): How many categories there are.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    source: np.ndarray
    object_image: np.ndarray
    object_label: np.ndarray
    is_crowd: np.ndarray
    pairs: np.ndarray
    iou: np.ndarray
    num_images: int
    num_classes: int

    @property
    def of_same_class(self) -> np.ndarray:
        """np.ndarray: (P,), bool."""
        detection, target = self.pairs.T
        return self.label[detection] == self.object_label[target]

    def positives(self) -> np.ndarray:
        """Count the objects of each category that should be found: (K,)."""
        return np.bincount(self.object_label[~self.is_crowd], minlength=self.num_classes)


def find_overlaps(found: Accumulated, iou_type: str) -> Overlaps:
    """Compare each detection with each object of its image.

    Args:
        found: The detections and the objects.
        iou_type: 'bbox' or 'segm', what is compared.
    """
    images = {image["id"]: index for index, image in enumerate(found.truth["images"])}
    labels = {number: index for index, number in enumerate(found.category_ids)}
    objects = [entry for entry in found.truth["annotations"] if entry["category_id"] in labels]
    image, label, score = _columns(found.detections, images, labels)
    source = _counting(image, label, score, found.max_dets[-1])
    # the COCO API takes images by their ids, and of equal scores the first
    ids = np.array([entry["id"] for entry in found.truth["images"]])
    source = source[np.argsort(ids[image[source]], kind="stable")]
    image, label, score = image[source], label[source], score[source]
    object_image, object_label, _ = _columns(objects, images, labels)
    is_crowd = np.array([entry["iscrowd"] for entry in objects], bool)
    rows = _by_image(image, len(images))
    pairs: list[np.ndarray] = [np.empty((0, 2), np.int64)]
    ious: list[np.ndarray] = [np.empty(0)]
    for index, targets in enumerate(_by_image(object_image, len(images))):
        own = rows[index]
        if not len(own) or not len(targets):
            continue
        there = [objects[target] for target in targets]
        here = [found.detections[number] for number in source[own]]
        iou = find_ious(here, there, found.truth["images"][index], iou_type)
        detection, target = np.nonzero(iou >= LEAST)
        pairs.append(np.stack([own[detection], targets[target]], 1))
        ious.append(iou[detection, target])
    joined, values = np.concatenate(pairs), np.concatenate(ious)
    rank = np.empty(len(score), np.int64)
    rank[np.argsort(-score, kind="stable")] = np.arange(len(score))
    order = np.lexsort((joined[:, 1], is_crowd[joined[:, 1]], rank[joined[:, 0]]))
    return Overlaps(
        *(image, label, score, source, object_image, object_label, is_crowd),
        pairs=joined[order],
        iou=values[order],
        num_images=len(images),
        num_classes=len(labels),
    )


def match(overlaps: Overlaps, threshold: float) -> np.ndarray:
    """Give each detection the object that it finds, as the COCO API does.

    Args:
        overlaps: The detections and the objects.
        threshold: The least IoU.

    Returns:
        (N,), index of the object, or -1. An object is found once, a crowd any number of times.
    """
    least = min(threshold, 1 - 1e-10)
    chosen = overlaps.of_same_class & (overlaps.iou >= least)
    matched = np.full(len(overlaps.score), -1)
    taken: set[int] = set()
    crowds = set(np.flatnonzero(overlaps.is_crowd).tolist())
    current, best, best_iou = -1, -1, least
    pairs = overlaps.pairs[chosen].tolist()
    for (detection, target), iou in zip(pairs, overlaps.iou[chosen].tolist(), strict=True):
        if detection != current:
            taken.add(best)
            current, best, best_iou = detection, -1, least
        is_crowd = target in crowds
        if iou < best_iou or (target in taken and not is_crowd):
            continue
        if is_crowd and best >= 0 and best not in crowds:
            continue
        best, best_iou = target, iou
        matched[detection] = target
    return matched


def _columns(
    entries: list[dict], images: dict[int, int], labels: dict[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, label and score; the label is -1 of categories that are not evaluated."""
    return (
        np.array([images[entry["image_id"]] for entry in entries], np.int64),
        np.array([labels.get(entry["category_id"], -1) for entry in entries], np.int64),
        np.array([entry.get("score", 1) for entry in entries], np.float64),
    )


def _counting(image: np.ndarray, label: np.ndarray, score: np.ndarray, most: int) -> np.ndarray:
    """Indices of the ``most`` surest detections of each class in each image, in their order."""
    order = np.lexsort((-score, label, image))
    group = np.stack([image[order], label[order]])
    starts = np.flatnonzero(np.r_[True, (group[:, 1:] != group[:, :-1]).any(0)])[: len(order)]
    lengths = np.diff(np.r_[starts, len(order)])
    rank = np.arange(len(order)) - np.repeat(starts, lengths)
    return np.sort(order[(rank < most) & (label[order] >= 0)])


def _by_image(image: np.ndarray, num_images: int) -> list[np.ndarray]:
    order = np.argsort(image, kind="stable")
    return np.split(order, np.searchsorted(image[order], np.arange(1, num_images)))
