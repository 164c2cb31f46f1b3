"""Images with captions: items of each format, and entries that cannot be used, by name."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import InterpolationMode, Resize

from mmbeit3.datasets import (
    CocoCaptionsDataset,
    ImageTextTableDataset,
    KarpathyDataset,
    PackImageText,
    text_dataset,
)
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError

TEST_PIPELINE = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(
        type="Resize", scale=(32, 32), keep_ratio=False, interpolation="bicubic", backend="pillow"
    ),
    dict(type="PackImageText"),
]
TRAIN_PIPELINE = [
    TEST_PIPELINE[0],
    dict(type="RandomResizedCrop", scale=32, crop_ratio_range=(0.5, 1.0)),
    dict(type="RandomFlip", prob=0.5),
    TEST_PIPELINE[2],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of 48 x 36 in a folder with another."""
    draw = np.random.default_rng(0)
    for name in ("a.png", "b.png", "val2014/c.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw.integers(0, 256, (36, 48, 3), np.uint8))
    return tmp_path


def build(kind: str, root: Path, ann_file: str, **options: Any) -> Any:
    settings = dict(
        type=kind, data_root=str(root), ann_file=ann_file, data_prefix=dict(img="images")
    )
    with DefaultScope.overwrite_default_scope("mmbeit3"):
        return DATASETS.build(settings | options)


def coco(**changes: Any) -> dict:
    data = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 48, "height": 36},
            {"id": 3, "file_name": "b.png"},
        ],
        "annotations": [
            {"id": 10, "image_id": 3, "caption": "a small dog"},
            {"id": 11, "image_id": 7, "caption": "two cats "},
            {"id": 12, "image_id": 3, "caption": "It sleeps."},
        ],
    }
    return data | changes


def karpathy() -> dict:
    """A file as Karpathy's, of COCO."""
    rows = [("val2014", "c.png", "restval", 5), ("", "a.png", "train", 9), ("", "b.png", "test", 1)]
    return {
        "images": [
            {
                "filepath": filepath,
                "filename": filename,
                "split": split,
                "cocoid": number,
                "imgid": index,
                "sentences": [
                    {"raw": f"{filename} {j}", "tokens": [], "sentid": 10 * index + j}
                    for j in range(2)
                ],
            }
            for index, (filepath, filename, split, number) in enumerate(rows)
        ]
    }


def write(root: Path, name: str, content: Any) -> str:
    if isinstance(content, bytes):
        (root / name).write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        (root / name).write_text(text, encoding="utf-8")
    return name


def listed(dataset: Any) -> list[tuple]:
    """What the items are, without images."""
    items = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [
        (item["image_id"], Path(item["img_path"]).name, item["texts"], item["text_ids"])
        for item in items
    ]


def test_coco_captions_are_pairs_to_train_and_images_to_test(folder: Path) -> None:
    file = write(folder, "captions.json", coco())
    assert listed(build("CocoCaptionsDataset", folder, file)) == [
        (7, "a.png", ["two cats "], [11]),
        (3, "b.png", ["a small dog"], [10]),
        (3, "b.png", ["It sleeps."], [12]),
    ]
    assert listed(build("CocoCaptionsDataset", folder, file, test_mode=True)) == [
        (7, "a.png", ["two cats "], [11]),
        (3, "b.png", ["a small dog", "It sleeps."], [10, 12]),
    ]


def nocaps() -> dict:
    """As nocaps_val_4500_captions.json: images have domains."""
    data = coco()
    for image, domain in zip(data["images"], ("near-domain", "out-domain"), strict=True):
        image |= {"domain": domain, "open_images_id": "0013ea2087020901", "license": 0}
    return data


