from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmbeit3.apis.converting import convert_checkpoint
from mmbeit3.checkpoint import load_backbone, load_weights
from mmbeit3.checkpoint.saving import publish_checkpoint
from mmbeit3.models import BEiT3
from mmbeit3.utils import InputError


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def changed(model: nn.Module, name: str, value: Tensor) -> dict[str, Tensor]:
    return {key: entry.clone() for key, entry in model.state_dict().items()} | {name: value}


def spoilt(value: float) -> Tensor:
    weight = torch.zeros(4, 3)
    weight[1, 2] = value
    return weight


BAD = {
    "NaN": spoilt(float("nan")),
    "infinity": spoilt(float("inf")),
    "complex64 numbers": torch.ones(4, 3, dtype=torch.complex64),
    "bool numbers": torch.ones(4, 3, dtype=torch.bool),
    "int64 numbers": torch.ones(4, 3, dtype=torch.int64),
    "qint8 numbers": torch.quantize_per_tensor(torch.ones(4, 3), 0.1, 0, torch.qint8),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("strict", [True, False])
def test_what_no_model_computes_with_is_named(kind: str, strict: bool) -> None:
    model = net()
    before = model.state_dict()["0.weight"].clone()
    with pytest.raises(InputError, match=f"the checkpoint holds {kind} in 0.weight; expected"):
        load_weights(model, changed(model, "0.weight", BAD[kind]), strict)
    assert torch.equal(model.state_dict()["0.weight"], before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_narrow_types_are_looked_through_too(dtype: torch.dtype) -> None:
    model = net()
    load_weights(model, changed(model, "0.weight", torch.ones(4, 3, dtype=dtype)))
    with pytest.raises(InputError, match="holds NaN in 0.weight"):
        load_weights(model, changed(model, "0.weight", spoilt(float("nan")).to(dtype)))


def test_counters_are_whole_numbers() -> None:
    model, name = net(), "1.num_batches_tracked"
    load_weights(model, changed(model, name, torch.tensor(7, dtype=torch.int32)))
    load_weights(model, changed(model, name, torch.tensor(7.0)))
    assert model[1].num_batches_tracked == 7
    with pytest.raises(InputError, match="holds fractions where whole numbers belong in 1.num_"):
        load_weights(model, changed(model, name, torch.tensor(7.5)))


def test_masks_of_attention_pass() -> None:
    model = nn.Module()
    mask = torch.full((3, 3), -torch.inf).triu(1)
    model.register_buffer("mask", mask)
    load_weights(model, {"mask": mask})
    with pytest.raises(InputError, match="holds infinity in mask"):
        load_weights(model, {"mask": mask + 1})


@pytest.mark.parametrize("name", ["layers.0.ffn.fc1.bias", "pos_embed", "patch_embed.proj.weight"])
@pytest.mark.parametrize("value", [torch.nan, -torch.inf, 1j, 3])
def test_towers_are_looked_through_in_every_entry(
    name: str, value: complex, tmp_path: Path
) -> None:
    backbone = BEiT3("tiny", img_size=32)
    bad = torch.full_like(backbone.state_dict()[name], 2, dtype=torch.tensor(value).dtype)
    bad.view(-1)[5] = value
    state = changed(backbone, name, bad)
    file = tmp_path / "tower.pth"
    torch.save({"state_dict": state}, file)
    with pytest.raises(InputError, match=f"holds .* in {name}"):
        load_backbone(BEiT3("tiny", img_size=64), file)
    if value == 3:  # whole numbers may be what a file of another model needs
        return
    with pytest.raises(InputError, match=f"holds .* in {name}"):
        publish_checkpoint(file, tmp_path / "published.pth")
    with pytest.raises(InputError, match=f"holds .* in {name}"):
        convert_checkpoint(file, tmp_path / "converted.pth")
