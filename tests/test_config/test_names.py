"""Configs by name, from any folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mmbeit3.config import load_config
from mmbeit3.utils import InputError
from mmbeit3.utils.packaged_configs import config_names, packaged_configs

NAME = "cascade-mask-rcnn_beit3-tiny_shapes"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [NAME, f"mmbeit3::beit3_vitdet/{NAME}.py"])
def test_a_name_is_the_config_of_the_package(name: str) -> None:
    expected = load_config(packaged_configs(f"beit3_vitdet/{NAME}.py")[0])
    cfg = load_config(name)
    assert cfg.to_dict() == expected.to_dict()
    assert cfg.work_dir == f"work_dirs/{NAME}"


@pytest.mark.parametrize("file", [NAME, f"{NAME}.py"])
def test_a_file_of_that_name_comes_first(file: str, empty_folder: Path) -> None:
    own = f'_base_ = "mmbeit3::beit3_vitdet/{NAME}.py"\ntrain_cfg = dict(max_iters=7)\n'
    (empty_folder / f"{NAME}.py").write_text(own)
    assert load_config(file).train_cfg.max_iters == 7


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cascade-mask-rcnn_beit3-tiny_shape", f"did you mean {NAME}"),
        ("upernet", "did you mean upernet_beit3-base_512_ade20k"),
        ("qqqq", "`mmbeit3 configs` lists all names"),
        ("mmbeit3::beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shape.py", "did you mean"),
    ],
)
def test_an_unknown_name_names_the_cure(name: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        load_config(name)
    assert said in str(error.value)


def test_names_are_those_of_whole_configs() -> None:
    assert NAME in config_names()
    assert not any(path.startswith("_base_") for path in config_names().values())


@pytest.mark.parametrize("first", ["mmbeit3", "mmengine.hub"])
def test_the_hub_of_mmengine_finds_them(first: str) -> None:
    if not (ROOT / "mmbeit3" / ".mim").is_dir():
        pytest.skip("the hub reads installed packages: needs `pip install -e .`")
    code = (
        f"import {first}, mmbeit3\nfrom mmengine.hub import get_config\n"
        f"print(get_config('mmbeit3::beit3_vitdet/{NAME}.py').model.backbone.arch)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "tiny"