def test_nocaps_has_domains_and_a_test_without_captions(folder: Path) -> None:
    file = write(folder, "nocaps_val_4500_captions.json", nocaps())
    val = build("CocoCaptionsDataset", folder, file, test_mode=True, pipeline=TEST_PIPELINE)
    assert [item["data_samples"].domain for item in val] == ["near-domain", "out-domain"]
    info = {"images": nocaps()["images"], "info": {}, "licenses": []}
    for content in (info, info | {"annotations": []}):
        file = write(folder, "nocaps_test_image_info.json", content)
        options = dict(test_mode=True, pipeline=TEST_PIPELINE)
        with pytest.raises(InputError, match="annotations' is"):
            build("CocoCaptionsDataset", folder, file, **options)
        test = build("CocoCaptionsDataset", folder, file, require_captions=False, **options)
        assert listed(test) == [(7, "a.png", [], []), (3, "b.png", [], [])]
        assert test[1]["data_samples"].texts == []
    with pytest.raises(InputError, match="training needs pairs: set test_mode=True"):
        build("CocoCaptionsDataset", folder, file, require_captions=False)


def test_images_without_captions_are_kept_where_none_is_required(folder: Path) -> None:
    data = coco(annotations=coco()["annotations"][::2])  # of b.png alone
    file = write(folder, "captions.json", data)
    options = dict(test_mode=True, require_captions=False)
    expected = [(7, "a.png", [], []), (3, "b.png", ["a small dog", "It sleeps."], [10, 12])]
    assert listed(build("CocoCaptionsDataset", folder, file, **options)) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "image,text\na.png,\nb.png,a dog\n"),
        ("t.jsonl", '{"image": "a.png"}\n{"image": "b.png", "text": "a dog"}\n'),
        ("t.jsonl", '{"image": "a.png", "text": null}\n{"image": "b.png", "text": "a dog"}\n'),
    ],
)
def test_tables_of_images_alone(folder: Path, name: str, content: str) -> None:
    file = write(folder, name, content)
    with pytest.raises(InputError, match="text"):
        build("ImageTextTableDataset", folder, file, test_mode=True)
    dataset = build("ImageTextTableDataset", folder, file, test_mode=True, require_captions=False)
    assert [texts for _, _, texts, _ in listed(dataset)] == [[], ["a dog"]]
    images = write(folder, "images.csv", "image\nb.png\na.png\n")
    dataset = build("ImageTextTableDataset", folder, images, test_mode=True, require_captions=False)
    assert listed(dataset) == [(0, "b.png", [], []), (1, "a.png", [], [])]


def test_a_table_is_split_by_images(folder: Path) -> None:
    names = [f"images/{index}.jpg" for index in range(50)]
    rows = [f"{name},text {j} of {name}" for j in range(2) for name in names]

    def ids(rows: list[str] = rows, **options: Any) -> dict[str, int]:
        file = write(folder, "t.csv", "\n".join(["image,text", *rows]))
        found = build("ImageTextTableDataset", folder, file, lazy_init=True, **options)
        images, report = found.inspect()
        assert report.num_errors == 0 and all(len(image.texts) == 2 for image in images)
        return {image.file: image.image_id for image in images}

    train, val = ids(val_images=5), ids(val_images=5, test_mode=True)
    assert len(val) == 5 and train | val == ids() and not train.keys() & val.keys()
    assert ids(rows[::-1], val_images=5, test_mode=True).keys() == val.keys()
    assert ids(val_images=5, val_seed=1, test_mode=True).keys() != val.keys()
    for count, message in (
        (0, "expected a whole number from 1 on"),
        (50, "t.csv has 50 images: set"),
    ):
        with pytest.raises(InputError, match=f"val_images is {count}, .*{message}"):
            build("ImageTextTableDataset", folder, "t.csv", val_images=count)


def test_karpathy_trains_on_train_and_restval(folder: Path) -> None:
    file = write(folder, "dataset_coco.json", karpathy())
    train = build("KarpathyDataset", folder, file, split="train", test_mode=True)
    assert listed(train) == [
        (5, "c.png", ["c.png 0", "c.png 1"], [0, 1]),
        (9, "a.png", ["a.png 0", "a.png 1"], [10, 11]),
    ]
    test = build("KarpathyDataset", folder, file, split="test")
    assert listed(test) == [(1, "b.png", ["b.png 0"], [20]), (1, "b.png", ["b.png 1"], [21])]
    with pytest.raises(InputError, match="no image is of the split 'val'; the file has: restval"):
        build("KarpathyDataset", folder, file, split="val")
    with pytest.raises(InputError, match="split is 'restval', expected one of train, val, test"):
        build("KarpathyDataset", folder, file, split="restval")


