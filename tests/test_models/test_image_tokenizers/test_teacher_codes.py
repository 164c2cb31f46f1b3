"""Codes of a teacher's own features: the nearest vectors, of a book that follows them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmbeit3.models import TeacherCodes
from mmbeit3.utils import InputError

EDGES = dict(type="mmbeit3.EdgeTeacher", patch_size=8)
PIXELS = dict(type="mmbeit3.PixelTeacher", patch_size=8, normalize=False)


def stripes(count: int = 12) -> tuple[Tensor, Tensor]:
    """Images (count, 3, 16, 24) of patches that are one of three colors, and which they are."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(3, (count, 2, 3), generator=generator)
    colors = torch.tensor([[0.9, -0.8, -0.7], [-0.9, 0.8, -0.9], [-0.6, -0.7, 0.9]])
    pixels = colors[kinds].permute(0, 3, 1, 2).repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = torch.randn(pixels.shape, generator=generator) * 0.05
    return (pixels + noise).clamp(-1, 1), kinds.flatten(1)


def trained(num_codes: int = 3, steps: int = 30, teacher: dict = PIXELS) -> TeacherCodes:
    torch.manual_seed(0)
    model = TeacherCodes(teacher, (16, 24), 8, num_codes, quantizer=dict(decay=0.8)).train()
    model.init_weights()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    for _ in range(steps):
        losses = model(stripes()[0], mode="loss")
        optimizer.zero_grad()
        losses["loss_codes"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        optimizer.step()
    assert losses["loss_codes"].isfinite()
    return model.eval()


def test_patches_of_a_kind_get_a_code() -> None:
    model = trained()
    images, kinds = stripes()
    codes = model.codes(images)
    assert codes.shape == (12, 6)
    pairs = set(zip(codes.flatten().tolist(), kinds.flatten().tolist(), strict=True))
    assert len(pairs) == 3 == len({code for code, _ in pairs})


@pytest.mark.parametrize("teacher", [PIXELS, EDGES], ids=["pixels", "edges"])
def test_a_code_is_the_nearest_vector(teacher: dict) -> None:
    model = trained(20, 3, teacher)
    images = torch.rand(5, 3, 16, 24) * 2 - 1
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features = model.features(images).double()
    unit = features / features.norm(dim=-1, keepdim=True)
    book = model.quantize.embedding.weight.double()
    want = torch.stack([torch.cdist(row, book).argmin(1) for row in unit])
    assert torch.equal(model.codes(images), want)
    assert torch.equal(model(images), want)

    samples = model(images, mode="predict", data_samples=[BaseDataElement() for _ in images])
    for sample, codes, row in zip(samples, want, unit, strict=True):
        assert sample.codes == sorted(set(codes.tolist())) and sample.num_codes == 20
        assert sample.cosine == pytest.approx((row * book[codes]).sum(1).mean().item(), abs=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_its_file_has_the_book_alone(tmp_path: Path) -> None:
    model = trained(5, 2, EDGES)
    assert not any("teacher" in name for name in model.state_dict())
    torch.save({"state_dict": model.state_dict()}, tmp_path / "codes.pth")
    start = dict(type="Pretrained", checkpoint=str(tmp_path / "codes.pth"))
    again = TeacherCodes(EDGES, (16, 24), 8, 5, init_cfg=start)
    again.init_weights()
    images = stripes()[0]
    assert torch.equal(again.eval().codes(images), model.codes(images))
    other = TeacherCodes(EDGES, (16, 24), 8, 6, init_cfg=start)
    with pytest.raises(InputError, match="quantize"):
        other.init_weights()


def test_what_it_cannot_do_is_said() -> None:
    model = trained(5, 1)
    with pytest.raises(InputError, match="mode is 'train'"):
        model(stripes()[0], mode="train")
    with pytest.raises(InputError, match="img_size is 20 x 24 and patch_size 8; expected sides"):
        TeacherCodes(PIXELS, (20, 24), 8, 5)
    with pytest.raises(InputError, match="2 x 2 patches"):
        model.codes(torch.zeros(1, 3, 16, 16))
