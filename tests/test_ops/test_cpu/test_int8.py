"""The linear layer in bytes: how near it comes, and when it goes torch's way."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmbeit3.ops.cpu.int8 import Int8Linear
from mmbeit3.ops.cpu.processor import int8_obstacle

pytestmark = pytest.mark.skipif(int8_obstacle() is not None, reason="no instructions for int8")


def distance(found: torch.Tensor, want: torch.Tensor) -> float:
    return ((found.double() - want.double()).norm() / want.double().norm()).item()


@pytest.mark.parametrize("shape", [(1, 96), (7, 96), (2, 5, 96), (2, 3, 5, 96), (1, 300, 96)])
@torch.no_grad()
def test_bytes_come_near_and_sum_exactly(shape: tuple[int, ...]) -> None:
    layer, x = Int8Linear(96, 40).eval(), torch.randn(shape)
    want = F.linear(x, layer.weight, layer.bias)
    found = layer(x)
    assert found.shape == want.shape and found.dtype == torch.float32
    assert 1e-4 < distance(found, want) < 0.02
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    # Whole numbers up to 127 are bytes as they are: no rounding, and no sum overflows.
    nn.init.constant_(layer.weight, 127.0)
    nn.init.zeros_(layer.bias)
    x = torch.randint(-127, 128, shape).float()
    x[..., 0] = 127
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight), rtol=1e-6, atol=1e-2)


@torch.no_grad()
def test_an_image_does_not_depend_on_the_others_of_its_batch() -> None:
    layer, x = Int8Linear(64, 24).eval(), torch.randn(3, 10, 64)
    x[1] *= 1000
    alone = torch.cat([layer(image[None]) for image in x])
    assert torch.equal(layer(x), alone)


@torch.no_grad()
def test_nothing_is_hidden_of_what_is_no_number() -> None:
    layer = Int8Linear(32, 8).eval()
    for value in (float("nan"), float("inf"), float("-inf")):
        x = torch.randn(4, 32)
        x[2, 3] = value
        assert not layer(x).isfinite().all()
    assert torch.equal(layer(torch.zeros(4, 32)), layer.bias.expand(4, 8))


def test_weights_that_change_are_taken_anew_and_copies_are_of_their_own() -> None:
    layer, x = Int8Linear(32, 8).eval().requires_grad_(False), torch.randn(4, 32)
    want = layer(x)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), want)
        nn.init.zeros_(copied.weight)
        assert torch.equal(copied(x), layer.bias.expand(4, 8))
    assert torch.equal(layer(x), want)


def test_training_and_other_types_go_torchs_way() -> None:
    layer, x = Int8Linear(32, 8), torch.randn(4, 32)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))  # it trains
    layer.eval()
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))  # its gradient is asked for
    with torch.no_grad():
        assert not torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
        torch.testing.assert_close(layer(x[0]), F.linear(x[0], layer.weight, layer.bias))
        torch.testing.assert_close(
            layer.double()(x.double()), F.linear(x.double(), layer.weight, layer.bias)
        )
