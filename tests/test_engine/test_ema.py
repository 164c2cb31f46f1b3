from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.model import ExponentialMovingAverage

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.engine import EMAHook, build_runner
from mmbeit3.utils import InputError

from .toy import config


def test_the_average_is_that_of_mmengine(tmp_path: Path) -> None:
    """Both hooks in one training: mmengine's averaging as the judge of ours."""
    runner = build_runner(config(tmp_path, max_iters=5, randomness__seed=0))
    judges = []

    class Judge(EMAHook):
        def before_train(self, runner: object) -> None:
            judges.append(ExponentialMovingAverage(runner.model, momentum=0.1))
            # mmengine takes over the weights of the first update.
            judges[0].steps.fill_(1)

        def after_train_iter(self, runner: object, *args: object, **kwargs: object) -> None:
            judges[0].update_parameters(runner.model)

        def before_save_checkpoint(self, *args: object, **kwargs: object) -> None:
            pass

        after_load_checkpoint = before_val_epoch = after_val_epoch = before_save_checkpoint

    runner.register_hook(Judge())
    runner.train()
    expected = dict(judges[0].module.named_parameters())
    found = read_checkpoint(tmp_path / "iter_5.pth")
    for name, value in expected.items():
        assert torch.allclose(found["state_dict"][name], value, atol=1e-6), name
        trained = runner.model.get_parameter(name)
        assert torch.equal(found["ema_state_dict"][f"module.{name}"], trained), name
        assert not torch.equal(trained, value), name
    assert int(found["ema_state_dict"]["steps"]) == 5


def test_the_average_is_what_validation_sees(tmp_path: Path) -> None:
    seen = []
    runner = build_runner(config(tmp_path, max_iters=4, randomness__seed=0))
    step = type(runner.model).val_step

    def val_step(data: object) -> object:
        seen.append(runner.model.head.weight.detach().clone())
        return step(runner.model, data)

    runner.model.val_step = val_step
    runner.train()
    average = read_checkpoint(tmp_path / "iter_4.pth")["state_dict"]["head.weight"]
    assert all(torch.equal(weight, average) for weight in seen)
    assert not torch.equal(runner.model.head.weight, average)
    best = next(tmp_path.glob("best_*.pth"))
    assert torch.equal(read_checkpoint(best)["state_dict"]["head.weight"], average)


def test_a_checkpoint_without_average_begins_one(tmp_path: Path) -> None:
    build_runner(config(tmp_path, max_iters=2, custom_hooks=[])).train()
    build_runner(config(tmp_path, max_iters=4, resume=True)).train()
    found = read_checkpoint(tmp_path / "iter_4.pth")["ema_state_dict"]
    assert int(found["steps"]) == 2


@pytest.mark.parametrize("momentum", [0, 1, 0.9999 + 1])
def test_impossible_momentum_is_refused(momentum: float) -> None:
    with pytest.raises(InputError, match="0.0001 for 0.9999"):
        EMAHook(momentum)
