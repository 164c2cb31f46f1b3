"""The whole path in minutes: data, training, evaluation, inference. ``make demo`` runs it.

A detector first, then a segmentor. Every step is a command of its own, printed before it runs, so
that each can be repeated by hand.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {
    "detection": "configs/beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py",
    "segmentation": "configs/beit3_mask2former/mask2former_beit3-tiny_shapes.py",
}
# Towers of masked data modeling on other scenes, without labels: `make weights` makes them.
TOWERS = {
    "detection": "weights/beit3-tiny-pretraining-images_128_shapes.safetensors",
    "segmentation": "weights/beit3-tiny-pretraining-seg_128_shapes.safetensors",
}
DATA = "data/shapes"
WORK_DIR = Path("work_dirs/demo")  # emptied first: it must never be a folder of the user's choice
CHECKPOINT = "last.pth"
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmdetection",
    "onedl-mmsegmentation",
)


def parse_args() -> argparse.Namespace:
    """Read the command line, which has no options but --help."""
    parser = argparse.ArgumentParser(
        description="Generate data, train a tiny detector and a tiny segmentor on them, evaluate "
        "both and draw what they find; some minutes on a CPU, all of it below the checkout.",
        epilog=f"{WORK_DIR} is emptied first; data go to {DATA}. Exit status: that of the step "
        "that failed, 0 if none did.",
    )
    return parser.parse_args()


def main() -> int:
    """Run the steps one after the other; stop at the first that fails."""
    parse_args()
    shutil.rmtree(ROOT / WORK_DIR, ignore_errors=True)
    steps = {"data": ["tools/misc/make_shapes.py", "--out", DATA]}
    for task in CONFIGS:
        steps |= task_steps(task)
    seconds = {}
    for number, (name, command) in enumerate(steps.items(), 1):
        print(f"\n[{number}/{len(steps)}] {name}: python {shlex.join(command)}", flush=True)
        start = time.perf_counter()
        status = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
        seconds[name] = round(time.perf_counter() - start, 1)
        if status:
            print(f"\nthe step '{name}' failed with status {status}", file=sys.stderr)
            return status
        if name.endswith("train"):
            link_last_checkpoint(ROOT / WORK_DIR / name.split()[0])
    report(summarize(ROOT / WORK_DIR, seconds))
    return 0


def task_steps(task: str) -> dict[str, list[str]]:
    """Names and commands of the steps of one task."""
    config, work_dir = CONFIGS[task], WORK_DIR / task
    checkpoint, out_dir = str(work_dir / CHECKPOINT), str(work_dir / "inference")
    infer = ["tools/infer.py", config, checkpoint, f"{DATA}/val", "--out-dir", out_dir]
    train = ["tools/train.py", config, "--work-dir", str(work_dir)]
    return {
        f"{task} train": [*train, "--cfg-options", f"load_from={TOWERS[task]}"],
        f"{task} evaluate": ["tools/test.py", config, checkpoint, "--work-dir", str(work_dir)],
        f"{task} infer": infer + (["--score-thr", "0.5"] if task == "detection" else []),
    }


def link_last_checkpoint(work_dir: Path) -> None:
    """Give the last checkpoint of a training a name that does not depend on its length."""
    last = Path((work_dir / "last_checkpoint").read_text().strip())
    (work_dir / CHECKPOINT).symlink_to(last.name)


def summarize(work_dir: Path, seconds: dict[str, float]) -> dict:
    """Gather the numbers of the steps and write ``summary.json``."""
    found, mean = (
        json.loads((work_dir / task / "metrics.json").read_text())["metrics"] for task in CONFIGS
    )
    names = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75"}
    summary = {
        kind: {name: found[f"coco/{kind}_{key}"] for name, key in names.items()}
        for kind in ("bbox", "segm")
    }
    summary["semantic"] = {name: mean[name] for name in ("mIoU", "aAcc")}
    summary["seconds"] = seconds | {"total": round(sum(seconds.values()), 1)}
    summary["versions"] = {"python": sys.version.split()[0]} | {
        package: installed_version(package) for package in PACKAGES
    }
    (work_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def installed_version(package: str) -> str:
    """Version of a distribution, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def report(summary: dict) -> None:
    """Print the tables and where to look."""
    print("\nheld-out split    AP     AP50   AP75")
    for kind, title in (("bbox", "boxes"), ("segm", "masks")):
        values = "  ".join(f"{summary[kind][name]:.3f}" for name in ("AP", "AP50", "AP75"))
        print(f"  {title:<14}  {values}")
    semantic = summary["semantic"]
    print(
        f"  class maps      mIoU {semantic['mIoU']:.1f} %, pixel accuracy {semantic['aAcc']:.1f} %"
    )
    print(f"\ntime:     {summary['seconds']['total'] / 60:.1f} min, of which")
    for task in CONFIGS:
        times = {key: value for key, value in summary["seconds"].items() if key.startswith(task)}
        print(f"  {task:<14}  " + ", ".join(f"{k.split()[1]} {v:.0f} s" for k, v in times.items()))
    for task in CONFIGS:
        print(f"pictures: {WORK_DIR / task / 'inference' / 'overlays'}")
    print(f"numbers:  {WORK_DIR / 'summary.json'}")


if __name__ == "__main__":
    sys.exit(main())
