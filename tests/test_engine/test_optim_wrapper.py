"""Mixed precision by the device's means."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmbeit3.engine import AmpOptimWrapper, optim_wrapper
from mmbeit3.models.multimodal import BEiT3Multiway


@pytest.mark.parametrize(
    ("dtype", "obstacle", "computed"),
    [
        ("bfloat16", None, torch.bfloat16),
        ("bfloat16", "this processor has no bfloat16 instructions", torch.float32),
        ("float16", None, torch.float32),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without GPU")
def test_a_cpu_computes_in_what_it_is_faster_in(
    monkeypatch: pytest.MonkeyPatch, dtype: str, obstacle: str | None, computed: torch.dtype
) -> None:
    monkeypatch.setattr(optim_wrapper, "bfloat16_obstacle", lambda: obstacle)
    layer = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    wrapper = AmpOptimWrapper(dtype=dtype, optimizer=optimizer, accumulative_counts=2)
    assert isinstance(wrapper, OptimWrapper) and "loss_scaler" not in wrapper.state_dict()
    before = layer.weight.detach().clone()
    for _ in range(2):
        assert torch.equal(layer.weight, before)  # two micro-batches are one step
        with wrapper.optim_context(layer):
            found = layer(torch.ones(2, 4))
        assert found.dtype == computed
        wrapper.update_params(found.float().sum())
    assert not torch.equal(layer.weight, before) and layer.weight.dtype == torch.float32
    assert layer(torch.ones(2, 4)).dtype == torch.float32  # of the context alone


@pytest.mark.parametrize("with_cp", [True, "offload"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without GPU")
def test_layers_computed_again_follow_the_same_rules(
    monkeypatch: pytest.MonkeyPatch, with_cp: bool | str
) -> None:
    monkeypatch.setattr(optim_wrapper, "bfloat16_obstacle", lambda: None)
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    tower = BEiT3Multiway(arch, img_size=32, vocab_size=20, max_tokens=6).train()
    tower.init_weights()
    images, ids = torch.rand(2, 3, 32, 32), torch.tensor([[0, 5, 6, 2], [0, 7, 2, 1]])
    found = []
    for mode in (False, with_cp):
        tower.with_cp = tower.vision.with_cp = tower.text.with_cp = mode
        wrapper = AmpOptimWrapper(optimizer=torch.optim.SGD(tower.parameters(), lr=0.0))
        with wrapper.optim_context(tower):
            states = (*tower.encode_pair(images, ids, ids == 1), tower.encode_image(images))
        wrapper.backward(sum(state.float().square().mean() for state in states))
        found.append([p.grad.clone() for p in tower.parameters() if p.grad is not None])
        tower.zero_grad()
    assert len(found[0]) == len(found[1]) > 60
    for once, again in zip(*found, strict=True):
        # in another order: what both calls say of a weight is summed up in bfloat16 or in float32
        torch.testing.assert_close(again, once, rtol=0, atol=0.01 * float(once.abs().max()))
