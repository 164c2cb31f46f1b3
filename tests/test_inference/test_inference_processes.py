"""A folder of images over two processes: the results of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmbeit3.cli import main
from mmbeit3.inference.rank_parts import PARTS
from tests.small_speakers import write_speaker

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("infer_worker.py")
#: What differs from run to run, or is about the processes.
CHANGING = {"seconds", "images_per_second", "processes"}


def picture(path: Path, width: int = 30) -> Path:
    image = Image.new("RGB", (width, 20))
    image.paste("red", (2, 3, 12, 9))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Path:
    """Seven images, the fourth broken, and models in files."""
    place = tmp_path_factory.mktemp("processes")
    images = [picture(place / "images" / f"{i}.png", width=30 + i) for i in range(1, 8)]
    images[3].write_bytes(b"\x89PNG cut")
    classes = ("dark", "red thing", "green thing")
    save_model(place / "detection", "mmdet", "ColorDetector", "PackDetInputs", classes[1:])
    save_model(place / "segmentation", "mmseg", "ColorSegmentor", "PackSegInputs", classes)
    for task in ("vqa", "nlvr2", "captioning"):
        write_speaker(place, tokenizer_file, task)
    (place / "questions.txt").write_text("a star\ntwo red circles\n")
    rows = [f"{a}.png,{b}.png,a red star" for a in range(1, 8) for b in (2, 4)]
    (place / "statements.csv").write_text("\n".join(["left,right,text", *rows]))
    return place


def save_model(path: Path, scope: str, model: str, pack: str, classes: tuple[str, ...]) -> None:
    """Write a config, ``.py``, and weights, ``.pth``."""
    keys = ("img_id", "img_path", "ori_shape", "img_shape")
    pipeline = [dict(type=pack, meta_keys=keys)]
    loader = dict(batch_size=2, dataset=dict(type="Any", pipeline=pipeline))
    cfg = dict(default_scope=scope, model=dict(type=model), test_dataloader=loader)
    Config(cfg).dump(path.with_suffix(".py"))
    meta = {"dataset_meta": {"classes": classes, "palette": [[9, 9, 9]] * len(classes)}}
    content = {"meta": meta, "state_dict": {"weight": torch.ones(1)}}
    torch.save(content, path.with_suffix(".pth"))


def command(
    place: Path,
    name: str,
    *options: str,
    task: str = "detection",
    images: str = "images",
    second: tuple[str, ...] = (),
    kills: bool = False,
) -> dict[str, object]:
    """A line of ``infer_worker.py`` whose results go to the folder ``name``."""
    files = [str(place / path) for path in (f"{task}.py", f"{task}.pth", images)]
    arguments = [*files, "--out-dir", str(place / name), *options]
    return {"arguments": arguments, "second": second, "kills": kills}


def asks(place: Path, task: str) -> list[str]:
    """The options of a task."""
    questions = ["--questions", str(place / "questions.txt"), "--show-attention"]
    statements = ["--statements", str(place / "statements.csv")]
    return {"vqa": questions, "nlvr2": statements}.get(task, [])


@pytest.fixture(scope="module")
def ran(place: Path) -> SimpleNamespace:
    """Several runs by two processes on the CPU: exit statuses, and what was printed."""
    one, fails = ("--batch-size", "1"), "model.fails="
    commands = {
        "detection": command(place, "detection"),
        "segmentation": command(place, "segmentation", task="segmentation"),
        "captioning": command(place, "captioning", task="captioning"),
        "vqa": command(place, "vqa", *asks(place, "vqa"), task="vqa"),
        "nlvr2": command(place, "nlvr2", *asks(place, "nlvr2"), task="nlvr2"),
        "single": command(place, "single", images="images/2.png"),
        "absent": command(place, "absent", images="absent"),
        "device": command(place, "device", "--device", "cuda:0"),
        "error": command(place, "error", *one, second=("--cfg-options", f"{fails}RuntimeError")),
        "interrupt": command(
            place, "interrupt", *one, second=("--cfg-options", f"{fails}KeyboardInterrupt")
        ),
        "killed": command(place, "killed", *one, kills=True),  # the last: one process is left
    }
    (place / "commands.json").write_text(json.dumps(list(commands.values())))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *launcher, str(WORKER), str(place / "commands.json"), str(place)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=150,
    )
    found = [[int(n) for n in (place / f"{rank}.txt").read_text().split()] for rank in (0, 1)]
    statuses = dict(zip_longest(commands, zip_longest(*found)))
    return SimpleNamespace(statuses=statuses, out=done.stdout, err=done.stderr)


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def files_of(folder: Path) -> dict[str, bytes]:
    """All results but the summary."""
    files = (path for path in folder.rglob("*") if path.is_file())
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    del contents["summary.json"]
    return contents


@pytest.mark.parametrize("task", ["detection", "segmentation", "captioning", "vqa", "nlvr2"])
def test_results_are_those_of_one_process(
    task: str, place: Path, ran: SimpleNamespace, tmp_path: Path
) -> None:
    files = [str(place / name) for name in (f"{task}.py", f"{task}.pth", "images")]
    alone = ["infer", *files, "--out-dir", str(tmp_path), "--device", "cpu", *asks(place, task)]
    assert main(alone) == 1
    expected = summary_of(tmp_path)
    counts = {"vqa": (12, 2), "nlvr2": (6, 8)}.get(task, (6, 1))
    assert (expected["num_done"], expected["num_failed"]) == counts
    found = summary_of(place / task)
    for key in expected.keys() - CHANGING:
        assert found[key] == expected[key], key
    assert (found["processes"], expected["processes"]) == (2, 1)
    assert list(found) == list(expected)
    assert files_of(place / task) == files_of(tmp_path)
    assert ran.statuses[task] == (1, 0)  # an image failed


def test_fewer_images_than_processes(place: Path, ran: SimpleNamespace) -> None:
    assert ran.statuses["single"] == (0, 0)
    assert [image["file_name"] for image in summary_of(place / "single")["images"]] == ["2.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "no such folder"), ("device", "would put all 2 processes on one device")],
)
def test_mistakes_are_said_once(name: str, message: str, place: Path, ran: SimpleNamespace) -> None:
    assert ran.statuses[name] == (2, 0)
    assert ran.err.count(message) == 1
    assert not (place / name).exists()


def test_an_error_in_one_process_keeps_what_is_done(place: Path, ran: SimpleNamespace) -> None:
    assert ran.statuses["error"] == (1, 0)
    summary = summary_of(place / "error")
    assert summary["interrupted"] is True
    assert summary["error"] == "process 2 of 2 stopped: RuntimeError: "
    assert [image["id"] for image in summary["images"]] == [1, 2, 3, 5, 7]  # without 6
    assert ran.err.count("process 2 of 2 stopped: RuntimeError") == 1
    assert "Traceback" in ran.err


def test_an_interrupt_in_one_process_keeps_what_is_done(place: Path, ran: SimpleNamespace) -> None:
    assert ran.statuses["interrupt"] == (130, 0)
    summary = summary_of(place / "interrupt")
    assert (summary["interrupted"], summary["error"]) == (True, None)
    assert [image["id"] for image in summary["images"]] == [1, 2, 3, 5, 7]


def test_one_progress_and_one_summary(ran: SimpleNamespace) -> None:
    results = [line for line in ran.out.splitlines() if line.startswith("results are in ")]
    assert len(results) == 9


def test_a_killed_process_takes_nothing_with_it(place: Path, ran: SimpleNamespace) -> None:
    assert ran.statuses["killed"] == (1, None)
    summary = summary_of(place / "killed")
    assert (summary["interrupted"], summary["error"]) == (True, "process 2 of 2 was killed")
    done = [image["id"] for image in summary["images"]]
    assert done == sorted(set(done)) and 2 in done and 6 not in done
    assert [image["file_name"] for image in summary["failed"]] == ["4.png"]
    assert not (place / "killed" / PARTS).exists()