def test_flickr30k_has_no_folders_and_ids_of_its_own(folder: Path) -> None:
    data = karpathy()
    for image in data["images"]:
        del image["cocoid"], image["filepath"]
    data["images"] = data["images"][1:]
    file = write(folder, "dataset_flickr30k.json", data)
    assert listed(build("KarpathyDataset", folder, file, split="test"))[0][0] == 2


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("t.csv", 'image,text\nb.png,a dog\na.png,"one, two"\nb.png,x\n', {}),
        ("t.csv", 'id,text,image\r\n1,a dog,b.png\r\n2,"one, two",a.png\r\n3,x,b.png\r\n', {}),
        ("t.csv", b'\xef\xbb\xbfimage,text\nb.png,a dog\na.png,"one, two"\nb.png,x\n', {}),
        ("t.csv", 'image,text\nb.png,a dog\na.png,"one, two"\nb.png,x\n'.encode("utf-16"), {}),
        ("t.csv", "image;text\nb.png;a dog\na.png;one, two\nb.png;x\n", {"delimiter": ";"}),
        ("t.tsv", "image\ttext\nb.png\ta dog\na.png\tone, two\nb.png\tx\n", {}),
        (
            "t.jsonl",
            "\n".join(
                json.dumps({"photo": p, "words": t, "by": 1})
                for p, t in (("b.png", "a dog"), ("a.png", "one, two"), ("b.png", "x"))
            ),
            {"image_column": "photo", "text_column": "words"},
        ),
    ],
)
def test_tables_of_images_and_texts(
    folder: Path, name: str, content: str | bytes, options: dict
) -> None:
    file = write(folder, name, content)
    dataset = build("ImageTextTableDataset", folder, file, test_mode=True, **options)
    start = 1 if name == "t.jsonl" else 2  # lines
    assert listed(dataset) == [
        (0, "b.png", ["a dog", "x"], [start, start + 2]),
        (1, "a.png", ["one, two"], [start + 1]),
    ]


def test_one_file_by_two_spellings_is_one_image(folder: Path) -> None:
    rows = "image,text\na.png,one\n./a.png,two\nsub/../a.png,three\n"
    dataset = build("ImageTextTableDataset", folder, write(folder, "t.csv", rows), test_mode=True)
    assert [texts for _, _, texts, _ in listed(dataset)] == [["one", "two", "three"]]


def test_names_that_windows_wrote(folder: Path) -> None:
    file = write(folder, "t.csv", "image,text\nval2014\\c.png,a dog\n")
    dataset = build("ImageTextTableDataset", folder, file, pipeline=TEST_PIPELINE)
    assert dataset[0]["inputs"].shape == (3, 32, 32)


def entry(key: str, index: int, **values: Any) -> dict:
    """COCO captions with one entry changed."""
    data = coco()
    data[key][index] = data[key][index] | values
    return data


COCO_MISTAKES = [
    ("{", "not valid JSON: line 1"),
    ([], "top level: is a list, expected an object.* results file"),
    ({"images": []}, "'annotations' is missing"),
    (coco(images=[]), "'images' is empty"),
    (coco(annotations={}), "'annotations' is an object, expected a list"),
    (coco(annotations=[{"id": 1, "image_id": 7, "bbox": []}]), "are boxes, not captions"),
    (coco(annotations=[3]), r"annotations\[0\]: is an integer, expected an object"),
    (entry("images", 1, id=7), r"images\[1\] \(id 7\): another image has the same id"),
    (entry("images", 0, id="7"), "id is '7', expected an integer"),
    (entry("images", 0, file_name=3), "file_name is 3"),
    (entry("images", 0, height=None), "expected two numbers of pixels or none"),
    (entry("annotations", 1, id=10), r"annotations\[1\] \(id 10\): another annotation"),
    (entry("annotations", 2, image_id=8), r"annotations\[2\] \(id 12\): image_id 8 is not in im"),
    (entry("annotations", 0, caption=" \n"), r"\(id 10\): caption is ' \\n', expected a word"),
    (entry("annotations", 0, caption=None), "caption is None, expected a text"),
    (entry("annotations", 0, caption="\ud83d"), "half a character"),
    ('{"images": [], "images": []}', "'images' stands twice"),
]


