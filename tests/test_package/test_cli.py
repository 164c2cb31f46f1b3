"""The ``mmbeit3`` command: starts without the heavy imports, passes the exit status on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import mmbeit3
from mmbeit3 import cli
from mmbeit3.commands.beginning import say
from mmbeit3.doctor import report as doctor

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "mmengine", "mmcv", "mmdet", "numpy", "PIL")
HELP_AND_MODULES = f"""
import sys
from mmbeit3.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    heavy = set({HEAVY}) & sys.modules.keys()
    sys.exit(f"imported {{heavy}}" if heavy else stop.code)
"""


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)], ids=str)
def test_help_is_light_and_quick(command: list[str]) -> None:
    for _ in range(3):  # the best of three: the machine may be busy
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", HELP_AND_MODULES, *command, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - start
        if seconds < 1:
            break
    assert done.returncode == 0, done.stderr
    assert seconds < 1
    assert "usage: " in done.stdout
    if not command:
        assert all(name in done.stdout for name in cli.COMMANDS)


CONFIG = "cascade-mask-rcnn_beit3-tiny_shapes"
USUAL = {  # arguments, of files that are there
    "new-config": ["--coco", "a.json", "--images", "images"],
    "train": [CONFIG, "--resume", "a.pth", "--cfg-options", "train_cfg.max_iters=1"],
    "pretrain": ["--images", "images", "--texts", "a.json"],
    "test": [CONFIG, "a.pth"],
    "infer": [CONFIG, "a.pth", "images", "--out-dir", "out"],
    "serve": [CONFIG, "a.pth"],
    "check-data": ["a.json", "--images", "images"],
    "info": ["a.pth"],
    "plan-memory": [CONFIG],
    "plot-lr": ["own.py"],
    "curves": ["images"],
    "convert": ["hf://timm/beit3", "b.pth"],
    "convert-labels": ["images", "b.csv"],
    "publish": ["a.pth", "b.pth"],
    "export": [CONFIG, "a.pth", "--out", "a.onnx"],
    "eval-coco": ["a.json", "b.json"],
    "eval-captions": ["b.json", "a.json"],
    "report": ["a.json", "--gt", "b.json", "--out", "out"],
    "prepare-ade20k": ["a.zip"],
    "prepare-coco-stuff": ["a.zip"],
    "prepare-objects365": ["images"],
    "prepare-codes": [CONFIG],
    "make-shapes": [],
    "doctor": [],
}
AT_ONCE = {"configs", "run"}  # they import nothing that takes long, and speak for themselves
WRONG = {
    "train absent.py": "config absent.py does not exist; similar files there: absent2.py",
    "train cascade-mask-rcnn_beit3-tiny_shape": "did you mean cascade-mask-rcnn_beit3-tiny_shapes",
    "train images": "config images is a folder",
    f"train {CONFIG} --cfg-options max_iters": "takes key=value; found 'max_iters'",
    f"train {CONFIG} --resume b.pth": "checkpoint b.pth does not exist",
    "pretrain --images pictures": "pictures does not exist; expected a folder",
    "pretrain --images images --pairs c.csv": "there is no file c.csv",
    "pretrain --images images --texts a.json c.txt": "there is no file c.txt",
    f"test {CONFIG} empty.pth": "checkpoint empty.pth is empty",
    f"infer {CONFIG} a.pth pictures --out-dir out": "no such folder or image: pictures",
    f"infer {CONFIG} a.pth images --out-dir out --texts c.txt": "there is no file c.txt",
    f"infer {CONFIG} a.pth images --out-dir out --classes c.txt": "there is no file c.txt",
    f"infer {CONFIG} a.pth images --out-dir out --questions c.txt": "there is no file c.txt",
    f"serve {CONFIG} b.pth": "checkpoint b.pth does not exist",
    "serve b.pth": "checkpoint b.pth does not exist",
    f"serve {CONFIG} a.pth --images pictures": "no such folder or image: pictures",
    "serve a.pth --cfg-options a=1": "values are given, but no config",
    "check-data a.json": "a COCO file needs the folder of its images",
    "check-data a.json --images pictures": "folder pictures does not exist",
    "check-data absent.py": "config absent.py does not exist",
    "info images": "checkpoint images is a folder",
    "plan-memory absent.py": "config absent.py does not exist",
    "plot-lr absent.py": "config absent.py does not exist",
    "curves images absent": "work dir absent does not exist",
    "convert b.pth c.pth": "checkpoint b.pth does not exist",
    "convert-labels absent b.csv": "label file or folder absent does not exist",
    "publish b.pth c.pth": "checkpoint b.pth does not exist",
    f"export {CONFIG} b.pth --out a.onnx": "checkpoint b.pth does not exist",
    "infer a.onnx images --out-dir out": "checkpoint a.onnx does not exist",
    f"infer {CONFIG} a.pth --out-dir out": "the folder of images is missing",
    "eval-coco a.json c.json": "results file c.json does not exist",
    "report a.json --gt c.json --out out": "ground truth c.json does not exist",
    "eval-captions c.json a.json": "reference file c.json does not exist",
    "prepare-ade20k b.zip": "archive b.zip does not exist",
    "prepare-codes absent.py": "config absent.py does not exist",
    "prepare-objects365 pictures": "folder pictures does not exist",
    "new-config --coco a.json --images images --val c.json": "there is no file c.json",
    "new-config --coco c.json --images images": "there is no file c.json",
    "new-config --coco a.json": "images: is needed: the folder of images to train on",
    "new-config --labels absent": "label file or folder absent does not exist",
    "new-config --masks images --images images --classes c.txt": "there is no file c.txt",
    "new-config --images images": "none of --coco, --labels, --masks, --captions, ",
}
BEGINNINGS = """
import json, sys
from mmbeit3.cli import build_parser
from mmbeit3.utils import InputError
said = []
for line in json.load(sys.stdin):
    args = build_parser().parse_args(line)
    try:
        said.append(args.start(args))
    except InputError as error:
        said.append(f"error: {error}")
