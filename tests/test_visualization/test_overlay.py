"""Pictures of detections and class maps: what is drawn where."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmbeit3.datasets.palette import make_palette
from mmbeit3.visualization.overlay import display_scale, draw_class_map, draw_instances
from mmbeit3.visualization.text_labels import chip, font_size

CLASSES = ("cat", "dog")
PALETTE = [(255, 180, 40), (40, 240, 240)]


def draw(image, boxes=(), labels=(), scores=(), masks=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels, scores = np.array(labels, int), np.array(scores, np.float32)
    return draw_instances(image, boxes, labels, scores, masks, CLASSES, PALETTE)


def gray(height: int = 500, width: int = 600) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def disc(image: np.ndarray, center: tuple[int, int], radius: int) -> np.ndarray:
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    return (rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius**2


@pytest.mark.parametrize("masks", [None, np.zeros((0, 500, 600), bool)])
def test_nothing_found_changes_nothing(masks):
    image = gray()
    picture = draw(image, masks=masks)
    assert picture is not image
    np.testing.assert_array_equal(picture, image)


def test_mask_is_tinted_towards_its_class_color():
    image = gray()
    mask = disc(image, (250, 300), 80)
    picture = draw(image, [[220, 170, 381, 331]], [1], [0.9], mask[None])
    inner = disc(image, (250, 300), 70)
    assert len(np.unique(picture[inner], axis=0)) == 1
    tinted = picture[250, 300].astype(int)
    expected = 128 + 0.45 * (np.array(PALETTE[1]) - 128)
    np.testing.assert_allclose(tinted, expected, atol=1)


def test_nothing_changes_outside_box_and_label():
    image = gray()
    mask = disc(image, (250, 300), 80)
    picture = draw(image, [[220, 170, 381, 331]], [1], [0.9], mask[None])
    changed = (picture != image).any(axis=2)
    assert changed[170:331, 220:381].any()
    changed[168:334, 218:384] = False
    assert changed[140:168, 220:330].any()  # the label, above the box
    changed[140:170, 220:330] = False
    assert not changed.any()


def test_boxes_without_masks():
    picture = draw(gray(), [[100, 100, 200, 200]], [0], [0.5])
    assert picture[200, 150].tolist() == list(PALETTE[0])
    assert picture[150, 150].tolist() == [128] * 3


def test_boxes_of_diverged_weights():
    nan, inf = float("nan"), float("inf")
    image = gray()
    boxes = [[0, 0, nan, 4], [9, 9, inf, 20], [-1e12, 100, 1e12, 200]]
    picture = draw(image, boxes, [0, 0, 1], [0.9, 0.8, 0.7])
    np.testing.assert_array_equal(picture, draw(image, [[-600, 100, 1200, 200]], [1], [0.7]))


def test_input_is_left_unchanged():
    image = gray()
    draw(image, [[0, 0, 100, 100]], [0], [0.5], disc(image, (50, 50), 40)[None])
    assert (image == 128).all()


def test_empty_mask_and_mask_at_the_border():
    image = gray()
    masks = np.zeros((2, 500, 600), bool)
    masks[1, 499, 599] = True
    picture = draw(image, [[10, 10, 20, 20], [598, 498, 600, 500]], [0, 1], [0.5, 0.6], masks)
    assert picture.shape == image.shape


@pytest.mark.parametrize(
    "box", [[0, 0, 600, 500], [590, 490, 600, 500], [-20, -20, 5, 5], [300, 0, 900, 900]]
)
def test_labels_stay_inside_the_picture(box):
    picture = draw(gray(), [box], [0], [0.5])
    chip = (picture == PALETTE[0]).all(axis=2)
    assert chip.sum() > 300  # the ground of the label


def test_a_label_needs_no_room():
    picture = draw(gray(480, 4), [[0, 0, 3, 479]], [0], [0.5])
    assert picture.shape == (2048, 17, 3)


def test_surest_is_on_top():
    image = gray()
    masks = np.stack([disc(image, (250, 300), 80)] * 2)
    boxes = [[220, 170, 381, 331]] * 2
    picture = draw(image, boxes, [0, 1], [0.9, 0.8], masks)
    only_first = draw(image, boxes[:1], [0], [0.9], masks[:1])
    np.testing.assert_array_equal(picture[250, 300], only_first[250, 300])


def test_instances_of_a_class_have_tones_of_its_color():
    image = gray()
    masks = np.stack([disc(image, (100, 60 + 120 * i), 50) for i in range(5)])
    boxes = [[10 + 120 * i, 50, 110 + 120 * i, 150] for i in range(5)]
    picture = draw(image, boxes, [0] * 5, [0.9] * 5, masks)
    assert len({tuple(picture[100, 60 + 120 * i].tolist()) for i in range(5)}) == 5
    for left, top, *_ in boxes:  # boxes, and the grounds of the labels
        assert picture[140, left].tolist() == list(PALETTE[0])
        assert picture[top - 5, left + 1].tolist() == list(PALETTE[0])


def test_of_annotations_the_smaller_is_on_top():
    image = gray()
    small, large = disc(image, (250, 300), 40), disc(image, (250, 300), 150)
    boxes = np.array([[260, 210, 341, 291], [150, 100, 451, 401]], float)
    pictures = [
        draw_instances(image, boxes[order], np.array(order), None, masks[order], CLASSES, PALETTE)
        for masks in [np.stack([small, large])]
        for order in ([0, 1], [1, 0])
    ]
    tinted = 128 + 0.45 * (np.array(PALETTE[0]) - 128)
    for picture in pictures:
        np.testing.assert_allclose(picture[250, 300], tinted, atol=1)


def test_a_label_goes_where_it_hides_no_other_object():
    first, above = [200, 200, 300, 300], [200, 183, 300, 199]
    picture = draw(gray(), [first, above], [0, 1], [0.9, 0.8])
    ground = (picture == PALETTE[0]).all(axis=2)
    assert not ground[184:198, 204:296].any()  # above the box, where it would usually be
    assert ground.sum() > draw(gray(), [first], [0], [0.9]).shape[0]


def test_labels_that_would_hide_whole_objects_are_left_out():
    boxes = [[x, y, x + 9, y + 9] for x in range(5, 590, 10) for y in range(5, 490, 10)]
    scores = np.linspace(0.99, 0.5, len(boxes))
    picture = draw(gray(), boxes, [0] * len(boxes), scores)
    ground = (picture == PALETTE[0]).all(axis=2)
    size = font_size(500, 600)
    rows, columns = chip("cat 0.99", size, PALETTE[0]).shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(ground, (rows, 5)).all((2, 3))
    assert not windows.any()


@pytest.mark.parametrize(
    ("height", "width"), [(75, 100), (100, 61), (480, 640), (1200, 900), (4000, 6000), (6000, 451)]
)
def test_labels_and_lines_grow_with_the_image(height, width):
    image = gray(height, width)
    box = [0.1 * width, 0.5 * height, 0.9 * width, 0.9 * height]
    picture = draw(image, [box], [1], [0.875])
    shown = picture.shape[0] * picture.shape[1]
    size = font_size(*picture.shape[:2])
    assert size >= 12 and 35 < shown**0.5 / size < 47
    ground = chip("dog\u200e 0.88", size, PALETTE[1])
    if ground.shape[1] <= picture.shape[1]:
        assert cv2.matchTemplate(picture, ground, cv2.TM_SQDIFF).min() < ground.size
    x = round(0.1 * picture.shape[1])
    line = (picture[round(0.7 * picture.shape[0]), : x + 20] == PALETTE[1]).all(axis=1).sum()
    assert 1 <= line <= 8 and line >= size // 12


def test_small_image_is_enlarged_with_its_instances():
    image = gray(160, 200)
    mask = disc(image, (80, 100), 30)
    picture = draw(image, [[70, 50, 131, 111]], [0], [0.9], mask[None])
    assert picture.shape == (480, 600, 3)
    assert (picture[240, 300] != 128).any()
    assert (picture[240 - 85, 300] != 128).any()
    assert (picture[240 + 100, 300] == 128).all()


def test_large_image_is_reduced():
    image = gray(1500, 4096)
    mask = disc(image, (700, 2000), 300)
    picture = draw(image, [[1700, 400, 2300, 1000]], [0], [0.9], mask[None])
    assert picture.shape == (750, 2048, 3)
    assert (picture[350, 1000] != 128).any()


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [
        (480, 640, 1),
        (160, 160, 3),
        (160, 1024, 2),  # three times would be too long
        (100, 3000, 1),  # both too short and too long
        (3000, 4096, 0.5),
        (960, 9600, 0.5),  # a fifth would be too short
    ],
)
def test_display_scale(height, width, scale):
    assert display_scale(height, width) == pytest.approx(scale)
    assert display_scale(width, height) == pytest.approx(scale)


NAMES = ("left", "right", "speck")
COLORS = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]


def halves(height: int = 500, width: int = 600) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 1
    return labels


def test_class_map_is_half_the_image_half_the_classes():
    image = gray()
    picture = draw_class_map(image, halves(), NAMES, COLORS)
    assert (image == 128).all()
    for x, color in ((20, COLORS[0]), (580, COLORS[1])):
        np.testing.assert_allclose(picture[20, x], (128 + np.array(color)) / 2, atol=1)


def test_edges_of_regions_have_the_full_colors():
    picture = draw_class_map(gray(), halves(), NAMES, COLORS, legend=False)
    assert (picture[20, 299] == COLORS[0]).all()
    assert (picture[20, 300] == COLORS[1]).all()
    edges = (picture == COLORS[0]).all(axis=2)
    assert edges[:, 299].all()
    assert not edges[:50, :298].any()


def test_each_class_is_named_in_the_middle_of_its_largest_region():
    labels = halves()
    labels[:60] = 0
    labels[10:40, 20:60] = 1  # a smaller region, above
    picture = draw_class_map(gray(), labels, NAMES, COLORS)
    ground = (picture == COLORS[1]).all(axis=2)
    ground[:65] = ground[:, :305] = False  # the edges
    rows, columns = np.nonzero(ground)
    assert abs((columns.min() + columns.max()) / 2 - 450) < 15
    assert abs((rows.min() + rows.max()) / 2 - 280) < 15
    assert len(rows) > 200


def test_a_name_larger_than_its_region_is_left_out():
    labels = halves()
    labels[100:110, 100:120] = 2
    with_speck = draw_class_map(gray(), labels, NAMES, COLORS)
    changed = (with_speck != draw_class_map(gray(), halves(), NAMES, COLORS)).any(axis=2)
    changed[99:111, 99:121] = False
    # names may have moved with the shape of the region, nothing else
    assert not changed[:230].any()


@pytest.mark.parametrize(
    ("size", "shown"), [((160, 200), (480, 600)), ((1500, 4096), (750, 2048)), ((1, 1), (480, 480))]
)
def test_class_maps_of_any_size(size, shown):
    picture = draw_class_map(gray(*size), halves(*size), NAMES, COLORS, legend=False)
    assert picture.shape == (*shown, 3)
    np.testing.assert_allclose(picture[-5, -5], (128 + np.array(COLORS[1])) / 2, atol=1)


def test_no_smoothing_between_classes():
    labels = halves(160, 200) * 2  # 0 and 2: class 1 must not arise between them
    picture = draw_class_map(gray(160, 200), labels, NAMES, COLORS)
    assert not (picture == COLORS[1]).all(axis=2).any()
    assert not (np.abs(picture - (128 + np.array(COLORS[1])) / 2).max(axis=2) < 2).any()


def test_256_classes():
    palette = make_palette(256)
    labels = np.full((480, 480), 255, np.uint8)
    picture = draw_class_map(gray(480, 480), labels, list(map(str, range(256))), palette)
    np.testing.assert_allclose(picture[5, 5], (128 + np.array(palette[255])) / 2, atol=1)


def test_pixels_of_no_class_stay_as_they_are():
    labels = halves()
    labels[:, :300] = 255
    image = np.random.default_rng(0).integers(0, 256, (500, 600, 3), dtype=np.uint8)
    picture = draw_class_map(image, labels, NAMES, COLORS, legend=False)
    assert (picture[:, :300] == image[:, :300]).all()
    np.testing.assert_allclose(picture[5, 590], (image[5, 590] + np.array(COLORS[1])) / 2, atol=1)
    nothing = draw_class_map(image, np.full_like(labels, 255), NAMES, COLORS)
    assert (nothing == image).all()
