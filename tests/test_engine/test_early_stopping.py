from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.engine import EarlyStoppingHook, build_runner
from mmbeit3.utils import InputError

from .toy import Accuracy, config

HOOK = {"type": "mmbeit3.EarlyStoppingHook", "monitor": "accuracy", "patience": 2}


def scores(monkeypatch: pytest.MonkeyPatch, values: dict[int, float]) -> list[int]:
    """Have the validation after an iteration give a metric; returns those that were made."""
    made: list[int] = []
    from mmengine.logging import MessageHub

    def compute(self: Accuracy, results: list) -> dict[str, float]:
        done = MessageHub.get_current_instance().get_info("last_validation")
        made.append(done)
        return {"accuracy": values[done]}

    monkeypatch.setattr(Accuracy, "compute_metrics", compute)
    return made


VALUES = {1: 0.5, 2: 0.504, 3: 0.504, 4: 0.502, 5: 0.9, 6: 0.9, 7: 0.8}


@pytest.mark.parametrize(("patience", "end"), [(1, 3), (2, 4), (3, 8)])
def test_it_ends_after_validations_without_a_gain(
    patience: int, end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scores(monkeypatch, {**VALUES, 8: 0.9})
    cfg = config(
        tmp_path,
        train_cfg__val_interval=1,
        custom_hooks=[HOOK | {"patience": patience}],
        default_hooks__checkpoint__interval=100,
    )
    build_runner(cfg).train()
    assert made == list(range(1, end + 1))
    assert read_checkpoint(tmp_path / f"iter_{end}.pth")["meta"]["iter"] == end


@pytest.mark.parametrize("left", [1, 2, 3])
def test_a_resumed_training_ends_where_one_without_interruption_does(
    left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, VALUES)
    options = dict(train_cfg__val_interval=1, custom_hooks=[HOOK])
    options["default_hooks__checkpoint__interval"] = 1
    build_runner(config(tmp_path, max_iters=left, **options)).train()
    made = scores(monkeypatch, VALUES)
    build_runner(config(tmp_path, resume=True, **options)).train()
    assert made[-1] == 4
    assert not (tmp_path / "iter_5.pth").exists()
    # Once more: it stays where it is, unless there is more patience.
    made = scores(monkeypatch, VALUES)
    build_runner(config(tmp_path, resume=True, **options)).train()
    assert set(made) <= {4}
    options["custom_hooks"] = [HOOK | {"patience": 3}]
    build_runner(config(tmp_path, max_iters=7, resume=True, **options)).train()
    assert made[-1] == 7


@pytest.mark.parametrize(
    ("monitor", "values", "ends"),
    [
        ("val/loss", [3.0, 2.0, 2.5, 2.0], [False, False, False, True]),
        ("coco/bbox_mAP", [0.3, 0.304, 0.303, 0.305], [False, False, False, False]),
        ("mIoU", [1.0, float("nan")], [False, True]),
    ],
)
def test_rules(monitor: str, values: list[float], ends: list[bool]) -> None:
    hook = EarlyStoppingHook(monitor, patience=2)
    assert [hook._check_stop_condition(value)[0] for value in values] == ends


def test_impossible_options_and_an_absent_metric() -> None:
    for options in ({"patience": 0}, {"min_delta": -0.1}):
        with pytest.raises(InputError, match="patience of 1 or more"):
            EarlyStoppingHook("mIoU", **options)
    with pytest.raises(InputError, match="is 'mIoU', but the validation gives aAcc: set it"):
        EarlyStoppingHook("mIoU").after_val_epoch(SimpleNamespace(), {"aAcc": 1.0})