print(json.dumps([said, sorted(sys.modules)]))
"""
SLOW = {"torch", "torchvision", "timm", "mmcv", "mmdet", "mmseg", "mmengine.runner"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.json", "b.json", "a.pth", "a.zip", "own.py", "absent2.py"):
        (tmp_path / name).write_text("something")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "images").mkdir()
    return tmp_path


def begin(folder: Path, lines: list[list[str]]) -> list[str]:
    """What commands say first; none of them may have imported what takes seconds."""
    done = subprocess.run(
        [sys.executable, "-c", BEGINNINGS],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=json.dumps(lines),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said, modules = json.loads(done.stdout)
    assert SLOW & set(modules) == set()
    return said


def test_every_command_speaks_before_it_imports_torch(folder: Path) -> None:
    assert set(USUAL) | AT_ONCE == set(cli.COMMANDS)
    said = begin(folder, [[name, *arguments] for name, arguments in USUAL.items()])
    assert [line for line in said if line.startswith("error") or len(line) > 200] == []
    assert len(set(said)) >= len(USUAL) - 2  # info and publish read the same file


def test_wrong_arguments_are_refused_before_torch_is_imported(folder: Path) -> None:
    said = begin(folder, [line.split() for line in WRONG])
    for line, found, expected in zip(WRONG, said, WRONG.values(), strict=True):
        assert found.startswith("error: ") and expected in found, line


def test_info_imports_torch_alone(tmp_path: Path) -> None:
    weights = {"backbone.layers.0.attn.norm.weight": torch.ones(3)}
    torch.save({"state_dict": weights}, tmp_path / "w.pth")
    code = "import sys; from mmbeit3.cli import main; main(['info', 'w.pth'])\n"
    code += "print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "1 tensors" in done.stdout and done.stdout.startswith("reading w.pth ...\n")
    assert SLOW & set(done.stdout.splitlines()[-1].split()) == {"torch"}


def test_one_process_of_several_says_what_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    say("training a.py")
    monkeypatch.setenv("RANK", "1")
    say("training a.py")
    assert capsys.readouterr().out == "training a.py ...\n"


def test_the_package_is_the_command(tmp_path: Path) -> None:  # as torchrun starts it
    done = subprocess.run(
        [sys.executable, "-m", "mmbeit3", "train", "absent.py", "--launcher", "none"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: config absent.py does not exist")


SCRIPTS = {script: script.read_text() for script in sorted((ROOT / "tools").rglob("*.py"))}


def test_scripts_are_the_commands() -> None:
    called = {
        name: script
        for script, text in SCRIPTS.items()
        for name in re.findall(r'run_script\("(.*)"\)', text)
    }
    assert called.keys() <= set(cli.COMMANDS)
    own = {script.stem for script in SCRIPTS.keys() - set(called.values())}
    assert own == {"demo", "fault_campaign"}  # which need a checkout


def test_user_errors_are_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-data", "annotations.json"]) == 2
    assert capsys.readouterr().err.startswith("error: a COCO file needs the folder of its images")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"mmbeit3 {mmbeit3.__version__}"


@pytest.mark.parametrize("argv", [[], ["operate"]])
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage: mmbeit3" in capsys.readouterr().err


@pytest.mark.parametrize(
    "script", ["mmdet::test.py", pytest.param("mmseg::test.py", marks=pytest.mark.slow)]
)
def test_run_starts_tools_of_the_toolboxes(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", script, "--help"])
    found = capsys.readouterr().out
    assert not stop.value.code
    assert "usage: test.py [-h]" in found and "  checkpoint " in found


def test_run_passes_arguments_and_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "beside.py").write_text("STATUS = 3")
    script = tmp_path / "a script.py"
    script.write_text("import sys, beside\nprint(sys.argv[1:])\nsys.exit(beside.STATUS)")
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", str(script), "-x", "--help", "--", "a b"])
    assert stop.value.code == 3
    assert capsys.readouterr().out == "['-x', '--help', '--', 'a b']\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("mmdet::tst.py", r"tst\.py is no file; there are .*test\.py"),
        ("mmdetection::test.py", "no package 'mmdetection' is installed"),
        ("nowhere/test.py", "is no file"),
    ],
)
def test_run_names_a_script_that_is_not_there(
    script: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", script]) == 2
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize("status", [0, 1])
def test_doctor_status_is_passed_on(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "main", lambda: status)
    assert cli.main(["doctor"]) == status


@pytest.mark.parametrize(("rank", "local_rank", "status"), [(0, 0, 2), (1, 1, 0), (8, 0, 2)])
def test_the_first_process_of_a_machine_says_what_is_absent(
    rank: int,
    local_rank: int,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    command = ["infer", "absent.py", "absent.pth", "photos", "--out-dir", "out"]
    assert cli.main([*command, "--launcher", "pytorch"]) == status
    assert ("error: " in capsys.readouterr().err) == (status == 2)
