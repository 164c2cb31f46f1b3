"""RandAugment of the released code: hand-computed facts of each operation, and what is drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from torch.utils.data import Dataset

from mmbeit3.datasets import RandAugment
from mmbeit3.engine.data_order import PositionedDataset, SampleIndex
from mmbeit3.utils import InputError

GRAY = 128


def picture(height: int = 40, width: int = 56, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(height).integers(low, high, (height, width, 3), np.uint8)


def results_of(name: str, image: np.ndarray, level: float = 7) -> list[np.ndarray]:
    """The different results of one operation, without the one where it is not applied."""
    np.random.seed(0)
    transform = RandAugment(num_ops=1, level=level, ops=[name])
    found = [transform({"img": image.copy()})["img"] for _ in range(30)]
    distinct = {one.tobytes(): one for one in found}
    assert distinct.pop(image.tobytes(), None) is not None
    return list(distinct.values())


@pytest.mark.parametrize("size", [(40, 56), (31, 20)])
def test_brightness_grows_by_1_36_and_never_falls(size: tuple[int, int]) -> None:
    image = picture(*size)
    (found,) = results_of("Brightness", image)
    want = np.minimum(np.arange(256, dtype=np.float32) * np.float32(1.36), 255).astype(np.uint8)
    np.testing.assert_array_equal(found, want[image])
    assert want[100] == 136 and want[200] == 255


def test_sharpness_moves_away_from_the_smoothed_image_by_1_36() -> None:
    image = picture(low=60, high=190)
    (found,) = results_of("Sharpness", image)
    kernel = np.float32([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    smooth = cv2.filter2D(image, -1, kernel).astype(np.float32)
    want = image.copy()
    inside = (smooth + 1.36 * (image - smooth))[1:-1, 1:-1]
    want[1:-1, 1:-1] = inside.astype(np.uint8)
    assert np.abs(found.astype(int) - want).max() <= 1
    np.testing.assert_array_equal(found[0], image[0])  # the border is left
    dot = np.zeros((5, 5, 3), np.uint8)
    dot[2, 2] = 250
    (found,) = results_of("Sharpness", dot)
    assert found[2, 2, 0] == 255 and found[2, 1, 0] == 0  # released: 49 and 249, wrapped around


def test_autocontrast_stretches_each_channel() -> None:
    image = picture(low=50, high=151)
    image[..., 1] //= 2  # 25 to 75
    image[0, 0], image[0, 1] = (50, 25, 60), (150, 75, 60)
    image[..., 2] = 60
    (found,) = results_of("AutoContrast", image)
    for channel, low, high in ((0, 50, 150), (1, 25, 75)):
        want = (image[..., channel].astype(float) - low) * (255 / (high - low))
        assert np.abs(found[..., channel] - want).max() <= 1
    np.testing.assert_array_equal(found[..., 2], 60)  # of one value nothing is made


def test_equalize_makes_values_equally_frequent() -> None:
    image = (picture(128, 128).astype(float) ** 2 / 255).astype(np.uint8)
    (found,) = results_of("Equalize", image)
    for channel in range(3):
        counts = np.bincount(image[..., channel].ravel(), minlength=256)
        step = (counts.sum() - counts[counts > 0][-1]) // 255
        before = np.concatenate([[0], np.cumsum(counts)[:-1]])
        want = np.minimum((before + step // 2) // step, 255)
        np.testing.assert_array_equal(found[..., channel], want[image[..., channel]])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [(40, 56), (300, 200)])
def test_shifts_are_seven_pixels_to_either_side(axis: int, size: tuple[int, int]) -> None:
    image = picture(*size)
    found = results_of("TranslateX" if axis else "TranslateY", image)
    want = [np.full_like(image, GRAY) for _ in range(2)]
    inner = (slice(None),) * axis
    want[0][(*inner, slice(7, None))] = image[(*inner, slice(None, -7))]
    want[1][(*inner, slice(None, -7))] = image[(*inner, slice(7, None))]
    assert {one.tobytes() for one in found} == {one.tobytes() for one in want}


@pytest.mark.parametrize("axis", [0, 1])
def test_shears_are_0_21_to_either_side(axis: int) -> None:
    found = results_of("ShearX" if axis else "ShearY", np.full((101, 101, 3), 255, np.uint8))
    gray = []
    for one in found:
        # Along the last row (or column) the image is moved by 0.21 * 100 = 21 pixels.
        line = one[-1, :, 0] if axis else one[:, -1, 0]
        near = line == GRAY
        gray.append((int(near[:21].sum()), int(near[-21:].sum()), int(near.sum())))
    assert sorted(gray) == [(0, 21, 21), (21, 0, 21)]


def test_rotations_are_21_degrees_to_either_side() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    cv2.line(image, (50, 50), (90, 50), (255, 255, 255), 3)
    angles = []
    for found in results_of("Rotate", image):
        found[(found == GRAY).all(2)] = 0
        rows, columns = np.nonzero(found[..., 0] > 150)
        angles.append(round(np.degrees(np.arctan2(rows.mean() - 50, columns.mean() - 50))))
    assert sorted(angles) == [-21, 21]


def test_each_of_two_draws_is_applied_in_half_of_the_cases() -> None:
    np.random.seed(0)
    transform = RandAugment(ops=["TranslateX", "Identity"])
    image = picture()
    moved = np.array([
        _shift(transform({"img": image})["img"], image) for _ in range(2000)
    ])  # fmt: skip
    # A shift in a quarter of two draws; both in 1 / 16, to one side or back in halves of that.
    assert (np.abs(moved) == 14).mean() == pytest.approx(1 / 32, abs=0.015)  # with replacement
    assert (np.abs(moved) == 7).mean() == pytest.approx(6 / 16, abs=0.04)


def _shift(found: np.ndarray, image: np.ndarray) -> int:
    middle = image[:, 20:-20]
    for shift in (-14, -7, 0, 7, 14):
        if np.array_equal(found[:, 20 + shift : found.shape[1] - 20 + shift], middle):
            return shift
    raise AssertionError("no shift")


def test_the_ten_operations_are_drawn_and_the_size_is_kept() -> None:
    np.random.seed(0)
    transform = RandAugment()
    assert len(transform.ops) == 10 and (transform.num_ops, transform.level) == (2, 7)
    image = picture(33, 47)[:, ::-1]  # a view, as a flip leaves it
    for _ in range(100):
        found = transform({"img": image})["img"]
        assert found.shape == image.shape and found.dtype == np.uint8


class Images(Dataset):
    """Sixty times the same image, augmented."""

    def __init__(self) -> None:
        self.transform = RandAugment()

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> np.ndarray:
        return self.transform({"img": picture()})["img"]


def test_draws_are_those_of_the_position_in_the_training() -> None:
    def drawn(seed: int) -> list[bytes]:
        dataset = PositionedDataset(Images())
        return [dataset[SampleIndex(0, place, seed)].tobytes() for place in range(60)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) > 12


def test_impossible_settings_are_named() -> None:
    for wrong, match in (
        (dict(ops=["Solarise"]), "operation 'Solarise'; expected some of Identity, AutoContrast"),
        (dict(level=11), "level 11 .* 0 to 10"),
        (dict(num_ops=0), "num_ops 0"),
        (dict(ops=[]), "0 ops"),
    ):
        with pytest.raises(InputError, match=match):
            RandAugment(**wrong)
