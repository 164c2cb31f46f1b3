"""Files of every kind and size made to fit backbones and detectors, or refused untouched."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmbeit3.checkpoint import Tower, load_backbone, load_weights, read_tower
from mmbeit3.checkpoint.fitting import fit_tower
from mmbeit3.checkpoint.resizing import resize_patch_kernel, resize_position_embedding
from mmbeit3.models import BEiT3Adapter
from mmbeit3.utils import InputError

from .official import (
    BASE,
    KINDS,
    LARGE,
    SMALL,
    WITH_FINAL_LN,
    backbone,
    is_text,
    official_weights,
    randomise,
    save_official,
)

POSITIONS = "beit3.encoder.embed_positions.A.weight"
KERNEL = "beit3.vision_embed.proj.weight"
FINAL_LN = ["norm.weight", "norm.bias"]
NEVER_READ = {
    "mask token": ["mask_token"],
    "two position rows that BEiT-3 never reads": ["pos_embed_unused"],
}


class Detector(nn.Module):
    """A backbone with parts around it."""

    def __init__(self, classes: int = 3, **options) -> None:
        super().__init__()
        windows = dict(window_size=2, with_cls_token=False, final_norm=False)
        self.backbone = backbone(**windows | options)
        self.neck = nn.Linear(4, 4)
        self.roi_head = nn.Linear(4, classes)
        randomise(self, SMALL, seed=classes)


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert torch.equal(got[name], value), name


@contextmanager
def refused(model: nn.Module, words: str) -> Iterator[None]:
    """An InputError with these words is raised, and the model is as it was."""
    before = copied(model)
    with pytest.raises(InputError, match=words):
        yield
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("final_norm", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_loads_with_exactly_its_report(kind: str, final_norm: bool) -> None:
    weights, model = official_weights(kind), backbone(final_norm=final_norm)
    if final_norm and kind not in WITH_FINAL_LN:
        with refused(model, "the file has no final LN, .* set final_norm=False"):
            load_backbone(model, weights)
        return
    report = load_backbone(model, weights)
    own = model.state_dict()
    assert report.complete and report.matched == sorted(own)
    assert not report.fitted.resized and not report.fitted.left_as_initialized
    unused = dict(report.fitted.unused)
    assert len(unused.pop("text branch")) == sum(is_text(name) for name in weights)
    heads = [name for name in weights if not name.startswith("beit3.")]
    assert sorted(unused.pop("heads")) == sorted(heads)
    left_out = {} if final_norm or kind not in WITH_FINAL_LN else {"final LN": FINAL_LN}
    assert {name.partition(" (")[0]: names for name, names in unused.items()} == (
        left_out | NEVER_READ
    )
    tower = read_tower(weights).weights
    assert_same(own, {name: tower[name].float() for name in own})


def test_the_log_says_what_was_resized_and_what_was_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_official(official_weights("itc"), tmp_path / "beit3_itc.pth")
    model = backbone(
        img_size=(64, 96), patch_size=16, window_size=2, with_cls_token=False, final_norm=False
    )
    with caplog.at_level(logging.INFO, logger="test"):
        load_backbone(model, path, logger=logging.getLogger("test"))
    assert caplog.messages == [
        f"loaded all 35 weights of the backbone from {path} (official layout, float16)\n"
        "  resized: positions 6 x 6 -> 4 x 6 tokens (bicubic)\n"
        "  resized: patch kernel 8 x 8 -> 16 x 16 pixels (pseudo-inverse)\n"
        "  unused by design: text branch (44 weights); heads language_head, logit_scale, "
        "vision_head (3 weights); CLS token and its position; final LN (final_norm=False); "
        "mask token; two position rows that BEiT-3 never reads"
    ]


def test_relative_positions_stay_at_zero_and_are_reported() -> None:
    model = backbone(rel_pos=True, with_cls_token=False)
    report = load_backbone(model, official_weights("itc"))
    tables = [name for name in model.state_dict() if ".rel_pos." in name]
    assert len(tables) == 2 * SMALL.depth and report.fitted.left_as_initialized == tables
    assert not any(model.state_dict()[name].any() for name in tables)
    assert report.complete
    assert "left at zero: 4 relative positions" in report.fitted.summary()
    # A file of this project has them, or is of another model.
    own = {name: value for name, value in copied(model).items() if name not in tables}
    with refused(model, "4 in the model but not in the file: .*rel_pos"):
        load_backbone(model, own)


DEEP = SMALL._replace(depth=4)


def adapter(**options) -> BEiT3Adapter:
    arch = dict(embed_dims=48, num_layers=4, num_heads=4, feedforward_channels=96)
    return BEiT3Adapter(arch, img_size=48, patch_size=8, conv_inplane=8, **options)


@pytest.mark.parametrize("with_cls_token", [True, False])
def test_an_adapter_takes_the_tower_and_keeps_its_own_weights(
    tmp_path: Path, with_cls_token: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_official(official_weights("itc", DEEP), tmp_path / "beit3_itc.pth")
    model = adapter(with_cls_token=with_cls_token)
    before = copied(model)
    own = [name for name in before if name.startswith("adapter.")]
    with caplog.at_level(logging.INFO, logger="test"):
        report = load_backbone(model, path, logger=logging.getLogger("test"))
    assert report.complete and report.fitted.left_as_initialized == own
    assert report.matched == sorted(before.keys() - set(own))
    assert f"left as initialized: {len(own)} weights of the adapter" in caplog.text
    assert "left at zero" not in caplog.text
    plain = backbone(DEEP, with_cls_token=with_cls_token, final_norm=False)
    load_backbone(plain, path)
    assert_same(model.state_dict(), plain.state_dict() | {name: before[name] for name in own})
    by_config = adapter(
        with_cls_token=with_cls_token, init_cfg=dict(type="Pretrained", checkpoint=str(path))
    )
    by_config.init_weights()
    assert_same(
        {name: value for name, value in by_config.state_dict().items() if name not in own},
        plain.state_dict(),
    )


def test_an_adapters_own_file_is_loaded_whole_or_refused() -> None:
    source, model = randomise(adapter(), DEEP, seed=1), randomise(adapter(), DEEP, seed=2)
    weights = copied(source)
    report = load_backbone(model, weights)
    assert report.complete and not report.fitted.left_as_initialized
    assert_same(model.state_dict(), weights)
    name = "adapter.injectors.2.gamma"
    with refused(model, f"1 in the model but not in the file: {name}"):
        load_backbone(model, {key: weights[key] for key in weights if key != name})
    with refused(model, r"layers\.3\.norm1\.bias"):
        load_backbone(model, {k: v for k, v in weights.items() if k != "layers.3.norm1.bias"})
    with refused(backbone(DEEP, final_norm=False), "in the file but not in the model: adapter"):
        load_backbone(backbone(DEEP, final_norm=False), weights)


def test_a_tower_trained_here_without_adapter_can_get_one() -> None:
    source, model = randomise(backbone(DEEP, final_norm=False), DEEP), adapter()
    before = copied(model)
    load_backbone(model, copied(source))
    own = {name: value for name, value in before.items() if name.startswith("adapter.")}
    assert_same(model.state_dict(), source.state_dict() | own)


@pytest.mark.parametrize("prefix", ["beit3.", ""])
def test_a_backbone_is_refused_without_any_one_of_its_weights(prefix: str) -> None:
    weights, model = official_weights("pretrained"), randomise(backbone(), SMALL, seed=1)
    weights = {
        name.replace("beit3.", prefix): value
        for name, value in weights.items()
        if name.startswith("beit3.")
    }
    names = [name for name in weights if not is_text("beit3." + name.removeprefix(prefix))]
    tried = 0
    for name in names:
        if name.endswith("mask_token"):
            continue
        bare = name.removeprefix(prefix).replace("encoder.layer_norm.A.", "norm.")
        with refused(model, f"(lacks 1|1 in the model but not in the file).*: {bare}"):
            load_backbone(model, {key: weights[key] for key in weights if key != name})
        tried += 1
    assert tried == 2 * 20 + 4 + 2


def test_own_files_are_refused_without_any_one_of_their_weights() -> None:
    model = randomise(backbone(), SMALL, seed=1)
    own = copied(backbone())
    for name in own:
        # Without a CLS token its row is taken for one of a patch.
        words = "37 positions" if name == "cls_token" else f"not in the file: .*{name}"
        with refused(model, words):
            load_backbone(model, {key: own[key] for key in own if key != name})


def test_own_files_with_unknown_weights_are_refused() -> None:
    model = backbone()
    with refused(model, r"1 in the file but not in the model: layers\.0\.gamma"):
        load_backbone(model, copied(model) | {"layers.0.gamma": torch.ones(1)})


def test_a_file_without_its_last_layer_is_of_another_size() -> None:
    weights, model = official_weights("pretrained"), backbone()
    rest = {name: value for name, value in weights.items() if "layers.1." not in name}
    with refused(model, "1 layers of 48 channels, the model's 2 layers of 48 channels"):
        load_backbone(model, rest)


@pytest.mark.parametrize(("in_file", "in_model"), [(BASE, LARGE), (LARGE, BASE)])
def test_another_size_is_refused_by_naming_both(in_file: tuple, in_model: tuple) -> None:
    sizes = {BASE: "12 layers of 768 channels", LARGE: "24 layers of 1024 channels"}
    weights = official_weights("itc", in_file, 224, device="meta")
    with torch.device("meta"):
        model = backbone(in_model, 224)
    words = f"tower has {sizes[in_file]}, the model's {sizes[in_model]}: set arch to the file's"
    with pytest.raises(InputError, match=words):
        load_backbone(model, weights)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        (KERNEL, (48, 1, 8, 8), r"patch_embed\.proj\.weight \(48, 1"),
        ("beit3.encoder.layers.1.ffn.A.fc1.weight", (64, 48), r"ffn\.fc1\.weight \(64, 48\) -> "),
        ("beit3.encoder.layers.1.self_attn.k_proj.A.bias", (12,), r"attn\.qkv\.bias \(108,\) -> "),
        (POSITIONS, (3 + 35, 48), "35 positions, which are no square grid and not the 6 x 6"),
        (POSITIONS, (2, 48), r"pos_embed \(1, 0, 48\) -> "),
        (POSITIONS, (3, 48), r"pos_embed \(1, 1, 48\) -> "),
        (KERNEL, (48, 192), r"proj\.weight \(48, 192\) -> "),
        (KERNEL, (48, 3, 6, 8), r"proj\.weight \(48, 3, 6, 8\) -> "),
    ],
)
def test_weights_of_other_shapes_are_refused(name: str, shape: tuple[int, ...], words: str) -> None:
    with refused(model := backbone(), words):
        load_backbone(model, official_weights("itc") | {name: torch.zeros(shape)})


def test_half_precision_is_widened_before_anything_is_resized() -> None:
    half = official_weights("itc")
    single = {name: value.float() for name, value in half.items()}
    model = backbone(img_size=(64, 96), patch_size=16)
    from_half, from_single = (
        fit_tower(read_tower(weights), model).weights for weights in (half, single)
    )
    for name in ("pos_embed", "patch_embed.proj.weight"):
        assert from_half[name].dtype == torch.float32
        assert torch.equal(from_half[name], from_single[name])
    table = half[POSITIONS][3:].T.unflatten(1, (6, 6))[None]
    in_half = F.interpolate(table, size=(4, 6), mode="bicubic")[0].flatten(1).T.float()
    assert not torch.equal(from_half["pos_embed"][0, 1:], in_half)
    kernel = resize_patch_kernel(half[KERNEL], 16).float()
    assert not torch.equal(from_half["patch_embed.proj.weight"], kernel)
    load_backbone(model, half)
    assert torch.equal(model.pos_embed, from_single["pos_embed"])


def test_cls_token_and_its_position_are_never_resized() -> None:
    weights, model = official_weights("itc"), backbone(img_size=96)
    load_backbone(model, weights)
    assert torch.equal(model.pos_embed[0, 0], weights[POSITIONS][2].float())
    assert torch.equal(model.cls_token, weights["beit3.vision_embed.cls_token"].float())
    grid = weights[POSITIONS][3:].float().unflatten(0, (6, 6))[None]
    assert torch.equal(model.pos_embed[:, 1:], resize_position_embedding(grid, (12, 12)))
    without = backbone(img_size=96, with_cls_token=False)
    load_backbone(without, weights)
    assert torch.equal(without.pos_embed, model.pos_embed[:, 1:])


class Grid:
    """A backbone of which only the positions matter."""

    patch_size = 8

    def __init__(self, grid_size: tuple[int, int], with_cls: bool) -> None:
        self.grid_size, self.with_cls = grid_size, with_cls

    def state_dict(self) -> dict[str, Tensor]:
        return {"cls_token": torch.zeros(1, 1, 2)} if self.with_cls else {}


@pytest.mark.parametrize(
    ("rows", "file_has_cls", "grid", "taken_for"),
    [
        (36, True, (6, 6), (6, 6)),
        (36, False, (6, 6), (6, 6)),
        (36, True, (8, 5), (6, 6)),
        (36, False, (8, 5), (6, 6)),
        # As many rows as the backbone's, and no square: the same grid.
        (40, True, (8, 5), (8, 5)),
        (40, False, (8, 5), (8, 5)),
        # A square number of rows, and a backbone of as many that is no square: published files
        # (with CLS) are square, a file without CLS was trained here.
        (36, True, (4, 9), (6, 6)),
        (36, False, (4, 9), (4, 9)),
        (40, True, (5, 9), None),
        (40, False, (5, 9), None),
    ],
)
@pytest.mark.parametrize("with_cls", [True, False])
def test_the_grid_of_a_table_is_known_from_its_rows(
    rows: int,
    file_has_cls: bool,
    grid: tuple[int, int],
    taken_for: tuple[int, int] | None,
    with_cls: bool,
) -> None:
    torch.manual_seed(0)
    cls, patches = torch.randn(1, int(file_has_cls), 2), torch.randn(1, rows, 2)
    weights = {"pos_embed": torch.cat([cls, patches], 1)}
    if file_has_cls:
        weights["cls_token"] = torch.zeros(1, 1, 2)
    tower = Tower("mmbeit3", weights)
    if taken_for is None:
        words = f"f.pth has {rows} positions, which are no square grid and not the 5 x 9"
        with pytest.raises(InputError, match=words):
            fit_tower(tower, Grid(grid, with_cls), "f.pth")
        return
    fitted = fit_tower(tower, Grid(grid, with_cls))
    assert bool(fitted.resized) == (taken_for != grid)
    want = resize_position_embedding(patches.unflatten(1, taken_for), grid)
    if file_has_cls and with_cls:
        want = torch.cat([cls, want], 1)
    assert torch.equal(fitted.weights["pos_embed"], want)


def tower_files() -> dict[str, dict[str, Tensor]]:
    own = randomise(backbone(), SMALL, seed=7).state_dict()
    timm = {
        name.replace("layers.", "blocks.").replace(".ffn.", ".mlp."): value
        for name, value in own.items()
        if not name.startswith("norm.")
    }
    return {"official": official_weights("itc", seed=7), "timm": timm, "mmbeit3": own}


@pytest.mark.parametrize("layout", ["official", "timm", "mmbeit3"])
def test_load_from_takes_a_tower_alone(
    tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    weights, model = tower_files()[layout], Detector(img_size=64)
    before = copied(model)
    path = save_official(weights, tmp_path / "tower.pth")
    with caplog.at_level(logging.INFO, logger="test"):
        report = load_weights(model, path, strict=False, logger=logging.getLogger("test"))
    parts = [name for name in before if not name.startswith("backbone.")]
    assert report.missing == parts and not report.unexpected and not report.mismatched
    assert report.matched == sorted(before.keys() - set(parts))
    assert "left as initialized: neck, roi_head (4 weights)" in caplog.text
    alone = Detector(img_size=64).backbone
    load_backbone(alone, weights)
    assert_same(model.backbone.state_dict(), alone.state_dict())
    assert_same({n: model.state_dict()[n] for n in parts}, {n: before[n] for n in parts})


@pytest.mark.parametrize("layout", ["official", "timm", "mmbeit3"])
def test_a_tower_alone_is_no_checkpoint_to_test_or_resume_from(layout: str) -> None:
    model = Detector()
    with refused(model, rf"f.pth is a BEiT-3 vision tower alone \({layout} layout\).*load_from"):
        load_weights(model, tower_files()[layout], strict=True, origin="f.pth")


def test_a_tower_alone_must_fit_the_detectors_backbone_whole() -> None:
    weights, model = official_weights("itc"), Detector()
    name = "beit3.encoder.layers.1.ffn.A.fc2.bias"
    with refused(model, "lacks 1 weights"):
        load_weights(model, {k: v for k, v in weights.items() if k != name}, strict=False)
    with refused(model, "1 of another shape"):
        load_weights(model, weights | {name: torch.zeros(24)}, strict=False)


def test_fine_tuning_from_a_detector_of_another_image_and_patch_size() -> None:
    source, model = Detector(img_size=64), Detector(classes=5, img_size=96, patch_size=16)
    want, before = copied(source), copied(model)
    report = load_weights(model, want, strict=False)
    resized = {
        "backbone.pos_embed": resize_position_embedding(
            want["backbone.pos_embed"].unflatten(1, (8, 8)), (6, 6)
        ),
        "backbone.patch_embed.proj.weight": resize_patch_kernel(
            want["backbone.patch_embed.proj.weight"], 16
        ),
    }
    kept = {name: before[name] for name in ("roi_head.weight", "roi_head.bias")}
    assert_same(model.state_dict(), want | resized | kept)
    assert [entry.name for entry in report.mismatched] == sorted(kept)
    assert len(report.fitted.resized) == 2
    with refused(fresh := Detector(img_size=96), "only the position table differs"):
        load_weights(fresh, want, strict=True)


def test_the_parts_of_a_detector_are_not_reported_as_unused() -> None:
    source, model = Detector(img_size=64), Detector(img_size=96)
    report = load_weights(model, copied(source), strict=False)
    assert torch.equal(model.roi_head.weight, source.roi_head.weight)
    assert not report.fitted.unused


def test_init_cfg_takes_the_backbone_out_of_a_detector(tmp_path: Path) -> None:
    source = Detector(img_size=64)
    torch.save({"state_dict": source.state_dict(), "meta": {}}, tmp_path / "epoch_12.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "epoch_12.pth"))
    model = Detector(img_size=64, init_cfg=init_cfg).backbone
    model.init_weights()
    assert_same(model.state_dict(), source.backbone.state_dict())


@pytest.mark.parametrize("others", ["a ResNet", "a detector without its backbone"])
def test_a_detector_of_another_model_is_refused(others: str) -> None:
    model = Detector()
    state = {
        name: value for name, value in copied(model).items() if not name.startswith("backbone.")
    }
    if others == "a ResNet":
        state["backbone.layer1.0.conv1.weight"] = torch.ones(1)
    with refused(model, "is of another model"):
        load_weights(model, state, strict=False)
