"""Inputs from real complaints, held to the right values that stand beside them.

They lie outside the project: at ``MMBEIT3_CASES``, else ``../shared/cases``.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DefaultScope

from mmbeit3.apis.data_report import report_coco
from mmbeit3.apis.training import train
from mmbeit3.config import names_without_effect
from mmbeit3.config.loading import load_config
from mmbeit3.datasets.shapes import make_shapes
from mmbeit3.registry import TRANSFORMS
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import read_image

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(os.environ.get("MMBEIT3_CASES", ROOT.parent / "shared" / "cases"))


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the cases run in; they expect a checkout at ``../REPO``."""
    if not CASES.is_dir():
        pytest.skip(f"the complaint cases are not at {CASES} (set MMBEIT3_CASES)")
    (tmp_path / "REPO").symlink_to(ROOT)
    shutil.copytree(CASES, tmp_path / "cases")
    monkeypatch.chdir(tmp_path / "cases")
    return tmp_path / "cases"


def test_boxes_without_masks_are_told_how_to_train_before_the_first_step(cases: Path) -> None:
    with pytest.raises(InputError, match=r"model\.roi_head\.mask_head"):
        train(load_config(cases / "boxes_only" / "config.py"))


def test_crowd_regions_alone_leave_nothing_to_learn(cases: Path) -> None:
    with pytest.raises(InputError, match="crowd"):
        train(load_config(cases / "crowd_only" / "config.py"))


def test_variables_that_the_base_has_used_are_said_to_have_no_effect(cases: Path) -> None:
    path = cases / "child_variables" / "config.py"
    sentences = " ".join(names_without_effect(load_config(path), path))
    for name in ("data_root", "max_iters", "batch_size", "learning_rate"):
        assert re.search(rf"\b{name} has no effect", sentences), name
    assert "optim_wrapper.optimizer.lr=0.001" in sentences


def test_concatenated_sets_with_equal_ids_are_refused(cases: Path) -> None:
    with pytest.raises(InputError, match="image"):
        runpy.run_path(str(cases / "concat_val_same_ids" / "check.py"))


def test_training_by_epochs_in_an_endless_order_is_told_the_other_sampler(cases: Path) -> None:
    make_shapes(cases / "data" / "shapes", 4, 2)
    with pytest.raises(InputError, match=r'sampler\.type="DefaultSampler"'):
        train(load_config(cases / "epoch_loop" / "config.py"))


def test_a_16_bit_picture_is_the_same_in_training_and_inference(cases: Path) -> None:
    cfg = load_config(ROOT / "configs" / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py")
    path = cases / "grey16_train_vs_infer" / "grey12in16.png"
    with DefaultScope.overwrite_default_scope("mmdet"):
        images = [
            TRANSFORMS.build(loader.dataset.pipeline[0])({"img_path": str(path)})["img"]
            for loader in (cfg.train_dataloader, cfg.test_dataloader)
        ]
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], read_image(path))


def test_a_byte_order_mark_is_read(cases: Path) -> None:
    (report,) = report_coco(
        cases / "json_bom" / "annotations" / "train.json",
        cases / "json_bom" / "train",
        cases / "out",
        decode=True,
        num_samples=1,
    )
    assert report.num_errors == 0


def test_a_best_score_that_no_metric_gives_is_refused(cases: Path) -> None:
    make_shapes(cases / "data" / "shapes", 4, 2)
    with pytest.raises(InputError, match="coco/segm_mAP"):
        train(load_config(cases / "segm_only_save_best" / "config.py"))
