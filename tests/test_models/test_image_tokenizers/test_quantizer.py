"""The book of codes: a step by its definition, gradients, processes, a start and dead codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing

from mmbeit3.models.image_tokenizers.quantizer import Quantizer


def quantizer(codes: int = 12, dims: int = 5, started: bool = True, **more: float) -> Quantizer:
    torch.manual_seed(0)
    found = Quantizer(codes, dims, **more).double()
    book = found.embedding.weight
    book.data.copy_(F.normalize(torch.randn(codes, dims, dtype=torch.float64), dim=-1))
    found.embedding.initted.fill_(float(started))
    found.cluster_size.fill_(3.0)
    return found


def features(count: int = 60, dims: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    centers = torch.randn(7, dims, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, dims, generator=generator, dtype=torch.float64)
    return (centers[torch.arange(count) % 7] + 0.3 * noise) * 2


def test_a_step_is_what_its_definition_says() -> None:
    model = quantizer(revive_below=0.0).train()
    before, z = model.embedding.weight.clone(), features()
    found = model(z.view(3, 20, 5))
    unit = z / z.norm(dim=1, keepdim=True)
    codes = (unit[:, None] - before).norm(dim=2).argmin(1)
    assert torch.equal(found.codes, codes.view(3, 20))
    assert torch.allclose(found.vectors.detach().view(60, 5), before[codes], atol=1e-12)
    assert found.loss.item() == pytest.approx(((before[codes] - unit) ** 2).mean().item())
    assert found.used.item() == pytest.approx(codes.unique().numel() / 12)
    for code, old in enumerate(before):
        own = unit[codes == code]
        mean = F.normalize(own.mean(0), dim=0) if len(own) else old
        want = F.normalize(0.99 * old + 0.01 * mean, dim=0)
        assert torch.allclose(model.embedding.weight[code], want, atol=1e-12)
        assert model.cluster_size[code].item() == pytest.approx(0.99 * 3 + 0.01 * len(own))


def test_codes_are_told_apart_under_autocast() -> None:
    model, unit = quantizer(200, 16).float(), F.normalize(features(500, 16), dim=-1).float()
    want = model.nearest(unit)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.nearest(unit), want)


def test_gradients_pass_straight_through() -> None:
    model = quantizer().train()
    z = features().requires_grad_()
    found = model(z)
    weights = torch.randn(60, 5, dtype=torch.float64)
    grad = torch.autograd.grad((found.vectors * weights).sum(), z)[0]
    unit = F.normalize(z, dim=-1)
    want = torch.autograd.grad((unit * weights).sum(), z)[0]
    assert torch.allclose(grad, want, atol=1e-12)
    assert not model.embedding.weight.requires_grad


def test_the_first_batch_starts_the_book() -> None:
    model = quantizer(codes=7, started=False).train()
    torch.manual_seed(3)
    model(features(700))
    assert model.embedding.initted.item() == 1
    book = model.embedding.weight
    assert torch.allclose(book.norm(dim=1), torch.ones(7, dtype=torch.float64))
    unit = F.normalize(features(700), dim=-1)
    assert (unit @ book.T).max(1).values.mean() > 0.9  # near the clusters
    started = book.clone()
    model(features(10))
    assert F.cosine_similarity(book, started).min() > 0.99  # and not once more
    few = quantizer(codes=12, started=False).train()
    few(features(4))
    assert few.embedding.weight.isfinite().all()


def test_dead_codes_begin_anew_at_a_feature() -> None:
    model = quantizer().train()
    model.embedding.weight[3] = -F.normalize(features().mean(0), dim=0)  # far from all
    model.cluster_size[3] = 1e-3
    model(features())
    assert (F.normalize(features(), dim=-1) @ model.embedding.weight[3]).max() > 1 - 1e-12
    assert model.cluster_size[3] > 1
    kept = quantizer(revive_below=0.0).train()
    kept.cluster_size[3] = 0
    before = kept.embedding.weight[3].clone()
    for _ in range(3):
        kept(F.normalize(kept.embedding.weight[:2].clone(), dim=-1))
    assert torch.allclose(kept.embedding.weight[3], before)


def step(rank: int, folder: str, started: bool) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    model = quantizer(started=started).train()
    torch.manual_seed(rank)
    for _ in range(2):
        model(features()[:20] if rank == 0 else features()[20:])
    torch.save(model.state_dict(), Path(folder, f"{rank}.pt"))
    distributed.destroy_process_group()


@pytest.mark.parametrize("started", [True, False])
def test_two_processes_have_one_book(tmp_path: Path, started: bool) -> None:
    multiprocessing.spawn(step, (str(tmp_path), started), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    if started:  # the start is the first process's; from it on all features count
        model = quantizer().train()
        for _ in range(2):
            model(features())
        for name, value in model.state_dict().items():
            assert torch.allclose(first[name], value, atol=1e-12), name
