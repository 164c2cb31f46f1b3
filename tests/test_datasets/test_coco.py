from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from mmbeit3.datasets import CocoDataset, make_shapes, read_classes
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError

SHAPES = ("disk", "square", "triangle", "star", "ring")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", 10, 2, 64, seed=0)


def _build(root: Path, **kwargs) -> CocoDataset:
    settings = {"ann_file": "annotations/train.json", "data_prefix": {"img": "train/"}}
    return DATASETS.build(
        {"type": "mmbeit3.CocoDataset", "data_root": str(root)} | settings | kwargs
    )


def _altered(root: Path, tmp_path: Path, **changes) -> str:
    data = json.loads((root / "annotations" / "train.json").read_text()) | changes
    path = tmp_path / "altered.json"
    path.write_text(json.dumps(data))
    return str(path)


def _named_boxes(dataset: CocoDataset) -> list[set[tuple]]:
    """For each image the set of (class name, box): what a label means, whatever its number."""
    classes = dataset.metainfo["classes"]
    return [
        {(classes[i["bbox_label"]], *i["bbox"]) for i in dataset.get_data_info(k)["instances"]}
        for k in range(len(dataset))
    ]


def test_classes_come_from_the_file(shapes: Path) -> None:
    dataset = _build(shapes)
    assert dataset.metainfo["classes"] == SHAPES
    assert dataset.cat_ids == [1, 2, 3, 4, 5]
    assert len(set(dataset.metainfo["palette"])) == 5
    assert read_classes(shapes / "annotations" / "train.json") == SHAPES


@pytest.mark.parametrize("classes", [None, "absent.txt", SHAPES[:2]])
def test_a_lazy_data_set_reads_no_file(shapes: Path, classes: str | tuple | None) -> None:
    metainfo = {"classes": classes} if classes else None
    dataset = _build(shapes, ann_file="absent.json", lazy_init=True, metainfo=metainfo)
    assert dataset.metainfo.get("classes") == classes
    with pytest.raises((InputError, FileNotFoundError)):
        dataset.full_init()
    dataset = _build(shapes, lazy_init=True)
    dataset.full_init()
    assert dataset.metainfo["classes"] == SHAPES and len(dataset) == 10


def test_categories_are_ordered_by_id(shapes: Path, tmp_path: Path) -> None:
    categories = [{"id": i, "name": name} for i, name in enumerate(SHAPES, start=1)]
    ann_file = _altered(shapes, tmp_path, categories=categories[::-1])
    assert read_classes(ann_file) == SHAPES
    assert _named_boxes(_build(shapes, ann_file=ann_file)) == _named_boxes(_build(shapes))


def test_shuffled_classes_keep_their_objects(shapes: Path) -> None:
    shuffled = ("ring", "disk", "star", "square", "triangle")
    dataset = _build(shapes, metainfo={"classes": shuffled})
    assert dataset.cat_ids == [5, 1, 4, 2, 3]
    assert _named_boxes(dataset) == _named_boxes(_build(shapes))


def test_a_subset_of_the_classes(shapes: Path) -> None:
    dataset = _build(shapes, metainfo={"classes": ["star", "disk"]})
    expected = [
        {box for box in boxes if box[0] in ("star", "disk")}
        for boxes in _named_boxes(_build(shapes))
    ]
    assert _named_boxes(dataset) == expected
    assert any(expected)


