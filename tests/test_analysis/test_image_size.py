from __future__ import annotations

import pytest
from mmengine.config import Config

from mmbeit3.analysis.image_size import set_training_size, training_size
from mmbeit3.utils import InputError


def config(pipeline: list[dict], **preprocessor: object) -> Config:
    dataset = dict(type="wrapper", dataset=dict(pipeline=pipeline))
    return Config(
        dict(
            model=dict(data_preprocessor=preprocessor),
            train_dataloader=dict(dataset=dataset),
        )
    )


@pytest.mark.parametrize(
    ("pipeline", "preprocessor", "expected"),
    [
        ([dict(type="Resize", scale=(64, 32))], dict(size=(96, 128)), (96, 128)),
        (
            [dict(type="Resize", scale=(64, 32))],
            dict(batch_augments=[dict(type="pad", size=(96, 128))]),
            (96, 128),
        ),
        ([dict(type="RandomResize", scale=(100, 50), ratio_range=(0.5, 2.0))], {}, (100, 200)),
        (
            [dict(type="RandomResize", scale=(100, 50), ratio_range=(0.5, 2.0)),
             dict(type="RandomCrop", crop_size=(60, 70))],
            dict(pad_size_divisor=32),
            (64, 96),
        ),
        ([dict(type="RandomChoiceResize", scales=[32, 48, 40])], {}, (48, 48)),
    ],
)  # fmt: skip
def test_size_is_the_largest_that_training_sees(
    pipeline: list[dict], preprocessor: dict, expected: tuple[int, int]
) -> None:
    assert training_size(config(pipeline, **preprocessor)) == expected


def test_size_may_come_from_the_test_pipeline_or_from_nowhere() -> None:
    cfg = config([dict(type="RandomFlip")])
    with pytest.raises(InputError, match="--size"):
        training_size(cfg)
    cfg.val_dataloader = dict(dataset=dict(pipeline=[dict(type="Resize", scale=(64, 32))]))
    assert training_size(cfg) == (32, 64)


def test_size_is_set_wherever_it_stands() -> None:
    pipeline = [
        dict(type="RandomResize", scale=(100, 50)),
        dict(type="RandomCrop", crop_size=(60, 70)),
    ]
    cfg = config(pipeline, batch_augments=[dict(type="pad", size=(96, 128))], pad_size_divisor=32)
    set_training_size(cfg, (64, 32))
    steps = cfg.train_dataloader.dataset.dataset.pipeline
    assert steps[0].scale == (32, 64) and steps[1].crop_size == (64, 32)
    assert cfg.model.data_preprocessor.batch_augments[0].size == (64, 32)
    with pytest.raises(InputError, match="pad_size_divisor"):
        set_training_size(cfg, (60, 60))
