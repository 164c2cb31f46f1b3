"""Sharded towers of pairs: two processes have the gradients of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from mmbeit3.engine.sharding import FullySharded
from mmbeit3.models import BEiT3Multiway
from mmbeit3.utils import InputError

SMALL = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=80)
OPTIONS = [{}, dict(with_cp=True, vl_layers=1)]


class Model(nn.Module):
    """Reads the image's token, the text's, or all that an encoder gives."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = BEiT3Multiway(SMALL, 32, 8, vocab_size=50, **options)
        for param in self.parameters():
            nn.init.normal_(param, mean=float(param.ndim == 1) / 2, std=0.2)

    def forward(self, read: str, images: Tensor, ids: Tensor, padding: Tensor) -> Tensor:
        image, text = self.encoder.encode_pair(images, ids, padding)
        loss = {"image": image[:, 0], "text": text[:, 0]}.get(read)
        if loss is None:  # every way through the encoder in one step
            alone = self.encoder.encode_image(images)[:, 0], self.encoder.encode_text(ids, padding)
            loss = image[:, 0] + text[:, 0] + alone[0] + alone[1][:, 0]
        return loss.square().sum()


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 32, 32, generator=generator)
    ids = torch.randint(0, 50, (4, 7), generator=generator)
    return images, ids, torch.arange(7) >= torch.tensor([7, 4, 2, 7])[:, None]


def run(rank: int, folder: str) -> None:
    """Write the gradients of two sharded processes, as the first one has them."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    own = slice(2 * rank, 2 * rank + 2)
    for number, options in enumerate(OPTIONS):
        for read in ("image", "text", "all"):
            model = FullySharded(Model(**options).train())
            model(read, *(part[own] for part in batch())).backward()
            found = {
                name: None if param.grad is None else 2 * param.grad.full_tensor()
                for name, param in model.named_parameters()
            }
            if not rank:
                torch.save(found, f"{folder}/{number}_{read}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_sharded_pairs_have_the_gradients_of_one_process(tmp_path: Path) -> None:
    multiprocessing.spawn(run, (str(tmp_path),), nprocs=2)
    for number, options in enumerate(OPTIONS):
        for read in ("image", "text", "all"):
            model = Model(**options).train()
            model(read, *batch()).backward()
            found = torch.load(tmp_path / f"{number}_{read}.pt")
            for name, param in model.named_parameters():
                if param.grad is None:  # of the last layer, where nothing reads it
                    assert found[name] is None or not found[name].any(), name
                else:
                    difference = (found[name] - param.grad).abs().max()
                    assert difference <= 1e-5 * param.grad.abs().max(), (read, options, name)


def test_layers_that_share_parameters_are_refused() -> None:
    with pytest.raises(InputError, match="layers of Model share some .attention='shared'"):
        FullySharded(Model(attention="shared"))
