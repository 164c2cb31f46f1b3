"""Configs of pretraining: listed, and of the sizes that their results are for."""

from __future__ import annotations

from pathlib import Path

import yaml
from mmengine.config import Config

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDER = CONFIGS / "beit3_pretraining"


def test_metafile_and_table_list_every_config() -> None:
    models = yaml.safe_load((FOLDER / "metafile.yml").read_text(encoding="utf-8"))["Models"]
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert sorted(model["Name"] for model in models) == names
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in table for name in names)


def test_the_trials_tower_is_that_of_the_tiny_detector() -> None:
    encoder = Config.fromfile(FOLDER / "beit3-tiny-pretraining_128_shapes.py").model.encoder
    file = CONFIGS / "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
    backbone = Config.fromfile(file).model.backbone
    for key in ("arch", "img_size", "patch_size"):
        assert encoder[key] == backbone[key]


def test_the_trials_tokenizer_is_the_one_that_is_trained() -> None:
    own = Config.fromfile(FOLDER / "beit3-tiny-pretraining_128_shapes.py").model
    trained = Config.fromfile(FOLDER / "vqkd-tiny_128_shapes.py").model
    for key, value in own.image_tokenizer.items():
        if key not in ("init_cfg", "out_channels"):
            assert trained[key] == value
    assert own.image_tokenizer.out_channels == 3 * trained.teacher.patch_size**2
    assert own.num_codes == trained.num_codes
