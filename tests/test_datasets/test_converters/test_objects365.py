from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import Objects365V1Dataset, Objects365V2Dataset
from mmdet.utils import register_all_modules
from PIL import Image

from mmbeit3.datasets import CocoDataset
from mmbeit3.datasets.checks.coco import check_coco
from mmbeit3.datasets.coco import read_classes
from mmbeit3.datasets.converters import objects365 as module
from mmbeit3.datasets.converters.objects365 import clip_box, prepare_objects365
from mmbeit3.utils import InputError

register_all_modules()
CLASSES = {
    "v1": Objects365V1Dataset.METAINFO["classes"],
    "v2": Objects365V2Dataset.METAINFO["classes"],
}
BOXES = (  # of one image of 64 x 48: as they are, as they are written
    ([4.25, 5.5, 20.0, 10.125], [4.25, 5.5, 20.0, 10.125]),
    ([-3.0, 10.0, 10.0, 50.0], [0, 10.0, 7.0, 38.0]),
    ([60.0004, 1.0, 9.0, 9.0], [60.0, 1.0, 4.0, 9.0]),
    ([70.0, 10.0, 5.0, 5.0], None),
    ([5.0, 5.0, 0.0, 8.0], None),
)


def _names(version: str, split: str) -> list[str]:
    """File names as the official annotations have them."""
    if version == "v1":
        return [f"obj365_{split}_{number:012d}.jpg" for number in (7, 18, 400, 512)]
    return [
        f"images/{part}/patch{patch}/objects365_{part}_{number:08d}.jpg"
        for part, patch, number in (("v1", 0, 7), ("v1", 8, 420917), ("v2", 16, 9), ("v2", 16, 10))
    ]


def _official(version: str, split: str) -> dict:
    images, annotations = [], []
    for index, name in enumerate(_names(version, split)):
        number = 1000 + index
        images.append(
            {"id": number, "file_name": name, "width": 64, "height": 48, "license": 5, "url": ""}
        )
        for box, _ in BOXES:
            entry = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 1 + len(annotations) % 365,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(len(annotations) == 0),
            }
            if version == "v2":
                entry |= {"isfake": int(len(annotations) == 1), "isreflected": 0}
            annotations.append(entry)
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES[version], 1)]
    random.Random(split).shuffle(categories)
    if version == "v1":
        return {"categories": categories, "annotations": annotations, "images": images}
    return {"images": images, "annotations": annotations, "categories": categories}


