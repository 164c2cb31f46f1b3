"""No entry of the package runs what a checkpoint or a config of data holds."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel, BaseModule
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmbeit3.apis.config import load_config
from mmbeit3.apis.converting import convert_checkpoint
from mmbeit3.apis.inference import infer_folder
from mmbeit3.apis.testing import test as run_test
from mmbeit3.checkpoint import load_safely, read_checkpoint
from mmbeit3.checkpoint.saving import publish_checkpoint
from mmbeit3.engine import Runner, build_runner
from mmbeit3.utils import InputError

ENTRIES: dict[str, Callable[[str, Path], object]] = {}


class Command:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


@DATASETS.register_module(force=True)
class Numbers(Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": torch.full((4,), float(index))}


class Part(BaseModule):
    def __init__(self, init_cfg: dict | None) -> None:
        super().__init__(init_cfg)
        self.layer = nn.Linear(4, 4)


@MODELS.register_module(force=True)
class Assembled(BaseModel):
    """A model whose parts have an ``init_cfg`` each."""

    def __init__(self, init_cfg: dict | None = None, **parts: dict) -> None:
        super().__init__(init_cfg=init_cfg)
        for name in ("backbone", "neck", "head"):
            self.add_module(name, Part(parts.get(name)))

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        return {"loss": self.head.layer(self.neck.layer(self.backbone.layer(inputs))).mean()}


def training(work_dir: Path, iters: int = 2, **model: object) -> Config:
    loader = {"dataset": {"type": "Numbers"}, "batch_size": 2, "num_workers": 0}
    loader["collate_fn"] = {"type": "default_collate"}
    return Config(
        {
            "model": {"type": "Assembled", **model},
            "work_dir": str(work_dir),
            "train_dataloader": {**loader, "sampler": {"type": "InfiniteSampler"}},
            "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": iters},
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}},
            "default_hooks": {"checkpoint": {"type": "CheckpointHook", "by_epoch": False}},
            "experiment_name": f"{work_dir.name}_{iters}",
            "visualizer": None,
            "log_level": "ERROR",
        }
    )


def entry(function: Callable[[str, Path], object]) -> Callable[[str, Path], object]:
    ENTRIES[function.__name__] = function
    return function


@entry
def load_from(file: str, folder: Path) -> None:
    cfg = training(folder / "run")
    cfg.load_from = file
    build_runner(cfg).train()


@entry
def resume(file: str, folder: Path) -> None:
    cfg = training(folder / "run")
    cfg.load_from, cfg.resume = file, True
    build_runner(cfg).train()


@entry
def resume_by_pointer(file: str, folder: Path) -> None:
    (folder / "run").mkdir()
    os.link(file, folder / "run" / "iter_1.pth")
    (folder / "run" / "last_checkpoint").write_text("iter_1.pth")
    cfg = training(folder / "run")
    cfg.resume = True
    Runner.from_cfg(cfg).train()
    raise InputError("nothing to resume")  # the training began anew


@entry
def resume_with_another_runner(file: str, folder: Path) -> None:
    cfg = training(folder / "run")
    cfg.load_from, cfg.resume, cfg.runner_type = file, True, "Runner"
    build_runner(cfg).train()


@entry
def init_of_the_model(file: str, folder: Path) -> None:
    Runner.from_cfg(training(folder / "run", init_cfg=pretrained(file))).train()


@entry
def init_of_the_neck(file: str, folder: Path) -> None:
    Runner.from_cfg(training(folder / "run", neck=pretrained(file))).train()


@entry
def init_of_the_head_by_prefix(file: str, folder: Path) -> None:
    Runner.from_cfg(training(folder / "run", head=pretrained(file, prefix="head."))).train()


@entry
def init_of_the_backbone_by_class(file: str, folder: Path) -> None:
    init_cfg = {"type": "mmengine.Pretrained", "checkpoint": file}
    Runner.from_cfg(training(folder / "run", backbone=[init_cfg])).train()


@entry
def init_of_our_backbone(file: str, folder: Path) -> None:
    load_safely()
    cfg = {"type": "mmbeit3.BEiT3", "arch": "tiny", "img_size": 32, "init_cfg": pretrained(file)}
    MMDET_MODELS.build(cfg).init_weights()


@entry
def init_of_a_resnet(file: str, folder: Path) -> None:
    load_safely()
    cfg = {"type": "mmdet.ResNet", "depth": 18, "init_cfg": pretrained(file)}
    MMDET_MODELS.build(cfg).init_weights()


@entry
def init_of_a_swin(file: str, folder: Path) -> None:
    load_safely()
    init_cfg = ConfigDict(pretrained(file))
    cfg = {"type": "mmdet.SwinTransformer", "embed_dims": 24, "depths": (2, 2, 2, 2)}
    MMDET_MODELS.build(cfg | {"init_cfg": init_cfg}).init_weights()


@entry
def load_checkpoint_of_mmengine(file: str, folder: Path) -> None:
    load_safely()
    load_checkpoint(nn.Linear(2, 2), file)


@entry
def torch_load_itself(file: str, folder: Path) -> None:
    load_safely()
    try:
        torch.load(file, weights_only=False)
    except pickle.UnpicklingError as error:
        raise InputError(str(error)) from error


@entry
def publish(file: str, folder: Path) -> None:
    publish_checkpoint(file, folder / "published.pth")


@entry
def convert(file: str, folder: Path) -> None:
    convert_checkpoint(file, folder / "converted.pth")


def pretrained(file: str, **options: str) -> dict:
    return {"type": "Pretrained", "checkpoint": file, **options}


@pytest.fixture(autouse=True)
def unsafe_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which mmengine runs code, as it does by itself: each entry must end that."""

    def load(_: type, filename: str, *args: object, **kwargs: object) -> object:
        return torch.load(filename, weights_only=False)

    monkeypatch.setattr(CheckpointLoader, "load_checkpoint", classmethod(load))
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)


