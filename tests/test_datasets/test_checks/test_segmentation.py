from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbeit3.datasets import make_shapes
from mmbeit3.datasets.checks import files as file_checks
from mmbeit3.datasets.checks import segmentation as seg_checks
from mmbeit3.datasets.checks.segmentation import (
    LabelCounts,
    check_ade20k_labels,
    check_labels,
    count_labels,
)
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import ORIENTATION, read_image

SIX = ("background", "disk", "square", "triangle", "star", "ring")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    for module in (seg_checks, file_checks):
        monkeypatch.setattr(module, "print_log", lambda text, *_: lines.append(text))
    return lines


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> LabelCounts:
    root = make_shapes(tmp_path_factory.mktemp("data") / "shapes", 10, 1, 64, seed=0)
    images = sorted((root / "train").glob("*.jpg"))
    maps = sorted((root / "semantic" / "train").glob("*.png"))
    pairs = [(str(image), str(path)) for image, path in zip(images, maps, strict=True)]
    return count_labels(pairs, "the shapes")


@pytest.fixture(scope="module")
def ade(data_root: Path) -> LabelCounts:
    root = data_root / "ade20k_sample"
    maps = sorted((root / "annotations").glob("*/*.png"))
    pairs = [
        (str(root / "images" / path.parent.name / f"{path.stem}.jpg"), str(path)) for path in maps
    ]
    return count_labels(pairs, "the sample")


def _counts(**pixels: int) -> LabelCounts:
    """Counts of one map, by ``_value=pixels``."""
    histogram = np.zeros(256, np.int64)
    for name, number in pixels.items():
        histogram[int(name[1:])] = number
    examples = {int(v): ("a.png", int(histogram[v])) for v in np.flatnonzero(histogram)}
    return LabelCounts(1, histogram, (histogram > 0).astype(np.int64), examples)


def _pair(folder: Path, labels: np.ndarray, size: tuple[int, int] | None = None) -> tuple[str, str]:
    """Write an image and a label map, (H, W)."""
    Image.new("RGB", size or labels.shape[1::-1]).save(folder / "image.jpg")
    Image.fromarray(labels).save(folder / "map.png")
    return str(folder / "image.jpg"), str(folder / "map.png")


def test_values_are_counted(tmp_path: Path) -> None:
    pair = _pair(tmp_path, np.array([[0, 0, 7], [255, 7, 7]], np.uint8))
    other = tmp_path / "other.png"
    Image.fromarray(np.array([[7, 7, 1], [1, 1, 1]], np.uint8)).save(other)
    counts = count_labels([pair, (pair[0], str(other))], "it")
    assert counts.num_maps == 2
    found = {v: (counts.pixels[v], counts.maps[v]) for v in np.flatnonzero(counts.pixels)}
    assert found == {0: (2, 1), 1: (4, 1), 7: (5, 2), 255: (1, 1)}
    assert counts.examples[7] == (pair[1], 3) and counts.examples[1] == (str(other), 4)
    assert counts.share(7) == 5 / 12


def test_a_palette_changes_nothing(tmp_path: Path) -> None:
    labels = np.array([[0, 3], [2, 3]], np.uint8)
    pair = _pair(tmp_path, labels)
    image = Image.fromarray(labels)
    image.putpalette([200, 100, 50] * 256)
    image.save(pair[1])
    assert count_labels([pair], "it").pixels[:4].tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((4, 6, 3), np.uint8), r"map.png has colors .*\(mode RGB\); expected one index"),
        (np.zeros((4, 6, 4), np.uint8), r"\(mode RGBA\)"),
        (np.full((4, 6), 300, np.uint16), "has 16 bits a pixel; expected 8"),
        (np.zeros((4, 5), np.uint8), r"map.png is 5 x 4, but .*image.jpg is 6 x 4"),
    ],
)
def test_malformed_maps_are_named(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        count_labels([_pair(tmp_path, labels, size=(6, 4))], "my masks")
    assert str(caught.value).startswith("my masks: 1 of 1 pairs of image and label map are bad")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 9, (40, 60), np.uint8)
    image, label_map = _pair(tmp_path, labels)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(Path(label_map).read_bytes()[:500])
    jpeg = tmp_path / "jpeg.png"
    jpeg.write_bytes(Path(image).read_bytes())
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    pairs = [(image, str(damaged)), (image, str(jpeg)), (str(text), label_map)]
    with pytest.raises(InputError) as caught:
        count_labels(pairs, "it")
    lines = str(caught.value).splitlines()
    assert lines[0] == "it: 3 of 3 pairs of image and label map are bad"
    assert "damaged.png cannot be read" in lines[1]
    assert "jpeg.png is a JPEG file; expected PNG" in lines[2]
    assert "text.jpg cannot be read" in lines[3]


