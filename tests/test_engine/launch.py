"""Trains a config in this process; torchrun starts several: launch.py CONFIG WORK_DIR LAUNCHER."""

from __future__ import annotations

import sys

import torch

from mmbeit3.apis.training import train
from mmbeit3.commands.console import run
from mmbeit3.config.loading import load_config


def main() -> None:
    torch.set_num_threads(1)
    # Rounding must not decide between the proposals that an untrained RPN scores alike.
    torch.set_default_dtype(torch.float64)
    cfg = load_config(sys.argv[1], work_dir=sys.argv[2])
    cfg.launcher = sys.argv[3]
    train(cfg, resume="--resume" in sys.argv)


if __name__ == "__main__":
    run(main)
