"""Tasks: which one a config has, and that a further one needs no other room."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS, MODELS
from mmseg.structures import SegDataSample
from PIL import Image
from torch import nn

from mmbeit3.apis.testing import test as run_test
from mmbeit3.inference.evaluation_outputs import EvaluationOutputs
from mmbeit3.inference.folder import infer_folder, print_summary
from mmbeit3.inference.inferencer import Inferencer, Loaded
from mmbeit3.inference.result import Predicted
from mmbeit3.inference.task import Task, find_task
from mmbeit3.inference.writer import ResultWriter, Written
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import write_whole
from mmbeit3.visualization.drawing_hook import DrawingHook


@pytest.mark.parametrize(
    ("kind", "scope", "expected"),
    [
        ("EncoderDecoder", "mmseg", "segmentation"),
        ("mmbeit3.EncoderDecoder", "mmseg", "segmentation"),
        ("mmseg.EncoderDecoder", None, "segmentation"),
        ("mmdet.MaskRCNN", "mmseg", "detection"),
        ("MaskRCNN", "mmdet", "detection"),
        ("MaskRCNN", None, "detection"),
        (SegDataSample, None, "segmentation"),  # a class in place of its name
    ],
)
def test_the_package_of_the_model_says_what_it_is_for(
    kind: object, scope: str | None, expected: str
) -> None:
    scope = {} if scope is None else {"default_scope": scope}
    assert find_task(Config({"model": {"type": kind}, **scope})).writer_type.task == expected


def test_an_unknown_task_is_refused() -> None:
    cfg = Config({"task": "brightnes", "model": {"type": "A"}})
    with pytest.raises(InputError, match="'brightnes'; expected .*detection, .*segmentation"):
        find_task(cfg)


# A third task: how bright an image is.


@MODELS.register_module(force=True)
class Brightness(nn.Module):
    """Gives the mean of an image's values."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def test_step(self, data: dict) -> list[Any]:
        means = [self.scale * image.float().mean() for image in data["inputs"]]
        for sample, mean in zip(data["data_samples"], means, strict=True):
            sample.set_metainfo({"brightness": float(mean)})
        return data["data_samples"]