def test_classes_from_a_text_file(shapes: Path, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("star\ndisk\n")
    dataset = _build(shapes, metainfo={"classes": str(names)})
    assert dataset.metainfo["classes"] == ("star", "disk")


def test_a_misspelled_class_is_an_error(shapes: Path) -> None:
    with pytest.raises(InputError) as caught:
        _build(shapes, metainfo={"classes": ("disk", "Triangel", "banana")})
    message = str(caught.value)
    assert "no category named 'Triangel' (did you mean 'triangle'?), 'banana'." in message
    assert "It has: disk, square, triangle, star, ring" in message


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("disk", r"the text 'disk'.*classes=\('disk',\)"),
        (("disk", "disk"), r"names a class twice: \['disk'\]"),
        ((), "is empty"),
        (5, "is 5, expected a tuple"),
    ],
)
def test_unusable_classes(shapes: Path, classes: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _build(shapes, metainfo={"classes": classes})


def test_the_same_data_as_mmdet_on_coco(data_root: Path) -> None:
    from mmdet.datasets import CocoDataset as MMDetCocoDataset

    settings = {
        "data_root": str(data_root / "coco_sample"),
        "ann_file": "annotations/instances_train2017.json",
        "data_prefix": {"img": "train2017/"},
        "filter_cfg": {"filter_empty_gt": True, "min_size": 32},
    }
    ours, theirs = CocoDataset(**settings), MMDetCocoDataset(**settings)
    assert ours.metainfo["classes"] == theirs.metainfo["classes"]
    assert ours.cat_ids == theirs.cat_ids
    assert len(ours) == len(theirs) > 70
    for index in range(len(ours)):
        assert ours.get_data_info(index) == theirs.get_data_info(index)


def test_a_real_image_passes_the_pipeline(data_root: Path) -> None:
    dataset = CocoDataset(
        data_root=str(data_root / "fruits_nuts"),
        ann_file="val.json",
        data_prefix={"img": "images/"},
        pipeline=[
            {"type": "LoadImageFromFile"},
            {"type": "mmdet.LoadAnnotations", "with_bbox": True, "with_mask": True},
        ],
    )
    assert dataset.metainfo["classes"] == ("date", "fig", "hazelnut")
    sample = dataset[0]
    assert sample["img"].shape == (600, 800, 3)
    assert len(sample["gt_masks"]) == len(sample["gt_bboxes"]) > 0


def test_polygons_of_whole_numbers_are_resized_exactly(tmp_path: Path) -> None:
    root = make_shapes(tmp_path / "shapes", 1, 1, 64, seed=0)
    path = root / "annotations" / "train.json"
    data = json.loads(path.read_text())
    triangle = [1, 1, 41, 1, 41, 51]
    for annotation in data["annotations"]:
        annotation["segmentation"] = [triangle]
    path.write_text(json.dumps(data))
    pipeline = [
        dict(type="mmdet.LoadAnnotations", with_mask=True, poly2mask=False, with_bbox=True),
        dict(type="mmdet.Resize", scale_factor=0.3),
    ]
    pipeline = [dict(type="LoadImageFromFile"), *pipeline]
    dataset = _build(root, pipeline=pipeline, check_meaning=False)  # boxes of other objects
    found = dataset[0]["gt_masks"].masks[0][0]
    assert found.tolist() == pytest.approx([0.3 * value for value in triangle], rel=0.02)


def test_indices_and_filter_are_those_of_mmdet(shapes: Path) -> None:
    assert len(_build(shapes, indices=3)) == 3
    only_rings = {"metainfo": {"classes": ("ring",)}, "filter_cfg": {"filter_empty_gt": True}}
    kept = len(_build(shapes, **only_rings))
    assert 0 < kept < 10
    assert len(_build(shapes, **only_rings, test_mode=True)) == 10


def test_nothing_left_after_filtering(shapes: Path) -> None:
    with pytest.raises(InputError, match=r"is left to train on: of 10, 10 have.*min_size"):
        _build(shapes, filter_cfg={"min_size": 65})


def test_missing_images(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"10 of the 10 images .* first: 000000.jpg in .*No such"):
        _build(shapes, data_prefix={"img": "trian/"})
    data = json.loads((shapes / "annotations" / "train.json").read_text())
    data["images"][4]["file_name"] = "gone.jpg"
    ann_file = _altered(shapes, tmp_path, images=data["images"])
    with pytest.raises(InputError, match=r"1 of the 10 images .* first: gone.jpg in "):
        _build(shapes, ann_file=ann_file)


def test_damaged_images_and_other_sizes(shapes: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shapes, tmp_path / "shapes"))
    path = root / "train" / "000003.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"1 of the 10 images of .*\n.*000003\.jpg cannot be read"):
        _build(root)
    data = json.loads((shapes / "annotations" / "train.json").read_text())
    data["images"][2]["width"] = 65
    ann_file = _altered(shapes, tmp_path, images=data["images"])
    with pytest.raises(InputError, match=r"000002\.jpg is 64 x 64, but expected to be 65 x 64"):
        _build(shapes, ann_file=ann_file)


