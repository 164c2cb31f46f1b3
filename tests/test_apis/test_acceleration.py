"""bfloat16 and compilation: what they change, and what they must not."""

from __future__ import annotations

import shutil
from functools import partial, partialmethod

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from mmbeit3.apis import acceleration
from mmbeit3.apis.acceleration import accelerate
from mmbeit3.models import BEiT3
from mmbeit3.utils import InputError

CPU = torch.device("cpu")
ARCH = dict(embed_dims=48, num_layers=4, num_heads=4, feedforward_channels=96)


class Model(nn.Module):
    """As much of a detector as the options touch."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = BEiT3(ARCH, patch_size=8, window_size=4, global_attn_indexes=[1, 3])
        nn.init.normal_(self.backbone.pos_embed)
        self.eval()

    @torch.no_grad()
    def test_step(self, images: Tensor) -> Tensor:
        return self.backbone(images)[0]


def images(height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height))


def test_bfloat16_computes_in_bfloat16_and_keeps_the_stream_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceleration, "bfloat16_obstacle", lambda: None)
    model, x = Model(), images(64, 96)
    expected = model.test_step(x)
    types = []
    model.backbone.layers[0].ffn.fc1.register_forward_hook(
        lambda *args: types.append(args[2].dtype)
    )
    assert accelerate(model, CPU, "bfloat16", compiles=False) == "bfloat16"
    found = model.test_step(x)
    assert types == [torch.bfloat16] and found.dtype == torch.float32
    error = (found - expected).norm() / expected.norm()
    assert 1e-5 < error < 0.02  # it did something, and that was rounding


def test_float32_changes_nothing() -> None:
    model, x = Model(), images(64, 64)
    expected = model.test_step(x)
    assert accelerate(model, CPU, "float32", compiles=False) == "float32"
    assert torch.equal(model.test_step(x), expected)


@pytest.mark.parametrize(
    "backend",
    [
        "eager",  # what is traced, and how often
        pytest.param(
            "inductor",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
            ],
        ),
    ],
)
def test_compiled_layers_take_any_size_with_few_compilations(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    model = Model()
    # The last three are split into windows as others before them.
    sizes = [(64, 64), (64, 80), (80, 80), (128, 64), (96, 40), (104, 88)]
    expected = [model.test_step(images(*size)) for size in sizes]
    accelerate(model, CPU, "float32", compiles=True)
    counters.clear()
    graphs = []
    for size, want in zip(sizes, expected, strict=True):
        torch.testing.assert_close(model.test_step(images(*size)), want, atol=1e-4, rtol=1e-4)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [2, 3, 4, 4, 4, 4]


def test_what_cannot_be_accelerated_is_said() -> None:
    with pytest.raises(InputError, match="dtype is 'float16'; expected one of float32, bfloat16"):
        accelerate(Model(), CPU, "float16", compiles=False)
    with pytest.raises(InputError, match="Identity has no list of layers to compile"):
        model = nn.Module()
        model.backbone = nn.Identity()
        accelerate(model, CPU, "float32", compiles=True)


def test_a_missing_compiler_is_found_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(InputError, match="needs a C\\+\\+ compiler: No working C\\+\\+ compiler"):
        accelerate(Model(), CPU, "float32", compiles=True)
