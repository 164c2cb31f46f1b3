from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

import mmbeit3
from mmbeit3.config import check_arguments
from mmbeit3.config.loading import load_config
from mmbeit3.utils import InputError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
CUSTOM = sorted(CONFIGS.glob("*/*_custom.py"))
TINY = "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"


def test_there_are_two_custom_configs() -> None:
    assert len(CUSTOM) == 2


@pytest.mark.parametrize("path", CUSTOM, ids=lambda path: path.stem)
def test_a_copy_of_a_custom_config_loads_in_any_folder(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "my_config.py"
    shutil.copy(path, copy)
    cfg = load_config(copy)
    assert cfg.to_dict() | {"work_dir": None} == load_config(path).to_dict() | {"work_dir": None}
    check_arguments(cfg, "train")


def test_mmengine_alone_reads_a_copy(tmp_path: Path) -> None:
    """As mmdet's and mmseg's own tools do, which import nothing of this project."""
    for path in CUSTOM:
        shutil.copy(path, tmp_path)
    names = [path.name for path in CUSTOM]
    script = (
        "from mmengine.config import Config\n"
        f"for name in {names!r}: print(Config.fromfile(name).model.backbone.type)"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-2:] == ["mmbeit3.BEiT3"] * 2


@pytest.mark.parametrize("base", [f"mmbeit3::{TINY}", [f"mmbeit3::{TINY}"]])
def test_a_base_of_the_package_by_name(tmp_path: Path, base: str | list[str]) -> None:
    (tmp_path / "child.py").write_text(f"_base_ = {base!r}\nmax_iters = 5\n")
    cfg = load_config(tmp_path / "child.py")
    expected = Config.fromfile(CONFIGS / TINY).to_dict() | {"max_iters": 5}
    assert cfg.to_dict() == expected | {"work_dir": "work_dirs/child"}
    assert "_scope_" not in cfg.model  # types are looked up as in the package's own config
    check_arguments(cfg, "train")


def test_configs_of_an_installed_package_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmbeit3.utils.packaged_configs.PACKAGE", tmp_path / "mmbeit3")
    with pytest.raises(FileNotFoundError, match="mmbeit3 has no config 'a/b.py'"):
        mmbeit3.packaged_configs("a/b.py")
    for folder in ("configs/a", "mmbeit3/.mim/configs/a"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "b.py").touch()
        assert mmbeit3.packaged_configs("a/b.py") == [str(tmp_path / folder / "b.py")]


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            "../_base_/models/cascade-mask-rcnn_beit3_sfp.py",
            'of this package are _base_ = "mmbeit3::_base_/models/cascade-mask-rcnn_beit3_sfp.py"',
        ),
        (
            "cascade-mask-rcnn_beit3-base_custom.py",
            '_base_ = "mmbeit3::beit3_vitdet/cascade-mask-rcnn_beit3-base_custom.py"',
        ),
        ("mine.py", "a relative path starts at the folder of the config. From any folder"),
        ("mmbeit3::beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shape.py", f"did you mean {TINY!r}?"),
    ],
)
def test_a_base_that_is_not_there_names_the_cure(tmp_path: Path, base: str, message: str) -> None:
    (tmp_path / "my_config.py").write_text(f"_base_ = {base!r}\n")
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "my_config.py")
    assert message in str(caught.value) and f"config {tmp_path}/my_config.py" in str(caught.value)


def test_the_config_that_names_a_missing_base_is_named(tmp_path: Path) -> None:
    (tmp_path / "middle.py").write_text("_base_ = 'absent.py'\n")
    (tmp_path / "child.py").write_text("_base_ = 'middle.py'\n")
    with pytest.raises(InputError, match=r"config .*middle.py: its _base_ .*absent.py does not ex"):
        load_config(tmp_path / "child.py")
