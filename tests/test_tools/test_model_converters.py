from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools" / "model_converters"
HELP = (
    "import runpy, sys\n"
    "sys.argv = [sys.argv[1], '--help']\n"
    "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    "except SystemExit as end: status = end.code\n"
    "print('SLOW', [name for name in ('torch', 'mmengine', 'numpy') if name in sys.modules])\n"
    "sys.exit(status)"
)
META = {"dataset_meta": {"classes": ("cat", "dog")}}


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def run_here(tool: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a tool in this process, which has the slow imports behind it; return its exit status."""
    monkeypatch.setattr(sys, "argv", [tool, *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOLS / tool), run_name="__main__")
    return end.value.code or 0


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with timm's file of a tiny BEiT-3 and a detector's checkpoint in it."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=64,
        embed_dim=192,
        depth=4,
        num_heads=6,
        scale_attn_norm=True,
        scale_mlp_norm=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        global_pool="avg",
    )
    torch.save(vit.state_dict(), "timm.pth")
    weights = {"backbone.weight": torch.ones(3), "head.weight": torch.zeros(2)}
    torch.save({"meta": META, "state_dict": weights, "optimizer": {"state": {}}}, "iter_9.pth")
    return tmp_path


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("beit3_to_mmbeit3.py", ("SRC", "DST", "--to {mmbeit3,official}", "--check", "--trust")),
        ("publish_model.py", ("IN", "OUT", "--trust")),
    ],
)
def test_help_comes_before_the_slow_imports(
    tool: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    done = run([sys.executable, "-c", HELP, str(TOOLS / tool)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words) and "SLOW []" in done.stdout


def test_the_converter_translates_there_and_back(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["timm.pth", "out/ours.safetensors", "--check"]
    assert run_here("beit3_to_mmbeit3.py", arguments, monkeypatch) == 0
    begins, first, left_out, ran, bits, wrote = capsys.readouterr().out.splitlines()
    assert begins == "reading timm.pth ..."
    assert first.startswith("timm.pth: timm layout, float32, 4 layers of 192 channels")
    assert left_out == "  left out: heads (4 weights)"
    assert ran.startswith("check: SRC run by timm, DST by mmbeit3")
    assert bits == "check: translated back, all 68 weights are equal bit for bit"
    assert wrote.startswith("wrote out/ours.safetensors: mmbeit3 layout, 68 weights")

    expected = torch.load("timm.pth", weights_only=True)
    found = load_file("out/ours.safetensors")
    assert len(found) == 68
    for name, value in found.items():
        name = name.replace("layers.", "blocks.").replace("ffn.", "mlp.")
        assert torch.equal(value, expected[name]), name


def test_the_converter_takes_its_options(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["timm.pth", "official.pth", "--to", "official", "--trust"]
    assert run_here("beit3_to_mmbeit3.py", arguments, monkeypatch) == 0
    assert "wrote official.pth: official layout" in capsys.readouterr().out
    names = torch.load("official.pth", weights_only=True)["model"]
    assert "beit3.encoder.layers.3.self_attn.q_proj.A.weight" in names


def test_publishing_names_the_file_by_what_sha256sum_says(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["iter_9.pth", "models/cats.safetensors"]
    assert run_here("publish_model.py", arguments, monkeypatch) == 0
    (path,) = Path("models").iterdir()
    begins, *lines = capsys.readouterr().out.splitlines()
    assert begins == "reading iter_9.pth ..."
    assert lines == ["left out: optimizer", f"wrote {path} (0.0 MB)"]
    if sys.platform == "linux":
        digest = run(["sha256sum", str(path)], files).stdout
        assert path.name == f"cats-{digest[:8]}.safetensors"
    header = path.read_bytes()[8:].partition(b"}}")[0]
    assert json.dumps(["cat", "dog"]) in header.decode().replace("\\", "")
    assert load_file(path).keys() == {"backbone.weight", "head.weight"}


def test_publishing_what_is_published_leaves_nothing_out(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here("publish_model.py", ["iter_9.pth", "cats.pth"], monkeypatch) == 0
    (path,) = files.glob("cats-*.pth")
    assert run_here("publish_model.py", [path.name, path.name], monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["left out: nothing", f"wrote {path.name} (0.0 MB)"]
    assert list(files.glob("cats*")) == [path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["beit3_to_mmbeit3.py", "absent.pth", "a.pth"], "absent.pth does not exist"),
        (["beit3_to_mmbeit3.py", "timm.pth", "a.bin"], "a.bin ends with '.bin'"),
        (["beit3_to_mmbeit3.py", "iter_9.pth", "a.pth"], "iter_9.pth holds no BEiT-3 vision tower"),
        (["beit3_to_mmbeit3.py", "timm.pth", "./timm.pth"], "timm.pth is SRC itself"),
        (["beit3_to_mmbeit3.py", "timm.pth", "iter_9.pth/a.pth"], "a.pth cannot be written"),
        (["beit3_to_mmbeit3.py", "timm.pth", "a.pth", "--to", "timm"], "invalid choice: 'timm'"),
        (["publish_model.py", "absent.pth", "a.pth"], "absent.pth does not exist"),
        (["publish_model.py", "iter_9.pth", "a"], "a ends with ''"),
        (["publish_model.py", "iter_9.pth", "timm.pth/a.pth"], "a.pth cannot be written"),
    ],
)
def test_user_errors_are_one_message(
    arguments: list[str],
    message: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    assert run_here(arguments[0], arguments[1:], monkeypatch) == 2
    printed = capsys.readouterr().err
    assert re.search(r"(^|\n)(\w+\.py: )?error: ", printed) and message in printed
    assert "Traceback" not in printed
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


class Command:
    """Makes a folder where it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("tool", ["beit3_to_mmbeit3.py", "publish_model.py"])
def test_code_in_a_file_runs_only_with_trust(
    tool: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load("timm.pth", weights_only=True)
    torch.save({"state_dict": state, "args": Command()}, "evil.pth")
    assert run_here(tool, ["evil.pth", "plain.pth"], monkeypatch) == 2
    assert "--trust" in capsys.readouterr().err
    assert not list(files.glob("plain*")) and not (files / "ran").exists()
    assert run_here(tool, ["evil.pth", "plain.pth", "--trust"], monkeypatch) == 0
    (plain,) = files.glob("plain*")
    torch.load(plain, weights_only=True)
    assert (files / "ran").is_dir()