def _jpeg(size: tuple[int, int] = (64, 48)) -> bytes:
    pixels = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def _tar(path: Path, contents: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def _make_v1(root: Path) -> Path:
    """As v1 comes: annotations beside folders of images."""
    for split in module.SPLITS:
        (root / split).mkdir(parents=True)
        (root / f"objects365_{split}.json").write_text(json.dumps(_official("v1", split)))
        for name in _names("v1", split):
            (root / split / name).write_bytes(_jpeg())
    return root


def _make_v2(root: Path) -> Path:
    """As v2 comes: an archive for each patch, training annotations packed."""
    for split in module.SPLITS:
        (root / split).mkdir(parents=True)
        name, content = f"zhiyuan_objv2_{split}", json.dumps(_official("v2", split)).encode()
        if split == "train":
            _tar(root / split / f"{name}.tar.gz", {f"._{name}.json": b"?", f"{name}.json": content})
        else:
            (root / split / f"{name}.json").write_bytes(content)
        patches: dict[str, dict[str, bytes]] = {}
        for path in map(Path, _names("v2", split)):
            patches.setdefault(path.parent.name, {})[f"{path.parent.name}/{path.name}"] = _jpeg()
        for patch, contents in patches.items():
            _tar(root / split / f"{patch}.tar.gz", contents)
    return root


MAKERS = {"v1": _make_v1, "v2": _make_v2}


def _prepare(root: Path, out: Path, **kwargs) -> list[module.Summary]:
    return prepare_objects365(root, out, **{"num_workers": 1} | kwargs)[1]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_our_dataset_reads_what_was_written(version: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summaries = _prepare(MAKERS[version](tmp_path / "official"), out)
    for split, summary in zip(module.SPLITS, summaries, strict=True):
        data = json.loads((out / f"annotations/{split}.json").read_text())
        report = check_coco(data)
        assert not report.num_errors and not report.num_warnings
        dataset = CocoDataset(
            data_root=str(out),
            ann_file=f"annotations/{split}.json",
            data_prefix=dict(img=f"{split}/"),
            filter_cfg=dict(filter_empty_gt=True),
        )
        assert dataset.metainfo["classes"] == tuple(name.strip() for name in CLASSES[version])
        assert [Path(info["img_path"]).name for info in map(dataset.get_data_info, range(4))] == [
            Path(name).name for name in _names(version, split)
        ]
        assert all(Path(dataset.get_data_info(i)["img_path"]).is_file() for i in range(4))
        first = dataset.get_data_info(0)["instances"]
        wanted = [box for _, box in BOXES if box]
        assert [i["bbox"] for i in first] == [[x, y, x + w, y + h] for x, y, w, h in wanted]
        # The label of box n of the official file, which is of category n + 1
        assert [i["bbox_label"] for i in dataset.get_data_info(1)["instances"]] == [5, 6, 7]
        assert [i["ignore_flag"] for i in first] == [1, 0, 0]
        kept = dict(kept_images=4, images=4, boxes=20, kept_boxes=12, boxes_without_area=8)
        assert kept.items() <= vars(summary).items()
        assert summary.clipped_boxes == 8 and not summary.dropped_images
        assert summary.flags == {"iscrowd": 1, "isfake": int(version == "v2"), "isreflected": 0}
        written = json.loads((out / f"annotations/{split}_summary.json").read_text())
        assert module.Summary(**written) == summary


def test_v1_links_and_v2_unpacks(tmp_path: Path) -> None:
    _prepare(_make_v1(tmp_path / "one"), tmp_path / "v1")
    assert (tmp_path / "v1/train").is_symlink()
    _prepare(_make_v2(tmp_path / "two"), tmp_path / "v2")
    assert sorted(path.name for path in (tmp_path / "v2/val").iterdir() if path.is_dir()) == [
        "patch0", "patch16", "patch8"
    ]  # fmt: skip
    _prepare(_make_v1(tmp_path / "three"), tmp_path / "three")  # in place
    assert not (tmp_path / "three/train").is_symlink()


def test_unpacked_v2_is_found_at_any_depth(tmp_path: Path) -> None:
    root = _make_v2(tmp_path / "official")
    for split in module.SPLITS:
        for archive in root.glob(f"{split}/patch*.tar.gz"):
            archive.unlink()
        for name in _names("v2", split):
            (root / split / name).parent.mkdir(parents=True, exist_ok=True)
            (root / split / name).write_bytes(_jpeg())
    (root / "annotations").mkdir()
    (root / "val/zhiyuan_objv2_val.json").rename(root / "annotations/zhiyuan_objv2_val.json")
    assert [summary.kept_images for summary in _prepare(root, tmp_path / "out")] == [4, 4]


def test_images_that_cannot_be_used_are_left_out_and_listed(tmp_path: Path) -> None:
    root = _make_v1(tmp_path / "official")
    missing, damaged, turned, good = (root / "train" / name for name in _names("v1", "train"))
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-200])
    turned.write_bytes(_jpeg((48, 64)))
    with pytest.raises(InputError, match=r"3 of 4 images of train .*--partial"):
        _prepare(root, tmp_path / "out")
    assert not list((tmp_path / "out/annotations").iterdir())
    train, _ = _prepare(root, tmp_path / "out", partial=True, num_workers=2)
    assert list(train.dropped_images) == [path.name for path in (missing, damaged, turned)]
    problems = list(train.dropped_images.values())
    assert problems[0] == "missing" and problems[1].startswith("cannot be read: ")
    assert problems[2] == "is 48 x 64, not 64 x 48"
    data = json.loads((tmp_path / "out/annotations/train.json").read_text())
    assert [image["file_name"] for image in data["images"]] == [good.name]
    assert {entry["image_id"] for entry in data["annotations"]} == {1003}
    assert (train.kept_images, train.kept_boxes, train.boxes) == (1, 3, 20)
    assert "train: 1 of 4 images (3 missing or damaged), 3 of 20 boxes" in train.text()


