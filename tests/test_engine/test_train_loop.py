from __future__ import annotations

import re
import signal
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

from mmbeit3 import analysis
from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.engine import Terminated, build_runner
from mmbeit3.engine.data_order import InfiniteSampler
from mmbeit3.engine.health import explain
from mmbeit3.utils import InputError

from .toy import Accuracy, config


@OPTIM_WRAPPERS.register_module(force=True)
class ScalingOnCpu(AmpOptimWrapper):
    """mmengine's loss scaling, which asks for a GPU, on the CPU."""

    def __init__(self, optimizer: Any, **kwargs: Any) -> None:
        OptimWrapper.__init__(self, optimizer, **kwargs)
        self.loss_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=3)
        self._scale_update_param = None
        self.cast_dtype = torch.bfloat16


def train(work_dir: Path, **changes: Any) -> Any:
    changes.setdefault("randomness__seed", 0)
    runner = build_runner(config(work_dir, **changes))
    runner.train()
    return runner


def state(work_dir: Path, iters: int = 8) -> dict[str, Any]:
    """All that must be the same: flat names to tensors and numbers."""
    checkpoint = read_checkpoint(work_dir / f"iter_{iters}.pth")
    optimizer = checkpoint["optimizer"]
    flat = {name: value for name, value in checkpoint["state_dict"].items()}
    flat |= checkpoint["ema_state_dict"]
    flat |= {
        f"{number}.{name}": value
        for number, entry in optimizer["state"].items()
        for name, value in entry.items()
    }
    history = checkpoint["message_hub"]["log_scalars"]["train/loss"].data[0]
    flat["losses"] = torch.tensor(history)
    for name in ("loss_scaler", "param_schedulers"):
        flat[name] = optimizer.get(name) or checkpoint.get(name)
    return flat


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        same = torch.equal(found[name], value) if torch.is_tensor(value) else found[name] == value
        assert same, name


VARIANTS = {
    "plain": {},
    "workers": {"train_dataloader__num_workers": 2},
    "accumulating": {"optim_wrapper__accumulative_counts": 3},
    "reading ahead": {
        "optim_wrapper__accumulative_counts": 3,
        "train_dataloader__num_workers": 2,
    },
    "scaling": {"optim_wrapper__type": "ScalingOnCpu"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path, variant: str) -> None:
    changes = VARIANTS[variant]
    train(tmp_path / "unbroken", **changes)
    train(tmp_path / "broken", **changes, max_iters=2)
    train(tmp_path / "broken", **changes, max_iters=6, resume=True, randomness__seed=None)
    train(tmp_path / "broken", **changes, resume=True, randomness__seed=None)
    expected = state(tmp_path / "unbroken")
    assert_same(state(tmp_path / "broken"), expected)
    if variant == "scaling":
        assert expected["loss_scaler"]["scale"] == 2.0**18


def test_the_first_iterations_differ_between_seeds(tmp_path: Path) -> None:
    train(tmp_path / "0", max_iters=2)
    train(tmp_path / "1", max_iters=2, randomness__seed=1)
    losses = [state(tmp_path / name, 2)["losses"] for name in "01"]
    assert not torch.equal(*losses)


def test_resuming_a_long_training_replays_nothing(tmp_path: Path) -> None:
    train(tmp_path, max_iters=2)
    checkpoint = read_checkpoint(tmp_path / "iter_2.pth")
    checkpoint["meta"]["iter"] = 100_000
    torch.save(checkpoint, tmp_path / "iter_100000.pth")
    runner = build_runner(
        config(
            tmp_path,
            max_iters=100_001,
            resume=True,
            load_from=str(tmp_path / "iter_100000.pth"),
            train_cfg__val_interval=10**9,
        )
    )
    read: list[int] = []
    began = time.perf_counter()
    dataset_type = type(runner.build_dataloader(runner._train_dataloader, seed=0).dataset)
    original = dataset_type.__getitem__
    dataset_type.__getitem__ = lambda self, index: read.append(index) or original(self, index)
    try:
        runner.val_loop.run = lambda: {}  # the end is validated; not what is measured
        runner.train()
    finally:
        dataset_type.__getitem__ = original
    assert time.perf_counter() - began < 10
    assert runner.iter == 100_001 and len(read) == 4


def test_an_iteration_is_a_step_of_all_its_micro_batches(tmp_path: Path) -> None:
    runner = train(
        tmp_path, max_iters=3, optim_wrapper__accumulative_counts=5, train_dataloader__batch_size=2
    )
    history = runner.message_hub.log_scalars
    assert len(history["train/loss"].data[0]) == 3
    steps = runner.optim_wrapper.optimizer.state.values()
    assert {int(entry["step"]) for entry in steps} == {3}
    seen = history["train/images_per_s"].current() * history["train/time"].current()
    assert seen == pytest.approx(10)


def test_the_log_tells_norm_rates_and_memory(tmp_path: Path) -> None:
    runner = train(tmp_path, max_iters=2)
    history = {name: entry.current() for name, entry in runner.message_hub.log_scalars.items()}
    assert history["train/grad_norm"] > 0
    assert history["train/max_lr"] == history["train/lr"] > 0  # one group: its rate in that step
    assert history["train/memory"] > 100


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        train(tmp_path, model__nan_at=4)
    message = str(caught.value)
    assert "iteration 4, process 0: loss_size is nan (the other terms: loss_cls" in message
    assert "The images: unnamed" in message
    assert f"the last good checkpoint is {tmp_path / 'iter_2.pth'}; resume" in message
    saved = read_checkpoint(tmp_path / "iter_2.pth")["state_dict"]
    assert all(torch.isfinite(value).all() for value in saved.values())
    assert not (tmp_path / "iter_4.pth").exists()


def sample_of_iteration(iteration: int) -> int:
    """A sample that the seed 5 brings first in an iteration, counted from 0."""
    order = list(islice(InfiniteSampler(range(22), 4, seed=5), 4 * iteration + 1))
    return int(order[-1])


def test_a_sample_that_fails_stops_with_all_that_was_done(tmp_path: Path) -> None:
    train(tmp_path / "unbroken", randomness__seed=5)
    index = sample_of_iteration(3)
    with pytest.raises(InputError) as caught:
        train(
            tmp_path / "broken",
            randomness__seed=5,
            train_dataloader__dataset__fails=index,
            train_dataloader__num_workers=1,
        )
    message = str(caught.value)
    assert message.startswith(
        f"the training sample {index} (images/{index}.jpg) cannot be read: FileNotFoundError: "
        f"{index}.jpg is gone (toy.py, line "
    )
    assert "Traceback" not in message and "iter_3.pth; resume goes on from it" in message
    # The file is there again.
    train(tmp_path / "broken", resume=True, randomness__seed=None)
    assert_same(state(tmp_path / "broken"), state(tmp_path / "unbroken"))


def test_a_worker_that_dies_names_its_sample(tmp_path: Path) -> None:
    index = sample_of_iteration(3)
    with pytest.raises(InputError) as caught:
        train(
            tmp_path,
            randomness__seed=5,
            train_dataloader__dataset__dies=index,
            train_dataloader__num_workers=1,
        )
    message = str(caught.value)
    assert "a data worker of train_dataloader died (by SIGKILL); the last sample" in message
    assert f"is {index} (images/{index}.jpg)" in message
    assert "lower train_dataloader.num_workers" in message
    assert re.search(r"iter_\d.pth; resume goes on from it", message)


def test_a_device_without_memory_gets_advice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="out of memory in iteration 3, process 0: CUDA out of"):
        train(tmp_path, model__no_memory_at=3)


