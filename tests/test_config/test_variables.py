from __future__ import annotations

import logging
import re
from pathlib import Path

import mmdet
import mmseg
import pytest
from mmengine.config import Config

from mmbeit3.config import names_without_effect
from mmbeit3.config.dump import dump_text
from mmbeit3.config.loading import load_config
from mmbeit3.utils import InputError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
DETECTOR = CONFIGS / "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
CUSTOM = CONFIGS / "beit3_vitdet/cascade-mask-rcnn_beit3-base_custom.py"

BASE = """
max_iters, lr = 100, 0.1
crop = (64, 64)
sizes = [crop[0] * n for n in (1, 2)]
train_pipeline = [dict(type="Load"), dict(type="Crop", size=crop)]
model = dict(type="Toy", heads=[dict(num_classes=n) for n in (3, 4)])
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline, sizes=sizes))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
optim_wrapper = dict(optimizer=dict(lr=lr))
"""


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []

    def keep(text: str, logger: str | None = None, level: int = logging.INFO) -> None:
        if level == logging.WARNING:
            lines.append(text)

    monkeypatch.setattr("mmengine.logging.print_log", keep)
    return lines


def write(folder: Path, **files: str) -> Path:
    """Write config files; the last one is the config."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder / f"{name}.py"


def found(path: Path) -> list[str]:
    return list(names_without_effect(Config.fromfile(path, import_custom_modules=False), path))


def test_a_variable_that_the_base_has_used_names_the_keys_to_set(tmp_path: Path) -> None:
    path = write(tmp_path, base=BASE, child="_base_ = 'base.py'\nmax_iters = 50\ncrop = (32, 32)\n")
    crop, max_iters = found(path)
    assert max_iters == (
        f"config {path}: max_iters has no effect here, a base has used it already; set instead "
        "train_cfg.max_iters=50, train_cfg.val_interval=5"
    )
    assert crop.endswith(
        "train_dataloader.dataset.pipeline.1.size=(32, 32), train_dataloader.dataset.sizes=[32, 64]"
    )


@pytest.mark.parametrize(
    "child",
    [
        "max_iters = 50\ntrain_cfg = dict(max_iters=max_iters)",
        "max_iters = 50\nn = _base_.max_iters",
        "max_iters = 50\nn = {{_base_.max_iters}}",
        "max_iters = 50\nn = '{{_base_.max_iters}}'",
        "lr = 0.1",  # the base's own value
        "max_iters = 50\ntrain_cfg = dict(max_iters=50, val_interval=5)",  # said in full
        "sizes = [64, 128]",
        "_private = 3\nhelper = 4",
        "def function(lr):\n    return lr",
        "tta_model = dict(type='A')\nwork_dir = 'x'\ntest_cfg = dict()",
    ],
)
def test_a_variable_that_is_used_or_changes_nothing_is_no_complaint(
    tmp_path: Path, child: str
) -> None:
    assert found(write(tmp_path, base=BASE, child=f"_base_ = 'base.py'\n{child}\n")) == []


def test_several_levels_and_lists_of_bases(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        data="size = 8\ntrain_dataloader = dict(batch_size=size)\n",
        model="model = dict(type='Toy')\nchannels = 3\n",
        middle="_base_ = ['data.py', 'model.py']\nsize = 16\nepochs = 2\n"
        "train_cfg = dict(max_epochs=epochs)\n",
        child="_base_ = './middle.py'\nepochs = 9\nchannels = 4\n",
    )
    epochs, size = found(path)
    assert "child.py: epochs has no effect here" in epochs and epochs.endswith("max_epochs=9")
    assert "middle.py: size has no effect here" in size
    assert size.endswith("set instead train_dataloader.batch_size=16")


def test_a_variable_of_the_middle_may_be_read_by_the_child(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        base=BASE,
        middle="_base_ = 'base.py'\nlr = 0.2\n",
        child="_base_ = 'middle.py'\noptim_wrapper = dict(optimizer=dict(lr=_base_.lr))\n",
    )
    assert found(path) == []


def test_bases_in_json_have_no_variables(tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text('{"model": {"type": "Toy"}, "lr": 3}')
    assert found(write(tmp_path, child="_base_ = 'base.json'\nlr = 4\n")) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learnig_rate", "optim_wrapper.optimizer.lr"),
        ("max_iter", "train_cfg.max_iters, param_scheduler"),
        ("max_epochs", "train_cfg.max_iters, param_scheduler"),
        ("samples_per_gpu", "train_dataloader.batch_size"),
        ("drop_path", "model.backbone.drop_path_rate"),
        ("window_size", "log_processor.window_size, model.backbone.window_size"),
        ("seed", "randomness.seed"),
    ],
)
def test_a_name_that_nothing_reads(tmp_path: Path, warned: list[str], name: str, hint: str) -> None:
    path = write(tmp_path, child=f"_base_ = {str(DETECTOR)!r}\n{name} = 3\n")
    load_config(path)
    (line,) = warned
    assert line.startswith(f"config {path}: nothing reads {name!r}; set instead {hint}")
    with pytest.raises(InputError) as caught:
        load_config(DETECTOR, {name: 3})
    assert str(caught.value).startswith(
        f"cfg_options: {name}: nothing reads {name!r}; set instead {hint}"
    )


def test_a_misspelled_variable_of_the_same_file(tmp_path: Path) -> None:
    path = write(tmp_path, config=f"{BASE}\nmax_itters = 9\n")
    assert found(path) == [f"config {path}: nothing reads 'max_itters'; did you mean 'max_iters'?"]


def test_an_option_for_a_variable_names_the_keys_to_set() -> None:
    said = []
    for option in ({"image_size": 512}, {"max_iters": 100}):
        with pytest.raises(InputError) as caught:
            load_config(CUSTOM, option)
        said.append(str(caught.value))
    size, iters = said
    assert "image_size is a variable of the config file, which has used it already; set" in size
    assert "train_dataloader.dataset.pipeline.4.scale=(512, 512)" in size
    assert "train_cfg.max_iters=100, train_cfg.val_interval=10, param_scheduler.1.end=100" in iters
    assert "default_hooks.checkpoint.interval=10" in iters


def test_an_option_inside_of_a_variable(tmp_path: Path) -> None:
    key = r"train_dataloader.dataset.pipeline.1.size=\(8, 8\)"
    with pytest.raises(InputError, match=f"set instead {key}$"):
        load_config(write(tmp_path, config=BASE), {"train_pipeline.1.size": (8, 8)})


@pytest.mark.parametrize("option", ["nonsense", "nonsense.deeper"])
def test_an_option_that_nothing_reads_is_an_error(option: str) -> None:
    with pytest.raises(InputError, match="the config has no 'nonsense'; it has "):
        load_config(DETECTOR, {option: 3})


def test_the_case_of_a_child_with_used_variables(tmp_path: Path, warned: list[str]) -> None:
    case = ROOT.parent / "shared/cases/child_variables/config.py"
    if not case.is_file():
        pytest.skip(f"the case is not at {case}")
    text = case.read_text().replace("../../REPO", str(ROOT))
    load_config(write(tmp_path, config=text))
    hints = {
        "batch_size": "train_dataloader.batch_size=1",
        "data_root": "train_dataloader.dataset.data_root='no/such/folder/'",
        "learning_rate": "optim_wrapper.optimizer.lr=0.001",
        "max_iters": "train_cfg.max_iters=2",
    }
    assert len(warned) == len(hints)
    for line, (name, hint) in zip(warned, hints.items(), strict=True):
        assert f"{name} has no effect here" in line and hint in line


def packaged() -> list[Path]:
    """Every fortieth config of mmdet and mmseg."""
    folders = [Path(package.__file__).parent / ".mim/configs" for package in (mmdet, mmseg)]
    paths = sorted(path for folder in folders for path in folder.glob("[!_]*/*.py"))
    return [*sorted(CONFIGS.glob("beit3_*/*.py")), *paths[::40]]


@pytest.mark.parametrize("path", packaged(), ids=lambda path: path.stem)
def test_packaged_configs_are_no_complaint(path: Path) -> None:
    assert found(path) == []


def test_the_config_of_a_work_dir_raises_no_doubt_unless_it_is_edited(tmp_path: Path) -> None:
    cfg = Config.fromfile(DETECTOR)
    path = tmp_path / "as_trained.py"
    path.write_text(dump_text(cfg))
    assert Config.fromfile(path).to_dict() == cfg.to_dict()
    assert found(path) == []
    text, number = re.subn(r"(?m)^max_iters *= *", r"\g<0>1", path.read_text())
    assert number == 1
    path.write_text(text)
    (line,) = found(path)  # not one for each variable
    assert "edited since a training wrote it" in line and "'max_iters'" in line
