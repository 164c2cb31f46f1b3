"""VQA, NLVR2 and captioning trained by one process, by two, and sharded: the same weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.datasets import make_shapes
from mmbeit3.text import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
ITERS = 4
RECIPES = dict(
    vqa="beit3_vqa/beit3-base_480_vqav2",
    nlvr2="beit3_nlvr2/beit3-base_224_nlvr2",
    captioning="beit3_captioning/beit3-base_480_coco",
)
DATA = dict(
    vqa="""type="mmbeit3.VQAv2Dataset", questions="annotations/questions_train.json",
    annotations="annotations/answers_train.json", min_count=1""",
    nlvr2="""type="mmbeit3.NLVR2TableDataset", ann_file="annotations/statements_train.jsonl",
    text_column="sentence\"""",
    captioning="""type="mmbeit3.CocoCaptionsDataset",
    ann_file="annotations/captions_train.json\"""",
)
RESIZE = 'dict(step, scale=(64, 64)) if step["type"] == "Resize" else step'
PIPELINE = dict(
    vqa=f"[{RESIZE} for step in _base_.test_pipeline]",
    nlvr2=f"""[
    dict(_base_.test_pipeline[0],
         transforms=[{RESIZE} for step in _base_.test_pipeline[0]["transforms"]]),
    _base_.test_pipeline[1]]""",
)
PIPELINE["captioning"] = PIPELINE["vqa"]
CONFIG = """
_base_ = "{base}"
model = dict(
    init_cfg=None,
    data_preprocessor=dict(tokenizer=dict(file="{tokenizer}")),
    encoder=dict(
        _delete_=True, type="mmbeit3.BEiT3Multiway", img_size=64, final_norm={final_norm},
        arch=dict(embed_dims=48, num_layers=2, num_heads=4, feedforward_channels=80),
        vocab_size={words}, max_tokens=64, with_cp=True))
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(_delete_=True, {dataset}, data_root="{data}/", data_prefix=dict(img="train"),
                 pipeline={pipeline}))
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
optim_wrapper = dict(_delete_=True, type="OptimWrapper", accumulative_counts="auto",
    constructor="mmbeit3.LayerDecayConstructor", paramwise_cfg=dict(layer_decay_rate=0.9),
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05))
param_scheduler = []
auto_scale_lr = dict(base_batch_size=4)
train_cfg = dict(max_iters={iters}, val_interval=100)
env_cfg = dict(dist_cfg=dict(backend="gloo"))
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval={iters}, save_best=None))
custom_hooks = [dict(type="mmbeit3.EMAHook", momentum=0.01)]
randomness = dict(seed=0)
"""
SHARDED = 'model_wrapper_cfg = dict(type="mmbeit3.FullySharded")\n'


def trained(folder: Path, config: str, processes: int) -> dict[str, Tensor]:
    folder.mkdir()
    (folder / "config.py").write_text(config)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    several = processes > 1
    command = [sys.executable, *(launcher if several else [])]
    command += [str(ROOT / "tests/test_engine/launch.py"), str(folder / "config.py")]
    done = subprocess.run(
        [*command, str(folder / "work"), "pytorch" if several else "none"],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    content = read_checkpoint(folder / "work" / f"iter_{ITERS}.pth")
    average = {f"average {name}": value for name, value in content["ema_state_dict"].items()}
    return content["state_dict"] | average


@pytest.mark.slow
@pytest.mark.parametrize("task", RECIPES)
def test_two_processes_and_sharded_ones_end_where_one_does(
    task: str, tokenizer_file: Path, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "shapes", num_train=8, num_val=2)
    config = CONFIG.format(
        base=ROOT / "configs" / f"{RECIPES[task]}.py",
        data=data,
        final_norm=task != "vqa",
        tokenizer=tokenizer_file,
        words=Tokenizer(tokenizer_file).vocab_size,
        dataset=DATA[task],
        pipeline=PIPELINE[task],
        iters=ITERS,
    )
    alone = trained(tmp_path / "alone", config, 1)
    for kind, more in (("ddp", ""), ("sharded", SHARDED)):
        found = trained(tmp_path / kind, config + more, 2)
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6, msg=name)
