"""Trains in one of several processes, of which the second is killed: losing.py FOLDER [val]."""

from __future__ import annotations

import signal
import sys

import torch
from mmengine.dist import get_rank
from toy import config

from mmbeit3.commands.console import run
from mmbeit3.engine import build_runner
from mmbeit3.engine.distributed import init_distributed


def main() -> None:
    torch.set_num_threads(1)
    init_distributed("pytorch")
    hook = {
        "type": "SignalHook",
        "at": 4 if get_rank() == 1 else -1,
        "number": signal.SIGKILL.value,
        "in_validation": "val" in sys.argv,
    }
    large = {"train_dataloader__dataset__weight": 1_000_000, "train_dataloader__num_workers": 2}
    cfg = config(sys.argv[1], launcher="pytorch", custom_hooks=[hook], **large)
    cfg.default_hooks.checkpoint.interval = 100
    build_runner(cfg).train()


if __name__ == "__main__":
    run(main)
