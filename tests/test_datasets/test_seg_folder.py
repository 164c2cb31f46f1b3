from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from mmbeit3.datasets import SegFolderDataset, make_shapes
from mmbeit3.datasets.checks import segmentation as seg_checks
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError

NAMES = ("sky", "road", "car")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pairs, one in a folder of its own, and the class list."""
    for number, stem in enumerate(("b", "a", "deep/c")):
        image, label_map = tmp_path / "images" / stem, tmp_path / "masks" / f"{stem}.png"
        for path in (image, label_map):
            path.parent.mkdir(parents=True, exist_ok=True)
        suffix = (".jpg", ".PNG", ".webp")[number]
        Image.new("RGB", (6, 4)).save(image.with_suffix(suffix))
        Image.fromarray(np.full((4, 6), number, np.uint8)).save(label_map)
    (tmp_path / "masks" / "._a.png").write_bytes(b"what macOS leaves behind")
    (tmp_path / "classes.txt").write_text("sky #102030\nroad\ncar\n")
    return tmp_path


def _build(root: Path, **kwargs) -> SegFolderDataset:
    settings = {
        "type": "mmbeit3.SegFolderDataset",
        "data_root": str(root),
        "classes_file": "classes.txt",
        "data_prefix": {"img_path": "images", "seg_map_path": "masks"},
    }
    return DATASETS.build(settings | kwargs)


def test_a_lazy_data_set_reads_no_file(root: Path) -> None:
    lost = _build(root, data_root=str(root / "absent"), lazy_init=True, test_mode=True)
    assert lost.metainfo["classes"] == ()
    with pytest.raises(InputError, match="there is no file"):
        lost.full_init()
    dataset = _build(root, lazy_init=True)
    dataset.full_init()
    assert dataset.metainfo["classes"] == NAMES and len(dataset) == 3
    assert dataset.metainfo["palette"][0] == (0x10, 0x20, 0x30)


def test_only_a_setting_that_nobody_made_is_asked_about(root: Path) -> None:
    for path in (root / "masks").rglob("[a-z].png"):
        Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).resize((6, 4), 0).save(path)
    with pytest.raises(InputError, match=r"0 occurs in 3 of 3 .* 2, 'car', in none\. If 0 means"):
        _build(root)
    for setting in (True, False):
        dataset = _build(root, reduce_zero_label=setting)
        assert dataset.reduce_zero_label is setting
        assert dataset.metainfo["reduce_zero_label"] is setting
    assert _build(root, test_mode=True).reduce_zero_label is False


def _stems(dataset: SegFolderDataset) -> list[str]:
    return [Path(dataset.get_data_info(i)["img_path"]).stem for i in range(len(dataset))]


def test_pairs_have_the_same_path_but_for_the_suffix(root: Path) -> None:
    dataset = _build(root)
    assert dataset.metainfo["classes"] == NAMES
    assert dataset.metainfo["palette"][0] == (0x10, 0x20, 0x30)
    assert len(dataset.metainfo["palette"]) == 3
    pairs = [
        (Path(info["img_path"]).relative_to(root), Path(info["seg_map_path"]).relative_to(root))
        for info in map(dataset.get_data_info, range(len(dataset)))
    ]
    assert [tuple(map(str, pair)) for pair in pairs] == [
        ("images/a.PNG", "masks/a.png"),
        ("images/b.jpg", "masks/b.png"),
        ("images/deep/c.webp", "masks/deep/c.png"),
    ]


def test_mmseg_loads_the_pairs(root: Path) -> None:
    init_default_scope("mmseg")
    pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
    pipeline.append(dict(type="PackSegInputs"))
    samples = [sample["data_samples"] for sample in _build(root, pipeline=pipeline)]
    assert [int(sample.gt_sem_seg.data.unique()) for sample in samples] == [1, 0, 2]
    reduced = _build(root, pipeline=pipeline, reduce_zero_label=True, check_labels=False)
    assert [int(s["data_samples"].gt_sem_seg.data.unique()) for s in reduced] == [0, 255, 1]


def test_images_and_maps_in_one_folder(root: Path) -> None:
    for path in list((root / "masks").rglob("[!.]*.png")):
        target = root / "images" / path.relative_to(root / "masks")
        path.rename(target.with_name(f"{path.stem}_mask.png"))
    prefix = {"img_path": "images", "seg_map_path": "images/"}
    assert _stems(_build(root, data_prefix=prefix, seg_map_suffix="_mask.png")) == ["a", "b", "c"]


def test_the_case_of_a_suffix_is_free(root: Path) -> None:
    label_map = root / "masks" / "a.png"
    label_map.rename(label_map.with_suffix(".PNG"))
    info = _build(root).get_data_info(0)
    assert Path(info["seg_map_path"]) == label_map.with_suffix(".PNG")
    shutil.copy(label_map.with_suffix(".PNG"), label_map)
    with pytest.raises(InputError, match=r"masks has a.PNG and a.png for one image: remove one"):
        _build(root)


def test_a_list_of_images_to_use(root: Path) -> None:
    (root / "train.txt").write_text("deep/c\nb\n")
    (root / "masks" / "a.png").unlink()  # not asked for
    assert _stems(_build(root, ann_file="train.txt")) == ["c", "b"]
    (root / "train.txt").write_text("deep/c\nb.jpg\n")
    with pytest.raises(
        InputError,
        match=r"names 2 images, of which 1 are not .*: b.jpg \(did you mean b\?.*\). Expected",
    ):
        _build(root, ann_file="train.txt")


def test_a_missing_half_of_a_pair_is_named(root: Path) -> None:
    (root / "masks" / "a.png").rename(root / "masks" / "z.png")
    with pytest.raises(InputError) as caught:
        _build(root)
    text = str(caught.value)
    assert f"1 of 3 images in {root}/images have no label map NAME.png" in text
    assert text.splitlines()[0].endswith(": a.PNG")
    assert text.splitlines()[1].endswith(f"have no image in {root}/images: z.png")


def test_images_that_share_a_map_are_named(root: Path) -> None:
    shutil.copy(root / "images" / "b.jpg", root / "images" / "b.jpeg")
    with pytest.raises(
        InputError, match=r"has b.jpeg and b.jpg: both would have the label map b\."
    ):
        _build(root)


def test_label_values_are_checked(root: Path) -> None:
    labels = np.zeros((4, 6), np.uint8)
    labels[1] = 200
    Image.fromarray(labels).save(root / "masks" / "deep" / "c.png")
    with pytest.raises(InputError, match=r"value 200: 6 pixels in 1 label maps.*deep/c.png\n"):
        _build(root)
    assert len(_build(root, check_labels=False)) == 3


def test_data_to_test_with_need_no_label_maps(root: Path) -> None:
    prefix = {"img_path": "images"}
    dataset = _build(root, data_prefix=prefix, test_mode=True)
    assert "seg_map_path" not in dataset.get_data_info(0)
    with pytest.raises(InputError, match="no 'seg_map_path': training needs label maps"):
        _build(root, data_prefix=prefix)
    loading = {"test_mode": True, "pipeline": [dict(type="mmseg.LoadAnnotations")]}
    with pytest.raises(InputError, match="no 'seg_map_path', but the pipeline has LoadAnnotations"):
        _build(root, data_prefix=prefix, **loading)


def test_the_classes_of_a_checkpoint_do_without_the_file(root: Path) -> None:
    metainfo = {"classes": NAMES}
    assert _build(root, metainfo=metainfo).metainfo["palette"][0] == (0x10, 0x20, 0x30)
    (root / "classes.txt").unlink()
    assert _build(root, metainfo=metainfo).metainfo["classes"] == NAMES
    assert _build(root, metainfo=metainfo, classes_file=None).metainfo["classes"] == NAMES


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"metainfo": {"classes": ("sky", "car", "road")}},
            "first difference is class 1, 'car' and 'road",
        ),
        ({"metainfo": {"classes": ("sky", "road")}}, "has 2 classes, .*classes.txt 3"),
        ({"metainfo": {"classes": "sky"}}, "is the text 'sky', expected a tuple"),
        ({"metainfo": {"palette": [(0, 0, 0)]}}, r"has 1 colors, expected one for .*3 classes"),
        ({"classes_file": None}, "does not know its classes: set classes_file"),
        ({"classes_file": "absent.txt"}, "no file .*absent.txt"),
        ({"data_prefix": {"img": "images"}}, r"has the keys \['img'\], expected 'img_path'"),
        ({"data_prefix": {"img_path": "no", "seg_map_path": "masks"}}, "no does not exist; check"),
        ({"data_prefix": {"img_path": "images", "seg_map_path": "m"}}, "data_prefix.seg_map_path"),
        ({"seg_map_suffix": ".tif"}, "is '.tif'; label maps are .png files"),
        (
            {"seg_map_suffix": "_m.png"},
            "masks has no label map NAME_m.png; its files: a.png, b.p",
        ),
        (
            {"classes_file": None, "metainfo": {"classes": ("sky", "road", "sky")}},
            "metainfo.classes names more than once: sky",
        ),
        (
            {"classes_file": None, "metainfo": {"classes": tuple(map(str, range(256)))}},
            "there are 256 classes; 8-bit label maps can tell 255 apart",
        ),
        (
            {
                "classes_file": None,
                "metainfo": {"classes": tuple(map(str, range(255)))},
                "reduce_zero_label": True,
            },
            "there are 255 classes; 8-bit label maps can tell 254 apart",
        ),
        (
            {"pipeline": [dict(type="mmseg.LoadAnnotations", reduce_zero_label=True)]},
            "LoadAnnotations in the pipeline has reduce_zero_label=True, but the data set has Fals",
        ),
        ({"ann_file": "absent.txt"}, "ann_file .*absent.txt cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore:`reduce_zero_label` will be deprecated")
def test_settings_that_cannot_be_used(root: Path, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _build(root, **settings)


def test_a_folder_without_images(root: Path) -> None:
    (root / "empty").mkdir()
    with pytest.raises(InputError, match="empty has no image; expected files ending in .jpg"):
        _build(root, data_prefix={"img_path": "empty", "seg_map_path": "masks"})


def test_the_generated_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_shapes(tmp_path / "shapes", 4, 2, 64, seed=0)
    monkeypatch.setattr(seg_checks, "print_log", lambda *_: None)
    (tmp_path / "classes.txt").write_text("background\ndisk\nsquare\ntriangle\nstar\nring\n")
    prefix = {"img_path": "train", "seg_map_path": "semantic/train"}
    settings = {"classes_file": str(tmp_path / "classes.txt"), "data_prefix": prefix}
    assert len(_build(tmp_path / "shapes", **settings)) == 4
