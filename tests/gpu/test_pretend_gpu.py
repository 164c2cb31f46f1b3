"""The pretended GPU keeps the rules of a real one."""

from __future__ import annotations

import pytest
import torch

from tests.gpu.pretend_gpu import pretend_gpu


def test_tensors_of_two_devices_do_not_meet() -> None:
    with pretend_gpu():
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        assert there.is_cuda and there.device == torch.device("cuda:0")
        with pytest.raises(RuntimeError, match="on the same device"):
            there + here
        assert (there + torch.tensor(1.0)).is_cuda  # a number
        assert there[torch.tensor([0, 2])].is_cuda  # an index
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()


def test_gradients_and_changes_in_place_stay_there() -> None:
    with pretend_gpu():
        layer = torch.nn.Linear(3, 2).to("cuda")
        layer(torch.ones(4, 3, device="cuda")).sum().backward()
        assert layer.weight.grad.is_cuda
        assert torch.equal(layer.weight.grad.cpu(), torch.full((2, 3), 4.0))
        x = torch.zeros(4, device="cuda")
        x[1:].add_(2).clamp_(max=1)
        assert x.tolist() == [0, 1, 1, 1]


def test_lists_are_indices() -> None:
    with pretend_gpu():
        x = torch.arange(8.0, device="cuda").view(2, 4)
        assert x[:, [3, 1]].tolist() == [[3, 1], [7, 5]]
        x[1, [0, 2]] = -1.0
        x[0, 1:3] = 9
        assert x.tolist() == [[0, 9, 9, 3], [-1, 5, -1, 7]]
        x[[False, True]] *= 2
        assert x[1].tolist() == [-2, 10, -2, 14]


def test_what_waits_is_counted() -> None:
    with pretend_gpu() as gpu:
        x = torch.ones(3, device="cuda")
        (x * 2).sum().sqrt()
        x.to(torch.float64)
        torch.ones(3).to("cuda", non_blocking=True)
        assert not gpu.waits
        for call in (x.sum().item, x.nonzero, x.cpu, lambda: torch.ones(3).to("cuda")):
            before = gpu.waits.total()
            call()
            assert gpu.waits.total() == before + 1
        x[x > 0]
        torch.tensor([1, 2], device="cuda")
        assert gpu.waits.total() == 6
