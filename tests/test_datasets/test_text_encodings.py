"""Every reader of JSON and of lists takes a byte order mark, and UTF-16 and UTF-32."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmbeit3.config.classes import resolve_classes
from mmbeit3.datasets import CocoDataset, SegFolderDataset, read_class_list, read_classes
from mmbeit3.datasets.json_stream import stream_entries
from mmbeit3.evaluation import CocoMetric, evaluate_coco
from mmbeit3.utils import InputError

ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
TRUTH = {
    "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10}],
    "categories": [{"id": 3, "name": "Möwe"}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 8, 6], "area": 48}],
}
RESULTS = [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 8, 6], "score": 0.5}]


def save(path: Path, text: str, encoding: str) -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_annotations_and_results(tmp_path: Path, encoding: str) -> None:
    text = json.dumps(TRUTH, ensure_ascii=False)
    file = save(tmp_path / "truth.json", text, encoding)
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    assert read_classes(file) == ("Möwe",)
    dataset = CocoDataset(ann_file=str(file), data_prefix={"img": str(tmp_path)})
    assert dataset.metainfo["classes"] == ("Möwe",) and len(dataset) == 1
    results = save(tmp_path / "results.json", json.dumps(RESULTS), encoding)
    assert evaluate_coco(file, results)["AP"] == 1
    CocoMetric(ann_file=str(file))
    entries = dict(stream_entries(io.BytesIO(file.read_bytes()), file.name))
    assert entries == {key: values[0] for key, values in TRUTH.items()}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_class_lists(tmp_path: Path, encoding: str) -> None:
    names = ("Möwe", "Ente")
    lines = save(tmp_path / "classes.txt", "\n".join(names), encoding)
    assert read_class_list(lines).names == names
    assert read_class_list(save(tmp_path / "c.json", json.dumps(names), encoding)).names == names
    truth = TRUTH | {"categories": [{"id": 3, "name": "Möwe"}, {"id": 4, "name": "Ente"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    dataset = dict(
        type="mmbeit3.CocoDataset",
        ann_file=str(tmp_path / "truth.json"),
        metainfo=dict(classes=str(lines)),
        lazy_init=True,
    )
    assert resolve_classes(Config(dict(model={}, train_dataloader=dict(dataset=dataset)))) == names
    assert CocoDataset(**{k: v for k, v in dataset.items() if k != "type"}).metainfo["classes"] == (
        names
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_list_of_images(tmp_path: Path, encoding: str) -> None:
    for name in ("a", "b/ü"):
        for folder, mode in (("images", "RGB"), ("masks", "L")):
            file = tmp_path / folder / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert(mode).save(file)
    save(tmp_path / "list.txt", "./b/ü\r\n", encoding)
    dataset = SegFolderDataset(
        data_root=str(tmp_path),
        data_prefix=dict(img_path="images", seg_map_path="masks"),
        ann_file="list.txt",
        metainfo=dict(classes=("x", "y")),
    )
    assert [Path(dataset.get_data_info(0)["img_path"]).name] == ["ü.png"]


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(json.dumps(TRUTH, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(InputError, match="is not a text file in UTF-8.* at byte .* UTF-8"):
        read_classes(file)
    file.write_bytes(b"\xff\xfe{\x00\x00")
    with pytest.raises(InputError, match="is not a text file in UTF-16"):
        read_classes(file)
