"""Kill trainings, or parts of them, or signal them at random moments, and see the end.

Each run of the tiny detector (averaged weights, drop path, data workers) is killed several times by
SIGKILL, at random moments or while a checkpoint is being written, and resumed each time. At its end
weights, averages and optimizer state must be those of the undisturbed run, bit for bit.

Other runs lose a data worker by SIGKILL, or get SIGTERM or Ctrl-C with all processes of their
group. They must end by themselves, soon, with a message and a checkpoint of what was done. Where
one of two processes without a launcher is killed, the other must end by itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

from mmbeit3.commands.console import run

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


# What the runs have that end by the death of a worker or by a signal; batches are 1 MB and more.
OPTIONS = """
train_dataloader["num_workers"] = {workers}
train_dataloader["persistent_workers"] = {persistent}
train_dataloader["pin_memory"] = True
train_cfg = dict(max_iters=100000, val_interval={val_interval})
optim_wrapper = dict(accumulative_counts={counts})
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=100000))
custom_imports = dict(imports=["mmbeit3", "large_samples"])
train_dataloader["dataset"].update(
    pipeline=[
        dict(type="LoadImageFromFile", _scope_="mmbeit3"),
        dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
        dict(type="AddPadding", num_bytes={size}),
        dict(type="PackDetInputs", meta_keys=("img_path", "ori_shape", "img_shape", "padding")),
    ]
)
"""
LARGE_SAMPLES = '''
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module(force=True)
class AddPadding(BaseTransform):
    """Makes a sample so large that handing it over takes several writes to the pipe."""

    def __init__(self, num_bytes):
        self.num_bytes = num_bytes

    def transform(self, results):
        return results | {"padding": "x" * self.num_bytes}
'''
SAMPLE_SIZE = 1_000_000  # bytes
WITHIN = 40  # seconds, from the signal to the end
WITHIN_OF_TWO = 60  # the same of the process that is left of two
STATUS = {"worker": 2, "SIGTERM": 143, "SIGINT": 130, "process of two": 2}
MESSAGES = ("data worker", "told to end", "another process of the training has ended")


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs in all (default: 50)")
    parser.add_argument(
        "--writing", type=int, default=20, help="of these, while a checkpoint is written (20)"
    )
    parser.add_argument("--per-run", type=int, default=5, help="kills of one training (default: 5)")
    parser.add_argument("--max-iters", type=int, default=40, help="iterations of a training (40)")
    parser.add_argument("--workers", type=int, default=20, help="data workers to kill (20)")
    parser.add_argument("--signals", type=int, default=10, help="SIGTERMs to the group (10)")
    parser.add_argument("--interrupts", type=int, default=4, help="Ctrl-Cs to the group (4)")
    parser.add_argument("--pairs", type=int, default=10, help="processes of two to kill (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--out-dir", required=True, help="folder for the trainings and the report")
    return parser.parse_args()


def main() -> int:
    """Do what the command line asks for."""
    args = parse_args()
    # A shell has its background jobs ignore Ctrl-C, and the trainings would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from mmbeit3.datasets import make_shapes

    out_dir = Path(args.out_dir)
    data = make_shapes(out_dir / "shapes", num_train=16, num_val=2)
    base = TOOLS.parent / "configs/beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
    config = out_dir / "config.py"
    config.write_text(
        CONFIG.format(base=str(base), data=str(data), max_iters=args.max_iters, interval=INTERVAL)
    )
    (out_dir / "large_samples.py").write_text(LARGE_SAMPLES)
    report = {"ends": end_campaign(args, config, out_dir)}
    failed = sum(not row["good"] for row in report["ends"])
    if args.kills:
        started = time.monotonic()
        finish(start(config, out_dir / "undisturbed"))
        print(f"undisturbed run: {time.monotonic() - started:.0f} s")
        report["runs"] = campaign(args, config, out_dir)
        failed += sum_up_kills(report["runs"])
    (out_dir / "campaign.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"results are in {out_dir / 'campaign.json'}")
    return int(failed > 0)


def sum_up_kills(rows: list[dict]) -> int:
    """Say how many kills had a bit-identical end; gives the number of those that had not."""
    kills = [kill for row in rows for kill in row["kills"]]
    good = sum(len(row["kills"]) for row in rows if row["identical"])
    lost = max(kill["lost"] for kill in kills)
    writing = sum(kill["moment"] == "writing" for kill in kills)
    print(
        f"{good} of {len(kills)} kills ({writing} while a checkpoint was written) were followed "
        f"by a bit-identical end; lost at most {lost} iterations, checkpoints are {INTERVAL} apart"
    )
    return len(kills) - good + (lost > INTERVAL)


def end_campaign(args: argparse.Namespace, config: Path, out_dir: Path) -> list[dict]:
    """End trainings by the death of a data worker and by signals; gives how each ended."""
    rng = random.Random(args.seed)
    counts = {"worker": args.workers, "SIGTERM": args.signals, "SIGINT": args.interrupts}
    counts["process of two"] = args.pairs
    rows = []
    settings = list(itertools.product((1, 2, 4), (False, True), (1, 2)))
    for kind, count in counts.items():
        rng.shuffle(settings)
        for number in range(count):
            workers, persistent, accumulated = settings[number % len(settings)]
            work_dir = out_dir / f"{kind.replace(' ', '_')}_{number:02d}"
            work_dir.mkdir(parents=True, exist_ok=True)
            own = out_dir / f"{work_dir.name}.py"
            options = dict(workers=workers, persistent=persistent, counts=accumulated)
            # All else comes in validations, too; these have a worker of their own.
            interval = 10**6 if kind == "worker" else 3
            options |= dict(val_interval=interval, size=SAMPLE_SIZE)
            own.write_text(config.read_text() + OPTIONS.format(**options))
            row = end_once(kind, own, work_dir, rng) | options
            rows.append(row)
            verdict = "good" if row["good"] else "BAD"
            print(
                f"{kind} {number}: {workers} workers, persistent {persistent}, {accumulated} "
                f"accumulated: status {row['status']} after {row['seconds']:.1f} s, checkpoint of "
                f"iteration {row['saved']}, reached {row['reached']}; {verdict}: {row['message']}",
                flush=True,
            )
        own = [row for row in rows if row["kind"] == kind]
        if own:
            print(
                f"{sum(row['good'] for row in own)} of {len(own)} ended as they must ({kind}), "
                f"after {max(row['seconds'] for row in own):.1f} s at most",
                flush=True,
            )
    return rows


def end_once(kind: str, config: Path, work_dir: Path, rng: random.Random) -> dict:
    """Start a training, kill a part of it or signal its group, and see how it ends."""
    of_two = kind == "process of two"
    rank = rng.randrange(2) if of_two else None
    process, other = start(config, work_dir, rank, group=True), None
    if of_two:
        other = start(config, work_dir, 1 - rank, group=True)
    while process.poll() is None and not iterations(work_dir, 0):
        time.sleep(0.05)
    time.sleep(rng.uniform(0, 4))
    moment = time.monotonic()
    if kind == "worker":
        os.kill(rng.choice(data_workers(process.pid)), signal.SIGKILL)
    elif other is not None:
        other.kill()
        other.wait()
    else:
        os.killpg(process.pid, signal.Signals[kind])
    try:
        process.wait(timeout=3 * WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    seconds = time.monotonic() - moment
    text = (work_dir / "output.txt").read_text()
    found = [line for line in text.splitlines() if any(mark in line for mark in MESSAGES)]
    message = found[-1].rpartition("error: ")[2].rpartition("INFO - ")[2] if found else ""
    reached = max(iterations(work_dir, 0), default=0)
    saved = max((int(file.stem[5:]) for file in work_dir.glob("iter_*.pth")), default=0)
    named = ".jpg" in message or ".png" in message if kind == "worker" else bool(message)
    good = named and process.returncode == STATUS[kind]
    # A process that is killed in the middle of a step takes the step, and its share, with it.
    good &= seconds < WITHIN_OF_TWO if of_two else seconds < WITHIN and saved >= reached
    return dict(
        kind=kind,
        status=process.returncode,
        seconds=seconds,
        message=message,
        reached=reached,
        saved=saved,
        good=good,
    )


def data_workers(parent: int) -> list[int]:
    """Processes that a training has started, but for the one that only keeps names."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == parent and fields[0] != "Z" and b"resource_tracker" not in command:
            found.append(int(folder.name))
    return found


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


def start(
    config: Path,
    work_dir: Path,
    rank: int | None = None,
    resume: bool = False,
    group: bool = False,
) -> subprocess.Popen:
    """Start tools/train.py, alone or as one of two; its output goes to the work dir."""
    command = [sys.executable, str(TOOLS / "train.py"), str(config), "--work-dir", str(work_dir)]
    work_dir.mkdir(parents=True, exist_ok=True)
    paths = [str(config.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {"PYTHONPATH": os.pathsep.join(paths)}
    if rank is not None:
        port = 20000 + zlib.crc32(str(work_dir).encode()) % 10000
        variables |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
        variables |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        command += ["--launcher", "pytorch"]
    with (work_dir / "output.txt").open("a") as output:
        return subprocess.Popen(
            command + ["--resume"] * resume,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=group,
            env=os.environ | variables,
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
