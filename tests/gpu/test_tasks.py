"""A training step and a test of every task's model give on a GPU what they give on the CPU."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmbeit3.models import BEiT3
from tests.gpu.pretend_gpu import pretend_gpu
from tests.gpu.tasks import TASKS, DrawnOnCpu, make_task, seed, train_step

#: Of a real GPU, by the type that it computes in: its sums have another order. The pretended one's
#: kernels are those of the CPU, but the places that choose by device have chosen otherwise.
LOSSES, GRADIENTS = 1e-3, 1e-2
BFLOAT16 = 0.1


@pytest.fixture
def double() -> Iterator[None]:
    """Computes in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def compare(found: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    """Each loss, and the distance of all gradients together."""
    assert found.keys() == want.keys()
    assert all(value.is_cuda for value in found.values())
    found = {name: value.cpu() for name, value in found.items()}
    total = distance = 0.0
    for name, value in want.items():
        if name.startswith("gradient"):
            distance += (found[name] - value).square().sum().item()
            total += value.square().sum().item()
        elif "loss" in name:
            assert found[name].item() == pytest.approx(value.item(), rel=LOSSES, abs=1e-6), name
    assert total > 0 and (distance / total) ** 0.5 < GRADIENTS


@pytest.fixture(params=TASKS)
def task(shapes: Path, request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any]]:
    """A model on the CPU and its batches, in float64 where float32 has ties."""
    if TASKS[request.param].precise:
        request.getfixturevalue("double")
    return make_task(request.param, shapes)


def test_losses_and_gradients_are_those_of_the_cpu(task: tuple, device: str) -> None:
    model, batches = task
    want = train_step(copy.deepcopy(model), copy.deepcopy(batches["train"]))
    compare(train_step(model.to(device), batches["train"]), want)


def test_what_is_found_is_that_of_the_cpu(task: tuple, device: str) -> None:
    model, batches = task
    want = run_test(copy.deepcopy(model), copy.deepcopy(batches["test"]))
    found = run_test(model.to(device), batches["test"])
    assert len(found) == len(want) > 0
    for ours, theirs in zip(found, want, strict=True):
        assert len(ours) == len(theirs)
        for one, two in zip(ours, theirs, strict=True):
            assert one.shape == two.shape
            if two.is_floating_point():
                torch.testing.assert_close(one, two, atol=1e-3, rtol=1e-3)
            elif two.numel():
                assert (one != two).float().mean() < 1e-2


@torch.no_grad()
def run_test(model: Any, batch: dict[str, Any]) -> list[list[Tensor]]:
    """All that is found of each image, as tensors in the order of their names."""
    seed()
    with DrawnOnCpu():
        return [sorted_tensors(sample) for sample in model.eval().test_step(batch)]


def sorted_tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value.cpu()]
    if isinstance(value, (int, float)):
        return [torch.tensor(value)]
    if isinstance(value, (list, tuple)):
        return [x for part in value for x in sorted_tensors(part)]
    if isinstance(value, dict):
        return [x for key in sorted(value, key=str) for x in sorted_tensors(value[key])]
    if hasattr(value, "items"):  # of mmengine, without what was known of the image before
        return sorted_tensors({k: x for k, x in value.items() if not k.startswith("gt_")})
    return []


@pytest.mark.gpu
@pytest.mark.parametrize("name", TASKS)
def test_bfloat16_has_nearly_the_losses_of_float32(name: str, shapes: Path, cuda: str) -> None:
    model, batches = make_task(name, shapes)
    model.to(cuda)
    want = train_step(model, copy.deepcopy(batches["train"]))
    with torch.autocast(cuda, torch.bfloat16):
        found = train_step(model, batches["train"])
    assert all(value.isfinite().all() for value in found.values())
    assert found["loss"].item() == pytest.approx(want["loss"].item(), rel=BFLOAT16)


@pytest.mark.parametrize("with_cp", [False, True])
def test_the_tower_never_waits_for_a_gpu(with_cp: bool) -> None:
    with pretend_gpu() as gpu:
        step = tower_step("cuda", with_cp)
        gpu.waits.clear()
        step()
        assert not gpu.waits


@pytest.mark.gpu
@pytest.mark.parametrize("with_cp", [False, True])
def test_the_tower_never_waits(with_cp: bool, cuda: str) -> None:
    step = tower_step(cuda, with_cp)
    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not [str(w.message) for w in told if "synchroniz" in str(w.message)]


def tower_step(device: str, with_cp: bool) -> Any:
    """A forward and backward pass of windows, rests of windows and global layers."""
    arch = dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64)
    model = BEiT3(arch, patch_size=8, window_size=4, with_cp=with_cp).to(device).train()
    images = torch.randn(2, 3, 72, 96).to(device)

    def step() -> None:
        model(images)[0].square().mean().backward()

    step()  # what is kept from call to call is made
    return step


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.waits is not None])
def test_a_training_step_waits_for_a_gpu_as_seldom_as_it_may(name: str, shapes: Path) -> None:
    """Beside the upload of the batch, before which the health check has waited anyway."""
    model, batches = make_task(name, shapes)
    with pretend_gpu() as gpu:
        model.to("cuda")
        train_step(model, copy.deepcopy(batches["train"]))
        gpu.waits.clear()
        train_step(model, batches["train"])
        waits = {place: n for place, n in gpu.waits.items() if "data_preprocessors" not in place}
    assert sum(waits.values()) <= TASKS[name].waits, waits