@pytest.fixture(params=["zip", "legacy"])
def evil(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    content = {"state_dict": {"weight": torch.ones(1)}, "meta": Command(tmp_path / "ran")}
    file = tmp_path / "evil.pth"
    torch.save(content, file, _use_new_zipfile_serialization=request.param == "zip")
    return str(file)


@pytest.mark.parametrize("name", ENTRIES)
def test_no_pickle_runs(name: str, evil: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        ENTRIES[name](evil, tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("scheme", ["torchvision", "modelzoo", "open-mmlab", "openmmlab", "mmcls"])
def test_no_pickle_of_a_named_model_runs(
    scheme: str, evil: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table in ("get_torchvision_models", "get_external_models", "get_mmcls_models"):
        monkeypatch.setattr(mmengine_checkpoint, table, lambda: {"evil": evil})
    load_safely()
    with pytest.raises(InputError, match="wants to build '(posix|nt).mkdir'"):
        load_checkpoint(nn.Linear(2, 2), f"{scheme}://evil")
    assert not (tmp_path / "ran").exists()


def test_testing_and_inference_run_no_pickle(colour_cfg: Config, evil: str, tmp_path: Path) -> None:
    colour_cfg.test_evaluator, colour_cfg.work_dir = {"type": "CocoMetric"}, str(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for task in (
        lambda: run_test(colour_cfg, evil),
        lambda: infer_folder(colour_cfg, evil, tmp_path, tmp_path / "out"),
    ):
        with pytest.raises(InputError, match="wants to build '(posix|nt).mkdir'"):
            task()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("runner_type", [None, "Runner"])
@pytest.mark.parametrize("key", ["config", "cfg"])
def test_resuming_runs_no_text_of_the_checkpoint(
    key: str, runner_type: str | None, tmp_path: Path
) -> None:
    build_runner(training(tmp_path / "run", 1)).train()
    content = read_checkpoint(tmp_path / "run" / "iter_1.pth")
    text = f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\ngpu_ids = [0]"
    content["meta"][key] = content["message_hub"]["runtime_info"]["cfg"] = text
    torch.save(content, tmp_path / "evil.pth")
    cfg = training(tmp_path / "run", 2)
    cfg.load_from, cfg.resume = str(tmp_path / "evil.pth"), True
    if runner_type:
        cfg.runner_type = runner_type
    build_runner(cfg).train()
    assert read_checkpoint(tmp_path / "run" / "iter_2.pth")["meta"]["iter"] == 2
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_a_yaml_config_builds_no_objects(suffix: str, tmp_path: Path) -> None:
    config = tmp_path / f"config{suffix}"
    config.write_text(f"model: !!python/object/apply:os.mkdir ['{tmp_path}/ran']\n")
    with pytest.raises(InputError, match="could not determine a constructor for the tag"):
        load_config(config)
    assert not (tmp_path / "ran").exists()
    config.write_text("model: {type: Toy}\nvalues: [1, 2.5, yes]\n")
    assert load_config(config)["values"] == [1, 2.5, True]


@pytest.mark.parametrize("base", ["evil.py", "data.json", "mmbeit3::../../evil.py"])
def test_a_json_config_runs_no_base(base: str, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    (tmp_path / "data.json").write_text('{"_base_": ["evil.py"]}')
    (tmp_path / "config.json").write_text(f'{{"_base_": "{base}", "model": {{}}}}')
    with pytest.raises(InputError, match="is code, which a .json file does not run"):
        load_config(tmp_path / "config.json")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "data.json").write_text('{"model": {"type": "Toy"}}')
    (tmp_path / "config.json").write_text('{"_base_": "data.json"}')
    assert load_config(tmp_path / "config.json").model.type == "Toy"
