"""All that is to be known of a GPU within some minutes: ``python -m benchmarks.gpu``.

The tests marked ``gpu``, then the speed tables at base, large and giant size. Each part is a
process with a time limit of its own; one that fails or is stopped is reported, what it had measured
is kept, and the next one starts. ``gpu.json`` and ``gpu.md`` are written anew after each part.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "gpu.json"
LAST_LINES = 15  # of a part that failed


@dataclass(frozen=True)
class Part:
    """A piece of the work.

    Attributes:
        name: Its name, and that of its folder.
        command: Arguments of Python.
        seconds: How long it may take.
        accepted: Exit statuses of success.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    accepted: tuple[int, ...] = (0,)


def parts(device: str, out_dir: Path, data: Path, tiny: bool = False) -> list[Part]:
    """The parts in their order: what tells most of what is wrong comes first.

    Args:
        device (str): Where they run.
        out_dir (Path): Each has a folder in it.
        data (Path): Where the sample data are, or are put.
        tiny (bool): Whether sizes are such that a CPU has done in seconds. Defaults to False.
    """
    tests = ("-m", "pytest", "-q", "-m", "gpu", "--tb=short", "-p", "no:cacheprovider")
    tests += (f"--junitxml={out_dir / 'tests' / 'tests.xml'}",)
    if tiny:
        return [
            Part("tests", (*tests, "tests/gpu/test_ops.py"), 120, (0, 5)),
            _measured("tiny", ("tower", "caption"), device, out_dir, data, 120, "tiny", 64),
        ]
    operators = ("matrices", "soft-nms", "deform-attn", "text", "caption")
    models = ("tower", "tower-batches", "training", "detector", "segmentor")
    return [
        Part("tests", (*tests, "tests/gpu"), 210),
        _measured("operators", operators, device, out_dir, data, 80),
        _measured("base", (*models, "pretraining"), device, out_dir, data, 80),
        _measured("large", models, device, out_dir, data, 80, "large"),
        _measured("giant", models, device, out_dir, data, 80, "giant"),
    ]


def _measured(
    name: str,
    cases: Sequence[str],
    device: str,
    out_dir: Path,
    data: Path,
    seconds: float,
    arch: str = "base",
    size: int = 1024,
) -> Part:
    command = ["-m", "benchmarks", *cases, "--keep-going", "--device", device, "--arch", arch]
    command += ["--size", str(size), "--rounds", "3" if size > 64 else "1", "--num-images", "2"]
    command += ["--coco", str(data / "coco"), "--ade20k", str(data / "ade20k")]
    command += ["--captions", str(data / "coco/annotations/captions_val.json")]
    command += ["--tokenizer", str(data / "captions.spm"), "--out-dir", str(out_dir / name)]
    return Part(name, tuple(command), seconds, (0, 1))  # 1: a target was missed


def run_parts(todo: Sequence[Part], out_dir: Path, seconds: float) -> dict[str, Any]:
    """Run parts one after the other, none beyond ``seconds`` from now; returns what is written."""
    end = time.monotonic() + seconds
    results: dict[str, Any] = {"parts": []}
    for number, part in enumerate(todo):
        limit = min(part.seconds, end - time.monotonic())
        waiting = [other.name for other in todo[number:]]
        if limit < 1:
            results["not_run"] = waiting
            break
        print(f"-- {part.name}, at most {limit:.0f} s", flush=True)
        results["parts"].append(run_part(part, out_dir, limit))
        results["not_run"] = waiting[1:]
        write(out_dir, results)
    write(out_dir, results)
    return results


def run_part(part: Part, out_dir: Path, limit: float) -> dict[str, Any]:
    """Run a part; what it prints goes to ``log.txt`` in its folder."""
    folder = out_dir / part.name
    folder.mkdir(parents=True, exist_ok=True)
    start, log = time.monotonic(), folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *part.command],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # so that its own processes end with it
        )
        try:
            status = "done" if process.wait(limit) in part.accepted else "failed"
        except subprocess.TimeoutExpired:
            status = "stopped at its time limit"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    found: dict[str, Any] = {"name": part.name, "status": status}
    found["seconds"] = round(time.monotonic() - start, 1)
    lines = log.read_text(errors="replace").splitlines()
    if status != "done":
        found["last_lines"] = lines[-LAST_LINES:]
    if part.name == "tests":
        found["summary"] = lines[-1] if lines else ""
    file = folder / "benchmark.json"
    if file.exists():
        found["measured"] = json.loads(file.read_text())
    print(f"   {status} after {found['seconds']} s", flush=True)
    return found