@pytest.mark.parametrize(("content", "message"), COCO_MISTAKES)
def test_mistakes_in_coco_captions_are_named(folder: Path, content: Any, message: str) -> None:
    file = write(folder, "captions.json", content)
    with pytest.raises(InputError, match=message):
        build("CocoCaptionsDataset", folder, file)


def sentence(**values: Any) -> dict:
    """Karpathy's file with the first sentence changed."""
    data = karpathy()
    data["images"][0]["sentences"][0] |= values
    return data


def image(**values: Any) -> dict:
    """Karpathy's file with the first image changed."""
    data = karpathy()
    data["images"][0] |= values
    return data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no list 'images'"),
        (coco(), r"images\[0\]: 'filename' is missing"),
        (image(cocoid="5"), r"images\[0\]: cocoid or imgid is '5'"),
        (image(cocoid=9), r"images\[1\]: another image has the same id"),
        (image(split="dev"), "split is 'dev', expected one of train, restval, val, test"),
        (image(split=["train"]), r"split is \['train'\], expected a name"),
        (image(filename=None), "filename is None, expected a name"),
        (image(sentences="x"), "sentences is text, expected a list"),
        (sentence(raw=""), r"images\[0\] \('val2014/c.png'\): sentences\[0\]: raw is ''"),
        (sentence(sentid=11), "another sentence has the same sentid 11"),
        (sentence(sentid=None), "sentid is None"),
    ],
)
def test_mistakes_in_karpathys_files_are_named(folder: Path, content: Any, message: str) -> None:
    file = write(folder, "dataset_coco.json", content)
    with pytest.raises(InputError, match=message):
        build("KarpathyDataset", folder, file, split="train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "line 1: it is empty"),
        ("t.csv", "image,text\n", "it has no captions"),
        ("t.csv", "file,caption\na.png,x\n", "no column 'image' and 'text'; it has 'file', 'capti"),
        ("t.csv", "image;text\na.png;x\n", "separated by ';': set delimiter"),
        ("t.csv", "image,image,text\na.png,a.png,x\n", "column 'image' is there twice"),
        ("t.csv", "image,text\na.png,one, two\n", "line 2: 3 columns, expected 2 .* quotes"),
        ("t.csv", "image,text\na.png,\n", "line 2: text is '', expected a word"),
        ("t.csv", "image,text\n,x\n", "line 2: image is '', expected the path"),
        ("t.csv", 'image,text\na.png,"x\n', "it is no CSV: unexpected end of data"),
        ("t.csv", b"image,text\na.png,caf\xe9\nb.png,x\n", r"line 2: the byte b'\\xe9' .*café"),
        ("t.jsonl", b'{"image": "a.png", "text": "\xff"}\n', r"line 1: the byte b'\\xff'"),
        ("t.jsonl", "[]", "line 1: it is a list, expected an object: write one object a line"),
        ("t.jsonl", '{"image": "a.png"', "line 1: it is no JSON"),
        ("t.jsonl", "\n" + '{"image": "a.png", "txt": "x"}', "line 2: 'text' is missing; it has "),
        ("t.jsonl", '{"image": 3, "text": "x"}', "line 1: image is 3"),
        ("t.jsonl", '{"image": "a.png", "text": ["x"]}', r"text is \['x'\], expected a text"),
        ("t.jsonl", '{"image": "a.png", "image": "b.png"}', "key 'image' stands twice"),
        ("t.jsonl", "[" * 100_000, "line 1: it cannot be read"),
        ("t.parquet", "", "suffix '.parquet', expected one of .csv"),
    ],
)
def test_mistakes_in_tables_are_named(
    folder: Path, name: str, content: str | bytes, message: str
) -> None:
    file = write(folder, name, content)
    with pytest.raises(InputError, match=message):
        build("ImageTextTableDataset", folder, file)