def test_long_lists_of_problems_are_cut(tmp_path: Path) -> None:
    pair = _pair(tmp_path, np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(InputError, match=r"it: 12 of 12 pairs[^…]*\.\.\. and 9 more"):
        count_labels([pair] * 12, "it")


def test_the_exif_orientation_counts_as_it_does_on_loading(tmp_path: Path) -> None:
    image, label_map = _pair(tmp_path, np.zeros((4, 6), np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (4, 6)).save(image, exif=exif)  # shown, and loaded by cv2, as 6 x 4
    assert count_labels([(image, label_map)], "it").pixels[0] == 24
    Image.new("RGB", (6, 4)).save(image, exif=exif)
    with pytest.raises(InputError, match="is 4 x 6 when its EXIF orientation is followed: turn th"):
        count_labels([(image, label_map)], "it")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_the_size_of_an_image_is_that_of_the_reader(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = tmp_path / f"image{suffix}"
    Image.new("RGB", (6, 4)).save(path, exif=exif)
    labels = np.zeros(read_image(path).shape[:2], np.uint8)
    Image.fromarray(labels).save(tmp_path / "map.png")
    assert count_labels([(str(path), str(tmp_path / "map.png"))], "it").pixels[0] == 24


def test_the_counts_of_large_sets_are_kept_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_checks, "LARGE", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pair = _pair(tmp_path, np.array([[0, 3], [2, 3]], np.uint8))
    first = count_labels([pair], "it")
    with monkeypatch.context() as patch:
        patch.setattr(seg_checks, "_count", lambda *_: pytest.fail("read again"))
        again = count_labels([pair], "it")
    assert again.pixels.tolist() == first.pixels.tolist()
    assert again.maps.tolist() == first.maps.tolist()
    assert (again.num_maps, again.examples) == (1, first.examples)
    Image.fromarray(np.ones((2, 2), np.uint8)).save(pair[1])
    os.utime(pair[1], ns=(1, 1))
    assert count_labels([pair], "it").pixels[1] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "image.jpg", "map.png"]


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr(file_checks, "LARGE", 1)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    pair = _pair(tmp_path, np.zeros((4, 6), np.uint8))
    assert count_labels([pair], "it").pixels[0] == 24
    assert "the check of it is not kept" in logged[0]


def test_without_a_home_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(file_checks, "LARGE", 1)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert count_labels([_pair(tmp_path, np.zeros((4, 6), np.uint8))], "it").pixels[0] == 24
    assert "not kept: Could not determine home" in logged[0]


def test_a_full_disk_costs_no_second_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr(file_checks, "LARGE", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pair = _pair(tmp_path, np.zeros((4, 6), np.uint8))
    reads, count = [], seg_checks._count

    def counting(*args) -> LabelCounts:
        reads.append(args)
        return count(*args)

    def full(*_, **__) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(seg_checks, "_count", counting)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        count_labels([pair], "it")
    assert len(reads) == 1 and "No space left" in logged[0]
    count_labels([pair], "it")
    (kept,) = (tmp_path / "cache" / "mmbeit3").glob("*.json")
    kept.write_text(kept.read_text()[:20])
    assert count_labels([pair], "it").pixels[0] == 24
    assert len(reads) == 3


def test_values_outside_the_classes_are_named_with_file_and_count() -> None:
    counts = _counts(_0=5, _1=5, _7=3, _9=2, _255=4)
    with pytest.raises(InputError) as caught:
        check_labels(counts, ("a", "b"), False, "masks")
    assert str(caught.value).splitlines() == [
        "masks has label values outside the 2 classes: 7, 9",
        "  value 7: 3 pixels in 1 label maps, most of them (3) in a.png",
        "  value 9: 2 pixels in 1 label maps, most of them (2) in a.png",
        "Expected 0..1, or 255 to be ignored: name their classes in the class list, or replace "
        "them in the label maps",
    ]
    with pytest.raises(InputError, match=r"value 7.*\n.*\nExpected 1\.\.2, or 0 or 255 to be i"):
        check_labels(counts, ("a", "b"), True, "masks")


def test_maps_that_are_numbered_from_zero_with_255_for_other(logged: list[str]) -> None:
    counts = _counts(_0=1, _2=1, _255=2)
    with pytest.raises(InputError, match="both 0 and 255 occur and 4 never does: .*from 0, and 0 "):
        check_labels(counts, ("a", "b", "c", "d"), True, "masks")
    check_labels(counts, ("a", "b", "c", "d"), True, "masks", training=False)
    assert len(logged) == 1 and "both 0 and 255 occur" in logged[0]
    logged.clear()
    check_labels(_counts(_0=1, _1=1, _2=2, _255=2), ("a", "b"), True, "masks")
    assert not logged


def test_maps_of_which_nothing_can_be_learnt(logged: list[str]) -> None:
    with pytest.raises(InputError, match="every pixel of masks is ignored, none .*black and white"):
        check_labels(_counts(_255=9), ("a", "b"), False, "masks", training=False)
    with pytest.raises(InputError, match="is ignored, .* 0 is ignored with reduce_zero_label=True"):
        check_labels(_counts(_0=9), ("a", "b"), True, "masks")
    with pytest.raises(
        InputError, match=r"of the class 'a' or ignored \(255, 25% of them\).*replace 255 by the nu"
    ):
        check_labels(_counts(_0=3, _255=1), ("a", "b"), False, "masks")
    logged.clear()
    check_labels(_counts(_0=3, _255=1), ("a", "b"), False, "masks", training=False)
    check_labels(_counts(_0=3, _255=1), ("a",), False, "masks")  # one class, the rest unlabeled
    assert not logged


def test_maps_that_count_from_one_without_the_setting() -> None:
    with pytest.raises(InputError, match="No map has the value 0.*Set reduce_zero_label=True"):
        check_labels(_counts(_1=5, _2=5), ("a", "b"), False, "masks")
    with pytest.raises(InputError, match="run from 0 to 2, which is 3 of them. If 0 means unlab"):
        check_labels(_counts(_0=1, _1=5, _2=5), ("a", "b"), False, "masks")


def test_maps_that_count_from_zero_with_the_setting(shapes: LabelCounts, logged: list[str]) -> None:
    with pytest.raises(InputError, match=r"0\.\.5 all occur and 6 never does.*=False.*'ring'"):
        check_labels(shapes, SIX, True, "shapes")
    check_labels(shapes, SIX, True, "shapes", training=False)  # data to test with may lack a class
    assert len(logged) == 1 and "all occur and 6 never does" in logged[0]
    logged.clear()
    check_labels(shapes, SIX, False, "shapes")
    assert not logged


def test_a_background_without_a_class_is_remarked_on(
    shapes: LabelCounts, logged: list[str]
) -> None:
    with pytest.raises(InputError, match="values run from 0 to 5, which is 6 of them"):
        check_labels(shapes, SIX[1:], False, "shapes")
    check_labels(shapes, SIX[1:], True, "shapes")
    assert len(logged) == 1 and "pixels of shapes have the value 0 and are ignored" in logged[0]


def test_classes_without_a_pixel_are_remarked_on(logged: list[str]) -> None:
    check_labels(_counts(_0=1, _2=1), ("a", "b", "c", "d"), False, "masks")
    assert logged == ["masks has no pixel of 2 of the 4 classes: b, d"]
    logged.clear()
    check_labels(_counts(_0=1, _2=1), ("a", "b", "c", "d"), False, "masks", training=False)
    assert not logged


CLASSES_OF_ADE20K = [f"class {number}" for number in range(1, 151)]


def test_names_shifted_by_one_are_asked_about(ade: LabelCounts, logged: list[str]) -> None:
    asks = (
        r"value 0 occurs in 32 of 32 label maps \([0-9.]+% of the pixels\), and 149, 'class 150', "
        r"in none\. If 0 means unlabeled and 1 is 'class 1', .* set reduce_zero_label=True .* "
        r"set reduce_zero_label=False"
    )
    with pytest.raises(InputError, match=asks):
        check_labels(ade, CLASSES_OF_ADE20K, None, "the sample")
    assert not logged
    check_labels(ade, CLASSES_OF_ADE20K, False, "the sample")  # decided, and remarked on
    assert "reduce_zero_label=True" in logged.pop()
    check_labels(ade, CLASSES_OF_ADE20K, True, "the sample")
    assert len(logged) == 1 and "reduce_zero_label" not in logged[0]
    check_labels(ade, CLASSES_OF_ADE20K, None, "the sample", training=False)


@pytest.mark.parametrize(
    "names",
    [
        ["other", *CLASSES_OF_ADE20K],
        ["Background", *CLASSES_OF_ADE20K],
        ["_background_", *CLASSES_OF_ADE20K],
        CLASSES_OF_ADE20K[:144],  # the last one occurs
    ],
)
def test_names_that_fit_are_not_asked_about(
    ade: LabelCounts, logged: list[str], names: list[str]
) -> None:
    check_labels(ade, names, None, "the sample")
    assert all("reduce_zero_label" not in line for line in logged)


@pytest.mark.parametrize("other", [255, None])
def test_maps_that_do_count_from_zero_are_not_asked_about(
    ade: LabelCounts, logged: list[str], other: int | None
) -> None:
    pixels, maps = np.roll(ade.pixels, -1), np.roll(ade.maps, -1)  # 'other' goes to 255
    if other is None:
        pixels[255] = maps[255] = 0
    examples = {(value - 1) % 256: example for value, example in ade.examples.items()}
    counts = LabelCounts(ade.num_maps, pixels, maps, examples)
    check_labels(counts, CLASSES_OF_ADE20K, None, "the sample")
    assert len(logged) == 1 and "reduce_zero_label" not in logged[0]


@pytest.mark.parametrize("num_maps", [2, 3, 20])
@pytest.mark.parametrize("num_classes", [3, 10, 254])
def test_shifted_maps_of_any_size_are_asked_about(num_maps: int, num_classes: int) -> None:
    counts = _counts(_0=10, _1=5)
    counts = LabelCounts(num_maps, counts.pixels, counts.maps * num_maps, counts.examples)
    names = [f"class {number}" for number in range(num_classes)]
    with pytest.raises(InputError, match="set reduce_zero_label=True"):
        check_labels(counts, names, None, "masks")


def test_official_ade20k_maps_need_the_setting(ade: LabelCounts, logged: list[str]) -> None:
    classes = [str(number) for number in range(150)]
    assert ade.num_maps == 32
    check_ade20k_labels(ade, classes, True, "ADE20K")
    assert not logged
    with pytest.raises(InputError, match=r"value 0 occurs in 32 of 32 label maps and 255 in none"):
        check_ade20k_labels(ade, classes, False, "ADE20K")
    # As a user's own folder with this list of classes: too few maps to hold the value 150.
    check_labels(ade, classes, True, "ADE20K")
    ade.pixels[150] += 1
    with pytest.raises(InputError, match="If 0 means unlabeled, set reduce_zero_label=True"):
        ade.examples[150] = ("a.png", 1)
        check_labels(ade, classes, False, "ADE20K")
    ade.pixels[150] -= 1


def test_renumbered_and_foreign_ade20k_maps() -> None:
    classes = [str(number) for number in range(150)]
    renumbered = _counts(_0=5, _149=5, _255=1)
    check_ade20k_labels(renumbered, classes, False, "ADE20K")
    with pytest.raises(InputError, match=r"value 255.*\n.*0\.\.150\n.*set\s+reduce_zero_label=Fa"):
        check_ade20k_labels(renumbered, classes, True, "ADE20K")
    with pytest.raises(InputError, match="value 151: 3 pixels in 1 label maps"):
        check_ade20k_labels(_counts(_0=1, _151=3), classes, True, "ADE20K")
