"""Teachers of an image tokenizer, and that it learns from them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from mmbeit3.models import (
    VQKD,
    BEiT3,
    EdgeTeacher,
    HOGTeacher,
    PixelTeacher,
    TimmTeacher,
    TowerTeacher,
)
from mmbeit3.utils import InputError

ARCH = dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=64)
TOWER = dict(type="mmbeit3.BEiT3", arch=ARCH, img_size=32, patch_size=8, window_size=0)


def images(count: int = 4, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, size, size, generator=generator) * 2 - 1


def test_pixels_are_normalized_in_each_patch() -> None:
    teacher, x = PixelTeacher(8), images()
    found = teacher.features(x, (4, 4))
    assert found.shape == (4, 16, teacher.out_channels) == (4, 16, 192)
    patch = x[1, :, 8:16, 16:24].flatten()  # row 1, column 2
    assert torch.allclose(found[1, 6], (patch - patch.mean()) / (patch.std() + 1e-3), atol=1e-6)
    assert torch.allclose(teacher.features(x * 0.5 + 0.1, (4, 4)), found, atol=5e-3)
    as_they_are = PixelTeacher(8, normalize=False).features(x, (4, 4))
    assert torch.equal(as_they_are[1, 6], (patch + 1) / 2)


def test_gradients_are_counted_by_direction() -> None:
    teacher, x = HOGTeacher(16, cell=8), images().double()
    found = teacher.features(x, (2, 2))
    assert found.shape == (4, 4, teacher.out_channels) == (4, 4, 108)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")[2, 1]
    want = [0.0] * 9
    for row in range(8, 16):  # the lower left cell of the upper left patch
        for column in range(8):
            near = padded[row : row + 3, column : column + 3].tolist()
            across = sum(w * (near[i][0] - near[i][2]) for i, w in enumerate((1, 2, 1)))
            down = sum(w * (near[0][i] - near[2][i]) for i, w in enumerate((1, 2, 1)))
            angle = math.atan2(across, down) / math.pi * 9
            want[math.floor(angle) % 9] += math.hypot(across, down)
    norm = math.sqrt(sum(value**2 for value in want))
    maps = found[2, 0].view(3, 9, 2, 2)  # color, direction, cells
    assert maps[1, :, 1, 0].tolist() == pytest.approx([value / norm for value in want])


def test_edges_around_a_patch_are_counted_by_direction() -> None:
    teacher, x = EdgeTeacher(8, reach=1, bins=8, floor=0.1).double(), images().double()
    found = teacher.features(x, (4, 4))
    assert found.shape == (4, 16, teacher.out_channels) == (4, 16, 72)
    padded = torch.nn.functional.pad(x, (3, 3, 3, 3), mode="reflect")[2].tolist()
    binomial = (1, 4, 6, 4, 1)

    def pixel(color: int, row: int, column: int) -> float:  # of the smoothed image, from -1 on
        return sum(
            a * b / 256 * padded[color][row + 1 + i][column + 1 + j]
            for i, a in enumerate(binomial)
            for j, b in enumerate(binomial)
        )

    want = [0.0] * 8
    for row in range(8, 16):  # row 1, column 2
        for column in range(16, 24):
            slopes = [
                (
                    pixel(color, row, column + 1) - pixel(color, row, column - 1),
                    pixel(color, row + 1, column) - pixel(color, row - 1, column),
                )
                for color in range(3)
            ]
            across, down = max(slopes, key=lambda slope: math.hypot(*slope))
            angle = math.atan2(down, across) / math.pi * 8 % 8
            strength = max(0.0, math.hypot(across, down) - 0.1)
            low = math.floor(angle)
            want[low % 8] += strength * (low + 1 - angle) / 64
            want[(low + 1) % 8] += strength * (angle - low) / 64
    want = [math.sqrt(max(value, 1e-6)) for value in want]
    around = found[2].view(16, 8, 3, 3)  # direction, neighbors
    assert around[6, :, 1, 1].tolist() == pytest.approx(want)
    assert around[5, :, 1, 2].tolist() == pytest.approx(want)  # the right one of its left neighbor
    assert around[9, :, 0, 2].tolist() == pytest.approx(want)
    assert not around[0, :, 0].any() and not around[0, :, :, 0].any()  # nothing beyond the border
    flat = teacher.features(x * 0.01, (4, 4)).view(4, 16, 8, 3, 3)
    assert torch.allclose(flat[:, 5], torch.full_like(flat[:, 5], 1e-3))  # noise is no edge


def test_edges_have_the_color_of_the_patch_where_it_is_asked_for() -> None:
    plain, colored = EdgeTeacher(8), EdgeTeacher(8, color=0.5)
    x = images()
    found = colored.features(x, (4, 4))
    assert found.shape == (4, 16, colored.out_channels) == (4, 16, 75)
    assert torch.equal(found[..., :72], plain.features(x, (4, 4)))
    red, green, blue = (x[2, color, 8:16, 16:24].mean() for color in range(3))  # row 1, column 2
    gray = (red + green + blue) / 3
    assert found[2, 6, 72:].tolist() == pytest.approx(
        [0.5 * float(color - gray) for color in (red, green, blue)], abs=1e-6
    )


@pytest.mark.parametrize(
    ("name", "head"),
    [("vit_tiny_patch16_224", False), ("vit_tiny_patch16_224", True), ("resnet10t", False)],
)
def test_models_of_timm_teach(tmp_path: Path, name: str, head: bool) -> None:
    torch.manual_seed(1)
    model = timm.create_model(name, num_classes=7).eval()
    torch.save(model.state_dict(), tmp_path / "teacher.pth")
    start = dict(type="Pretrained", checkpoint=str(tmp_path / "teacher.pth"))
    teacher = TimmTeacher(name, with_head=head, num_classes=7, init_cfg=start).eval()
    teacher.init_weights()
    found = teacher.features(images(), (14, 14))
    assert found.shape == (4, 196, 7 if head else model.num_features)
    if name.startswith("vit"):
        pixels = torch.nn.functional.interpolate(
            images(), (224, 224), mode="bicubic", antialias=True
        )
        with torch.no_grad():
            want = model.forward_features((pixels / 2 + 0.5 - teacher.mean) / teacher.std)[:, 1:]
            want = model.head(want) if head else want
        assert torch.allclose(found, want, atol=1e-5)
    assert teacher.features(images(1), (4, 4)).shape[1] == 16


@pytest.mark.parametrize(
    ("size", "grid"), [(64, (4, 4)), ((64, 256), (4, 16)), ((96, 48), (6, 3))], ids=str
)
def test_a_model_of_timm_teaches_at_its_own_size(
    size: int | tuple[int, int], grid: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    teacher = TimmTeacher("vit_tiny_patch16_224", img_size=size).eval()
    found = teacher.features(images(2), grid)
    with torch.no_grad():
        pixels = torch.nn.functional.interpolate(
            images(2), [side * 16 for side in grid], mode="bicubic", antialias=True
        )
        want = teacher.model.forward_features((pixels / 2 + 0.5 - teacher.mean) / teacher.std)
    assert torch.allclose(found, want[:, 1:], atol=1e-5)
    # and on another grid rows and columns are what they are
    wide = want[:, 1:].unflatten(1, grid).permute(0, 3, 1, 2)
    wide = torch.nn.functional.interpolate(wide, (2, 3), mode="bilinear").flatten(2)
    assert torch.allclose(teacher.features(images(2), (2, 3)), wide.transpose(1, 2), atol=1e-5)


@pytest.mark.parametrize("error", [OSError("no route to host\nmore"), RuntimeError("no file")])
def test_weights_that_timm_cannot_fetch_are_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("timm.create_model", fail)
    with pytest.raises(InputError, match="'resnet18' .*no (route to host|file)\\); .*init_cfg="):
        TimmTeacher("resnet18", pretrained=True)
    with pytest.raises(type(error)):
        TimmTeacher("resnet18")


def test_a_model_of_timm_without_a_map_is_refused() -> None:
    teacher = TimmTeacher("pit_ti_224").eval()
    with pytest.raises(InputError, match="makes no tokens or map of an image"):
        teacher.features(images(1), (4, 4))


def test_own_towers_teach() -> None:
    torch.manual_seed(0)
    teacher = TowerTeacher(TOWER).eval()
    x = images()
    want = teacher.tower(x)[0].flatten(2).transpose(1, 2)
    assert torch.equal(teacher.features(x, (4, 4)), want)
    assert isinstance(teacher.tower, BEiT3) and teacher.out_channels == 32


TEACHERS = [
    dict(type="mmbeit3.PixelTeacher", patch_size=8),
    dict(type="mmbeit3.HOGTeacher", patch_size=8),
    dict(type="mmbeit3.EdgeTeacher", patch_size=8),
    dict(type="mmbeit3.EdgeTeacher", patch_size=8, color=0.5),
    dict(type="mmbeit3.TowerTeacher", tower=TOWER),
]


@pytest.mark.parametrize("teacher", TEACHERS, ids=["pixels", "HOG", "edges", "colored", "tower"])
def test_a_tokenizer_learns_from_its_teacher(teacher: dict) -> None:
    torch.manual_seed(0)
    model = VQKD(ARCH, 32, 8, decoder_layers=1, num_codes=40, code_dims=8, teacher=teacher).train()
    model.init_weights()
    assert not any(name.startswith("teacher") for name in model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        losses = model(images(), mode="loss")
        optimizer.zero_grad()
        (losses["loss_teacher"] + losses["loss_codes"]).backward()
        if not history:
            untouched = [
                n for n, p in model.named_parameters() if p.requires_grad and p.grad is None
            ]
            assert untouched == []
        optimizer.step()
        history.append(losses["loss_teacher"].item())
    assert history[-1] < 0.7 * history[0]
    assert losses["codes_used"] > 0.3


@pytest.mark.parametrize("teacher", TEACHERS, ids=["pixels", "HOG", "edges", "colored", "tower"])
def test_a_teacher_is_the_same_under_autocast(
    teacher: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = VQKD(ARCH, 32, 8, decoder_layers=1, num_codes=40, code_dims=8, teacher=teacher)
    model.init_weights()
    want, found = model.teacher.features(images(), (4, 4)), []
    plain = model.teacher.features
    monkeypatch.setattr(
        model.teacher, "features", lambda *args: found.append(plain(*args)) or found[0]
    )
    with torch.autocast("cpu", torch.bfloat16):
        model(images(), mode="loss")
    assert torch.equal(found[0], want)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match="has no model 'vit_tiny'"):
        TimmTeacher("vit_tiny")
    with pytest.raises(InputError, match="patch_size is 12; expected a multiple of cell, 8"):
        HOGTeacher(12)
    with pytest.raises(InputError, match="2 x 2 patches of 16 pixels, and the tokenizer 4 x 4"):
        PixelTeacher(16).features(images(), (4, 4))
    with pytest.raises(InputError, match="out_channels is 5, and the teacher has 192"):
        VQKD(ARCH, 32, 8, out_channels=5, teacher=TEACHERS[0])
    with pytest.raises(InputError, match=r"no teacher to learn from: set model\.teacher"):
        VQKD(ARCH, 32, 8)(images(), mode="loss")
