from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from mmbeit3.analysis.memory_plan import Planner
from mmbeit3.apis.training import use_amp
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DETECTOR = CONFIGS / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py"


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, num_train=4, num_val=1, size=128, seed=0)
    return folder


@pytest.fixture(scope="session")
def planner() -> Planner:
    """Of the tiny detector in mixed precision on four devices."""
    cfg = load_config(DETECTOR)
    use_amp(cfg)
    return Planner(cfg, world_size=4)


@pytest.fixture
def detector(shapes: Path) -> Config:
    return load_config(DETECTOR, {"train_dataloader.dataset.data_root": str(shapes)})
