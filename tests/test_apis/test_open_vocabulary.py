"""A detector by words: trained on some classes, tested on others by any tool, asked for any."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

import mmbeit3
from mmbeit3.apis import test as run_test
from mmbeit3.apis import train
from mmbeit3.cli import main
from mmbeit3.config import resolve_classes
from mmbeit3.datasets import make_shapes
from mmbeit3.utils import InputError
from tests.open_vocabulary import CLASSES, detector_cfg, small_tokenizer
from tests.test_apis.test_same_everywhere import run_script

EVERY = ("disk", "square", "triangle", "star", "ring")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("words")
    make_shapes(root / "shapes", num_train=6, num_val=2)
    small_tokenizer(root)
    return root


def config(root: Path, work_dir: Path) -> Config:
    """Trained on three classes for two steps, validated and tested on all five."""
    cfg = detector_cfg(root / "small.spm", frozen=True)
    shapes = root / "shapes"
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(shapes)
    cfg.train_dataloader.dataset.metainfo = dict(classes=tuple(CLASSES))
    cfg.train_dataloader.batch_size = 2
    for split in ("val", "test"):
        cfg[f"{split}_dataloader"].dataset.metainfo = dict(classes=EVERY)
        cfg[f"{split}_evaluator"].update(
            ann_file=str(shapes / "annotations" / "val.json"), metric="bbox", classwise=True
        )
    cfg.model.test_cfg.rcnn.max_per_img = 20
    cfg.train_cfg.update(max_iters=2, val_interval=1)
    cfg.default_hooks.checkpoint.update(interval=2, save_best=None)
    cfg.visualizer.vis_backends = [dict(type="LocalVisBackend")]
    cfg.log_level, cfg.work_dir = "WARNING", str(work_dir)
    return cfg


@pytest.fixture(scope="module")
def checkpoint(root: Path) -> Path:
    train(config(root, root / "work"))
    return root / "work" / "iter_2.pth"


def by_class(metrics: dict) -> set[str]:
    return {name for name in metrics if name.endswith("_precision")}


def test_it_is_tested_on_classes_it_was_not_trained_on(
    root: Path, checkpoint: Path, tmp_path: Path
) -> None:
    metrics = run_test(config(root, tmp_path), checkpoint, show_dir=tmp_path / "pictures")
    assert by_class(metrics) == {f"coco/bbox_{name}_precision" for name in EVERY}
    assert len(list((tmp_path / "pictures").iterdir())) == 2

    file = tmp_path / "config.py"
    config(root, tmp_path).dump(file)
    work_dir = tmp_path / "mmdet"
    run_script("mmdet", "test.py", str(file), str(checkpoint), "--work-dir", str(work_dir))
    (log,) = work_dir.glob("2*/2*.json")
    theirs = json.loads(log.read_text())
    assert {key: theirs[key] for key in metrics} == metrics


def test_mmengine_runs_it_too(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    cfg = config(root, tmp_path)
    cfg.pop("runner_type")
    cfg.load_from = str(checkpoint)
    assert len(by_class(Runner.from_cfg(cfg).test())) == 5


def test_training_goes_on_with_its_own_names(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    meta = mmbeit3.checkpoint.read_checkpoint(checkpoint)["meta"]["dataset_meta"]
    assert list(meta["classes"]) == CLASSES
    cfg = config(root, tmp_path)
    cfg.train_cfg.val_interval = 5
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    train(cfg)
    one, other = (
        mmbeit3.checkpoint.read_checkpoint(path)["state_dict"]
        for path in (checkpoint, tmp_path / "iter_2.pth")
    )
    assert all((one[name] == other[name]).all() for name in one)


def test_it_finds_what_the_user_types(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    cfg = config(root, tmp_path)
    image = next((root / "shapes" / "val").iterdir())
    model = mmbeit3.load(cfg, checkpoint)
    assert list(model(image).classes) == CLASSES
    model.set_classes(["the red star", " two on the left ", "star"])
    found = model(image)
    assert found.classes == ("the red star", "two on the left", "star")
    assert found.labels.max() < 3 and found.draw().shape[2] == 3
    typed = mmbeit3.load(cfg, checkpoint, classes=["the red star", "two on the left", "star"])
    assert (typed(image).scores == found.scores).all()
    with pytest.raises(InputError, match="more than once: star"):
        model.set_classes(["star", "star"])
    assert model.classes == found.classes


def test_a_folder_is_searched_for_a_list_of_names(
    root: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, names = tmp_path / "config.py", tmp_path / "names.txt"
    config(root, tmp_path).dump(file)
    names.write_text("star\nthe red square\n")
    words = ["infer", str(file), str(checkpoint), str(root / "shapes" / "val"), "--score-thr", "0"]
    words += ["--out-dir", str(tmp_path / "out"), "--classes", str(names)]
    assert main(words) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [entry["name"] for entry in summary["categories"]] == ["star", "the red square"]
    assert set(summary["detections"]) == {"star", "the red square"}

    names.write_text("star\nstar\n")
    assert main(words) == 2
    assert "has 'star' twice, in line 1 and 2" in capsys.readouterr().err


def test_a_model_of_fixed_classes_says_so(root: Path, tmp_path: Path) -> None:
    cfg = config(root, tmp_path)
    cfg.model.class_embeddings = None
    with pytest.raises(InputError, match="the first difference is class"):
        resolve_classes(cfg)


def test_the_saved_config_says_which_names(root: Path, checkpoint: Path) -> None:
    cfg = config(root, root / "other")
    assert resolve_classes(cfg) == tuple(CLASSES)
    assert cfg.model.class_embeddings.classes == tuple(CLASSES)
    assert cfg.test_dataloader.dataset.metainfo.classes == EVERY
    assert {head.num_classes for head in cfg.model.roi_head.bbox_head} == {3}
    json.dumps(cfg.model.class_embeddings)
