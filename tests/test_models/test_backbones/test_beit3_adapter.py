"""The ViT-Adapter: beside the paper's equations written out, published sizes, the plain tower."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttention
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.func import functional_call

from mmbeit3.models import BEiT3, BEiT3Adapter
from mmbeit3.models.backbones.beit3_adapter import resample
from mmbeit3.models.layers import DeformableAttention, Grid
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError

SMALL = dict(embed_dims=48, num_layers=4, num_heads=4, feedforward_channels=96)
WINDOWS = dict(window_size=3, global_attn_indexes=(1, 3), with_cls_token=False)
STRIDES = (4, 8, 16, 32)
CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def small(**options) -> BEiT3Adapter:
    torch.manual_seed(0)
    model = BEiT3Adapter(**dict(arch=SMALL, img_size=64, conv_inplane=8) | options)
    model.init_weights()
    return model.eval()


def drawn(**options) -> BEiT3Adapter:
    """A model whose injectors act and whose places and weights depend on the queries."""
    model = small(**options)
    for name, param in model.adapter.named_parameters():
        if name.endswith("gamma") or "sampling_offsets" in name or "attention_weights" in name:
            nn.init.normal_(param, std=0.3)
    return model


def images(height: int = 64, width: int = 96, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(3))


def count(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


# The table of ViT-Adapter's detection/README.md: Mask R-CNN with FPN, in millions. T and S have
# deform_ratio 1.0, B and L 0.5 (its configs); AugReg-L has the positions of 384 pixels.
@pytest.mark.parametrize(
    ("width", "depth", "heads", "ratio", "positions", "published"),
    [
        (192, 12, 6, 1.0, 197, 28),
        (384, 12, 6, 1.0, 197, 48),
        (768, 12, 12, 0.5, 197, 120),
        (1024, 24, 16, 0.5, 577, 348),
    ],
)
def test_sizes_are_the_published(
    width: int, depth: int, heads: int, ratio: float, positions: int, published: int
) -> None:
    arch = dict(embed_dims=width, num_layers=depth, num_heads=6 if width < 768 else heads)
    with torch.device("meta"):
        model = BEiT3Adapter(
            dict(arch, feedforward_channels=4 * width),
            deform_num_heads=heads,
            deform_ratio=ratio,
        )
        neck = MODELS.build(dict(FPN, in_channels=[width] * 4))
        heads = [MODELS.build(cfg) for cfg in MASK_RCNN_HEADS]
    vit = depth * (12 * width**2 + 13 * width) + 2 * width  # layers, last LN
    vit += 16 * 16 * 3 * width + width + (1 + positions) * width  # patches, CLS, positions
    total = vit + count(model.adapter) + count(neck) + sum(map(count, heads))
    assert round(total / 1e6) == published


# _scope_: what a test before this one left as the default scope does not matter.
MMDET = dict(_scope_="mmdet")
FPN = dict(MMDET, type="FPN", out_channels=256, num_outs=5)
ANCHORS = dict(type="AnchorGenerator", scales=[8], ratios=[0.5, 1, 2], strides=[4, 8, 16, 32, 64])
MASK_RCNN_HEADS = [
    dict(MMDET, type="RPNHead", in_channels=256, feat_channels=256, anchor_generator=ANCHORS),
    dict(MMDET, type="Shared2FCBBoxHead", in_channels=256, roi_feat_size=7, num_classes=80),
    dict(MMDET, type="FCNMaskHead", num_convs=4, in_channels=256, num_classes=80),
]


@pytest.mark.parametrize(
    ("arch", "heads", "parts"),
    [
        ("tiny", 6, [[0], [1], [2], [3]]),
        ("base", 12, [[0, 2], [3, 5], [6, 8], [9, 11]]),
        ("large", 16, [[0, 5], [6, 11], [12, 17], [18, 23]]),
        ("giant", 16, [[0, 9], [10, 19], [20, 29], [30, 39]]),
    ],
)
def test_defaults_are_those_of_the_recipes(arch: str, heads: int, parts: list[list[int]]) -> None:
    with torch.device("meta"):
        model, explicit = BEiT3Adapter(arch), BEiT3Adapter(arch, interaction_indexes=parts)
    assert model.parts == explicit.parts
    assert {m.num_heads for m in model.modules() if isinstance(m, DeformableAttention)} == {heads}


def written_out(model: BEiT3Adapter, x: Tensor) -> list[Tensor]:
    """The paper's equations for patches of 16 and images of whole multiples of 32 pixels.

    Tower, convolutions and norms are the model's own; attention is mmcv's, and what lies where is
    found as ViT-Adapter does it: tokens split 16 : 4 : 1, maps resized by whole factors.
    """
    batch, _, height, width = x.shape
    sizes = [(height // stride, width // stride) for stride in STRIDES]
    adapter = model.adapter
    first, *rest = adapter.spatial_prior(x)
    c = torch.cat([m.flatten(2) for m in rest], 2).transpose(1, 2)
    tower, _, _ = model.embed(x)
    features = []
    for part, injector, extractors in zip(
        range(4), adapter.injectors, adapter.extractors, strict=True
    ):
        cls, tokens = tower[:, :1], tower[:, 1:]
        asked = attended(injector, tokens, c, sizes[2:3], sizes[1:])
        tower = torch.cat([cls, tokens + injector.gamma * asked], 1)
        tower = model.layers[part](tower, ((1, tower.shape[1]),))
        for extractor in extractors:
            c = c + attended(extractor, c, tower[:, 1:], sizes[1:], sizes[2:3])
            c = c + conv_ffn(extractor, c, sizes[2])
        features.append(tower[:, 1:].transpose(1, 2).view(batch, -1, *sizes[2]))
    n = c.shape[1] // 21
    c2, c3, c4 = (
        part.transpose(1, 2).reshape(batch, -1, *size)
        for part, size in zip(c.split([16 * n, 4 * n, n], 1), sizes[1:], strict=True)
    )
    maps = [first + adapter.up(c2), c2, c3, c4]
    resized = [
        F.interpolate(f, scale_factor=s, mode="bilinear", align_corners=False)
        for f, s in zip(features, (4, 2, 1, 0.5), strict=True)
    ]
    return [norm(m + f) for norm, m, f in zip(adapter.norms, maps, resized, strict=True)]


def attended(module: nn.Module, query: Tensor, value: Tensor, at: list, of: list) -> Tensor:
    heads, levels, points = module.attn.places
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a power of two would be faster in CUDA
        attn = MultiScaleDeformableAttention(
            query.shape[-1],
            heads,
            levels,
            points,
            dropout=0.0,
            batch_first=True,
            value_proj_ratio=0.5,
        )
    attn.load_state_dict(module.attn.state_dict())
    places = [
        torch.stack(torch.meshgrid(*(axis(n) for n in size), indexing="ij")[::-1], -1).view(-1, 2)
        for size in at
    ]
    shapes = torch.tensor(of)
    return attn(
        module.query_norm(query),
        value=module.value_norm(value),
        identity=torch.zeros_like(query),
        reference_points=torch.cat(places)[None, :, None].expand(len(query), -1, levels, -1),
        spatial_shapes=shapes,
        level_start_index=F.pad(shapes.prod(1).cumsum(0), (1, 0))[:-1],
    )


def axis(cells: int) -> Tensor:
    return (torch.arange(cells) + 0.5) / cells


def conv_ffn(extractor: nn.Module, c: Tensor, size: tuple[int, int]) -> Tensor:
    x = extractor.ffn.fc1(extractor.ffn_norm(c)).transpose(1, 2)
    n = x.shape[2] // 21
    done = []
    for part, scale in zip(x.split([16 * n, 4 * n, n], 2), (2, 1, 0.5), strict=True):
        image = part.unflatten(2, (int(size[0] * scale), int(size[1] * scale)))
        done.append(extractor.ffn.conv(image).flatten(2))
    return extractor.ffn.fc2(F.gelu(torch.cat(done, 2).transpose(1, 2)))


def test_computes_the_papers_equations() -> None:
    model, x = drawn(), images(64, 96)
    with torch.no_grad():
        for ours, want in zip(model(x), written_out(model, x), strict=True):
            torch.testing.assert_close(ours, want, rtol=1e-4, atol=1e-4)


def test_window_order_stays_inside_the_tower() -> None:
    windowed, everywhere = drawn(**WINDOWS), drawn(with_cls_token=False)
    for layer in windowed.layers:  # without attention, windows are an order of tokens alone
        nn.init.zeros_(layer.attn.proj.weight)
    everywhere.load_state_dict(windowed.state_dict())
    x = images(72, 120)  # 5 x 8 tokens: windows of 3 x 3, 2 x 3, 3 x 2 and 2 x 2
    with torch.no_grad():
        for found, want in zip(windowed(x), everywhere(x), strict=True):
            torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("patch_size", [16, 14])
@pytest.mark.parametrize("size", [(300, 300), (512, 128), (64, 64), (61, 35), (3, 200), (1, 1)])
@pytest.mark.parametrize("options", [{}, WINDOWS], ids=["global", "windows"])
def test_any_size(size: tuple[int, int], patch_size: int, options: dict) -> None:
    model = drawn(patch_size=patch_size, img_size=4 * patch_size, **options)
    with torch.no_grad():
        outs = model(images(*size, batch=1))
    for out, stride in zip(outs, STRIDES, strict=True):
        assert out.shape == (1, 48, *(math.ceil(side / stride) for side in size))
        assert out.isfinite().all()


@pytest.mark.parametrize("size", [(64, 96), (72, 40)])
@pytest.mark.parametrize("options", [{}, WINDOWS, dict(WINDOWS, rel_pos=True)], ids=str)
def test_the_tower_starts_exactly_as_the_plain_tower(options: dict, size: tuple[int, int]) -> None:
    model, x = small(**options), images(*size)
    cls = {} if "with_cls_token" in options else dict(window_size=0, with_cls_token=True)
    plain = BEiT3(SMALL, img_size=64, **cls | options).eval()
    state = {name: value for name, value in model.state_dict().items() if "adapter." not in name}
    plain.load_state_dict(state)
    want = []
    plain.layers[-1].register_forward_hook(lambda *args: want.append(args[-1]))
    model.layers[-1].register_forward_hook(lambda *args: want.append(args[-1]))
    plain(x), model(x)
    assert torch.equal(*want)
    for injector in model.adapter.injectors:
        nn.init.constant_(injector.gamma, 0.1)
    model(x)
    assert (want[2] - want[0]).abs().max() > 1e-2


@pytest.mark.parametrize("options", [{}, WINDOWS], ids=["global", "windows"])
def test_every_parameter_gets_a_gradient(options: dict) -> None:
    model = drawn(**options).train()
    outs = model(images())
    sum((out * torch.randn_like(out)).mean() for out in outs).backward()
    assert [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()
    ] == []


def test_at_the_start_what_cannot_act_yet_has_a_gradient_of_zero() -> None:
    model = small().train()
    sum((out * torch.randn_like(out)).mean() for out in model(images())).backward()
    assert all(param.grad is not None for param in model.parameters())
    still = {name for name, param in model.named_parameters() if not param.grad.any()}
    # Of an injector only gamma, which is zero, acts; and no attention asks its queries yet, since
    # places and weights start as constants.
    assert still == {
        name
        for name, _ in model.named_parameters()
        if ("injectors." in name and not name.endswith("gamma")) or ".query_norm." in name
    }


def test_gradients_are_those_of_finite_differences() -> None:
    arch = dict(embed_dims=8, num_layers=4, num_heads=2, feedforward_channels=8)
    model = drawn(arch=arch, img_size=32, conv_inplane=2, n_points=2).double()
    x = images(32, 48, 1).double().requires_grad_()
    weights = [torch.randn_like(out) for out in model(x)]
    groups: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        groups.setdefault(".".join(name.split(".")[:3]), []).append(name)

    def loss(x: Tensor, *values: Tensor) -> Tensor:
        params = {}
        for names, value in zip(groups.values(), values, strict=True):
            shapes = [model.get_parameter(name).shape for name in names]
            parts = value.split([shape.numel() for shape in shapes])
            params |= {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        outs = functional_call(model, params, (x,))
        return sum((out * weight).sum() for out, weight in zip(outs, weights, strict=True))

    values = [
        torch.cat([model.get_parameter(name).detach().flatten() for name in names]).requires_grad_()
        for names in groups.values()
    ]
    assert len(values) > 20
    assert torch.autograd.gradcheck(loss, (x, *values), eps=1e-7, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("options", [{}, WINDOWS], ids=["global", "windows"])
def test_batch_members_do_not_touch(options: dict) -> None:
    model, x = drawn(**options), images(72, 56, 3)
    for alone, together in zip(model(x[1:2]), model(x), strict=True):
        torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


def test_one_image_alone_trains_with_the_default_norms() -> None:
    outs = small().train()(images(32, 32, 1))
    assert all(out.isfinite().all() for out in outs)  # BatchNorm refuses the one cell of stride 32
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        small(norm_cfg=dict(type="BN")).train()(images(32, 32, 1))


def test_checkpointing_changes_no_gradient() -> None:
    grads = []
    for with_cp in (False, True):
        model = drawn(with_cp=with_cp).train()
        sum(out.square().mean() * (i + 1) for i, out in enumerate(model(images()))).backward()
        grads.append([param.grad for param in model.parameters()])
    for without, with_ in zip(*grads, strict=True):
        torch.testing.assert_close(without, with_)


def test_checkpointing_keeps_less(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {}
    for with_cp in (False, True):
        tensors = {}

        def keep(x: Tensor, tensors: dict = tensors) -> Tensor:
            tensors[x.data_ptr()] = x.numel()
            return x

        model = drawn(with_cp=with_cp).train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            outs = model(images())
        kept[with_cp] = sum(tensors.values())
        del outs
    assert kept[True] < 0.5 * kept[False]


def test_bfloat16_autocast_is_close_to_float32() -> None:
    model, x = small(), images()
    for injector in model.adapter.injectors:
        nn.init.constant_(injector.gamma, 0.1)
    with torch.no_grad():
        want = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(x)
    for low, exact in zip(found, want, strict=True):
        assert (low.float() - exact).norm() < 2 * 2**-8 * exact.norm()  # two roundings


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_runs_in_any_type(dtype: torch.dtype) -> None:
    outs = drawn().to(dtype)(images(61, 35, 1).to(dtype))
    assert all(out.dtype == dtype and out.isfinite().all() for out in outs)


def test_bfloat16_autocast_trains() -> None:
    model = drawn(with_cp=True).train()
    with torch.autocast("cpu", torch.bfloat16):
        outs = model(images())
    sum(out.float().square().mean() for out in outs).backward()
    assert all(param.grad.isfinite().all() for param in model.parameters())


@pytest.mark.parametrize(
    "cfg", [dict(type="SyncBN"), dict(type="BN"), dict(type="GN", num_groups=4)]
)
def test_norms_are_those_the_config_asks_for(cfg: dict) -> None:
    kind = type(build_norm_layer(cfg, 8)[1])
    model = small(norm_cfg=cfg)
    assert sum(isinstance(module, kind) for module in model.modules()) == 6 + 4
    if cfg["type"] != "SyncBN":
        assert all(out.isfinite().all() for out in model.train()(images(64, 64)))


def test_extractors_and_features_are_options() -> None:
    full, x = small(), images()
    lean = small(use_extra_extractor=False, add_vit_feature=False)
    assert [len(extractors) for extractors in full.adapter.extractors] == [1, 1, 1, 3]
    assert [len(extractors) for extractors in lean.adapter.extractors] == [1, 1, 1, 1]
    bare = small(add_vit_feature=False)
    bare.load_state_dict(full.state_dict())
    for with_features, without in zip(full(x), bare(x), strict=True):
        assert (with_features - without).abs().max() > 0.1


def test_drop_path_acts_in_training_only() -> None:
    model = drawn(drop_path_rate=0.5)
    x = images(32, 32)
    assert torch.equal(model(x)[3], model(x)[3])
    rates = {
        extractor.drop_path.drop_prob for part in model.adapter.extractors for extractor in part
    }
    assert rates == {0.5}


@pytest.mark.parametrize(("stride", "factor"), [(4, 4), (8, 2), (32, 0.5)])
def test_resampling_is_bilinear(stride: int, factor: float) -> None:
    x = torch.randn(2, 5, 6, 8)
    source = Grid(6, 8, 16)
    target = Grid(int(6 * factor), int(8 * factor), stride)
    want = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resample(x, source, target), want, rtol=1e-4, atol=1e-5)
    assert resample(x, source, source) is x


@pytest.mark.parametrize("patch_size", [16, 14, 8])
def test_resampling_keeps_what_lies_where(patch_size: int) -> None:
    # A ramp over the pixels, as a map of patches sees it, comes out as any other map sees it.
    side = 100
    source = Grid(*[math.ceil(side / patch_size)] * 2, patch_size)
    ramp = (torch.arange(source.width) + 0.5) * patch_size
    x = ramp.expand(1, 1, source.height, -1)
    for stride in STRIDES:
        target = Grid(*[math.ceil(side / stride)] * 2, stride)
        want = ((torch.arange(target.width) + 0.5) * stride).clamp(ramp.min(), ramp.max())
        found = resample(x, source, target)
        torch.testing.assert_close(
            found, want.expand(1, 1, target.height, -1), rtol=1e-4, atol=1e-3
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(final_norm=True), "no final_norm"),
        (dict(window_size=3, global_attn_indexes=(3,)), "with_cls_token=False"),
        (dict(rel_pos=True), "rel_pos .* with_cls_token=False"),
        (
            dict(interaction_indexes=[[0, 1], [2, 3]]),
            r"\[\[0, 1\], \[2, 3\]\]; .* 4 parts .* 0 to 3",
        ),
        (dict(interaction_indexes=[[0], [1], [3], [2]]), "in order"),
        (dict(interaction_indexes=[[0], [1], [2], [2, 3]]), "in order"),
        (dict(arch=dict(SMALL, num_layers=2)), "4 parts .* 0 to 1"),
        (dict(deform_num_heads=5), "5 heads .* cannot share 48 channels"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        small(**options)


def test_serves_a_detector() -> None:
    cfg = Config.fromfile(CONFIGS / "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py")
    init_default_scope("mmdet")
    cfg.model.backbone.update(type="mmbeit3.BEiT3Adapter", window_size=0, conv_inplane=8)
    cfg.model.neck = dict(type="FPN", in_channels=[192] * 4, out_channels=64, num_outs=4)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    images = demo_mm_inputs(2, [[3, 128, 96], [3, 96, 128]], num_classes=5, with_mask=True)
    losses = model(**model.data_preprocessor(images, True), mode="loss")
    values = [value for name, value in losses.items() if "loss" in name]
    total = sum(sum(value) if isinstance(value, list) else value for value in values)
    assert total.isfinite()
    total.backward()
    assert all(param.grad is not None for param in model.backbone.parameters())
