"""Two processes on the CPU train the tiny dual encoder, and must do what one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.datasets import make_shapes
from mmbeit3.datasets.shapes import tokenizer_texts
from mmbeit3.text.training import train_tokenizer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs/beit3_retrieval/beit3-tiny-retrieval_128_shapes.py"
ITERS = 20
BATCH = 8  # of all processes

CONFIG = """
_base_ = {base!r}
data_root = {data!r}
model = dict(data_preprocessor=dict(tokenizer=dict(file={tokenizer!r})))
train_dataloader = dict(batch_size={batch}, dataset=dict(data_root=data_root))
val_dataloader = dict(
    batch_size=2,
    dataset=dict(data_root=data_root, ann_file="annotations/captions_val.json"))
test_dataloader = val_dataloader
train_cfg = dict(max_iters={iters}, val_interval={iters})
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval={iters}))
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[float]]]:
    """What a training by one process logs, and one by two that share its batch."""
    folder = tmp_path_factory.mktemp("retrieval")
    shapes = make_shapes(folder / "shapes", num_train=24, num_val=7)  # 7 are not shared evenly
    train_tokenizer(tokenizer_texts(), folder / "captions.spm")
    found = []
    for processes in (1, 2):
        work_dir, config = folder / str(processes), folder / f"{processes}.py"
        settings = dict(base=str(TINY), data=str(shapes), tokenizer=str(folder / "captions.spm"))
        config.write_text(CONFIG.format(**settings, batch=BATCH // processes, iters=ITERS))
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command = [sys.executable, *launcher * (processes > 1)]
        command += [str(ROOT / "tests/test_engine/launch.py"), str(config), str(work_dir)]
        done = subprocess.run(
            [*command, "pytorch" if processes > 1 else "none"],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        content = read_checkpoint(work_dir / f"iter_{ITERS}.pth")
        scalars = content["message_hub"]["log_scalars"]
        found.append({name: list(scalars[name].data[0]) for name in scalars})
    return found


@pytest.mark.parametrize("name", ["train/loss_itc", "train/grad_norm"])
def test_two_processes_lose_what_one_does(ran: list[dict[str, list[float]]], name: str) -> None:
    one, two = (torch.tensor(found[name]) for found in ran)
    assert len(one) == ITERS and one.min() < one.max()
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)


def test_two_processes_recall_what_one_does(ran: list[dict[str, list[float]]]) -> None:
    one, two = (
        {name: values for name, values in found.items() if "@" in name or "recall" in name}
        for found in ran
    )
    assert len(one) == 7 and one == two
