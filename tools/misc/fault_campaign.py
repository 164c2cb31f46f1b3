"""Kill trainings at random moments, resume them, and compare with one that was never killed.

Each run of the tiny detector (averaged weights, drop path, data workers) is killed several times by
SIGKILL, at random moments or while a checkpoint is being written, and resumed each time. At its end
weights, averages and optimiser state must be those of the undisturbed run, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from mmbeit3.apis.console import run

TOOLS = Path(__file__).resolve().parents[1]
INTERVAL = 4
PARTIAL = ".iter_*.partial"  # a checkpoint that is being written
CONFIG = """
_base_ = {base!r}
data_root = {data!r}
model = dict(backbone=dict(drop_path_rate=0.2))
train_dataloader = dict(batch_size=2, num_workers=2, dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "/annotations/val.json")
test_evaluator = val_evaluator
train_cfg = dict(max_iters={max_iters}, val_interval=1000000)
custom_hooks = [dict(type="mmbeit3.EMAHook", momentum=0.01)]
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval={interval}, max_keep_ckpts=2)
)
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs in all (default: 50)")
    parser.add_argument(
        "--writing", type=int, default=20, help="of these, while a checkpoint is written (20)"
    )
    parser.add_argument("--per-run", type=int, default=5, help="kills of one training (default: 5)")
    parser.add_argument("--max-iters", type=int, default=40, help="iterations of a training (40)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--out-dir", required=True, help="folder for the trainings and the report")
    return parser.parse_args()


def main() -> int:
    """Do what the command line asks for."""
    args = parse_args()
    from mmbeit3.datasets import make_shapes

    out_dir = Path(args.out_dir)
    data = make_shapes(out_dir / "shapes", num_train=16, num_val=2)
    base = TOOLS.parent / "configs/beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
    config = out_dir / "config.py"
    config.write_text(
        CONFIG.format(base=str(base), data=str(data), max_iters=args.max_iters, interval=INTERVAL)
    )
    started = time.monotonic()
    finish(start(config, out_dir / "undisturbed", resume=False))
    print(f"undisturbed run: {time.monotonic() - started:.0f} s")
    rows = campaign(args, config, out_dir)
    (out_dir / "campaign.json").write_text(json.dumps(rows, indent=2) + "\n")
    kills = [kill for row in rows for kill in row["kills"]]
    good = sum(len(row["kills"]) for row in rows if row["identical"])
    lost = max(kill["lost"] for kill in kills)
    writing = sum(kill["moment"] == "writing" for kill in kills)
    print(
        f"\n{good} of {len(kills)} kills ({writing} while a checkpoint was written) were followed "
        f"by a bit-identical end; lost at most {lost} iterations, checkpoints are {INTERVAL} apart"
        f"\nresults are in {out_dir / 'campaign.json'}"
    )
    return int(good < len(kills) or lost > INTERVAL)


def campaign(args: argparse.Namespace, config: Path, out_dir: Path) -> list[dict]:
    """Run trainings until all kills are done; gives what became of each."""
    moments = ["writing"] * args.writing + ["random"] * (args.kills - args.writing)
    rng = random.Random(args.seed)
    rng.shuffle(moments)
    rows = []
    for number, first in enumerate(range(0, len(moments), args.per_run)):
        work_dir = out_dir / f"run_{number:02d}"
        kills, began = [], time.monotonic()
        for moment in moments[first : first + args.per_run]:
            kills.append(kill_once(config, work_dir, moment, rng))
        process = start(config, work_dir, resume=True)
        finish(process)
        kills[-1]["resumed"] = resumed(work_dir)
        for kill, after in zip(kills, [*kills[1:], kills[-1]], strict=True):
            kill["resumed"] = after["began"] if after is not kill else kill["resumed"]
            kill["lost"] = kill["reached"] - kill["resumed"]
        differences = compare(out_dir / "undisturbed", work_dir, args.max_iters)
        rows.append({"kills": kills, "identical": not differences, "differences": differences})
        told = ", ".join(f"{kill['moment']} at {kill['reached']}" for kill in kills)
        verdict = "identical" if not differences else f"DIFFERENT: {differences[:3]}"
        print(
            f"run {number}: killed {told}; {verdict}; {time.monotonic() - began:.0f} s", flush=True
        )
    return rows


def start(config: Path, work_dir: Path, resume: bool) -> subprocess.Popen:
    """Start tools/train.py; its output goes to a file beside the work dir."""
    command = [sys.executable, str(TOOLS / "train.py"), str(config), "--work-dir", str(work_dir)]
    work_dir.mkdir(parents=True, exist_ok=True)
    with (work_dir / "output.txt").open("a") as output:
        return subprocess.Popen(
            command + ["--resume"] * resume, stdout=output, stderr=subprocess.STDOUT
        )


def finish(process: subprocess.Popen) -> None:
    """Wait for a training that must end well."""
    if process.wait(timeout=1800):
        raise SystemExit(f"a training ended with status {process.returncode}: {process.args}")


def kill_once(config: Path, work_dir: Path, moment: str, rng: random.Random) -> dict:
    """Start or resume a training and kill it; gives where it began and how far it came."""
    left = set(work_dir.glob(PARTIAL))  # by kills before
    process = start(config, work_dir, resume=True)
    offset = (work_dir / "output.txt").stat().st_size
    target = rng.uniform(0, 2.5 * INTERVAL)  # iterations after its start
    steps: list[int] = []
    while process.poll() is None:
        steps = iterations(work_dir, offset)
        if moment == "writing" and set(work_dir.glob(PARTIAL)) - left:
            time.sleep(rng.uniform(0, 0.05))
            break
        if moment == "random" and len(steps) >= target:
            time.sleep(rng.uniform(0, 0.3))  # the middle of an iteration
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    steps = iterations(work_dir, offset)
    began = resumed(work_dir)
    return {"moment": moment, "began": began, "reached": max([began, *steps])}


def iterations(work_dir: Path, offset: int) -> list[int]:
    """Iterations that the output tells of, from a byte on."""
    with (work_dir / "output.txt").open() as output:
        output.seek(offset)
        return [int(number) for number in re.findall(r"Iter\(train\) \[ *(\d+)/", output.read())]


def resumed(work_dir: Path) -> int:
    """The iteration from which the last start went on."""
    text = (work_dir / "output.txt").read_text()
    last = text.rpartition("Distributed launcher")[2]
    found = re.findall(r"resumed epoch: 0, iter: (\d+)", last)
    return int(found[-1]) if found else 0


def compare(expected: Path, found: Path, max_iters: int) -> list[str]:
    """Names of tensors that differ between the last checkpoints of two trainings."""
    import torch

    from mmbeit3.checkpoint import read_checkpoint

    one, other = (read_checkpoint(path / f"iter_{max_iters}.pth") for path in (expected, found))
    differences = []
    for part in ("state_dict", "ema_state_dict"):
        names = one[part].keys() | other[part].keys()
        differences += [
            f"{part}.{name}"
            for name in sorted(names)
            if not torch.equal(one[part][name], other[part][name])
        ]
    for number, state in one["optimizer"]["state"].items():
        differences += [
            f"optimizer.{number}.{name}"
            for name, value in state.items()
            if not torch.equal(value, other["optimizer"]["state"][number][name])
        ]
    return differences + ["param_schedulers"] * (
        one["param_schedulers"] != other["param_schedulers"]
    )


if __name__ == "__main__":
    run(main)
