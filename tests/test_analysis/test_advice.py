from __future__ import annotations

from itertools import islice

from mmbeit3.analysis import advise
from mmbeit3.analysis.advice import GIB, find_fitting, in_words
from mmbeit3.analysis.memory_plan import Planner


def test_smaller_batches_come_first_and_keep_the_whole_batch(planner: Planner) -> None:
    cfg = planner.cfg
    available = planner.plan(2).peak
    options = "train_dataloader.batch_size=2 optim_wrapper.accumulative_counts=2"
    tried = []
    for trial in find_fitting(planner, available):
        tried.append(trial)
        assert trial.fits == (trial.plan.peak <= available)
        if trial.fits:
            break
    assert options in in_words(tried, available)
    cfg.optim_wrapper.accumulative_counts = "auto"
    try:
        _, second = islice(find_fitting(planner, available), 2)
    finally:
        del cfg.optim_wrapper.accumulative_counts
    assert second.options == {"train_dataloader.batch_size": 2}


def test_every_combination_is_tried_where_nothing_fits(planner: Planner) -> None:
    tried = list(find_fitting(planner, GIB // 2))
    switches = [(t.plan.settings.with_cp, t.plan.settings.sharded) for t in tried[1:]]
    assert switches == [
        *((False, False), (True, False), (False, True), (True, True)),
        *(("offload", False), ("offload", True)),
    ]
    assert not any(trial.fits for trial in tried)
    assert {trial.plan.settings.batch_size for trial in tried[1:]} == {1}
    least = min(tried, key=lambda trial: trial.plan.peak).plan.peak
    assert f"no switch makes it fit; the least is {least / GIB:.1f} GiB" in in_words(
        tried, GIB // 2
    )


def test_advice_names_what_fits(planner: Planner) -> None:
    assert "no switch makes it fit" in advise(planner.cfg, GIB // 2)
