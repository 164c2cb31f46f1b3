"""Official files as a whole: towers and heads of each task, there and back."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from mmbeit3.checkpoint import (
    find_task,
    from_official,
    load_backbone,
    load_task,
    load_weights,
    read_checkpoint,
    save_checkpoint,
    state_dict_of,
    to_official,
)
from mmbeit3.models import (
    BEiT3,
    BEiT3Captioning,
    BEiT3Multiway,
    BEiT3Pretraining,
    BEiT3Retrieval,
)
from mmbeit3.models.multimodal.masking import mask_images, mask_texts
from mmbeit3.utils import InputError
from tests.small_pretraining import CODES

from .official import (
    BASE,
    KINDS,
    LARGE,
    SMALL,
    Size,
    official_weights,
    save_official,
    torchscale_beit3,
)

TASK_OF = dict(
    pretrained="pretraining",
    itc="retrieval",
    nlvr2="nlvr2",
    captioning="captioning",
    in1k="classification",
    vqa="vqa",
)


def retrieval(size: Size = SMALL, img_size: int = 48, **options) -> BEiT3Retrieval:
    encoder = dict(
        type="mmbeit3.BEiT3Multiway",
        arch=size.arch,
        img_size=img_size,
        patch_size=size.patch,
        vocab_size=size.vocabulary,
    )
    return BEiT3Retrieval(encoder | options).eval()


def same(found: dict[str, Tensor], want: dict[str, Tensor]) -> bool:
    return found.keys() == want.keys() and all(
        value.dtype == want[name].dtype and torch.equal(value, want[name])
        for name, value in found.items()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_known_and_goes_there_and_back(kind: str) -> None:
    weights = official_weights(kind)
    assert find_task(weights) == TASK_OF[kind]
    ours = from_official(weights)
    assert find_task(ours) == TASK_OF[kind]
    back = to_official(ours)
    if kind == "in1k":  # classification has no text
        weights = {n: v for n, v in weights.items() if ".B." not in n and "text_embed" not in n}
    assert same(back, weights)


def test_a_file_of_unknown_heads_is_of_no_task() -> None:
    weights = official_weights("itc")
    for changed in (
        weights | {"bias": torch.zeros(1)},
        {name: value for name, value in weights.items() if name != "logit_scale"},
    ):
        assert find_task(changed) is None
        with pytest.raises(InputError, match="new.pth is of no released task"):
            from_official(changed, "new.pth")
    assert find_task({"layer1.0.conv1.weight": torch.ones(1)}) is None


@pytest.mark.parametrize(
    "size", [SMALL, Size(64, 3, 2, 160, patch=16, vocabulary=20)], ids=["8", "16"]
)
def test_a_retrieval_model_starts_from_its_official_file_alone(tmp_path: Path, size: Size) -> None:
    img_size = 6 * size.patch
    weights = official_weights("itc", size, img_size)
    file = save_official(weights, tmp_path / "beit3_small_itc.pth")
    model = retrieval(size, img_size)
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
        other = retrieval(size, img_size)
        report = run(other)
        assert report.complete
        assert same(other.half().state_dict(), model.state_dict())
    larger = retrieval(size, 8 * size.patch, max_tokens=30)
    report = load_task(larger, file)
    assert larger.encoder.text.pos_embed.shape[1] == 30
    assert [line.split()[0] for line in report.fitted.resized] == ["positions", "positions"]


@torch.no_grad()
def test_torchscale_loads_ours_strictly_and_computes_the_same() -> None:
    torch.manual_seed(0)
    model = retrieval()
    for param in model.parameters():
        nn.init.normal_(param, std=0.3)
    state = to_official(model.state_dict())
    theirs = torchscale_beit3(SMALL, 48)
    core = {n.removeprefix("beit3."): v for n, v in state.items() if n.startswith("beit3.")}
    theirs.load_state_dict(core)
    theirs.eval()
    images = torch.randn(3, 3, 48, 48)
    ids = torch.randint(0, SMALL.vocabulary, (3, 7))
    padding = torch.arange(7) >= torch.tensor([[7], [4], [2]])
    want = theirs(visual_tokens=images)["encoder_out"][:, 0] @ state["vision_head.weight"].T
    found = model.encode_image(images)
    assert (found - nn.functional.normalize(want, dim=-1)).abs().max() < 1e-5
    want = theirs(textual_tokens=ids, text_padding_position=padding)["encoder_out"][:, 0]
    want = nn.functional.normalize(want @ state["language_head.weight"].T, dim=-1)
    assert (model.encode_text(ids, padding) - want).abs().max() < 1e-5
    back = retrieval()
    load_task(back, state)
    assert same(back.state_dict(), model.state_dict())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "itc"])
def test_a_file_of_another_task_is_named_and_leaves_the_model(tmp_path: Path, kind: str) -> None:
    weights = official_weights(kind)
    file = save_official(weights, tmp_path / f"{kind}.pth")
    options = dict(final_norm=kind not in ("in1k", "vqa"))
    model = retrieval(**options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for run in (lambda: load_task(model, file), lambda: load_weights(model, file)):
        with pytest.raises(InputError, match=rf"{kind}.pth is a checkpoint of .*Expected .*_itc_"):
            run()
    if kind == "in1k":
        with pytest.raises(InputError, match="the configs in configs/beit3_imagenet take it"):
            load_task(model, file)
    assert same(model.state_dict(), before)
    # its towers start one, by load_from or the encoder's init_cfg, and the heads are new
    load_weights(model, file, strict=False)
    assert torch.equal(model.vision_head.weight, before["vision_head.weight"])
    other = BEiT3Multiway(
        SMALL.arch, 48, 8, vocab_size=64, **options,
        init_cfg=dict(type="Pretrained", checkpoint=file),
    )  # fmt: skip
    other.init_weights()
    assert same(other.state_dict(), model.encoder.state_dict())
    # and the dense tower takes the vision half
    tower = BEiT3(SMALL.arch, 48, 8, window_size=0, with_cls_token=True, **options)
    load_backbone(tower, file)
    assert same(tower.state_dict(), other.vision.state_dict())


def test_a_detectors_test_says_what_it_was_given() -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = BEiT3(SMALL.arch, 48, 8), nn.Linear(2, 2)

    with pytest.raises(InputError, match="it is a checkpoint of image-text retrieval"):
        load_weights(Detector(), official_weights("itc"))


def test_a_checkpoint_of_ours_starts_another_size_and_is_tested_at_its_own(tmp_path: Path) -> None:
    model = retrieval()
    model.init_weights()
    file = tmp_path / "iter_1.pth"
    save_checkpoint({"state_dict": model.state_dict()}, file)
    load_weights(retrieval(), file)
    other = dict(img_size=64, max_tokens=40)
    with pytest.raises(InputError, match="is of another model"):
        load_weights(retrieval(**other), file)
    for run in (
        lambda model: load_weights(model, file, strict=False),
        lambda model: load_task(model, file),
    ):
        larger = retrieval(**other)
        report = run(larger)
        assert report.complete and len(report.fitted.resized) == 2
        assert torch.equal(larger.encoder.text.pos_embed, model.encoder.text.pos_embed[:, :40])
        assert torch.equal(larger.vision_head.weight, model.vision_head.weight)
        images = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            found, want = larger.encode_image(images), model.encode_image(images)
        assert (found - want).abs().max() < 1e-5  # resized at run time, or when loaded
    longer = retrieval(max_tokens=2000)
    with pytest.raises(InputError, match="max_tokens=1022"):
        load_task(longer, file)
    with pytest.raises(InputError, match="Expected a checkpoint of a BEiT3Retrieval"):
        load_task(
            retrieval(), {f"backbone.{n}": v for n, v in model.encoder.vision.state_dict().items()}
        )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_shared_attention_is_saved_and_loaded(tmp_path: Path, suffix: str) -> None:
    options = dict(attention="shared")
    model = retrieval(**options)
    model.init_weights()
    file = tmp_path / f"shared{suffix}"
    save_checkpoint({"state_dict": model.state_dict()}, file)
    state = state_dict_of(read_checkpoint(file))
    assert same(state, dict(model.state_dict()))
    name = "layers.1.attn.qkv.weight"
    for run in (load_weights, load_task, lambda m, f: load_weights(m, f, strict=False)):
        other = retrieval(**options)
        run(other, file)
        assert same(other.state_dict(), dict(model.state_dict()))
        assert other.encoder.text.layers[1].attn is other.encoder.vision.layers[1].attn
    # a decoupled file would lose half of its attention without a word
    decoupled = official_weights("itc")
    ours = from_official(decoupled)
    assert not torch.equal(ours[f"encoder.vision.{name}"], ours[f"encoder.text.{name}"])
    for run in (load_weights, load_task, lambda m, f: load_weights(m, f, strict=False)):
        for content in (decoupled, ours):
            other = retrieval(**options)
            with pytest.raises(
                InputError, match="which are one in the model.*attention='decoupled'"
            ):
                run(other, content)
    other = BEiT3Multiway(SMALL.arch, 48, 8, vocab_size=64, **options)
    other.init_cfg = dict(
        type="Pretrained", checkpoint=save_official(decoupled, tmp_path / "itc.pth")
    )
    with pytest.raises(InputError, match="which are one in the model"):
        other.init_weights()


# Parameters by the README of microsoft/unilm beit3 and the sizes of the released files.
COUNTS = [
    ("pretrained", BASE, 224, 276_510_730),
    ("pretrained", LARGE, 224, 746_709_514),
    ("itc", BASE, 224, 222_167_041),
    ("itc", LARGE, 224, 674_799_617),
    ("itc", BASE, 384, 222.46e6),
    ("itc", LARGE, 384, 675.19e6),
    ("nlvr2", BASE, 224, 225.72e6),
    ("nlvr2", LARGE, 224, 681.11e6),
    ("vqa", BASE, 480, 228.11e6),
    ("vqa", LARGE, 480, 682.99e6),
    ("vqa", LARGE, 768, 684.42e6),
    ("captioning", BASE, 480, 270.75e6),
    ("captioning", LARGE, 480, 739.03e6),
    ("in1k", BASE, 224, 221.75e6),  # 887 MB in float32, the text branch among them
]


@pytest.mark.parametrize(("kind", "size", "img_size", "want"), COUNTS, ids=str)
def test_models_have_as_many_parameters_as_the_released_files(
    kind: str, size: Size, img_size: int, want: float
) -> None:
    heads = official_weights(
        kind, SMALL._replace(width=size.width, vocabulary=size.vocabulary), device="meta"
    )
    heads = {name: value for name, value in heads.items() if not name.startswith("beit3.")}
    with torch.device("meta"):
        encoder = BEiT3Multiway(size.arch, img_size, final_norm=kind not in ("in1k", "vqa"))
    towers = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    if kind == "in1k":  # counted below: with both towers it is of no task here
        heads = {}
    state = to_official(towers | heads)
    count = sum(value.numel() for value in state.values())
    if kind == "in1k":
        count += 2 * size.width + 1000 * (size.width + 1)
    assert count == want if isinstance(want, int) else math.isclose(count, want, abs_tol=5e3)
    assert len([name for name in state if name.startswith("beit3.")]) == (
        {12: 491, 24: 971}[size.depth] - 4 * (kind in ("in1k", "vqa"))
    )


@pytest.mark.parametrize(
    ("size", "want"), [(BASE, 86.66e6), (LARGE, 304.6e6)], ids=["base", "large"]
)
def test_an_image_classifier_is_as_large_as_released(size: Size, want: float) -> None:
    with torch.device("meta"):
        tower = BEiT3(size.arch, 224, window_size=0, with_cls_token=True)
        parts = nn.ModuleList([tower, nn.LayerNorm(size.width), nn.Linear(size.width, 1000)])
    count = sum(param.numel() for param in parts.parameters()) + size.width  # the mask token
    assert math.isclose(count, want, abs_tol=5e4)


def pretraining(size: Size = SMALL, **options) -> BEiT3Pretraining:
    sizes = dict(arch=size.arch, img_size=48, patch_size=size.patch, vocab_size=size.vocabulary)
    return BEiT3Pretraining(dict(type="mmbeit3.BEiT3Multiway", **sizes | options))


def test_a_pretrained_file_is_an_official_one(tmp_path: Path) -> None:
    weights = official_weights("pretrained")
    model = pretraining()
    report = load_task(model, save_official(weights, tmp_path / "official.pth"))
    assert not report.missing and not report.unexpected
    back = to_official(model.state_dict())
    rows = [f"beit3.encoder.embed_positions.{branch}.weight" for branch in "AB"]
    assert back.keys() == weights.keys()
    for name, value in weights.items():
        kept = slice(2, None) if name in rows else slice(None)  # of the others nothing is read
        assert torch.equal(back[name][kept], value.float()[kept]), name
    theirs = torchscale_beit3(SMALL, 48)
    theirs.load_state_dict({n.removeprefix("beit3."): v for n, v in back.items() if "beit3" in n})
    images, mask = torch.randn(2, 3, 48, 48), torch.rand(2, 36) < 0.4
    with torch.no_grad():
        want = theirs.eval()(visual_tokens=images, vision_masked_position=mask)["encoder_out"]
        found = model.eval().encoder.encode_image(images, mask)
    assert (found - want).abs().max() <= 1e-5 * want.abs().max()


@torch.no_grad()
def test_torchscale_has_the_features_and_losses_of_a_pretraining() -> None:
    """In float64, save its softmax; losses token by token, by their definition."""
    sizes = dict(arch=SMALL.arch, img_size=48, patch_size=SMALL.patch, vocab_size=SMALL.vocabulary)
    tokenizer = dict(type="mmbeit3.BrightnessCodes", img_size=48, patch_size=SMALL.patch)
    encoder = dict(type="mmbeit3.BEiT3Multiway", **sizes)
    model = BEiT3Pretraining(encoder, tokenizer, CODES).double().train()
    generator = torch.Generator().manual_seed(0)
    for param in model.parameters():
        param.copy_(0.3 * torch.randn(param.shape, generator=generator))
    model.data_preprocessor.tokenizer = SimpleNamespace(mask_id=SMALL.vocabulary - 1)
    theirs = torchscale_beit3(SMALL, 48).double().eval()
    state = to_official(model.state_dict())
    theirs.load_state_dict({n.removeprefix("beit3."): v for n, v in state.items() if "beit3" in n})
    padding = torch.arange(9) >= torch.tensor([[9], [5], [4]])
    data = {}
    for number, part in enumerate(("images", "texts", "pairs")):
        images = torch.rand(3, 3, 48, 48, generator=generator, dtype=torch.float64) * 2 - 1
        ids = torch.randint(4, SMALL.vocabulary - 1, (3, 9), generator=generator)
        samples = [dict(mask_seed=3 * number + index) for index in range(3)]
        data[part] = dict(inputs=images, ids=ids.masked_fill(padding, 1), padding_mask=padding)
        data[part]["data_samples"] = samples
    losses = model(
        images={n: v for n, v in data["images"].items() if n in ("inputs", "data_samples")},
        texts={n: v for n, v in data["texts"].items() if n != "inputs"},
        pairs=data["pairs"],
        mode="loss",
    )
    for part, rate in (("images", 0), ("texts", 0.15), ("pairs", 0.5)):
        own, prefix = data[part], "pair_" if part == "pairs" else ""
        seeds = [sample["mask_seed"] for sample in own["data_samples"]]
        given, ours, split = {}, [], 0
        if part != "texts":
            mask = mask_images(3, 6, 6, 0.4, seeds)
            given |= dict(visual_tokens=own["inputs"], vision_masked_position=mask)
            split = 37
        if part != "images":
            ids, chosen = mask_texts(own["ids"], rate, SMALL.vocabulary - 1, seeds)
            given |= dict(textual_tokens=ids, text_padding_position=padding)
        states = theirs(**given)["encoder_out"]
        if part == "images":
            ours = [model.encoder.encode_image(own["inputs"], mask)]
        elif part == "texts":
            ours = [model.encoder.encode_text(ids, padding)]
        else:
            ours = model.encoder.encode_pair(own["inputs"], ids, padding, patch_mask=mask)
        seen = torch.cat([torch.ones(3, split, dtype=torch.bool), ~padding[:, : 9 * (rate > 0)]], 1)
        assert (torch.cat(list(ours), 1) - states)[seen].abs().max() <= 1e-5 * states.abs().max()
        told = {}
        if part != "texts":
            codes = model.image_tokenizer.codes(own["inputs"])
            told["image"] = "mim_head", states[:, 1:37], mask, codes
        if part != "images":
            told["text"] = "mlm_head", states[:, split:], chosen, own["ids"]
        for name, (head, tokens, where, targets) in told.items():
            weight, bias = state[f"{head}.weight"].double(), state[f"{head}.bias"].double()
            terms = []
            for sample, place in where.nonzero().tolist():
                scores = [
                    float(row @ tokens[sample, place] + shift)
                    for row, shift in zip(weight, bias, strict=True)
                ]
                norm = math.log(sum(math.exp(score) for score in scores))
                terms.append(norm - scores[int(targets[sample, place])])
            want = sum(terms) / len(terms)
            assert float(losses[f"loss_{prefix}{name}"]) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("layout", ["own", "official"])
def test_all_models_start_from_a_pretrained_file(tmp_path: Path, layout: str) -> None:
    torch.manual_seed(0)
    model = pretraining()
    model.init_weights()
    state = model.state_dict() if layout == "own" else to_official(model.state_dict())
    file = tmp_path / "pretrained.pth"
    torch.save({"state_dict" if layout == "own" else "model": state}, file)
    start = dict(type="Pretrained", checkpoint=str(file))
    detector = BEiT3(SMALL.arch, 48, SMALL.patch, window_size=3, init_cfg=start)
    detector.init_weights()
    dual = BEiT3Retrieval(
        dict(
            type="mmbeit3.BEiT3Multiway",
            arch=SMALL.arch,
            img_size=48,
            patch_size=SMALL.patch,
            vocab_size=SMALL.vocabulary,
            init_cfg=start,
        )
    )
    dual.init_weights()
    again = pretraining()
    again.init_cfg = start
    again.init_weights()
    sizes = dict(arch=SMALL.arch, img_size=48, patch_size=SMALL.patch, vocab_size=SMALL.vocabulary)
    writer = BEiT3Captioning(dict(type="mmbeit3.BEiT3Multiway", **sizes), init_cfg=start)
    writer.init_weights()
    assert torch.equal(writer.mlm_head.weight, model.mlm_head.weight)
    want = model.encoder.state_dict()
    for name, value in writer.encoder.state_dict().items():
        assert torch.equal(value, want[name]), name
    for name, value in detector.state_dict().items():
        kept = want[f"vision.{name}"]
        assert torch.equal(value, kept[:, 1:] if name == "pos_embed" else kept), name
    for name, value in dual.encoder.state_dict().items():
        assert torch.equal(value, want[name]), name
    assert all(torch.equal(value, again.state_dict()[n]) for n, value in model.state_dict().items())


def test_vision_language_experts_are_kept_and_not_lost_silently(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = pretraining(attention="shared", vl_layers=1)
    model.init_weights()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    file = tmp_path / "paper.pth"
    torch.save({"state_dict": model.state_dict()}, file)
    start = dict(type="Pretrained", checkpoint=str(file))
    again = pretraining(attention="shared", vl_layers=1, init_cfg=start).encoder
    again.init_weights()
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in model.encoder.state_dict().items())
    more = pretraining(attention="shared", vl_layers=2, init_cfg=start).encoder
    with pytest.raises(InputError, match=r"paper.pth is of another model[\s\S]*vl_layers and arch"):
        more.init_weights()
    with pytest.raises(InputError, match="no place for vision-language experts .* paper.pth has"):
        to_official(model.state_dict(), "paper.pth")
