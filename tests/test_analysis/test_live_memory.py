from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmbeit3.analysis.live_memory import ACTIVATIONS, GRADIENTS, TEMPORARIES, Change, LiveMemory

KIB = 1024


def test_storages_come_and_go_and_views_count_once() -> None:
    with FakeTensorMode(), LiveMemory([]) as memory:
        with memory.belongs("a"):
            x = torch.empty(256)
            y = x.view(16, 16).t()
        with memory.belongs("b", TEMPORARIES):
            z = x + 1
        del x, y, z
    assert memory.changes == [
        Change("a", ACTIVATIONS, KIB),
        Change("b", TEMPORARIES, KIB),
        Change("a", ACTIVATIONS, -KIB),
        Change("b", TEMPORARIES, -KIB),
    ]


def test_what_is_known_does_not_count_and_moving_keeps_the_sum() -> None:
    with FakeTensorMode():
        weight = torch.empty(256, requires_grad=True)
        with LiveMemory([weight]) as memory, torch.no_grad():
            weight.mul_(2)
            assert memory.changes == []
            x = weight * 2
            memory.move(x, "w", GRADIENTS)
    assert sum(change.size for change in memory.changes) == KIB
    assert memory.changes[-1] == Change("w", GRADIENTS, KIB)


def test_questions_of_content_are_answered() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), LiveMemory([]) as memory:
        memory.matches[2, 5] = 3
        x = torch.empty(2, 5)
        assert x[x > 0].shape == (3,)
        assert (torch.empty(4) > 0).nonzero().shape == (4, 1)
        assert bool((x > 0).any())
        # Numbers of the program are computed.
        assert torch.tensor([3, 4]).prod().item() == 12