def write(out_dir: Path, results: dict[str, Any]) -> None:
    """Write ``gpu.json`` and ``gpu.md``."""
    (out_dir / RESULTS).write_text(json.dumps(results, indent=1))
    (out_dir / "gpu.md").write_text("\n\n".join(_in_words(results)) + "\n")


def _in_words(results: dict[str, Any]) -> Iterator[str]:
    from benchmarks.machine import in_words
    from benchmarks.report import in_words as tables
    from benchmarks.report import table

    rows = [["part", "status", "seconds", "not measured"]]
    for part in results["parts"]:
        failed = [case["name"] for case in _cases(part) if "error" in case]
        rows.append([part["name"], part["status"], f"{part['seconds']:.0f}", ", ".join(failed)])
    yield table(rows + [[name, "not run", "", ""] for name in results["not_run"]])
    measured = [part for part in results["parts"] if "measured" in part]
    if measured:
        yield in_words(measured[0]["measured"]["machine"])
    for part in results["parts"]:
        yield f"## {part['name']}"
        if part.get("summary"):
            yield part["summary"]
        yield from (tables(case) for case in _cases(part) if "error" not in case)
        for case in _cases(part):
            if "error" in case:
                yield f"{case['name']} failed:\n\n```\n{case['error']}\n```"
        if part.get("last_lines"):
            yield "```\n" + "\n".join(part["last_lines"]) + "\n```"


def _cases(part: dict[str, Any]) -> list[dict[str, Any]]:
    return part.get("measured", {}).get("cases", [])


def make_data(folder: Path, images: int = 2, size: int = 1024) -> Path:
    """Pictures, captions and a tokenizer where the cases look for them, unless they are there."""
    if folder.exists():
        return folder
    from mmbeit3.datasets import make_shapes
    from mmbeit3.datasets.shapes import tokenizer_texts
    from mmbeit3.text import train_tokenizer

    made = make_shapes(folder.with_name(f"{folder.name}.part"), 1, images, size)
    coco, ade20k = folder / "coco", folder / "ade20k/images/validation"
    (coco / "annotations").mkdir(parents=True)
    ade20k.parent.mkdir(parents=True)
    (made / "val").rename(coco / "val2017")
    ade20k.symlink_to((coco / "val2017").resolve())
    texts = json.loads((made / "annotations/captions_val.json").read_text())["annotations"]
    texts = [{"caption": texts[index % len(texts)]["caption"]} for index in range(1024)]
    (coco / "annotations/captions_val.json").write_text(json.dumps({"annotations": texts}))
    train_tokenizer(tokenizer_texts(), folder / "captions.spm")
    return folder


def main() -> int:
    """Run all parts; returns 1 if one of them failed or was not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda:0", help="default: cuda:0")
    parser.add_argument("--out-dir", default="work_dirs/gpu", help="default: work_dirs/gpu")
    parser.add_argument("--seconds", type=float, default=520, help="in all (default: 520)")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts to run (default: all)")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU has done in seconds")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    out_dir = Path(args.out_dir).resolve()
    out_dir.mkdir(parents=True, exist_ok=True)
    data = make_data(out_dir / "data", size=128 if args.tiny else 1024)
    todo = parts(args.device, out_dir, data, args.tiny)
    if args.only:
        todo = [part for part in todo if part.name in args.only]
    results = run_parts(todo, out_dir, end - time.monotonic())
    print(f"results are in {out_dir}: {RESULTS}, gpu.md")
    done = all(part["status"] == "done" for part in results["parts"])
    return 0 if done and not results["not_run"] else 1


if __name__ == "__main__":
    sys.exit(main())