def test_the_first_backslash_tells_how_all_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(text_dataset.osp, "exists", lambda path: looked.append(str(path)) or False)
    rows = "".join(f"val2014\\{name},x\n" for name in ("c.png", "d.png", "e.png"))
    file = write(folder, "t.csv", "image,text\n" + rows)
    dataset = build("ImageTextTableDataset", folder, file, lazy_init=True)
    items = dataset.load_data_list()
    paths = [str(folder / "images" / "val2014" / name) for name in ("c.png", "d.png", "e.png")]
    assert [item["img_path"] for item in items] == paths
    assert len([path for path in looked if "\\" in path]) == 1


def test_all_mistakes_are_counted(folder: Path) -> None:
    file = write(folder, "t.csv", "image,text\n" + "a.png,\n" * 25 + "a.png,x\n")
    with pytest.raises(InputError, match="25 errors(?s:.*)and 22 more"):
        build("ImageTextTableDataset", folder, file)


@pytest.mark.parametrize("kind", ["CocoCaptionsDataset", "ImageTextTableDataset"])
def test_an_absent_file_is_named_with_the_one_that_is_there(folder: Path, kind: str) -> None:
    name = write(folder, "captions.json" if kind.startswith("Coco") else "captions.csv", "x")
    with pytest.raises(InputError, match="there is no file .*; did you mean .*captions"):
        build(kind, folder, name.capitalize())


