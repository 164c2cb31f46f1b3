"""``mmbeit3.load``: a model in one call, and the config that a checkpoint carries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS

import mmbeit3
from mmbeit3.config.saved_config import only_registered, parse_assignments
from mmbeit3.inference.detector import Detector
from mmbeit3.inference.segmentor import Segmentor
from mmbeit3.utils import InputError


def carrying(checkpoint: Path, text: object) -> str:
    """The checkpoint with a text as its config."""
    content = torch.load(checkpoint, weights_only=False)
    content["meta"]["cfg"] = text
    file = checkpoint.with_name("carrying.pth")
    torch.save(content, file)
    return str(file)


def test_the_package_is_imported_without_torch() -> None:
    code = "import sys, mmbeit3; assert 'torch' not in sys.modules; assert callable(mmbeit3.load)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def test_config_and_checkpoint(color_cfg, color_checkpoint, seg_cfg, seg_checkpoint) -> None:
    before = color_cfg.pretty_text
    model = mmbeit3.load(color_cfg, color_checkpoint, device="cpu")
    assert isinstance(model, Detector) and model.classes == ("red thing", "green thing")
    assert color_cfg.pretty_text == before
    assert isinstance(mmbeit3.load(seg_cfg, str(seg_checkpoint)), Segmentor)


def test_the_config_in_the_checkpoint(color_cfg, color_checkpoint) -> None:
    model = mmbeit3.load(carrying(color_checkpoint, color_cfg.pretty_text), device="cpu")
    assert model.classes == ("red thing", "green thing")
    assert model.device == torch.device("cpu")


def test_its_lines_are_short_without_a_config_file(
    color_cfg, color_checkpoint, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(MMLogger, "_instance_dict", OrderedDict())  # none made short before
    mmbeit3.load(carrying(color_checkpoint, color_cfg.pretty_text))
    said = capsys.readouterr()
    assert "loaded all " in said.out + said.err and "mmengine" not in said.out + said.err


def test_what_is_missing_is_said(color_cfg, color_checkpoint, tmp_path) -> None:
    with pytest.raises(InputError, match="carries no config; give the config file"):
        mmbeit3.load(color_checkpoint)
    for config in (color_cfg, "config.py"):
        with pytest.raises(InputError, match="there are no weights"):
            mmbeit3.load(config)
    with pytest.raises(InputError, match=r"absent.py does not exist"):
        mmbeit3.load(tmp_path / "absent.py", color_checkpoint)
    with pytest.raises(InputError, match="has no model"):
        mmbeit3.load(carrying(color_checkpoint, "a = 1"))


@pytest.mark.parametrize(
    "line",
    [
        "open({file!r}, 'w')",
        "__import__('pathlib').Path({file!r}).touch()",
        "x = dict(a=open({file!r}, 'w'))",
        "x = [open({file!r}, 'w') for _ in range(1)]",
        "x = {{'a': (lambda: 1)()}}",
        "x = f'{{open({file!r}, 'w')}}'",
        "x = dict.fromkeys([1])",
        "x = list(open({file!r}, 'w'))",
        "import os",
        "x.y = 1",
        "x = 1 if True else 2",
        "x = " + "[" * 500 + "]" * 500,
        "x = (",
        "x = " + "-" * 5000 + "1",
        "filename = 'a'",
    ],
)
def test_a_config_in_a_checkpoint_is_never_run(
    color_cfg, color_checkpoint, tmp_path, line: str
) -> None:
    file = tmp_path / "ran"
    text = color_cfg.pretty_text + "\n" + line.format(file=str(file)) + "\n"
    with pytest.raises(InputError, match="more than plain values, and is not run"):
        mmbeit3.load(carrying(color_checkpoint, text))
    assert not file.exists()


def put_text(file: Path) -> dict:
    return dict(type="mmengine.put_text", obj="x", filepath=str(file))


@pytest.mark.parametrize("place", ["model", "part", "pipeline", "scope", "default_scope"])
def test_types_in_it_must_be_registered(
    color_cfg, color_checkpoint, tmp_path, monkeypatch, place: str
) -> None:
    file = tmp_path / "ran"
    package = tmp_path / "evil"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(file)!r}, 'w')")
    (package / "registry.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    if place == "model":
        color_cfg.model = put_text(file)
    elif place == "part":
        color_cfg.model = dict(type="mmdet.TwoStageDetector", backbone=put_text(file))
    elif place == "pipeline":
        color_cfg.test_dataloader.dataset.pipeline.insert(1, put_text(file))
    elif place == "scope":
        color_cfg.model.type = "evil.ColorDetector"
    else:
        color_cfg.default_scope = "evil"
    with pytest.raises(Exception) as caught:  # noqa: PT011
        mmbeit3.load(carrying(color_checkpoint, color_cfg.pretty_text))
    assert isinstance(caught.value, (InputError, KeyError, RuntimeError))
    assert not file.exists()
    assert "evil" not in sys.modules


def test_modules_in_it_must_be_imported(color_cfg, color_checkpoint, monkeypatch) -> None:
    color_cfg.custom_imports = dict(imports=["my_own_package"])
    file = carrying(color_checkpoint, color_cfg.pretty_text)
    with pytest.raises(InputError, match="imports 'my_own_package', which would run its code"):
        mmbeit3.load(file)
    monkeypatch.setitem(sys.modules, "my_own_package", sys)
    assert mmbeit3.load(file).classes


def test_registries_are_as_before(tmp_path) -> None:
    with pytest.raises(InputError), only_registered():
        raise InputError("x")
    assert MODELS.get("torch.nn.Identity") is torch.nn.Identity
    file = tmp_path / "config.py"
    file.write_text("a = 1")
    assert Config.fromfile(file).a == 1


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a = dict(b=[1, -2.5], c=('x', None))", {"a": {"b": [1, -2.5], "c": ("x", None)}}),
        ("a = {'b c': dict(d=inf)}\ne = [True]", {"a": {"b c": {"d": float("inf")}}, "e": [True]}),
        ("a = dict(b=1, **{'c d': tuple([2])})", {"a": {"b": 1, "c d": (2,)}}),
        ("a = dict({'.b.': dict(c=1)}, d=2)", {"a": {".b.": {"c": 1}, "d": 2}}),
        ("a = list((1, 2))\nb = dict()", {"a": [1, 2], "b": {}}),
    ],
)
def test_plain_values(text: str, values: dict) -> None:
    assert parse_assignments(text) == values


CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*/*tiny*.py"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_configs_of_the_project_survive(file: Path) -> None:
    cfg = Config.fromfile(file)
    assert Config(parse_assignments(cfg.pretty_text)).pretty_text == cfg.pretty_text
