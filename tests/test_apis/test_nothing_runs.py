"""No entry of the package runs what a checkpoint or a config of data holds."""

from __future__ import annotations

import os
import pickle
import runpy
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from mmdet.datasets import BaseDetDataset
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel, BaseModule
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmbeit3.apis.converting import convert_checkpoint
from mmbeit3.apis.testing import test as run_test
from mmbeit3.checkpoint import load_safely, read_checkpoint
from mmbeit3.checkpoint.saving import publish_checkpoint
from mmbeit3.config.loading import load_config
from mmbeit3.engine import Runner, build_runner
from mmbeit3.inference.folder import infer_folder
from mmbeit3.utils import InputError
from tests.test_datasets.fuzzing import time_limit

TOOLS = Path(__file__).resolve().parents[2] / "tools"
ENTRIES: dict[str, Callable[..., object]] = {}


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
            "train_dataloader": {**loader, "sampler": {"type": "mmbeit3.InfiniteSampler"}},
            "train_cfg": {"type": "mmbeit3.TrainLoop", "max_iters": iters},
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}},
            "default_hooks": {"checkpoint": {"type": "mmbeit3.CheckpointHook", "by_epoch": False}},
            "experiment_name": f"{work_dir.name}_{iters}",
            "visualizer": None,
            "log_level": "ERROR",
        }
    )


def entry(function: Callable[..., object]) -> Callable[..., object]:
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
def evaluation(file: str, folder: Path, cfg: Config) -> None:
    cfg.test_evaluator, cfg.work_dir = {"type": "CocoMetric"}, str(folder)
    run_test(cfg, file)


@entry
def inference(file: str, folder: Path, cfg: Config) -> None:
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    infer_folder(cfg, file, folder, folder / "out")


@entry
def publish(file: str, folder: Path) -> None:
    publish_checkpoint(file, folder / "published.pth")


@entry
def convert(file: str, folder: Path) -> None:
    convert_checkpoint(file, folder / "converted.pth")


@entry
def converter_tool(file: str, folder: Path) -> None:
    run_tool("model_converters/beit3_to_mmbeit3.py", file, str(folder / "out.pth"))


@entry
def publishing_tool(file: str, folder: Path) -> None:
    run_tool("model_converters/publish_model.py", file, str(folder / "out.pth"))


@entry
def annotations_of_mmengine(file: str, folder: Path) -> None:
    train_on(BaseDataset, file, folder)


@entry
def annotations_of_mmdet(file: str, folder: Path) -> None:
    train_on(BaseDetDataset, file, folder)


@entry
def annotations_of_mmengine_with_its_runner(file: str, folder: Path) -> None:
    train_on(BaseDataset, file, folder, runner_type="Runner")


@entry
def proposals_of_mmdet(file: str, folder: Path) -> None:
    (folder / "ann.json").write_text('{"metainfo": {}, "data_list": []}')
    train_on(BaseDetDataset, file, folder, ann_file="ann.json", proposal_file=as_plain(file))


@entry
def loading_of_mmengine(file: str, folder: Path) -> None:
    load_safely()
    mmengine.load(as_plain(file))


@entry
def loading_of_mmengine_by_format(file: str, folder: Path) -> None:
    load_safely()
    with open(as_plain(file), "rb") as stream:
        mmengine.load(stream, file_format="pickle")


def as_plain(file: str) -> str:
    """The same object as a plain pickle beside the checkpoint."""
    plain = Path(file).with_name("evil.pkl")
    plain.write_bytes(pickle.dumps({"metainfo": Command(Path(file).with_name("ran"))}))
    return str(plain)


def train_on(kind: type, file: str, folder: Path, runner_type: str = "", **options: str) -> None:
    options = {"ann_file": as_plain(file)} | options
    cfg = training(folder / "run")
    cfg.train_dataloader.dataset = dict(type=kind, data_root=str(folder), **options)
    cfg.update({"runner_type": runner_type} if runner_type else {})
    build_runner(cfg).train()


def run_tool(name: str, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(TOOLS / name), run_name="__main__")
    if end.value.code == 2:
        raise InputError("refused")


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
def test_no_pickle_runs(name: str, evil: str, tmp_path: Path, color_cfg: Config) -> None:
    needs_config = "cfg" in signature(ENTRIES[name]).parameters
    with pytest.raises(InputError):
        ENTRIES[name](evil, tmp_path, *[color_cfg] * needs_config)
    assert not (tmp_path / "ran").exists()


def test_plain_pickles_are_read_as_before(tmp_path: Path) -> None:
    boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
    info = {"img_path": "a", "boxes": boxes, "columns": np.asfortranarray(boxes)}
    content = {"metainfo": {"classes": ("a", "b")}, "data_list": [info]}
    load_safely()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        file = tmp_path / f"{protocol}.pkl"
        mmengine.dump(content, file, protocol=protocol)
        found = mmengine.load(file)
        assert found["metainfo"] == content["metainfo"]
        for name in ("boxes", "columns"):
            assert np.array_equal(found["data_list"][0][name], boxes)
            assert found["data_list"][0][name].dtype == boxes.dtype


@pytest.mark.parametrize("suffix", ["pkl", "pickle"])
def test_a_refused_pickle_is_named(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"train.{suffix}"
    file.write_bytes(pickle.dumps(Command(tmp_path / "ran")))
    load_safely()
    with pytest.raises(InputError, match=rf"train\.{suffix} wants to build '(posix|nt).mkdir'"):
        mmengine.load(file)
    file.write_bytes(pickle.dumps({"metainfo": {}})[:-5])
    with pytest.raises(InputError, match=rf"train\.{suffix} is incomplete or damaged"):
        mmengine.load(file)
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


@pytest.mark.parametrize("kind", ["{{{}}}", "[{}]"])
def test_a_yaml_config_does_not_unfold_without_end(kind: str, tmp_path: Path) -> None:
    lines = ["model: {type: Toy}", "a0: &a0 x"]
    for number in range(1, 12):
        values = [f"*a{number - 1}"] * 9
        if "{{" in kind:
            values = [f"k{i}: {value}" for i, value in enumerate(values)]
        lines.append(f"a{number}: &a{number} {kind.format(', '.join(values))}")
    (tmp_path / "laughs.yaml").write_text("\n".join(lines))
    (tmp_path / "itself.yaml").write_text("model: &a {type: Toy, again: *a}")
    with time_limit(0):
        for name, text in (("laughs", "it nests .* entries"), ("itself", "dict inside itself")):
            with pytest.raises(InputError, match=rf"{name}.yaml is no config .*{text}"):
                load_config(tmp_path / f"{name}.yaml")
    (tmp_path / "few.yaml").write_text("\n".join(lines[:5]))
    assert len(load_config(tmp_path / "few.yaml").a3) == 9


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
