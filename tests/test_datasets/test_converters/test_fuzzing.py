"""Mutated downloads: a converter refuses them with the file's name, or what it writes is right.

Right: our data sets load it, and boxes, images and label maps are those that a second, plain
reading of the download gives, which is in this file. 25 or 60 mutations of each kind run by
default, 500 more with ``-m slow``.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from mmbeit3.datasets import ADE20KDataset, CocoDataset, COCOStuffDataset
from mmbeit3.datasets.checks.coco import check_coco
from mmbeit3.datasets.converters import ade20k, coco_stuff, image_archives, objects365
from mmbeit3.utils import InputError
from tests.test_datasets.fuzzing import time_limit

SIZES = {1: (24, 16), 2: (20, 20), 7: (16, 24), 9: (30, 20)}  # (width, height) by image id
EXTREMES = (
    *(0, 1, -1, 2, 0.5, -0.0, 1e-30, 1e6, 1e300, -1e300, 2**31, 2**63, 10**30, 10**400),
    *(float("nan"), float("inf"), float("-inf"), True, False, None, "", " ", "7", "1.5", "NaN"),
    *("\u732b", "\ud800", "a\0b", "../x.jpg", "/", "x" * 5000, [], {}, [[]], [None], {"a": 1}),
    *([1, 2], [0, 0, 5, 5], [0, 0, 0.2, 0.2], [-90, 0, 5, 5], {"id": 1}),
)


@pytest.fixture(autouse=True)
def _scope_and_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run jobs here: hundreds of process pools would take minutes."""
    monkeypatch.setattr(DefaultScope, "get_current_instance", classmethod(lambda cls: None))
    for module in (objects365, coco_stuff, image_archives):
        monkeypatch.setattr(module, "run_in_processes", _run_here)


def _run_here(
    function: Callable, jobs: Sequence, *_: Any, on_result: Callable | None = None, **__: Any
) -> list:
    return [function(job) for job in jobs]


def _seeds(count: int, more: int) -> Any:
    return pytest.mark.parametrize(
        "seeds", [range(count), pytest.param(range(count, more), marks=pytest.mark.slow)]
    )


def _jpeg(size: tuple[int, int], seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    return _encoded(Image.fromarray(pixels), "JPEG")


def _encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def _damaged(rng: random.Random, content: bytes) -> bytes:
    """Bytes as a bad disk, a cut download or a wrong tool leaves them."""
    kind = rng.choice(("flip", "flip", "cut", "zeros", "drop", "twice", "empty", "insert"))
    start = rng.randrange(len(content) or 1)
    end = min(len(content), start + rng.choice((1, 8, 100, 600)))
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 5))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    return {
        "cut": content[:start],
        "zeros": content[:start] + bytes(end - start) + content[end:],
        "drop": content[:start] + content[end:],
        "twice": content[:end] + content[start:],
        "empty": b"",
        "insert": content[:start] + rng.randbytes(8) + content[start:],
    }[kind]


# ---- Objects365 ----