@METRICS.register_module(force=True)
class MeanBrightness(BaseMetric):
    """The mean over all images, each written to a file if there is a name."""

    def __init__(self, out: str | None = None) -> None:
        super().__init__()
        self.out = out

    def process(self, data_batch: Any, data_samples: list[dict]) -> None:
        self.results += [sample["brightness"] for sample in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        if self.out:
            write_whole(Path(self.out), json.dumps(results))
        return {"brightness": float(np.mean(results))}


@dataclass
class Bright(Predicted):
    value: float


class BrightnessInferencer(Inferencer):
    scope = "mmdet"
    classes = ()

    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        pass

    def result(self, loaded: Loaded, sample: Any) -> Bright:
        return Bright(loaded.source, loaded.image, value=sample.brightness)


@dataclass
class WrittenValue(Written):
    value: float


class BrightnessWriter(ResultWriter):
    task = "brightness"
    library = "mmdet"
    files = "values"
    further = {"value": ("values", ".txt")}
    written = WrittenValue

    def __init__(self, out_dir: Path, digits: int) -> None:
        super().__init__(out_dir)
        self.digits, self.values = digits, []

    def write(self, found: Bright) -> WrittenValue:
        text = f"{found.value:.{self.digits}f}"
        write_whole(self.out_dir / found.source.further["value"], text)
        return WrittenValue(found.source, *found.image.shape[:2], found.value)

    def add(self, written: WrittenValue) -> dict[str, Any]:
        self.values.append(written.value)
        return {"value": written.source.further["value"]}

    def summary(self) -> dict[str, Any]:
        return {"brightness": float(np.mean(self.values))}

    @staticmethod
    def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
        return [("brightness", f"{summary['brightness']:.1f}")]


class BrightnessHook(DrawingHook):
    def draw(self, runner: Any, image: np.ndarray, sample: Any) -> np.ndarray:
        return np.full_like(image, sample.brightness)


class BrightnessTask(Task):
    writer_type = BrightnessWriter
    options = ("digits",)

    def load(self, *args: Any) -> BrightnessInferencer:
        return BrightnessInferencer(*args)

    def writer(self, model: Any, out_dir: Path, **options: Any) -> BrightnessWriter:
        return BrightnessWriter(out_dir, options.get("digits", 1))

    def keep_predictions(self, cfg: Config, out: Path, outputs: EvaluationOutputs) -> None:
        cfg.test_evaluator = ConfigDict(cfg.test_evaluator, out=outputs.file(out))

    def drawing_hook(self, cfg: Config, meta: Mapping[str, Any], options: dict) -> Hook:
        return BrightnessHook(**options)


@pytest.fixture
def task() -> Iterator[None]:
    TASKS.register_module(name="brightness", module=BrightnessTask)
    yield
    del TASKS.module_dict["brightness"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for value in (10, 50):
        Image.new("RGB", (8, 6), (value,) * 3).save(folder / f"{value}.png")
    return folder


@pytest.fixture
def cfg(images: Path, tmp_path: Path) -> Config:
    names = [{"id": 1, "file_name": "10.png"}, {"id": 2, "file_name": "50.png"}]
    content = {
        "images": [name | {"width": 8, "height": 6} for name in names],
        "annotations": [],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "images.json").write_text(json.dumps(content))
    pipeline = [
        {"type": "LoadImageFromFile", "_scope_": "mmbeit3"},
        {"type": "PackDetInputs", "meta_keys": ("img_path", "ori_shape")},
    ]
    dataset = {
        "type": "mmbeit3.CocoDataset",
        "ann_file": str(tmp_path / "images.json"),
        "data_prefix": {"img": f"{images}/"},
        "test_mode": True,
        "pipeline": pipeline,
    }
    loader = {"batch_size": 1, "sampler": {"type": "DefaultSampler", "shuffle": False}}
    return Config(
        {
            "task": "brightness",
            "default_scope": "mmdet",
            "work_dir": str(tmp_path / "work"),
            "model": {"type": "Brightness"},
            "test_dataloader": loader | {"dataset": dataset},
            "test_cfg": {},
            "test_evaluator": {"type": "MeanBrightness"},
        }
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save({"state_dict": {"scale": torch.tensor(2.0)}}, tmp_path / "model.pth")
    return tmp_path / "model.pth"


@pytest.mark.usefixtures("task")
def test_a_further_task_runs_over_a_folder(
    cfg: Config, checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    summary = infer_folder(cfg, checkpoint, images, out, device="cpu", overlays=False, digits=2)
    assert (out / "values" / "50.txt").read_text() == "100.00"
    assert json.loads((out / "summary.json").read_text()) == summary
    assert (summary["task"], summary["brightness"]) == ("brightness", 60)
    print_summary(summary, out)
    assert "brightness" in capsys.readouterr().out
    with pytest.raises(InputError, match="score_thr: it is not for .*, which takes digits"):
        infer_folder(cfg, checkpoint, images, out, score_thr=0.3)
    (out / "summary.json").unlink()
    with pytest.raises(InputError, match="values exists, and beside it no summary.json"):
        infer_folder(cfg, checkpoint, images, out)


@pytest.mark.usefixtures("task")
def test_a_further_task_is_tested(cfg: Config, checkpoint: Path, tmp_path: Path) -> None:
    kept, drawn = tmp_path / "kept.json", tmp_path / "drawn"
    assert run_test(cfg, checkpoint, out=kept, show_dir=drawn) == {"brightness": 60}
    assert json.loads(kept.read_text()) == [20, 100]
    assert np.asarray(Image.open(drawn / "50.jpg")).mean() == pytest.approx(100, abs=1)
