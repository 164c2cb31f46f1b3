from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmbeit3.apis.data_report import report_coco, report_config
from mmbeit3.apis.training import train
from mmbeit3.cli import main
from mmbeit3.config import data_checks
from mmbeit3.config.data_checks import check_training_data
from mmbeit3.config.datasets import distinct, find_datasets
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.datasets.shape_captions import any_sentences
from mmbeit3.text import train_tokenizer
from mmbeit3.utils import InputError, warn
from mmbeit3.visualization.example_mask import write_example_mask
from tests.damaged_jpegs import damage

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DETECTOR = CONFIGS / "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
SEGMENTOR = CONFIGS / "beit3_mask2former/mask2former_beit3-tiny_shapes.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", 6, 2, 64, seed=0)


@pytest.fixture
def shapes(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "shapes"))


def config(path: Path, shapes: Path) -> Config:
    splits = ("train", "val", "test")
    options = {f"{split}_dataloader.dataset.data_root": str(shapes) for split in splits}
    if path == DETECTOR:
        ann_file = str(shapes / "annotations" / "val.json")
        options |= {f"{split}_evaluator.ann_file": ann_file for split in splits[1:]}
    return load_config(path, options)


def alter(shapes: Path, split: str, index: int, **values: object) -> None:
    """Change an annotation."""
    file = shapes / "annotations" / f"{split}.json"
    data = json.loads(file.read_text())
    data["annotations"][index] |= values
    file.write_text(json.dumps(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


@pytest.mark.parametrize("path", [DETECTOR, SEGMENTOR], ids=["detector", "segmentor"])
def test_good_data_pass(shapes: Path, path: Path) -> None:
    check_training_data(config(path, shapes))


def test_errors_of_all_detection_data_are_named_at_once(shapes: Path) -> None:
    alter(shapes, "train", 2, area="much")
    cut(shapes / "val" / "000001.jpg")
    with pytest.raises(InputError) as caught:
        check_training_data(config(DETECTOR, shapes))
    text = str(caught.value)
    assert "train_dataloader.dataset: " in text and "annotations[2] (id 3): area is 'much'" in text
    assert "val_dataloader.dataset: 1 of the 2 images of" in text and "000001.jpg cannot be" in text


def test_errors_of_segmentation_data(shapes: Path) -> None:
    cut(shapes / "train" / "000003.jpg")
    Image.new("L", (64, 64), 17).save(shapes / "semantic" / "val" / "000000.png")
    with pytest.raises(InputError, match=r"000003.jpg cannot be read[^…]*value 17: 4,096 pixels"):
        check_training_data(config(SEGMENTOR, shapes))


def test_data_inside_wrappers_are_checked_and_others_left_alone(shapes: Path) -> None:
    cfg = config(DETECTOR, shapes)
    inner = cfg.train_dataloader.dataset
    other = dict(type="mmdet.CocoDataset", ann_file="absent.json")
    concat = dict(type="ConcatDataset", datasets=[inner, other, inner])
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=concat)
    places = [place for place, _ in distinct(find_datasets(cfg))]
    assert places == ["train_dataloader.dataset.dataset.datasets.0", "val_dataloader.dataset"]
    check_training_data(cfg)
    (shapes / "train" / "000000.jpg").unlink()
    with pytest.raises(InputError, match="000000.jpg"):
        check_training_data(cfg)


def test_warnings_are_left_to_the_loading_that_follows(
    shapes: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    alter(shapes, "train", 0, area=0)
    warn("a warning before the check")  # after which mmengine's logger takes the level for enabled
    check_training_data(config(DETECTOR, shapes))
    assert "doubtful" not in caplog.text + "".join(capsys.readouterr())
    assert logging.root.manager.disable == logging.NOTSET


def test_a_large_file_in_order_is_not_read_again(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_checks, "LARGE_FILE", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cfg = config(DETECTOR, shapes)
    check_training_data(cfg)
    with monkeypatch.context() as patch:
        patch.setattr(data_checks, "build_dataset", lambda *_: pytest.fail("read again"))
        check_training_data(cfg)
    alter(shapes, "val", 0, bbox=[1, 2, 3])
    for _ in range(2):
        with pytest.raises(InputError, match=r"annotations\[0\].*expected 4 finite numbers"):
            check_training_data(cfg)


def test_the_report_of_a_detection_config(shapes: Path, tmp_path: Path) -> None:
    alter(shapes, "val", 0, image_id=99)
    alter(shapes, "train", 0, area=0)
    out = tmp_path / "out"
    cfg = config(DETECTOR, shapes)
    reports = report_config(cfg, ("train", "val", "test"), out, decode=True, num_samples=3)
    train, val = json.loads((out / "report.json").read_text())
    assert [report.place for report in reports] == [train["place"], val["place"]]
    assert (train["num_images"], train["num_errors"], train["num_warnings"]) == (6, 0, 1)
    assert "has no area" in train["warnings"][0]
    content = json.loads((shapes / "annotations" / "train.json").read_text())
    expected = [0] * 5
    for annotation in content["annotations"][1:]:
        expected[annotation["category_id"] - 1] += 1
    assert [row["objects"] for row in train["classes"]] == expected
    assert (val["num_errors"], val["pictures"]) == (1, [])
    assert "image_id 99 is not in images" in val["errors"][0]
    page = (out / "samples.html").read_text()
    assert len(train["pictures"]) == 3
    for name in train["pictures"]:
        assert f'src="{name}"' in page
        assert Image.open(out / name).size == (480, 480)


def test_the_report_of_label_maps(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    reports = report_config(config(SEGMENTOR, shapes), ("train",), out, num_samples=2)
    (report,) = reports
    assert (report.num_images, report.num_errors) == (6, 0)
    assert [row["name"] for row in report.classes][:2] == ["background", "disk"]
    assert sum(row["pixels"] for row in report.classes) == 6 * 64 * 64
    assert len(list((out / "samples").iterdir())) == 2
    assert (out / "example_mask.jpg").is_file()


def test_one_label_map_is_drawn_before_training_asks(shapes: Path, tmp_path: Path) -> None:
    for file in (shapes / "semantic" / "train").iterdir():
        labels = np.asarray(Image.open(file)) % 4
        labels[:8] = 0
        Image.fromarray(labels).save(file)
    cfg = config(SEGMENTOR, shapes)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.metainfo = dict(classes=("disk", "square", "triangle", "star", "ring", "a"))
    cfg.work_dir = str(tmp_path / "work_dir")
    with pytest.raises(InputError, match="0 occurs in 6 of 6 label maps .* 5, 'a', in none"):
        train(cfg)
    picture = Image.open(tmp_path / "work_dir" / "example_mask.jpg")
    assert min(picture.size) >= 64


def test_nothing_is_drawn_of_detectors_and_damaged_data(shapes: Path, tmp_path: Path) -> None:
    assert write_example_mask(config(DETECTOR, shapes), tmp_path) is None
    for file in (shapes / "semantic" / "train").iterdir():
        cut(file)
    assert write_example_mask(config(SEGMENTOR, shapes), tmp_path) is None
    assert not (tmp_path / "example_mask.jpg").exists()


def test_the_report_lists_every_bad_image(shapes: Path, tmp_path: Path) -> None:
    ann_file = shapes / "annotations" / "train.json"
    for name in ("000001", "000004"):
        cut(shapes / "train" / f"{name}.jpg")
    (report,) = report_coco(ann_file, shapes / "train", tmp_path / "out")
    assert len(report.pictures) == 4
    assert [Path(text.split(" cannot")[0]).name for text in report.errors] == [
        "000001.jpg",
        "000004.jpg",
    ]


def test_other_classes_in_the_validation_data_are_an_error(shapes: Path, tmp_path: Path) -> None:
    file = shapes / "annotations" / "val.json"
    file.write_text(file.read_text().replace("triangle", "cone"))
    reports = report_config(config(DETECTOR, shapes), ("val",), tmp_path / "out")
    assert "no category named 'triangle'" in "\n".join(t for r in reports for t in r.errors)


@pytest.mark.parametrize("is_absent", [True, False])
def test_the_command_says_on_stderr_that_there_are_errors(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_absent: bool
) -> None:
    if is_absent:
        (shapes / "annotations" / "val.json").unlink()
    config(DETECTOR, shapes).dump(tmp_path / "det.py")
    out = str(tmp_path / "out")
    command = ["check-data", str(tmp_path / "det.py"), "--split", "val", "--out-dir", out]
    assert main(command) == int(is_absent)
    said = capsys.readouterr()
    assert (f"error; report: {out}" in said.err) is is_absent
    assert (f"0 errors; report: {out}" in said.out) is not is_absent


def test_a_config_without_our_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data set of a type mmbeit3\.\* in train, val"):
        report_config(Config(dict(model=dict())), ("train", "val"), tmp_path)


@pytest.mark.parametrize("path", [DETECTOR, SEGMENTOR], ids=["detector", "segmentor"])
def test_the_report_names_damaged_and_turned_images(
    shapes: Path, path: Path, tmp_path: Path
) -> None:
    pytest.importorskip("simplejpeg")
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = shapes / "train" / "000001.jpg"
    Image.open(turned).save(turned, exif=exif)
    broken = shapes / "train" / "000002.jpg"
    broken.write_bytes(damage(broken.read_bytes(), "half", 0))
    found = report_config(config(path, shapes), ["train"], tmp_path / "out", decode=True)[0]
    assert found.errors == [
        f"{broken} is damaged: Corrupt JPEG data: premature end of data segment"
    ]
    assert found.warnings[0].endswith('exif="ignore" if they follow the stored pixels')
    assert ": 1 images have an EXIF orientation" in found.warnings[0]
    assert str(turned) in found.warnings[0]
    check_training_data(config(path, shapes))  # which decodes no whole file


def captions_config(shapes: Path, **settings: object) -> Config:
    """A model with a tokenizer, and the captions of the shapes."""
    dataset = dict(
        type="mmbeit3.CocoCaptionsDataset",
        data_root=str(shapes),
        ann_file="annotations/captions_train.json",
        data_prefix=dict(img="train"),
        pipeline=[dict(type="LoadImageFromFile", _scope_="mmbeit3")],
    )
    train_tokenizer(any_sentences(300), shapes / "t.spm")
    preprocessor = dict(tokenizer=dict(file=str(shapes / "t.spm")), **settings)
    model = dict(type="mmbeit3.BEiT3Retrieval", data_preprocessor=preprocessor)
    return Config(
        dict(default_scope="mmbeit3", model=model, train_dataloader=dict(dataset=dataset))
    )


def test_the_report_of_captions(shapes: Path, tmp_path: Path) -> None:
    file = shapes / "annotations" / "captions_train.json"
    data = json.loads(file.read_text())
    first = data["annotations"][0]["caption"] = "a red <disk> " + "and a star " * 12
    data["annotations"][1]["caption"] = "a cafÃ©"
    file.write_text(json.dumps(data))
    out = tmp_path / "out"
    (report,) = report_config(captions_config(shapes), ("train",), out, num_samples=2)
    assert (report.num_images, report.num_errors, report.num_warnings) == (6, 0, 1)
    assert report.num_texts == len(data["annotations"])
    assert "'a café'" in report.warnings[0] and "Windows-1252" in report.warnings[0]
    page = (out / "samples.html").read_text()
    assert len(report.pictures) == 2 and "a red &lt;disk&gt;" in page
    assert report.texts[0][0] == first
    (report,) = report_config(captions_config(shapes, max_length=32), ("train",), out)
    assert report.num_warnings == 2
    assert f"1 of {report.num_texts} texts are longer than 32 tokens" in report.warnings[0]


def test_errors_of_captions_are_in_the_report(shapes: Path, tmp_path: Path) -> None:
    file = shapes / "annotations" / "captions_train.json"
    data = json.loads(file.read_text())
    data["annotations"][3]["caption"] = " "
    data["annotations"][4]["image_id"] = 77
    file.write_text(json.dumps(data))
    out = tmp_path / "out"
    (report,) = report_config(captions_config(shapes), ("train",), out)
    assert report.num_errors == 2 and "expected a word" in report.errors[0]
    assert "image_id 77 is not in images" in report.errors[1]
    data["annotations"] = data["annotations"][:3]
    file.write_text(json.dumps(data))
    (shapes / "train" / "000000.jpg").unlink()
    (shapes / "t.spm").unlink(missing_ok=True)
    cfg = captions_config(shapes)
    cfg.model.data_preprocessor.tokenizer.file = str(shapes / "absent.spm")
    tokenizer, report = report_config(cfg, ("train",), out)
    assert "there is no tokenizer at" in tokenizer.errors[0]
    assert report.num_errors == 1 and "000000.jpg cannot be read: No such file" in report.errors[0]


def test_the_command_tells_of_captions(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = captions_config(shapes)
    cfg.dump("config.py")
    assert main(["check-data", "config.py"]) == 0
    assert "6 images, " in capsys.readouterr().out
    (shapes / "annotations" / "captions_train.json").write_text("{")
    assert main(["check-data", "config.py"]) == 1
    assert "not valid JSON" in capsys.readouterr().out


def test_texts_that_are_cut_are_counted_before_training(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(data_checks, "warn", said.append)
    check_training_data(captions_config(shapes))
    assert not said
    check_training_data(captions_config(shapes, max_length=8))
    (text,) = said
    assert "train_dataloader.dataset: " in text and "texts are longer than 8 tokens" in text


def test_bad_captions_are_found_before_training(shapes: Path) -> None:
    file = shapes / "annotations" / "captions_train.json"
    data = json.loads(file.read_text())
    data["annotations"][0]["caption"] = ""
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"annotations\[0\] \(id 1\): caption is ''"):
        check_training_data(captions_config(shapes))