def _official() -> dict:
    names = [f"class {number}" for number in range(364)] + ["last "]
    images = [
        {"id": number, "file_name": f"p/{number}.jpg", "width": size[0], "height": size[1]}
        for number, size in SIZES.items()
    ]
    boxes = [
        ([2.5, 3, 9, 8.25], 1),
        ([-3, 4, 10, 40], 2),
        ([0, 0, 16, 16], 365),
        ([40, 1, 3, 3], 7),
    ]
    annotations = [
        {"id": 10 * number + index, "image_id": number, "category_id": category, "bbox": box}
        | {"area": 1, "iscrowd": int(index == 2)}
        for number in SIZES
        for index, (box, category) in enumerate(boxes)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _change(rng: random.Random, data: dict) -> None:
    """Change one value somewhere in a tree of lists and objects."""
    container, key = data, rng.choice(list(data))
    while rng.random() < 0.8:
        inner = container[key]
        if not isinstance(inner, (dict, list)) or not inner:
            break
        container = inner
        key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
    kind = rng.choice(("delete", "extreme", "extreme", "text", "negative", "twice", "neighbor"))
    value = container[key]
    if kind == "delete":
        del container[key]
    elif kind == "text":
        container[key] = str(value)
    elif kind == "negative" and isinstance(value, (int, float)):
        container[key] = -value
    elif kind == "twice" and isinstance(value, list):
        container[key] = value + value
    elif kind == "neighbor" and isinstance(container, list):
        container[key] = container[key - 1]
    else:
        container[key] = rng.choice(EXTREMES)


def _text(rng: random.Random, data: dict) -> bytes:
    text = json.dumps(data)
    kind = rng.choice(("as is",) * 6 + ("bom", "utf-16", "twice", "digits", "damaged", "rest"))
    if kind == "twice":
        text = text.replace('"iscrowd": 0', '"iscrowd": 0, "image_id": 9', 1)
    if kind == "digits":
        text = text.replace('"area": 1', f'"area": {"9" * 5000}', 1)
    if kind == "rest":
        text += rng.choice(("}", "{}", "\n[]", " \n"))
    content = text.encode({"bom": "utf-8-sig", "utf-16": "utf-16"}.get(kind, "utf-8"))
    return _damaged(rng, content) if kind == "damaged" else content


def _make_objects365(root: Path) -> Path:
    for split in ("train", "val"):
        (root / split / "p").mkdir(parents=True)
        for number, size in SIZES.items():
            (root / split / "p" / f"{number}.jpg").write_bytes(_jpeg(size, number))
        (root / f"objects365_{split}.json").write_text(json.dumps(_official()))
    return root


def _change_image(rng: random.Random, path: Path) -> None:
    kind = rng.choice(("missing", "damaged", "size", "folder", "copy"))
    if kind == "size":
        path.write_bytes(_jpeg((rng.randrange(1, 40), rng.randrange(1, 40))))
    elif kind == "damaged":
        path.write_bytes(_damaged(rng, path.read_bytes()))
    elif kind == "copy":
        (path.parent / "again").mkdir()
        (path.parent / "again" / path.name).write_bytes(_jpeg((24, 16), rng.randrange(2)))
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()


def _expected_boxes(data: dict, images: dict[int, dict]) -> dict[int, tuple]:
    """Box, category and crowd flag by id, of an official file that can be used."""
    expected = {}
    for entry in data["annotations"]:
        if entry["image_id"] not in images:
            continue
        image, (x, y, w, h) = images[entry["image_id"]], entry["bbox"]
        reach = max(image["width"], image["height"])
        left, right = np.clip([x, x + w], 0, image["width"])
        top, bottom = np.clip([y, y + h], 0, image["height"])
        is_near = min(x, y) >= -reach and max(x + w, y + h) <= 2 * reach
        if is_near and round(right - left, 3) > 0 and round(bottom - top, 3) > 0:
            box = np.round([left, top, right - left, bottom - top], 3).tolist()
            assert entry["id"] not in expected
            expected[entry["id"]] = (box, entry["category_id"], entry.get("iscrowd") or 0)
    return expected


def _check_objects365(root: Path, out: Path) -> None:
    for split in ("train", "val"):
        raw = (root / f"objects365_{split}.json").read_bytes()
        official = json.loads(raw.decode(json.detect_encoding(raw)))
        written = json.loads((out / f"annotations/{split}.json").read_bytes())
        report = check_coco(written)
        assert not report.num_errors, report.errors
        dataset = CocoDataset(
            data_root=str(out), ann_file=f"annotations/{split}.json", data_prefix={"img": split}
        )
        images = {image["id"]: image for image in written["images"]}
        assert len(dataset) == len(images) == len(written["images"])
        sources = {image["id"]: image for image in official["images"]}
        for number, image in images.items():
            path = out / split / image["file_name"]
            assert path.name == Path(sources[number]["file_name"]).name
            assert Image.open(path).size == (image["width"], image["height"])
            assert image["width"] == sources[number]["width"]
        found = {
            entry["id"]: (entry["bbox"], entry["category_id"], entry["iscrowd"])
            for entry in written["annotations"]
        }
        assert found == _expected_boxes(official, images)
        names = {entry["id"]: entry["name"].strip() for entry in official["categories"]}
        assert {entry["id"]: entry["name"] for entry in written["categories"]} == names


@_seeds(25, 525)
def test_objects365(seeds: range, tmp_path: Path) -> None:
    num_refused = 0
    _make_objects365(tmp_path / "whole")
    for seed in seeds:
        rng = random.Random(seed)
        root, out = tmp_path / f"{seed}", tmp_path / f"{seed}-out"
        shutil.copytree(tmp_path / "whole", root)
        split = rng.choice(("train", "val"))
        if rng.random() < 0.25:
            _change_image(rng, root / split / "p" / f"{rng.choice(list(SIZES))}.jpg")
        else:
            data = _official()
            for _ in range(rng.choice((1, 1, 1, 3))):
                _change(rng, data)
            (root / f"objects365_{split}.json").write_bytes(_text(rng, data))
        with time_limit(seed):
            try:
                objects365.prepare_objects365(root, out, partial=True, num_workers=1)
            except InputError as error:
                assert str(root) in str(error) or str(out) in str(error), error
                num_refused += 1
            else:
                _check_objects365(root, out)
        shutil.rmtree(root)
        shutil.rmtree(out, ignore_errors=True)
    assert 0.3 * len(seeds) < num_refused < 0.95 * len(seeds)


# ---- Archives of images ----

FILES = {f"p/{number}.jpg": _jpeg((24, 16), number) for number in range(3)} | {"p/a.txt": b"text"}


def _pack(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path.read_bytes()


@_seeds(60, 560)
@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz"])
def test_archives_of_images(kind: str, seeds: range, tmp_path: Path) -> None:
    archive = tmp_path / kind
    whole = _pack(archive, FILES)
    for seed in seeds:
        rng = random.Random(seed)
        if kind == "a.zip":
            compressions = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
            whole = _pack(archive, FILES, rng.choice(compressions))
        archive.write_bytes(_damaged(rng, whole))
        out = tmp_path / f"{seed}"
        is_complete = False
        with time_limit(seed):
            try:
                image_archives.unpack_images([archive], out, num_workers=1)
                is_complete = True
            except InputError as error:
                assert str(archive) in str(error)
        found = {
            path.relative_to(out).as_posix(): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file() and path.name[0] != "."
        }
        if kind == "a.zip":  # names have no checksum there
            assert set(found.values()) <= set(FILES.values())
        elif kind == "a.tar":  # contents have none
            assert not is_complete or set(found) == {*FILES} - {"p/a.txt"}
        elif is_complete:  # gzip's checksum stands at the end
            assert found == {name: FILES[name] for name in FILES if name != "p/a.txt"}
        shutil.rmtree(out, ignore_errors=True)
        assert not set(path.name for path in tmp_path.iterdir()) - {kind}


# ---- Label maps ----


def _map_content(rng: random.Random, labels: np.ndarray) -> bytes:
    """A label map as it should not be, mostly."""
    height, width = labels.shape
    changed = labels.copy()
    changed[rng.randrange(height), rng.randrange(width)] = rng.randrange(256)
    image = Image.fromarray(labels)
    choices: list[Callable[[], bytes]] = [
        lambda: _encoded(image, "PNG"),
        lambda: _encoded(Image.fromarray(changed), "PNG"),
        lambda: _encoded(image.resize((width + 1, height)), "PNG"),
        lambda: _encoded(image.transpose(Image.Transpose.ROTATE_90), "PNG"),
        lambda: _encoded(image.convert("RGB"), "PNG"),
        lambda: _encoded(image.convert("P"), "PNG"),
        lambda: _encoded(Image.fromarray(labels.astype(np.uint16)), "PNG"),
        lambda: _encoded(image, "JPEG"),
        lambda: _encoded(image, "TIFF"),
        lambda: _damaged(rng, _encoded(image, "PNG")),
        lambda: b"",
    ]
    return rng.choice(choices)()


def _ade20k_files() -> dict[str, bytes]:
    rng, files = np.random.default_rng(0), {}
    for name in ade20k.expected_names(2, 1):
        if name.endswith("jpg"):
            files[f"{ade20k.NAME}/{name}"] = _jpeg((12, 10), len(files))
        else:
            labels = Image.fromarray(rng.integers(0, 151, (10, 12), np.uint8))
            files[f"{ade20k.NAME}/{name}"] = _encoded(labels, "PNG")
    return files


def _change_files(rng: random.Random, files: dict[str, bytes]) -> dict[str, bytes]:
    """Replace, remove or add a file of an archive."""
    files = dict(files)
    name = rng.choice(list(files))
    kind = rng.choice(("content",) * 5 + ("remove", "add", "case"))
    if kind == "remove":
        del files[name]
    elif kind == "add":
        files[rng.choice(("x.zip", f"../{name}", f"/{name}", f"a/{name}", "C:\\x"))] = b"?"
    elif kind == "case":
        files[name.upper()] = b"?"
    elif name.endswith("png"):
        labels = np.asarray(Image.open(io.BytesIO(files[name])))
        files[name] = _map_content(rng, labels)
    else:
        size = (rng.choice((12, 10)), rng.choice((12, 10)))
        files[name] = rng.choice((_jpeg(size), _damaged(rng, files[name]), b""))
    return files


@_seeds(25, 525)
def test_ade20k(seeds: range, tmp_path: Path) -> None:
    num_refused = 0
    for seed in seeds:
        rng = random.Random(seed)
        archive, out = tmp_path / "a.zip", tmp_path / f"{seed}"
        files = _ade20k_files()
        if rng.random() < 0.5:
            files = _change_files(rng, files)
            _pack(archive, files)
        else:
            archive.write_bytes(_damaged(rng, _pack(archive, files)))
        with time_limit(seed):
            try:
                folder = ade20k.prepare_ade20k(archive, out, 2, 1)
            except InputError as error:
                assert str(archive) in str(error) or str(out) in str(error), error
                assert not (out / ade20k.NAME).exists()
                num_refused += 1
            else:
                for split, count in (("training", 2), ("validation", 1)):
                    prefix = {
                        "img_path": f"images/{split}",
                        "seg_map_path": f"annotations/{split}",
                    }
                    assert len(ADE20KDataset(data_root=str(folder), data_prefix=prefix)) == count
                for name in ade20k.expected_names(2, 1):
                    assert (folder / name).read_bytes() == files[f"{ade20k.NAME}/{name}"]
        shutil.rmtree(out, ignore_errors=True)
    assert 0.3 * len(seeds) < num_refused < 0.98 * len(seeds)


def _coco_stuff_files() -> dict[str, bytes]:
    used = [value for value in range(182) if value not in coco_stuff.UNUSED_IDS] + [255]
    rng = np.random.default_rng(0)
    return {
        name: _encoded(Image.fromarray(rng.choice(np.array(used, np.uint8), (10, 12))), "PNG")
        for name in (
            f"train2017/{9:012d}.png",
            f"train2017/{25:012d}.png",
            f"val2017/{139:012d}.png",
        )
    }


@_seeds(60, 560)
def test_coco_stuff(seeds: range, tmp_path: Path) -> None:
    num_refused = 0
    for seed in seeds:
        rng = random.Random(seed)
        coco, out = tmp_path / f"{seed}-coco", tmp_path / f"{seed}"
        archive = tmp_path / f"{seed}.zip"
        files = _coco_stuff_files()
        for name in files:
            path = coco / name.replace("png", "jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_jpeg((12, 10)))
        kind = rng.choice(("files", "files", "archive", "image"))
        content = _pack(archive, files)
        if kind == "files":
            files = _change_files(rng, files)
            _pack(archive, files)
        elif kind == "archive":
            archive.write_bytes(_damaged(rng, content))
        else:
            path = rng.choice(sorted(coco.rglob("*.jpg")))
            _change_image(rng, path)
        with time_limit(seed):
            try:
                coco_stuff.prepare_coco_stuff(archive, coco, out, 2, 1, num_workers=1)
            except InputError as error:
                assert any(str(path) in str(error) for path in (archive, coco, out)), error
                num_refused += 1
            else:
                for name, count in (("train2017", 2), ("val2017", 1)):
                    prefix = {"img_path": f"images/{name}", "seg_map_path": f"annotations/{name}"}
                    assert len(COCOStuffDataset(data_root=str(out), data_prefix=prefix)) == count
                for name in _coco_stuff_files():
                    official = np.asarray(Image.open(io.BytesIO(files[name])))
                    stem = name.removesuffix(".png")
                    image = Image.open(coco / f"{stem}.jpg")
                    written = Image.open(out / "annotations" / f"{stem}{coco_stuff.SUFFIX}")
                    assert written.size == image.size and written.mode == "L"
                    assert (np.asarray(written) == coco_stuff.train_ids()[official]).all()
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(coco)
    assert 0.3 * len(seeds) < num_refused < 0.98 * len(seeds)