def test_missing_and_damaged_images_are_named(folder: Path) -> None:
    file = write(folder, "t.csv", "image,text\na.png,x\nA.PNG,y\n")
    with pytest.raises(InputError, match="1 of the 2 images .* missing.*did you mean .*a.png"):
        build("ImageTextTableDataset", folder, file)
    file = write(folder, "captions.json", entry("images", 0, width=36, height=48))
    with pytest.raises(InputError, match="a.png is 48 x 36, but expected to be 36 x 48"):
        build("CocoCaptionsDataset", folder, file)
    (folder / "images" / "b.png").write_bytes(b"no image")
    file = write(folder, "captions.json", coco())
    with pytest.raises(InputError, match="b.png cannot be read"):
        build("CocoCaptionsDataset", folder, file, test_mode=True)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("CafÃ© au lait", "looks like UTF-8 that was read as Windows-1252, of 'Café au lait'"),
        ("a dogâ€™s bowl", "of 'a dog’s bowl'"),
        ("caf\ufffd", r"has U\+FFFD where bytes were no UTF-8"),
        ("It sleeps.", "'It sleeps.' is there twice"),
    ],
)
def test_doubtful_texts_are_warned_of(
    folder: Path, text: str, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = entry("annotations", 0, caption=text)
    dataset = build("CocoCaptionsDataset", folder, write(folder, "c.json", data), lazy_init=True)
    _, report = dataset.inspect()
    assert report.num_warnings == 1 and not report.num_errors
    assert "b.png" not in report.warnings[0] and "images[1] (id 3)" in report.warnings[0]
    assert re.search(warning, report.warnings[0])


@pytest.mark.parametrize(
    "text",
    ["Café à la crème", "naïve Ærøskøbing", "Ünïcödé", "一只狗", "£5 — “so” 3°", "Ã", "São João"],
)
def test_right_texts_of_other_languages_raise_no_doubt(folder: Path, text: str) -> None:
    data = entry("annotations", 0, caption=text)
    dataset = build("CocoCaptionsDataset", folder, write(folder, "c.json", data), lazy_init=True)
    assert dataset.inspect()[1].num_warnings == 0


def test_images_without_captions_are_left_out_with_a_warning(folder: Path) -> None:
    data = coco()
    data["images"].append({"id": 4, "file_name": "a.png"})
    dataset = build("CocoCaptionsDataset", folder, write(folder, "c.json", data), lazy_init=True)
    images, report = dataset.inspect()
    assert [image.image_id for image in images] == [7, 3]
    assert report.warnings == [
        "images[2] (id 4): images[0] (id 7) is 'a.png', too",
        "images[2] (id 4): 'a.png' has no caption, and is left out",
    ]


def test_arguments_that_cannot_be(folder: Path) -> None:
    with pytest.raises(InputError, match="has no ann_file"):
        CocoCaptionsDataset(ann_file="")
    with pytest.raises(InputError, match="expected 'img'"):
        KarpathyDataset(split="train", ann_file="x.json", data_prefix=dict(img_path="images"))
    with pytest.raises(InputError, match="expected one character"):
        ImageTextTableDataset(ann_file="x.csv", delimiter="")


def test_training_transforms_are_the_released_ones(folder: Path) -> None:
    """Cropping and bicubic resizing by timm and Pillow, on RGB, as BEiT-3's code has it."""
    file = write(folder, "captions.json", coco())
    dataset = build("CocoCaptionsDataset", folder, file, pipeline=TRAIN_PIPELINE)
    image = Image.open(folder / "images" / "a.png").convert("RGB")
    oracle = RandomResizedCropAndInterpolation(32, (0.5, 1.0), interpolation="bicubic")
    flipped = 0
    for seed in range(8):
        random.seed(seed)
        expected = np.array(oracle(image))
        random.seed(seed)
        np.random.seed(seed)
        found = dataset[0]["inputs"].permute(1, 2, 0).flip(-1).numpy()
        is_flipped = not np.array_equal(found, expected)
        flipped += is_flipped
        np.testing.assert_array_equal(found[:, ::-1] if is_flipped else found, expected)
    assert 0 < flipped < 8


def test_test_transforms_are_the_released_ones(folder: Path) -> None:
    """A square by Pillow's bicubic with antialiasing, aspect not kept, as torchvision has it."""
    file = write(folder, "captions.json", coco())
    dataset = build("CocoCaptionsDataset", folder, file, pipeline=TEST_PIPELINE, test_mode=True)
    image = Image.open(folder / "images" / "a.png").convert("RGB")
    expected = np.array(Resize((32, 32), interpolation=InterpolationMode.BICUBIC)(image))
    packed = dataset[0]
    found = packed["inputs"].permute(1, 2, 0).flip(-1).numpy()
    np.testing.assert_array_equal(found, expected)
    sample = packed["data_samples"]
    assert (sample.image_id, sample.texts, sample.text_ids) == (7, ["two cats "], [11])
    assert Path(sample.img_path).name == "a.png" and sample.sample_idx == 0


def test_packing_takes_labels_and_samples_without_an_image() -> None:
    packed = PackImageText()({"texts": ["a"], "gt_label": 3, "image_id": 1})
    assert "inputs" not in packed
    assert packed["data_samples"].gt_label == 3 and packed["data_samples"].image_id == 1


def test_packing_keeps_what_questions_and_statements_have() -> None:
    given = {
        "texts": ["how many?"],
        "answers": ["2", "two"],
        "answer_labels": [3],
        "answer_scores": [0.3],
        "question_id": 5,
        "question_type": "how many",
        "answer_type": "number",
        "identifier": "dev-1-0-0",
    }
    sample = PackImageText()(dict(given))["data_samples"]
    assert all(sample.get(key) == value for key, value in given.items())
    assert set(sample.metainfo_keys()) == {
        *("question_id", "question_type", "answer_type", "identifier"),
    }


def test_real_captions(data_root: Path) -> None:
    folder = data_root / "coco_sample"
    options = dict(pipeline=TEST_PIPELINE, test_mode=True)
    for split, number in (("train", 26), ("val", 25)):
        dataset = build(
            "CocoCaptionsDataset",
            folder,
            f"annotations/captions_{split}2017.json",
            data_prefix=dict(img=f"{split}2017"),
            **options,
        )
        assert len(dataset) == number
        assert all(len(texts) == 5 for _, _, texts, _ in listed(dataset))
        assert dataset[0]["inputs"].shape == (3, 32, 32)
        assert dataset.inspect()[1].num_warnings == 0
