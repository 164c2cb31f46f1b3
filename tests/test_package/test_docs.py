"""The code in the documentation runs as it stands."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmbeit3.config import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.inference import inputs
from tests.small_dual_encoder import write_dual_encoder
from tests.small_speakers import write_speaker

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs" / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py"
OPTIONAL = {"to_pandas": "pandas", "to_supervision": "supervision"}


def code_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.M | re.S)


@pytest.fixture
def folder(tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader has: configs, trained weights, photos, a video, and data to train on."""
    data = make_shapes(tmp_path / "data" / "shapes", 4, 2, 128, seed=0)
    torch.manual_seed(0)
    cfg = Config.fromfile(TINY)
    init_default_scope("mmdet")
    cfg.model.test_cfg.rcnn.max_per_img = 20
    model = MODELS.build(cfg.model)
    meta = {"cfg": cfg.pretty_text, "dataset_meta": {"classes": tuple("abcde")}}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, tmp_path / "weights.pth")
    cfg.dump(tmp_path / "config.py")
    write_dual_encoder(tmp_path, tokenizer_file)
    for task in ("captioning", "vqa", "nlvr2"):
        write_speaker(tmp_path, tokenizer_file, task)
    (tmp_path / "photos").mkdir()
    photos = sorted((data / "val").iterdir())
    image = cv2.imread(str(photos[0]))
    for name in ("street.jpg", "photos/a.jpg", "photos/b.jpg"):
        cv2.imwrite(str(tmp_path / name), image)
    video = cv2.VideoWriter(
        str(tmp_path / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, image.shape[1::-1]
    )
    for _ in range(7):
        video.write(image)
    video.release()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    content = (tmp_path / "street.jpg").read_bytes()
    monkeypatch.setattr(inputs, "download", lambda *args: content)  # there may be no network
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_project"]:
        del sys.modules[name]


@pytest.mark.parametrize("page", ["classification.md"])
def test_configs_for_own_data_are_read(page: str, tmp_path: Path) -> None:
    codes = [code for code in code_blocks(page) if code.startswith("_base_ = ")]
    assert codes
    for code in codes:
        (tmp_path / "my_config.py").write_text(code)
        cfg = load_config(tmp_path / "my_config.py")
        assert cfg.train_dataloader.dataset.data_root.startswith("data/")
        assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters == 2000


@pytest.mark.parametrize("page", ["captioning.md", "vqa.md", "nlvr2.md"])
def test_models_are_used_as_the_page_of_their_task_says(page: str, folder: Path) -> None:
    codes = [code for code in code_blocks(page) if code.startswith("from mmbeit3 import load")]
    assert codes
    for code in codes:
        exec(compile(code, page, "exec"), {})


@pytest.mark.slow
def test_python_page(folder: Path, capsys: pytest.CaptureFixture) -> None:
    namespace: dict = {}
    for code in code_blocks("python.md"):
        if file := re.match(r"# (\w[\w/]*\.py)\n", code):
            (folder / file[1]).parent.mkdir(exist_ok=True)
            (folder / file[1]).write_text(code)
            continue
        packages = [package for method, package in OPTIONAL.items() if method in code]
        if all(find_spec(package) for package in packages):
            exec(compile(code, "docs/python.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "('a', 'b', 'c', 'd', 'e')" in printed
    assert "no result: absent.jpg: No such file" in printed
    assert (folder / "street_result.jpg").is_file() and (folder / "results.json").is_file()
    assert list((folder / "work_dirs" / "mine").glob("*.pth"))
    assert isinstance(namespace["picture"], np.ndarray)
    saved = torch.load(next((folder / "work_dirs" / "mine").glob("iter*.pth")), weights_only=False)
    assert "my_project.heads" in saved["meta"]["cfg"]