def test_a_forgotten_patch_is_named(tmp_path: Path) -> None:
    root = _make_v2(tmp_path / "official")
    (root / "train/patch16.tar.gz").unlink()
    with pytest.raises(InputError, match=r"2 of 4 .*by folder: images/v2/patch16 \(2\); the first"):
        _prepare(root, tmp_path / "out")


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    root, out = _make_v2(tmp_path / "official"), tmp_path / "out"
    val = root / "val/zhiyuan_objv2_val.json"
    content = val.read_bytes()
    val.write_bytes(content[:-100])
    with pytest.raises(InputError, match=r"zhiyuan_objv2_val\.json is not valid JSON"):
        _prepare(root, out)
    assert sorted(path.name for path in (out / "annotations").iterdir()) == [
        "train.json", "train_summary.json"
    ]  # fmt: skip
    done = [out / "annotations/train.json", *(out / "train").rglob("*.jpg")]
    times = [path.stat().st_mtime_ns for path in done]
    val.write_bytes(content)
    train, _ = _prepare(root, out)
    assert [path.stat().st_mtime_ns for path in done] == times
    assert train.kept_images == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(bbox=[1, 2, 3]), r"annotations\[2\]: \(id 3\) bbox is \[1, 2, 3\], expected 4"),
        (dict(bbox=[1, 2, float("nan"), 3]), r"annotations\[2\]: \(id 3\) bbox is .*nan"),
        (dict(bbox=[1, 2, 10**400, 3]), r"annotations\[2\]: \(id 3\) bbox is .*expected 4"),
        (dict(bbox=[1, True, 2, 3]), r"annotations\[2\]: \(id 3\) bbox is .*expected 4"),
        (dict(bbox="1234"), r"annotations\[2\]: \(id 3\) bbox is '1234', expected 4"),
        (dict(bbox={"0": 1}), r"annotations\[2\]: \(id 3\) bbox is .*expected 4"),
        (dict(id="3"), r"annotations\[2\]: \(id '3'\) id is '3', expected an integer"),
        (dict(id=None), r"annotations\[2\]: .* id is None, expected an integer"),
        (dict(id=3.5), r"annotations\[2\]: .* id is 3.5, expected an integer"),
        (dict(id=2**64), r"annotations\[2\]: .* id is .*, expected an integer"),
        (dict(id=2), r"1 ids of annotations stand twice or more, such as 2"),
        (dict(id=20), r"1 ids of annotations stand twice or more, such as 20"),
        (dict(iscrowd="no"), r"annotations\[2\]: \(id 3\) iscrowd is 'no', expected 0 or 1"),
        (dict(image_id=[1]), r"annotations\[2\]: \(id 3\) image_id is \[1\], expected an integer"),
        (dict(image_id=5), r"annotations\[2\]: \(id 3\) image_id 5 is not in images"),
        (dict(category_id=366), r"annotations\[2\]: \(id 3\) category_id 366 is not in categ"),
    ],
)
def test_broken_annotations_are_named(change: dict, message: str, tmp_path: Path) -> None:
    root = _make_v1(tmp_path / "official")
    data = _official("v1", "train")
    data["annotations"][2] |= change
    (root / "objects365_train.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=message):
        _prepare(root, tmp_path / "out")
    assert not list((tmp_path / "out/annotations").iterdir())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "lists no images"),
        ([5], r"images\[0\] is 5, expected an object with id, file_name"),
        ([{"id": "1", "file_name": "a.jpg", "width": 64, "height": 48}], r"images\[0\] is .*'1'"),
        ([{"id": 1, "file_name": "a.jpg", "width": 64}], r"images\[0\] is .*'width': 64}, expect"),
        ([{"id": True, "file_name": "a.jpg", "width": 64, "height": 48}], r"images\[0\] is .*True"),
        (
            [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 0}],
            r"images\[0\] is .*sides abo",
        ),
        ([{"id": 1, "file_name": "a.jpg", "width": -64, "height": 48}], r"images\[0\] is .*-64"),
        ([{"id": 1, "file_name": "\ud800.jpg", "width": 64, "height": 48}], r"images\[0\] is"),
        ([{"id": 1, "file_name": "", "width": 64, "height": 48}], r"images\[0\] is .*''"),
        (
            [
                {"id": number, "file_name": f"{number}/a.jpg", "width": 64, "height": 48}
                for number in (1, 2)
            ],
            "two images have the file a.jpg",
        ),
        (_official("v1", "train")["images"][:1] * 2, "two images have the id 1000"),
    ],
)
def test_broken_images_are_named(images: list, message: str, tmp_path: Path) -> None:
    root = _make_v1(tmp_path / "official")
    data = _official("v1", "train") | {"images": images}
    (root / "objects365_train.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=message):
        _prepare(root, tmp_path / "out")


def _train_text(change: dict | None = None) -> str:
    return json.dumps(_official("v1", "train") | (change or {}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_train_text().replace('"area": 202.5', f'"area": {"9" * 5000}'), "a number is too long"),
        (_train_text() + "{}", "the file goes on after its end"),
        (_train_text()[:-1] + ', "annotations": []}', "'annotations' stands twice in one object"),
        (_train_text().replace('"id": 3,', '"id": 3, "id": 4,', 1), "'id' stands twice"),
        (_train_text({"annotations": []}), "of 0 boxes none is left"),
        (_train_text({"annotations": None}), r"annotations\[0\]: is None, expected id"),
        (_train_text({"categories": {"1": "cat"}}), "categories"),
        (_train_text().replace(", 20.0, 10.125]", ", 0.2, 0.1]"), None),
    ],
)
def test_files_that_are_wrong_as_a_whole(text: str, message: str | None, tmp_path: Path) -> None:
    root, out = _make_v1(tmp_path / "official"), tmp_path / "out"
    (root / "objects365_train.json").write_text(text)
    if message is None:
        _prepare(root, out)
        assert not check_coco(json.loads((out / "annotations/train.json").read_text())).num_errors
        return
    with pytest.raises(InputError, match=message):
        _prepare(root, out)
    assert not list((out / "annotations").iterdir())


