from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from mmbeit3.checkpoint import Mismatch, load_weights
from mmbeit3.utils import InputError


class Toy(nn.Module):
    """A detector's names in miniature."""

    def __init__(self, num_classes: int = 3, positions: int = 4, width: int = 2) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.pos_embed = nn.Parameter(torch.rand(1, positions, width))
        self.backbone.proj = nn.Linear(width, width)
        self.roi_head = nn.Module()
        self.roi_head.fc_cls = nn.Linear(width, num_classes + 1)
        self.roi_head.conv_logits = nn.Conv2d(width, num_classes, 1)


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_unchanged(model: nn.Module, before: Mapping[str, torch.Tensor]) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_file_of_the_same_model_loads_whole(tmp_path: Path) -> None:
    source, model = Toy(), Toy()
    torch.save({"state_dict": source.state_dict()}, tmp_path / "toy.pth")
    report = load_weights(model, tmp_path / "toy.pth")
    assert report.complete and sorted(report.matched) == sorted(source.state_dict())
    assert_unchanged(model, source.state_dict())


def test_half_precision_is_cast_to_the_model() -> None:
    source, model = Toy(), Toy()
    load_weights(model, {name: value.half() for name, value in source.state_dict().items()})
    assert model.backbone.proj.weight.dtype == torch.float32
    assert_unchanged(model, {n: v.half().float() for n, v in source.state_dict().items()})


def test_strict_lists_every_kind_of_difference_and_loads_nothing() -> None:
    model = Toy(width=3)
    state = Toy(width=2).state_dict()
    state["extra.weight"] = state.pop("backbone.proj.bias")
    before = snapshot(model)
    with pytest.raises(InputError) as caught:
        load_weights(model, state, origin="toy.pth")
    message = str(caught.value)
    assert "toy.pth is of another model: 2 weights fit" in message
    assert "4 of another shape" in message
    assert "backbone.pos_embed (1, 4, 2) -> (1, 4, 3)" in message
    assert "1 in the model but not in the file: backbone.proj.bias" in message
    assert "1 in the file but not in the model: extra.weight" in message
    assert_unchanged(model, before)


def test_long_lists_are_cut() -> None:
    state = Toy().state_dict() | {f"extra.{index}": torch.zeros(1) for index in range(15)}
    with pytest.raises(InputError, match="15 in the file .* and 5 more"):
        load_weights(Toy(), state)


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        (
            Toy(num_classes=80).state_dict(),
            "number of classes differs: the file has 80, the model 3",
        ),
        (Toy(positions=9).state_dict(), "only the position table differs"),
        (
            {name[9:]: v for name, v in Toy().state_dict().items() if name.startswith("backbone.")},
            "the file holds a backbone alone: set model.backbone.init_cfg",
        ),
        (Toy(width=5).state_dict(), "give the config it was trained with"),
    ],
)
def test_the_cause_is_named_where_it_is_plain(state: dict, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        load_weights(Toy(), state)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rpn_head.rpn_conv.weight", "a detector"),
        ("roi_head.bbox_head.0.fc_cls.weight", "a detector"),
        ("decode_head.conv_seg.weight", "a segmentor"),
        ("encoder.vision.cls_token", "a dual encoder or classifier by names"),
    ],
)
def test_a_model_of_another_kind_is_named(name: str, kind: str) -> None:
    model = nn.ModuleDict({"head": nn.Linear(2, 3)})
    hint = f"the file is {kind}, the config's model a linear classifier: give the config it was"
    with pytest.raises(InputError, match=hint):
        load_weights(model, {name: torch.zeros(1)})


def test_fine_tuning_loads_what_fits_and_says_what_did_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, model = Toy(num_classes=80), Toy()
    before = snapshot(model)
    logger = logging.getLogger("toy")
    with caplog.at_level(logging.INFO, logger="toy"):
        report = load_weights(model, source.state_dict(), strict=False, logger=logger)
    assert report.mismatched[-1] == Mismatch("roi_head.fc_cls.weight", (81, 2), (4, 2))
    assert len(report.matched) == 3 and not report.complete
    assert torch.equal(model.backbone.pos_embed, source.backbone.pos_embed)
    assert torch.equal(model.roi_head.fc_cls.weight, before["roi_head.fc_cls.weight"])
    assert "loaded 3 weights" in caplog.text and "roi_head.fc_cls.weight" in caplog.text


@pytest.mark.parametrize(
    "state",
    [
        {"layer.weight": torch.ones(2)},
        {name: v for name, v in Toy().state_dict().items() if name.startswith("roi_head.")},
    ],
)
def test_fine_tuning_needs_something_of_the_backbone(state: dict) -> None:
    model = Toy()
    before = snapshot(model)
    with pytest.raises(InputError, match="of another model"):
        load_weights(model, state, strict=False)
    assert_unchanged(model, before)
