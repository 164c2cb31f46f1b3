"""The command for a machine with a GPU, on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import benchmark, gpu
from benchmarks.benchmark import Candidate, Case, Comparison, run, without
from benchmarks.cases import CASES, make_case, without_targets
from benchmarks.gpu import Part, make_data, parts, run_parts
from benchmarks.options import Options
from benchmarks.report import in_words, summarize
from benchmarks.wheels import required

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> tuple[str, ...]:
    return ("-c", code)


def test_a_part_that_fails_or_hangs_does_not_stop_the_others(tmp_path: Path) -> None:
    kept = tmp_path / "hangs" / "benchmark.json"
    measured = dict(machine={}, cases=[gpu_failure("tower"), dict(name="text")])
    hang = f"import time, pathlib; pathlib.Path({str(kept)!r}).write_text({json.dumps(measured)!r})"
    todo = [
        Part("fails", python("raise ValueError('no such kernel')"), 20),
        Part("hangs", python(f"{hang}; time.sleep(60)"), 1.5),
        Part("missed", python("raise SystemExit(1)"), 20, (0, 1)),
    ]
    words = pytest.MonkeyPatch()
    words.setattr(gpu, "_in_words", lambda results: iter(["words"]))
    results = run_parts(todo, tmp_path, 30)
    words.undo()
    states = [part["status"] for part in results["parts"]]
    assert states == ["failed", "stopped at its time limit", "done"]
    assert "no such kernel" in results["parts"][0]["last_lines"][-1]
    assert results["parts"][1]["measured"] == measured  # what it had is kept
    assert results == json.loads((tmp_path / "gpu.json").read_text())


def test_the_whole_has_a_limit(tmp_path: Path) -> None:
    todo = [Part(name, python("import time; time.sleep(3)"), 60) for name in "abc"]
    results = run_parts(todo, tmp_path, 1.5)
    assert [part["status"] for part in results["parts"]] == ["stopped at its time limit"]
    assert results["not_run"] == ["b", "c"]
    text = (tmp_path / "gpu.md").read_text()
    assert "| b    | not run " in text and "stopped at its time limit" in text


def gpu_failure(name: str) -> dict:
    return dict(name=name, title=name, candidates=[], comparisons=[], error="out of memory")


def test_all_parts_end_within_nine_minutes(tmp_path: Path) -> None:
    made = parts("cuda:0", tmp_path, tmp_path)
    assert sum(part.seconds for part in made) < 9 * 60
    known = {*CASES, "all"}
    for part in made[1:]:
        cases = part.command[2 : part.command.index("--keep-going")]
        assert cases and set(cases) <= known
    archs = [part.command[part.command.index("--arch") + 1] for part in made[1:]]
    assert archs == ["base", "base", "large", "giant"]


@pytest.mark.parametrize("name", [name for name in CASES if name != "evaluation-many"])  # no GPU
def test_every_case_can_be_set_up_for_a_gpu(name: str, tmp_path_factory) -> None:
    data = tmp_path_factory.getbasetemp() / "gpu-data"
    make_data(data, size=64)
    options = Options("cuda:0", "base", 1024, data / "coco", data / "ade20k")
    try:
        case = make_case(name, options)
    except Exception as error:  # of data that such a machine has not
        assert "--coco" in str(error)
        return
    assert not case.share and not any(c.speed or c.memory for c in case.comparisons)
    devices = {c.arguments["device"] for c in case.candidates if "device" in c.arguments}
    assert devices <= {"cuda:0"}


def broken():
    raise RuntimeError("out of memory")


def works():
    return lambda: torch.ones(2)


def test_what_fails_is_left_out_of_the_table() -> None:
    candidates = (
        Candidate("limit", broken, flops=1.0, memory=False),
        Candidate("ours", works, flops=1.0, limit="limit", memory=False, seconds_at_most=9),
        Candidate("peer", works, memory=False),
    )
    compared = (Comparison("ours", "limit", speed=1), Comparison("ours", "peer", tolerance=0))
    case, failed = Case("c", "t", candidates, compared), {}
    with pytest.raises(RuntimeError, match="out of memory"):
        run(case, 1, "cpu", lambda line: None)
    measured = run(case, 1, "cpu", lambda line: None, failed)
    assert failed == {"limit": "RuntimeError: out of memory"}
    summary = summarize(without_targets(without(case, failed)), measured) | {"failed": failed}
    assert [entry["name"] for entry in summary["candidates"]] == ["ours", "peer"]
    assert [entry["peer"] for entry in summary["comparisons"]] == ["peer"]
    assert "met" not in summary["candidates"][0]
    assert "limit failed: RuntimeError: out of memory" in in_words(summary)


class Event:
    """An event of a GPU on which a call takes three milliseconds."""

    calls = 0

    def __init__(self, enable_timing: bool) -> None:
        self.at = 0

    def record(self) -> None:
        self.at = Event.calls

    def elapsed_time(self, other: Event) -> float:
        return 3.0 * (other.at - self.at)


def test_short_calls_on_a_gpu_are_timed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    cuda = SimpleNamespace(Event=Event, synchronize=lambda: waits.append(1), device=nullcontext)
    monkeypatch.setattr(benchmark.torch, "cuda", cuda)

    def call() -> int:
        Event.calls += 1
        return 7

    seconds, output = benchmark.timed(call, "cuda:0")
    assert (round(seconds, 6), output) == (0.003, 7)
    assert 8 <= Event.calls <= 30 and len(waits) >= 4


@pytest.mark.slow  # a minute
def test_the_command_runs_on_a_cpu(tmp_path: Path) -> None:
    command = ["-m", "benchmarks.gpu", "--tiny", "--device", "cpu", "--only", "tiny"]
    done = subprocess.run(
        [sys.executable, *command, "--out-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [part] = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {case["name"] for case in part["measured"]["cases"]} == {"tower", "caption"}
    text = (tmp_path / "gpu.md").read_text()
    assert "mmbeit3, windows + global layers" in text and "beams" in text


@pytest.mark.slow
def test_the_script_installs_and_runs(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    script = ["bash", str(ROOT / "benchmarks/gpu.sh"), str(tmp_path / "wheels"), str(tmp_path)]
    done = subprocess.run(
        [*script, "--tiny", "--device", "cpu"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert [part["name"] for part in results["parts"]] == ["tests", "tiny"]
    assert "skipped" in results["parts"][0]["summary"] or torch.cuda.is_available()
    assert (tmp_path / "venv/bin/python").exists()


def test_wheels_are_those_of_what_is_needed_and_not_there() -> None:
    there = required(["torch", "torchvision"])
    wanted = required(["mmbeit3", "pytest"], there)
    assert {"onedl-mmengine", "timm", "pycocotools", "sentencepiece", "pytest"} <= wanted.keys()
    assert not {"torch", "torchvision", "numpy"} & wanted.keys()
    assert all(required([name])[name] for name in ("timm", "pytest"))
