"""The whole path in minutes: data, training, evaluation, inference. ``make demo`` runs it.

Every step is a command of its own, printed before it runs, so that each can be repeated by hand.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
DATA = "data/shapes"
WORK_DIR = Path("work_dirs/demo")  # emptied first: it must never be a folder of the user's choice
PACKAGES = ("torch", "torchvision", "timm", "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection")


def main() -> int:
    """Run the steps one after the other; stop at the first that fails."""
    work_dir = WORK_DIR
    shutil.rmtree(ROOT / work_dir, ignore_errors=True)
    checkpoint = work_dir / "last.pth"
    steps = {
        "data": ["tools/misc/make_shapes.py", "--out", DATA],
        "train": ["tools/train.py", CONFIG, "--work-dir", str(work_dir)],
        "evaluate": ["tools/test.py", CONFIG, str(checkpoint), "--work-dir", str(work_dir)],
        "infer": [
            "tools/infer.py", CONFIG, str(checkpoint), f"{DATA}/val",
            "--out-dir", str(work_dir / "inference"), "--score-thr", "0.5",
        ],
    }  # fmt: skip
    seconds = {}
    for number, (name, command) in enumerate(steps.items(), 1):
        print(f"\n[{number}/{len(steps)}] {name}: python {shlex.join(command)}", flush=True)
        start = time.perf_counter()
        status = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
        seconds[name] = round(time.perf_counter() - start, 1)
        if status:
            print(f"\nthe step '{name}' failed with status {status}", file=sys.stderr)
            return status
        if name == "train":
            last = Path((ROOT / work_dir / "last_checkpoint").read_text().strip())
            (ROOT / checkpoint).symlink_to(last.name)
    summary = summarise(ROOT / work_dir, seconds)
    report(summary, work_dir)
    return 0


def summarise(work_dir: Path, seconds: dict[str, float]) -> dict:
    """Gather the numbers of the steps and write ``summary.json``."""
    metrics = json.loads((work_dir / "metrics.json").read_text())["metrics"]
    names = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75"}
    summary = {
        kind: {name: metrics[f"coco/{kind}_{key}"] for name, key in names.items()}
        for kind in ("bbox", "segm")
    }
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


def report(summary: dict, work_dir: Path) -> None:
    """Print the AP table and where to look."""
    print("\nheld-out split    AP     AP50   AP75")
    for kind, title in (("bbox", "boxes"), ("segm", "masks")):
        values = "  ".join(f"{summary[kind][name]:.3f}" for name in ("AP", "AP50", "AP75"))
        print(f"  {title:<14}  {values}")
    times = ", ".join(f"{name} {value:.0f} s" for name, value in summary["seconds"].items())
    print(f"\ntime:     {times}")
    print(f"pictures: {work_dir / 'inference' / 'overlays'}")
    print(f"numbers:  {work_dir / 'summary.json'}")


if __name__ == "__main__":
    sys.exit(main())
