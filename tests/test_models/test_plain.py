"""A model that is not accelerated is plain torch to those who change or export it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmbeit3 import accelerate
from mmbeit3.models import BEiT3, BEiT3Adapter

ARCH = dict(embed_dims=48, num_layers=4, num_heads=4, feedforward_channels=96)
TOWERS = {
    "windows": lambda: BEiT3(ARCH, patch_size=8, window_size=4, global_attn_indexes=[1, 3]),
    "published": lambda: BEiT3(ARCH, window_size=0, with_cls_token=True, final_norm=True),
    "adapter": lambda: BEiT3Adapter(ARCH, img_size=64, conv_inplane=8),
}
ALL = pytest.mark.parametrize("name", TOWERS)


def tower(name: str) -> BEiT3:
    torch.manual_seed(0)
    model = TOWERS[name]().eval()
    for param in model.parameters():
        nn.init.normal_(param, mean=0.5 * (param.ndim == 1), std=0.2)
    return model


def images(height: int = 64, width: int = 88) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@ALL
def test_layers_are_torchs(name: str) -> None:
    kinds = {type(module) for module in tower(name).modules() if isinstance(module, nn.Linear)}
    assert kinds == {nn.Linear}


@pytest.mark.parametrize(
    ("name", "strict"),
    [
        ("windows", False),
        ("published", False),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in TOWERS),
        pytest.param("adapter", False, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_exported_graphs_hold_operators_of_torch_alone(name: str, strict: bool) -> None:
    model, x = tower(name), images()
    program = torch.export.export(model, (x,), strict=strict)
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    found = {getattr(target, "namespace", target.__module__) for target in calls}
    assert found <= {"aten", "_operator"}
    want = model(x)  # what was kept while tracing does no harm
    for mine, theirs in zip(want, program.module()(x), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", ["windows", "published"])
@torch.no_grad()
def test_onnx_files_hold_standard_operators_alone(tmp_path: Path, name: str, dynamo: bool) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    if dynamo:
        pytest.importorskip("onnxscript", reason="needs onnxscript")
    model, x, path = tower(name), images(), tmp_path / "tower.onnx"
    torch.onnx.export(model, (x,), str(path), dynamo=dynamo, input_names=["images"], verbose=False)
    assert {node.domain for node in onnx.load(path).graph.node} == {""}
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime to run the file")
    (found,) = onnxruntime.InferenceSession(path).run(None, {"images": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(x)[0], atol=1e-4, rtol=1e-4)


def with_lora(model: nn.Module) -> nn.Module:
    peft = pytest.importorskip("peft", reason="needs peft", exc_type=ImportError)
    names = ["qkv", "attn.proj", "fc1", "fc2"]
    # Drawn at random, as after training: at their start the adapters change nothing.
    config = peft.LoraConfig(r=4, target_modules=names, init_lora_weights=False)
    return peft.get_peft_model(model, config).eval()


@pytest.mark.parametrize("name", ["windows", "published"])
@pytest.mark.parametrize("fast", ["never", "before", "after"])
@torch.no_grad()
def test_merged_lora_computes_what_it_did(name: str, fast: str) -> None:
    model, x = tower(name), images()
    without = model(x)[0]
    if fast == "before":
        accelerate(model)
    model = with_lora(model)
    assert sum(".base_layer." in key for key in model.state_dict()) == 2 * 4 * 4  # all, in layers
    if fast == "after":
        accelerate(model)
    unmerged = model(x)[0]
    merged = model.merge_and_unload()(x)[0]
    assert (unmerged - without).norm() > 0.1 * without.norm()
    assert (merged - unmerged).norm() < 1e-5 * unmerged.norm()


def test_lora_trains_its_own_weights_alone() -> None:
    model = with_lora(tower("windows")).train()
    before = copy.deepcopy(model.state_dict())
    trained = [param for param in model.parameters() if param.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    model(images())[0].square().mean().backward()
    optimizer.step()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) != (".lora_" in key), key
