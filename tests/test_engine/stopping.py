"""Ends trainings of two processes for a reason that one of them has; started as by torchrun.

stopping.py FOLDER writes FOLDER/RANK.json: what ended each training in this process.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from toy import config

from mmbeit3.engine import Terminated, build_runner
from mmbeit3.engine.distributed import init_distributed
from mmbeit3.utils import InputError


def outcome(work_dir: Path, **changes: Any) -> str:
    """Train, and say how it ended."""
    try:
        build_runner(config(work_dir, launcher="pytorch", randomness__seed=5, **changes)).train()
    except (InputError, Terminated) as error:
        return f"{type(error).__name__}: {error}"
    except SystemExit as error:
        return f"SystemExit: {error.code}"
    return "done"


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    init_distributed("pytorch")
    second = get_rank() == 1
    ema = {"type": "mmbeit3.EMAHook", "momentum": 0.1}
    stop = {"type": "SignalHook", "at": 4 if second else -1, "number": signal.SIGTERM.value}
    sharded = {"model_wrapper_cfg": {"type": "mmbeit3.FullySharded"}}
    found = {
        "nan": outcome(folder / "nan", model__nan_at=4 if second else -1),
        "fails": outcome(folder / "fails", train_dataloader__dataset__fails=int(sys.argv[2])),
        "stop": outcome(folder / "stop", custom_hooks=[ema, stop]),
        "sharded stop": outcome(folder / "sharded", custom_hooks=[ema, stop], **sharded),
        "sharded": outcome(folder / "sharded", resume=True, **sharded),
        "ddp": outcome(folder / "ddp"),
    }
    (folder / f"{get_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