def test_boxes_in_fractions_are_refused(tmp_path: Path) -> None:
    root, data = _make_v1(tmp_path / "official"), _official("v1", "train")
    for entry in data["annotations"]:
        entry["bbox"] = [0.1, 0.2, 0.5, 0.25]
    (root / "objects365_train.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="of 20 boxes none is left that is as large as a pixel"):
        _prepare(root, tmp_path / "out")


def test_boxes_far_outside_are_left_out(tmp_path: Path) -> None:
    root, data = _make_v1(tmp_path / "official"), _official("v1", "train")
    data["annotations"][0]["bbox"] = [0, 0, 1e300, 20]
    data["annotations"][5]["bbox"] = [-65, 0, 80, 20]
    (root / "objects365_train.json").write_text(json.dumps(data))
    train, _ = _prepare(root, tmp_path / "out")
    assert (train.boxes_far_outside, train.kept_boxes) == (2, 10)


def test_categories_that_differ_by_blanks(tmp_path: Path) -> None:
    root, data = _make_v1(tmp_path / "official"), _official("v1", "train")
    data["categories"][0]["name"] = data["categories"][1]["name"] + " "
    (root / "objects365_train.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="two categories named .*, but for blanks"):
        _prepare(root, tmp_path / "out")


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("what", ["image", "annotations", "summary", "records"])
def test_other_content_of_an_earlier_run_is_replaced(
    version: str, what: str, tmp_path: Path
) -> None:
    root, out = MAKERS[version](tmp_path / "official"), tmp_path / "out"
    _prepare(root, out)
    right = {path: path.read_bytes() for path in (out / "annotations").iterdir()}
    image = next(out.glob("train/**/*.jpg"))
    path = {
        "image": image,
        "annotations": out / "annotations/train.json",
        "summary": out / "annotations/train_summary.json",
        "records": out / ".train.records",
    }[what]
    content = path.read_bytes()
    path.write_bytes(b"[" * len(content))
    train, val = _prepare(root, out, partial=True)
    assert val.kept_images == 4
    if what == "image" and version == "v1":  # there is no archive to take it from
        assert list(train.dropped_images.values()) == [train.dropped_images[image.name]]
        path.write_bytes(content)
        train, _ = _prepare(root, out)
    assert train.kept_images == 4 and path.read_bytes() == content
    assert {path: path.read_bytes() for path in right} == right


def test_images_that_came_later_are_taken(tmp_path: Path) -> None:
    root, out = _make_v1(tmp_path / "official"), tmp_path / "out"
    images = [root / "train" / name for name in _names("v1", "train")[:2]]
    contents = [path.read_bytes() for path in images]
    images[0].unlink()
    images[1].write_bytes(b"damaged")
    assert _prepare(root, out, partial=True)[0].kept_images == 2
    images[0].write_bytes(contents[0])
    assert _prepare(root, out, partial=True)[0].kept_images == 3
    images[1].write_bytes(contents[1])
    assert _prepare(root, out, partial=True)[0].kept_images == 4


def test_archives_that_came_later_are_taken(tmp_path: Path) -> None:
    root, out = _make_v2(tmp_path / "official"), tmp_path / "out"
    patch = root / "train/patch16.tar.gz"
    content = patch.read_bytes()
    patch.unlink()
    assert _prepare(root, out, partial=True)[0].kept_images == 2
    patch.write_bytes(content)
    assert _prepare(root, out, partial=True)[0].kept_images == 4
    for archive in root.glob("train/patch*"):  # nothing else depends on them any more
        archive.unlink()
    assert _prepare(root, out)[0].kept_images == 4


def test_two_images_of_one_name(tmp_path: Path) -> None:
    root, name = _make_v1(tmp_path / "official"), _names("v1", "train")[0]
    (root / "train/more").mkdir()
    (root / "train/more" / name).write_bytes(_jpeg())  # the same content
    _prepare(root, tmp_path / "out")
    (root / "train/more" / name).write_bytes(_jpeg((64, 50)))
    with pytest.raises(InputError, match=f"two different images .*{name}"):
        _prepare(root, tmp_path / "other")


def test_other_files_are_refused(tmp_path: Path) -> None:
    root = _make_v1(tmp_path / "official")
    data = _official("v1", "val")
    data["categories"].pop()
    (root / "objects365_val.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"objects365_val\.json has 364 categories, expected"):
        _prepare(root, tmp_path / "out")
    (root / "objects365_val.json").unlink()
    with pytest.raises(InputError, match="no full set of annotations: expected objects365_train"):
        _prepare(root, tmp_path / "out")
    with pytest.raises(InputError, match="is no folder"):
        _prepare(root / "absent", tmp_path / "out")
    with pytest.raises(InputError, match="number of processes is 0"):
        _prepare(root, tmp_path / "out", num_workers=0)


def test_a_foreign_image_folder_is_left_alone(tmp_path: Path) -> None:
    root = _make_v1(tmp_path / "official")
    (tmp_path / "out/train").mkdir(parents=True)
    with pytest.raises(InputError, match="train exists and is not a link to"):
        _prepare(root, tmp_path / "out")


def test_clipped_boxes_lie_inside_and_keep_what_was_inside() -> None:
    rng = np.random.default_rng(0)
    for x, y, w, h in rng.uniform(-30, 90, (500, 4)).tolist():
        box, is_clipped = clip_box([x, y, w, h], 64, 48)
        left, top = np.clip([x, y], 0, [64, 48])
        right, bottom = np.clip([x + w, y + h], 0, [64, 48])
        if right <= left or bottom <= top:
            assert box is None
        elif box is not None:
            assert np.allclose(box, [left, top, right - left, bottom - top], atol=1e-3)
            assert is_clipped == (not np.allclose(box, [x, y, w, h], atol=1e-3))


def test_class_names_are_those_of_mmdet_without_blanks(tmp_path: Path) -> None:
    _prepare(_make_v2(tmp_path / "official"), tmp_path / "out")
    classes = read_classes(tmp_path / "out/annotations/val.json")
    assert len(set(classes)) == 365 and not [name for name in classes if name != name.strip()]
