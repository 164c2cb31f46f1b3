"""The trials of images and texts on generated shapes: each trains a step, and is tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbeit3.apis.testing import test as run_test
from mmbeit3.apis.training import train
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.datasets.shapes import tokenizer_texts
from mmbeit3.text import train_tokenizer

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_shapes(tmp_path_factory.mktemp("data") / "shapes", 12, 24, 128, seed=0)
    train_tokenizer(tokenizer_texts(), root / "captions.spm")
    return root


@pytest.fixture(scope="module")
def start(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the retrieval trial."""
    run = tmp_path_factory.mktemp("retrieval")
    metrics, best = train_and_test("retrieval", shapes, run)
    assert {"retrieval/TR@1", "retrieval/IR@10", "retrieval/mean_recall"} <= metrics.keys()
    return best


def train_and_test(task: str, shapes: Path, run: Path, **encoder: dict) -> tuple[dict, Path]:
    [path] = (CONFIGS / f"beit3_{task}").glob(f"beit3-tiny-{task}_*_shapes.py")
    cfg = load_config(path, work_dir=run)
    for split in ("train", "val", "test"):
        cfg[f"{split}_dataloader"].dataset.data_root = str(shapes)
    cfg.model.data_preprocessor.tokenizer.file = str(shapes / "captions.spm")
    cfg.model.encoder.update(encoder)
    cfg.train_dataloader.batch_size = 4
    cfg.train_cfg.update(max_iters=1, val_interval=1)
    cfg.default_hooks.checkpoint.interval = 1
    train(cfg)
    (best,) = run.glob("best_*.pth")
    return run_test(cfg, best), best


@pytest.mark.parametrize(
    ("task", "score"),
    [("vqa", "vqa/accuracy"), ("nlvr2", "nlvr2/accuracy"), ("captioning", "caption/CIDEr")],
)
def test_a_trial_starts_from_the_towers_of_retrieval_and_is_tested(
    shapes: Path, start: Path, tmp_path: Path, task: str, score: str
) -> None:
    init_cfg = dict(type="Pretrained", checkpoint=str(start))
    metrics, _ = train_and_test(task, shapes, tmp_path, init_cfg=init_cfg)
    assert 0 <= metrics[score] <= 100


def test_no_two_configs_have_one_name() -> None:
    names = [path.stem for path in CONFIGS.glob("beit3_*/*.py")]
    assert sorted(names) == sorted(set(names))
