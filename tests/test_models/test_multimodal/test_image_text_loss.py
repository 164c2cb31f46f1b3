"""Contrast of pairs: next to plain sums, and over two processes next to one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing, nn

from mmbeit3.models.multimodal.image_text_loss import SAME_IMAGE, image_text_loss
from mmbeit3.utils import InputError

IDS = ["a", 7, "b", 7, "c", "a", 7]


def features(count: int, dims: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    both = torch.randn(2, count, dims, generator=generator, dtype=torch.float64)
    return tuple(F.normalize(both, dim=-1))


def by_hand(images: Tensor, texts: Tensor, scale: float, ids: list, same_image: str) -> float:
    total = 0.0
    for queries, keys in ((images, texts), (texts, images)):
        for row, query in enumerate(queries):
            right = [c for c in range(len(ids)) if c == row or ids[c] == ids[row]]
            shown = [c for c in range(len(ids)) if c == row or c not in right]
            if same_image != "ignore":
                shown = range(len(ids))
            if same_image != "positive":
                right = [row]
            scores = {c: scale * float(query @ keys[c]) for c in shown}
            norm = math.log(sum(math.exp(score) for score in scores.values()))
            total += sum(norm - scores[c] for c in right) / len(right)
    return total / 2 / len(ids)


@pytest.mark.parametrize("same_image", SAME_IMAGE)
@pytest.mark.parametrize("ids", [IDS, IDS[:1], ["x"] * 3, list(range(6))], ids=len)
def test_the_loss_is_what_its_definition_says(same_image: str, ids: list) -> None:
    images, texts = features(len(ids))
    found = image_text_loss(images, texts, torch.tensor(9.0), ids, same_image)
    assert float(found) == pytest.approx(by_hand(images, texts, 9.0, ids, same_image), abs=1e-9)


def test_captions_of_one_image_need_ids() -> None:
    images, texts = features(4)
    scale = torch.tensor(9.0)
    assert image_text_loss(images, texts, scale) > 0
    with pytest.raises(InputError, match="needs the image_id of every sample"):
        image_text_loss(images, texts, scale, None, "ignore")
    with pytest.raises(InputError, match="'neutral'; expected one of negative, ignore, positive"):
        image_text_loss(images, texts, scale, [1, 2, 3, 4], "neutral")
    with pytest.raises(InputError, match="has 4 images and 3 texts"):
        image_text_loss(images, texts[:3], scale)


class Towers(nn.Module):
    """Two linear encoders and a scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.image, self.text = nn.Linear(6, 5).double(), nn.Linear(4, 5).double()
        self.scale = nn.Parameter(torch.tensor(2.0).double())

    def forward(self, images: Tensor, texts: Tensor, ids: list, same_image: str) -> Tensor:
        images, texts = (
            F.normalize(self.image(images), dim=-1),
            F.normalize(self.text(texts), dim=-1),
        )
        return image_text_loss(images, texts, self.scale.exp(), ids, same_image)


def batch(ids: list) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return (
        torch.randn(len(ids), 6, generator=generator).double(),
        torch.randn(len(ids), 4, generator=generator).double(),
    )


def gradients(rank: int, folder: str, shares: list[int]) -> None:
    """Train two processes by DDP; the first writes its loss and gradients, averaged over both."""
    place = Path(folder)
    distributed.init_process_group(
        "gloo", init_method=f"file://{place / 'meeting'}", rank=rank, world_size=2
    )
    cut = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
    images, texts = batch(IDS)
    for same_image in SAME_IMAGE:
        model = nn.parallel.DistributedDataParallel(Towers())
        loss = model(images[cut], texts[cut], IDS[cut], same_image)
        loss.backward()
        loss = loss.detach() / 2
        distributed.all_reduce(loss)
        if not rank:
            found = {name: param.grad for name, param in model.module.named_parameters()}
            torch.save(found | {"loss": loss}, place / f"{same_image}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("shares", [[4, 3], [1, 6]], ids=str)
def test_two_processes_learn_as_one(tmp_path: Path, shares: list[int]) -> None:
    multiprocessing.spawn(gradients, (str(tmp_path), shares), nprocs=2)
    images, texts = batch(IDS)
    for same_image in SAME_IMAGE:
        model = Towers()
        loss = model(images, texts, IDS, same_image)
        loss.backward()
        found = torch.load(tmp_path / f"{same_image}.pt")
        want = {name: param.grad for name, param in model.named_parameters()}
        for name, value in (want | {"loss": loss.detach()}).items():
            assert (found[name] - value).abs().max() <= 1e-6 * value.abs().max(), (same_image, name)
