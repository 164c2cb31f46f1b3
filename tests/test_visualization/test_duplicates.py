"""Objects found twice: which are left out of pictures, and that results keep them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmbeit3.inference.detection_result import DetectionResult
from mmbeit3.inference.detection_writer import DetectionWriter
from mmbeit3.inference.image_list import Source
from mmbeit3.visualization.duplicates import find_duplicates
from mmbeit3.visualization.overlay import draw_instances

BOX = [10.0, 20.0, 110.0, 80.0]
COLORS = [(40, 40, 220), (40, 220, 40)]


def moved(share: float) -> list[float]:
    """The box, moved so that the intersection over union is ``share``."""
    x = 100 * (1 - share) / (1 + share)
    return [BOX[0] + x, BOX[1], BOX[2] + x, BOX[3]]


@pytest.mark.parametrize(
    ("share", "label", "is_duplicate"),
    [(0.95, 0, True), (0.52, 0, True), (0.48, 0, False), (0.75, 1, True), (0.65, 1, False)],
)
def test_of_boxes(share: float, label: int, is_duplicate: bool) -> None:
    boxes, labels = np.array([moved(share), BOX], np.float32), np.array([label, 0])
    found = find_duplicates(boxes, labels, np.array([0.4, 0.9], np.float32))
    assert found.tolist() == [is_duplicate, False]


def test_masks_tell_neighbors_from_duplicates() -> None:
    rows, columns = np.mgrid[:90, :131]
    halves = np.stack([rows < columns / 2, rows >= columns / 2])
    boxes = np.array([BOX, BOX], np.float32)
    scores = np.array([0.9, 0.8])
    inside = (rows >= 20) & (rows < 80) & (columns >= 10) & (columns < 110)
    labels = np.array([0, 0])
    assert find_duplicates(boxes, labels, scores).any()
    assert not find_duplicates(boxes, labels, scores, halves & inside).any()
    assert find_duplicates(boxes, labels, scores, (halves | True) & inside).tolist() == [
        False,
        True,
    ]


def test_what_overlaps_a_hidden_one_alone_stays() -> None:
    boxes = np.array([BOX, moved(0.6), moved(0.36)], np.float32)  # the third overlaps the second
    labels, scores = np.zeros(3, int), np.array([0.9, 0.8, 0.7])
    assert find_duplicates(boxes, labels, scores).tolist() == [False, True, False]


@pytest.mark.parametrize("masks", [None, np.zeros((0, 40, 30), bool)])
def test_of_nothing(masks: np.ndarray | None) -> None:
    assert find_duplicates(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), masks).shape == (0,)


@pytest.mark.parametrize("size", [(90, 140), (500, 433)])
def test_pictures_leave_them_out_and_results_keep_them(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 120, np.uint8)
    boxes = np.array([BOX, moved(0.8), [60, 82, 90, 88]], np.float32)
    labels, scores = np.array([0, 0, 1]), np.array([0.9, 0.6, 0.5], np.float32)
    result = DetectionResult(
        Source(1, None, "a.png", None), image, boxes, labels, scores, None, ("a", "b"), COLORS
    )
    drawn = result.draw(hide_duplicates=True)
    without = [0, 2]
    want = draw_instances(
        image, boxes[without], labels[without], scores[without], None, ("a", "b"), COLORS
    )
    assert (drawn == want).all() and not np.array_equal(drawn, result.draw())
    assert len(result.scores) == len(result.to_coco()) == 3


def test_a_run_over_a_folder_hides_them_on_demand(tmp_path: Path) -> None:
    boxes = np.array([BOX, moved(0.8)], np.float32)
    arrays = boxes, np.array([1, 1]), np.array([0.9, 0.6], np.float32), None, ("a", "b"), COLORS
    image = np.full((90, 140, 3), 120, np.uint8)
    source = Source(1, None, "a.png", "a.png")
    found = DetectionResult(source, image, *arrays)
    written = {}
    for hidden in (False, True):
        (tmp_path / str(hidden)).mkdir()
        writer = DetectionWriter(tmp_path / str(hidden), ("a", "b"), hide_duplicates=hidden)
        with writer.opened():
            written[hidden] = writer.write(found).results
        picture = cv2.imread(str(tmp_path / str(hidden) / "a.png"))
        assert (picture == found.draw(hide_duplicates=hidden)).all()
    assert written[False] == written[True] and len(written[True]) == 2