def test_ddp_that_waits_for_weights_without_a_gradient_is_explained() -> None:
    text = (
        "Expected to have finished reduction in the prior iteration before starting a new one. You "
        "can enable unused parameter detection by passing the keyword argument "
        "`find_unused_parameters=True` to `torch.nn.parallel.DistributedDataParallel`"
    )
    loop = SimpleNamespace(iter=1, world_size=2)
    message = explain(RuntimeError(text), loop)
    assert message.startswith("iteration 2: some weights got no gradient")
    assert message.endswith("set find_unused_parameters=True in the config")


def test_a_gpu_without_memory_gets_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []
    monkeypatch.setattr(analysis, "advise", lambda *given: asked.append(given) or "use less")
    device = SimpleNamespace(type="cuda")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=24 * 2**30)
    )
    model = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=device)]))
    loop = SimpleNamespace(runner=SimpleNamespace(model=model, cfg="the config"), iter=6)
    loop.world_size = 8
    message = explain(torch.OutOfMemoryError("CUDA out of memory.\nmore"), loop)
    assert message == "out of memory in iteration 7, process 0: CUDA out of memory.\nuse less"
    assert asked == [("the config", 24 * 2**30, 8)]


def test_a_mistake_in_the_code_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not a tensor or list"):
        runner = build_runner(config(tmp_path))
        runner.model.forward = lambda **_: {"loss": "none"}
        runner.train()


@pytest.mark.parametrize("in_validation", [False, True])
def test_a_termination_saves_and_the_end_is_the_same(tmp_path: Path, in_validation: bool) -> None:
    hook = {"type": "SignalHook", "at": 4, "number": signal.SIGTERM.value}
    ema = {"type": "mmbeit3.EMAHook", "momentum": 0.1}
    train(tmp_path / "unbroken")
    Accuracy.counts.clear()
    with pytest.raises(Terminated, match=r"iter_\d.pth; resume goes on from it"):
        train(tmp_path / "broken", custom_hooks=[ema, {**hook, "in_validation": in_validation}])
    assert Accuracy.counts == ([] if in_validation else [22])
    saved = read_checkpoint(tmp_path / "broken" / ("iter_4.pth" if in_validation else "iter_5.pth"))
    assert saved["meta"]["iter"] == (4 if in_validation else 5)
    train(tmp_path / "broken", resume=True)
    assert Accuracy.counts == [22, 22]  # the one that was left has been made up for
    assert_same(state(tmp_path / "broken"), state(tmp_path / "unbroken"))


def test_the_signal_is_as_before_after_training(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    train(tmp_path, max_iters=1)
    assert signal.getsignal(signal.SIGTERM) is before


def test_learning_rates_follow_the_images_of_a_step(tmp_path: Path) -> None:
    changes = {"auto_scale_lr": {"enable": True, "base_batch_size": 32}, "param_scheduler": None}
    runner = train(tmp_path, max_iters=1, optim_wrapper__accumulative_counts=2, **changes)
    assert runner.optim_wrapper.get_lr()["lr"] == [pytest.approx(0.05 * 8 / 32)]


def test_one_process_has_no_wrapper(tmp_path: Path) -> None:
    changes = {"model_wrapper_cfg": {"type": "mmbeit3.FullySharded"}}
    assert not isinstance(train(tmp_path, max_iters=1, **changes), MMDistributedDataParallel)


def test_gradients_that_are_no_number_stop_the_training(tmp_path: Path) -> None:
    runner = build_runner(config(tmp_path, randomness__seed=0))
    head = runner.model.head
    calls = []

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return gradient * (float("inf") if len(calls) == 4 else 1)

    head.weight.register_hook(spoil)
    with pytest.raises(InputError, match="iteration 4: the norm of the gradients is (inf|nan)"):
        runner.train()
    assert not (tmp_path / "iter_4.pth").exists()
