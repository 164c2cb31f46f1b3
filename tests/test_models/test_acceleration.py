"""Kernels, bfloat16 and compilation: what they change, and what they must not."""

from __future__ import annotations

import copy
import pickle
import shutil
from functools import partial, partialmethod

import pytest
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead as MMDetFCNMaskHead
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch._dynamo.utils import counters

from mmbeit3.models import BEiT3, BEiT3Adapter, FCNMaskHead, acceleration
from mmbeit3.models.acceleration import accelerate
from mmbeit3.models.layers import FFN, EncoderLayer
from mmbeit3.ops.cpu.int8 import Int8Linear
from mmbeit3.ops.cpu.processor import int8_obstacle
from mmbeit3.utils import InputError

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
    assert accelerate(model, "bfloat16") == "bfloat16"
    found = model.test_step(x)
    assert types == [torch.bfloat16] and found.dtype == torch.float32
    error = (found - expected).norm() / expected.norm()
    assert 1e-5 < error < 0.02  # it did something, and that was rounding


@pytest.mark.skipif(int8_obstacle() is not None, reason="no instructions for int8")
@pytest.mark.parametrize("obstacle", [None, "no bfloat16"])
def test_int8_multiplies_bytes_in_the_tower(
    monkeypatch: pytest.MonkeyPatch, obstacle: str | None
) -> None:
    monkeypatch.setattr(acceleration, "bfloat16_obstacle", lambda: obstacle)
    model, x = Model(), torch.cat([images(64, 72), images(64, 72) * 3])
    expected, state = model.test_step(x), model.state_dict()
    accelerate(model)  # as a Runner does beforehand
    assert accelerate(model, "int8") == "int8"
    assert sum(type(module) is Int8Linear for module in model.modules()) == 4 * 4
    found = model.test_step(x)
    assert found.dtype == torch.float32 and list(model.state_dict()) == list(state)
    error = (found - expected).norm() / expected.norm()
    assert 1e-3 < error < 0.05
    torch.testing.assert_close(found[:1], model.test_step(x[:1]))
    monkeypatch.setattr(acceleration, "_BLOCK", 7)  # tokens in blocks, and a rest
    blocks = model.test_step(x)
    assert (
        not torch.equal(blocks, found) and (blocks - expected).norm() < 2 * error * expected.norm()
    )


def test_int8_is_refused_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "int8_obstacle", lambda: None)
    with pytest.raises(InputError, match="dtype: layers in int8 cannot be compiled; .*--compile"):
        accelerate(Model(), "int8", compile=True)
    with pytest.raises(InputError, match="dtype: int8 is for CPUs, and the model is on meta"):
        accelerate(Model().to("meta"), "int8")
    with pytest.raises(InputError, match="Linear has no layers of this project's towers"):
        accelerate(nn.Linear(2, 2), "int8")
    monkeypatch.setattr(acceleration, "int8_obstacle", lambda: "this processor has none")
    with pytest.raises(InputError, match="dtype: this processor has none; expected float32 or bf"):
        accelerate(Model(), "int8")


def test_kernels_change_the_order_of_sums_alone() -> None:
    model, x = Model(), images(64, 72)
    expected, state = model.test_step(x), model.state_dict()
    assert accelerate(model) == accelerate(model, "float32") == "float32"
    found = model.test_step(x)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert list(model.state_dict()) == list(state)
    assert all(isinstance(layer, EncoderLayer) for layer in model.backbone.layers)


def test_training_stays_as_it_was() -> None:
    plain, fast, x = Model(), Model(), images(64, 72)
    fast.load_state_dict(plain.state_dict())
    accelerate(fast)
    for mode in (True, False):  # frozen for a while, but differentiated
        outputs = [model.train(mode).backbone(x)[0] for model in (plain, fast)]
        assert torch.equal(*outputs)
        grads = [
            torch.autograd.grad(output.square().sum(), list(model.parameters()))
            for output, model in zip(outputs, (plain, fast), strict=True)
        ]
        assert all(torch.equal(*pair) for pair in zip(*grads, strict=True))


def test_copies_are_of_their_own() -> None:
    model, x = Model(), images(64, 72)
    accelerate(model)
    copied = copy.deepcopy(model)
    want = model.test_step(x)
    nn.init.zeros_(copied.backbone.layers[0].ffn.fc1.weight)
    assert not torch.equal(copied.test_step(x), want)
    assert torch.equal(model.test_step(x), want)
    assert torch.equal(pickle.loads(pickle.dumps(model)).test_step(x), want)


@pytest.mark.parametrize("part", ["fc1", "act"])
@torch.no_grad()
def test_a_layer_that_someone_changes_or_listens_to_is_called(part: str) -> None:
    ffn, x = FFN(16, 32).eval(), torch.randn(2, 16)
    accelerate(ffn)
    seen = []
    handle = getattr(ffn, part).register_forward_hook(lambda *args: seen.append(args[2]))
    want = ffn(x)
    assert len(seen) == 1
    handle.remove()
    torch.testing.assert_close(ffn(x), want)
    assert len(seen) == 1
    setattr(ffn, part, nn.Sequential(getattr(ffn, part), nn.ReLU()))
    assert not torch.allclose(ffn(x), want)


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
    accelerate(model, "float32", compile=True)
    counters.clear()
    graphs = []
    for size, want in zip(sizes, expected, strict=True):
        torch.testing.assert_close(model.test_step(images(*size)), want, atol=1e-4, rtol=1e-4)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [2, 3, 4, 4, 4, 4]


def test_what_cannot_be_accelerated_is_said() -> None:
    with pytest.raises(
        InputError, match="dtype is 'float16'; expected one of float32, bfloat16, int8"
    ):
        accelerate(Model(), "float16")
    with pytest.raises(InputError, match="Identity has no list of layers to compile"):
        model = nn.Module()
        model.backbone = nn.Identity()
        accelerate(model, "float32", compile=True)


def test_a_missing_compiler_is_found_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(InputError, match="needs a C\\+\\+ compiler: No working C\\+\\+ compiler"):
        accelerate(Model(), "float32", compile=True)


@pytest.mark.parametrize("kind", [MMDetFCNMaskHead, FCNMaskHead, BEiT3, BEiT3Adapter])
def test_weights_are_drawn_as_without(kind: type[nn.Module]) -> None:
    states = []
    for fast in (False, True):
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope("mmdet"):  # of the mask head's loss
            model = kind(num_convs=1) if "Mask" in kind.__name__ else kind(ARCH)
        if fast:
            accelerate(model)
        torch.manual_seed(1)
        model.init_weights()
        states.append(model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