def _without_polygons(root: Path, tmp_path: Path, mask: object) -> str:
    annotations = json.loads((root / "annotations" / "train.json").read_text())["annotations"]
    annotations[4]["segmentation"] = mask
    return _altered(root, tmp_path, annotations=annotations)


def _loading(**settings: bool) -> list[dict]:
    return [dict(type="mmdet.LoadAnnotations", with_bbox=True, **settings)]


def test_an_object_without_a_mask(shapes: Path, tmp_path: Path) -> None:
    ann_file = _without_polygons(shapes, tmp_path, [])
    _build(shapes, ann_file=ann_file, pipeline=_loading())
    with pytest.raises(InputError, match="1 of the .* with id 5, of image 1, but the pipeline"):
        _build(shapes, ann_file=ann_file, pipeline=_loading(with_mask=True))


def test_bitmaps_that_are_no_polygons_are_remarked_on(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("mmbeit3.datasets.coco.print_log", lambda text, *_: lines.append(text))
    ann_file = _without_polygons(shapes, tmp_path, {"size": [64, 64], "counts": [96, 4000]})
    _build(shapes, ann_file=ann_file, pipeline=_loading(with_mask=True))
    assert not lines
    _build(shapes, ann_file=ann_file, pipeline=_loading(with_mask=True, poly2mask=False))
    assert len(lines) == 1 and "1 objects that are no crowds have RLE masks" in lines[0]


def test_images_elsewhere_are_not_looked_for(shapes: Path) -> None:
    ann_file = str(shapes / "annotations" / "train.json")
    dataset = CocoDataset(ann_file=ann_file, data_prefix={"img": "http://host/images/"})
    assert dataset.get_data_info(0)["img_path"] == "http://host/images/000000.jpg"


def test_wrong_prefix_key(shapes: Path) -> None:
    with pytest.raises(InputError, match=r"\['img_path'\], expected 'img'"):
        _build(shapes, data_prefix={"img_path": "train/"})


def test_missing_and_malformed_files(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*absent\.json"):
        _build(shapes, ann_file="annotations/absent.json")
    data = json.loads((shapes / "annotations" / "train.json").read_text())
    data["annotations"][2]["category_id"] = 9
    ann_file = _altered(shapes, tmp_path, annotations=data["annotations"])
    message = r"annotations\[2\] \(id 3\): category_id 9 is not in categories \(1..5\)"
    with pytest.raises(InputError, match=message):
        _build(shapes, ann_file=ann_file)
    with pytest.raises(InputError, match="has no list 'categories'"):
        read_classes(_altered(shapes, tmp_path, categories=None))


def test_a_class_without_objects_is_a_warning(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[tuple[str, int]] = []
    monkeypatch.setattr(
        "mmbeit3.datasets.coco.print_log",
        lambda text, logger, level: messages.append((text, level)),
    )
    names = (*SHAPES, "hexagon")
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    dataset = _build(shapes, ann_file=_altered(shapes, tmp_path, categories=categories))
    assert dataset.metainfo["classes"] == names
    assert len(messages) == 1
    assert messages[0][0].endswith("has no annotation of: hexagon")
    assert messages[0][1] == logging.WARNING
