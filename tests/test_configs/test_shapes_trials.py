"""The trials of images and texts on generated shapes: each trains a step, and is tested."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmbeit3.apis.testing import test as run_test
from mmbeit3.apis.training import train
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.datasets.shapes import tokenizer_texts
from mmbeit3.text import train_tokenizer

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


WEIGHT = "encoder.vision.layers.0.attn.qkv.weight"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain pictures, as the trials of answers, judgments and captions have them."""
    return generated(tmp_path_factory.mktemp("data") / "plain", 64, plain=True)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the retrieval trial."""
    run = tmp_path_factory.mktemp("retrieval")
    patterned = generated(tmp_path_factory.mktemp("data") / "shapes", 128)
    metrics, best = train_and_test("retrieval", patterned, run, size=128)
    assert {"retrieval/TR@1", "retrieval/IR@10", "retrieval/mean_recall"} <= metrics.keys()
    return best


def generated(root: Path, size: int, **options: bool) -> Path:
    make_shapes(root, 12, 24, size, seed=0, **options)
    train_tokenizer(tokenizer_texts(), root / "captions.spm")
    return root


def train_and_test(
    task: str, shapes: Path, run: Path, size: int = 64, **encoder: dict
) -> tuple[dict, Path]:
    path = CONFIGS / f"beit3_{task}" / f"beit3-tiny-{task}_{size}_shapes.py"
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
    [
        ("retrieval", "retrieval/mean_recall"),
        ("vqa", "vqa/accuracy"),
        ("nlvr2", "nlvr2/accuracy"),
        ("captioning", "caption/CIDEr"),
    ],
)
def test_a_trial_starts_from_the_towers_of_retrieval_and_is_tested(
    shapes: Path, start: Path, tmp_path: Path, task: str, score: str
) -> None:
    init_cfg = dict(type="Pretrained", checkpoint=str(start))
    metrics, best = train_and_test(task, shapes, tmp_path, init_cfg=init_cfg)
    assert score in metrics
    before, after = (
        torch.load(path, weights_only=False)["state_dict"][WEIGHT] for path in (start, best)
    )
    assert not torch.equal(before, after)  # of the first step of a warm-up
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


def test_no_two_configs_have_one_name() -> None:
    names = [path.stem for path in CONFIGS.glob("beit3_*/*.py")]
    assert sorted(names) == sorted(set(names))
