"""Mixed precision by the device's means."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmbeit3.engine import AmpOptimWrapper, optim_wrapper


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
