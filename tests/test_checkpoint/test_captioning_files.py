"""Official files of captioning and of pretraining: strictly into a captioning model, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mmbeit3.checkpoint import (
    from_official,
    load_task,
    load_weights,
    save_checkpoint,
    to_official,
)
from mmbeit3.models import BEiT3Captioning
from mmbeit3.utils import InputError

from .official import SMALL, Size, official_weights, save_official, torchscale_beit3
from .test_tasks import same

SIZES = pytest.mark.parametrize(
    "size", [SMALL, Size(64, 3, 2, 160, patch=16, vocabulary=20)], ids=["8", "16"]
)


def captioning(size: Size = SMALL, img_size: int = 48, **options) -> BEiT3Captioning:
    encoder = dict(
        type="mmbeit3.BEiT3Multiway",
        arch=size.arch,
        img_size=img_size,
        patch_size=size.patch,
        vocab_size=size.vocabulary,
    )
    return BEiT3Captioning(encoder | options, generation=dict(max_length=20)).eval()


@SIZES
def test_a_model_starts_from_its_official_file_alone(tmp_path: Path, size: Size) -> None:
    img_size = 6 * size.patch
    weights = official_weights("captioning", size, img_size)
    file = save_official(weights, tmp_path / "beit3_small_coco_captioning.pth")
    model = captioning(size, img_size)
    model.init_cfg = dict(type="Pretrained", checkpoint=file)
    model.init_weights()
    kept = {name: value.clone() for name, value in weights.items()}  # but for what is never read
    kept["beit3.vision_embed.mask_token"].zero_()
    for branch in "AB":
        kept[f"beit3.encoder.embed_positions.{branch}.weight"][:2] = 0
    assert same(to_official(model.half().state_dict()), kept)
    for run in (
        lambda model: load_task(model, file),
        lambda model: load_weights(model, file),  # a test
        lambda model: load_weights(model, file, strict=False),  # load_from
        lambda model: load_weights(model, from_official(weights)),
        lambda model: load_task(model, from_official(weights)),
    ):
        other = captioning(size, img_size)
        assert run(other).complete
        assert same(other.half().state_dict(), model.state_dict())
    larger = captioning(size, 8 * size.patch, max_tokens=30)
    report = load_task(larger, file)
    assert [line.split()[0] for line in report.fitted.resized] == ["positions", "positions"]


@SIZES
def test_a_file_of_pretraining_starts_one_with_its_head_for_words(
    tmp_path: Path, size: Size
) -> None:
    weights = official_weights("pretrained", size)
    file = save_official(weights, tmp_path / "beit3_small_patch16_224.pth")
    own = from_official(weights)
    trained = tmp_path / "iter_1.pth"
    save_checkpoint({"state_dict": own}, trained)
    for run in (
        lambda model: load_task(model, file),
        lambda model: load_weights(model, file, strict=False),
        lambda model: load_task(model, trained),
    ):
        model = captioning(size)
        assert run(model).complete
        for name, value in model.half().state_dict().items():
            assert torch.equal(value, own[name]), name
    before = model.state_dict()
    for kind in ("itc", "nlvr2", "vqa", "in1k"):
        other = save_official(official_weights(kind, size), tmp_path / f"{kind}.pth")
        with pytest.raises(InputError, match=rf"{kind}.pth is a checkpoint of .*Expected .*capti"):
            load_task(model, other)
    assert same(model.state_dict(), before)


@SIZES
@torch.no_grad()
def test_torchscale_loads_ours_strictly_and_computes_the_same(size: Size) -> None:
    torch.manual_seed(0)
    img_size = 6 * size.patch
    model = captioning(size, img_size)
    for param in model.parameters():
        nn.init.normal_(param, std=0.3)
    state = to_official(model.state_dict())
    theirs = torchscale_beit3(size, img_size).eval()
    core = {n.removeprefix("beit3."): v for n, v in state.items() if n.startswith("beit3.")}
    theirs.load_state_dict(core)
    images = torch.randn(3, 3, img_size, img_size)
    ids = torch.randint(0, size.vocabulary, (3, 7))
    padding = torch.arange(7) >= torch.tensor([[7], [4], [2]])
    forbidden = torch.ones(44, 44).triu(1).long()  # 37 tokens of the image
    forbidden[:37, :37] = 0
    states = theirs(
        textual_tokens=ids,
        visual_tokens=images,
        text_padding_position=padding,
        attn_mask=forbidden,
    )["encoder_out"][:, 37:]
    want = states @ state["mlm_head.weight"].T + state["mlm_head.bias"]
    found = model(images, ids, padding)
    assert ((found - want)[~padding].abs().max() / want.abs().max()) < 1e-5
    back = captioning(size, img_size)
    load_task(back, state)
    assert same(back.state_dict(), model.state_dict())
