from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from mmbeit3.apis import converting
from mmbeit3.apis.converting import convert_checkpoint
from mmbeit3.checkpoint import layouts, read_checkpoint, read_tower
from mmbeit3.models import BEiT3, BEiT3Pretraining
from mmbeit3.utils import InputError
from tests.test_checkpoint.official import KINDS, Size, official_weights, save_official

State = dict[str, Tensor]
OLD = b"an older file"
# Official modules of a layer, as microsoft/unilm's files name them, and timm's.
LAYER = {
    "self_attn_layer_norm.A": "norm1",
    "self_attn.inner_attn_ln.A": "attn.norm",
    "self_attn.out_proj.A": "attn.proj",
    "final_layer_norm.A": "norm2",
    "ffn.A.fc1": "mlp.fc1",
    "ffn.A.ffn_layernorm": "mlp.norm",
    "ffn.A.fc2": "mlp.fc2",
}


def timm_vit(
    width: int = 192, depth: int = 4, heads: int = 6, img_size: int = 64, patch_size: int = 16
) -> VisionTransformer:
    """timm's BEiT-3 with random weights, also where it starts with ones and zeros."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=img_size,
        patch_size=patch_size,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        scale_attn_norm=True,
        scale_mlp_norm=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        global_pool="avg",
        num_classes=3,
    )
    for name, value in model.named_parameters():
        scale = 1.0 if name == "pos_embed" else 0.1
        nn.init.normal_(value, mean=float("norm" in name and "weight" in name), std=scale)
    return model.eval()


def timm_state(**size: int) -> State:
    """Matrices in half precision, vectors in float32."""
    state = timm_vit(**size).state_dict()
    return {name: value.half() if value.ndim > 1 else value for name, value in state.items()}


def tower_of(state: State) -> State:
    return {name: v for name, v in state.items() if not name.startswith(("fc_norm.", "head."))}


def official_tower(state: State) -> State:
    """The vision branch of an official file, from timm's names."""
    found = {
        "vision_embed.cls_token": state["cls_token"],
        "vision_embed.mask_token": torch.randn_like(state["cls_token"]),
        "encoder.embed_positions.A.weight": torch.cat(
            [torch.randn_like(state["pos_embed"][0, :2]), state["pos_embed"][0]]
        ),
    }
    for kind in ("weight", "bias"):
        found[f"vision_embed.proj.{kind}"] = state[f"patch_embed.proj.{kind}"]
        found[f"encoder.layer_norm.A.{kind}"] = torch.randn(state["cls_token"].shape[-1])
        for index in range(sum(name.endswith(".norm1.weight") for name in state)):
            outer, inner = f"encoder.layers.{index}", f"blocks.{index}"
            for official, timm in LAYER.items():
                found[f"{outer}.{official}.{kind}"] = state[f"{inner}.{timm}.{kind}"]
            parts = state[f"{inner}.attn.qkv.{kind}"].chunk(3)
            for letter, part in zip("qkv", parts, strict=True):
                found[f"{outer}.self_attn.{letter}_proj.A.{kind}"] = part.clone()
    return {f"beit3.{name}": value for name, value in found.items()}


def text_branch(tower: State) -> State:
    names = [name for name in tower if ".A." in name]
    state = {name.replace(".A.", ".B."): torch.randn_like(tower[name]) for name in names}
    return state | {"beit3.text_embed.weight": torch.randn(8, 192)}


def our_tower(state: State) -> State:
    """A tower under this project's names, from timm's."""
    return {
        name.replace("blocks.", "layers.").replace("mlp.", "ffn."): value
        for name, value in tower_of(state).items()
    }


def official_extras(official: State) -> State:
    """What an official file has beyond timm's, under this project's names."""
    return {
        "mask_token": official["beit3.vision_embed.mask_token"],
        "pos_embed_unused": official["beit3.encoder.embed_positions.A.weight"][None, :2],
        "norm.weight": official["beit3.encoder.layer_norm.A.weight"],
        "norm.bias": official["beit3.encoder.layer_norm.A.bias"],
    }


def without_extras(official: State) -> State:
    """As an official file comes out of a tower that never had a final LN and mask token."""
    state = {name: v.clone() for name, v in official.items() if ".layer_norm.A." not in name}
    state["beit3.vision_embed.mask_token"].zero_()
    state["beit3.encoder.embed_positions.A.weight"][:2] = 0
    return state


HEAD = {"rpn_head.rpn_conv.weight": torch.ones(2, 2), "roi_head.fc_cls.weight": torch.ones(3, 2)}
TIMM = timm_state()
OFFICIAL = official_tower(TIMM)
OURS = our_tower(TIMM)
FULL = OURS | official_extras(OFFICIAL)
# What a user may hold: the content of the file, and how it is described.
SOURCES = {
    "official": {"model": OFFICIAL | text_branch(OFFICIAL) | {"mim_head.weight": torch.ones(4, 4)}},
    "official, without prefix": {n.removeprefix("beit3."): v for n, v in OFFICIAL.items()},
    "timm": TIMM,
    "mmbeit3": {"meta": {"iter": 1}, "state_dict": FULL},
    "detector": {
        "meta": {"iter": 1},
        "state_dict": {f"backbone.{name}": value for name, value in OURS.items()} | HEAD,
        "optimizer": {"state": {}, "param_groups": []},
    },
}
DESCRIBED = {
    "official": (
        f"official layout, float16 and float32, {{}}\n"
        f"  left out: text branch ({len(text_branch(OFFICIAL))} weights)\n"
        f"  left out: heads (1 weights)\n"
    ),
    "official, without prefix": "official layout, float16 and float32, {}\n",
    "timm": "timm layout, float16 and float32, {}\n  left out: heads (4 weights)\n",
    "mmbeit3": "mmbeit3 layout, float16 and float32, {}\n",
    "detector": (
        "mmbeit3 layout, float16 and float32, {}\n"
        "  left out: other parts of the model (2 weights)\n"
    ),
}
SIZE = "4 layers of 192 channels, patches of 16 pixels, 16 positions"
DIRECTIONS = [
    ("official", "mmbeit3", FULL),
    ("official", "official", OFFICIAL),
    ("official, without prefix", "mmbeit3", FULL),
    ("timm", "mmbeit3", OURS),
    ("timm", "official", without_extras(OFFICIAL)),
    ("mmbeit3", "mmbeit3", FULL),
    ("mmbeit3", "official", OFFICIAL),
    ("detector", "mmbeit3", OURS),
    ("detector", "official", without_extras(OFFICIAL)),
]
NAMES = [f"{source} to {to}" for source, to, _ in DIRECTIONS]


def written(path: Path) -> State:
    """The weights of a written file, by the libraries' own readers."""
    if path.suffix == ".safetensors":
        return load_file(path)
    content = torch.load(path, weights_only=True)
    return content.get("state_dict") or content["model"]


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each of ``SOURCES`` as a file."""
    folder = tmp_path_factory.mktemp("sources")
    files = {name: folder / f"{name}.pth" for name in SOURCES}
    for name, path in files.items():
        torch.save(SOURCES[name], path)
    files["timm"] = folder / "timm.safetensors"
    save_file(TIMM, files["timm"])
    return files


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("source", "to", "expected"), DIRECTIONS, ids=NAMES)
def test_every_direction_keeps_every_bit_and_says_what_it_did(
    sources: dict[str, Path],
    source: str,
    to: str,
    expected: State,
    suffix: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "new folder" / f"tower{suffix}"
    assert convert_checkpoint(sources[source], target, to) == target
    assert_same(written(target), expected)
    assert os.listdir(target.parent) == [target.name]
    megabytes = target.stat().st_size / 1e6
    assert capsys.readouterr().out == (
        f"{sources[source]}: {DESCRIBED[source].format(SIZE)}"
        f"wrote {target}: {to} layout, {len(expected)} weights, {megabytes:.1f} MB\n"
    )
    assert target.stat().st_size < 1.01 * sum(v.nbytes for v in expected.values()) + 30_000


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_this_project_says_where_it_came_from(
    sources: dict[str, Path], suffix: str, tmp_path: Path
) -> None:
    target = convert_checkpoint(sources["official"], tmp_path / f"tower{suffix}")
    meta = read_checkpoint(target)["meta"]
    assert meta == {"mmbeit3_version": converting.__version__, "converted_from": "official.pth"}


def test_an_access_token_stays_out_of_file_and_output(
    sources: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(converting, "check_checkpoint", lambda _: sources["official"])
    address = "https://example.com/beit3.pth?token=SECRET"
    target = convert_checkpoint(address, tmp_path / "tower.safetensors")
    assert read_checkpoint(target)["meta"]["converted_from"] == "beit3.pth"
    assert b"SECRET" not in target.read_bytes() and "SECRET" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("source", ["official", "timm", "detector"])
def test_the_backbone_starts_from_a_written_file_and_computes_what_timm_does(
    sources: dict[str, Path], source: str, suffix: str, tmp_path: Path
) -> None:
    target = convert_checkpoint(sources[source], tmp_path / f"tower{suffix}")
    init_cfg = {"type": "Pretrained", "checkpoint": str(target)}
    ours = BEiT3("tiny", img_size=64, window_size=0, with_cls_token=True, init_cfg=init_cfg)
    ours.init_weights()
    vit = timm_vit()
    vit.load_state_dict(TIMM)
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = vit.forward_features(image)  # global_pool="avg" has no final LN
        found, cls = ours.eval().encode(image)
    limit = 1e-5 * expected.abs().max()
    assert (torch.cat([cls[:, None], found.flatten(2).mT], 1) - expected).abs().max() < limit


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("source", ["timm", "mmbeit3", "detector"])
def test_timm_reads_the_official_layout(
    sources: dict[str, Path], source: str, suffix: str, tmp_path: Path
) -> None:
    target = convert_checkpoint(sources[source], tmp_path / f"tower{suffix}", to="official")
    model = timm_vit()
    missing, _ = model.load_state_dict(checkpoint_filter_fn(written(target), model), strict=False)
    assert {name.partition(".")[0] for name in missing} == {"fc_norm", "head"}
    found = tower_of(model.state_dict())
    assert_same(found, {name: value.float() for name, value in tower_of(TIMM).items()})


@pytest.mark.parametrize(("source", "to", "expected"), DIRECTIONS, ids=NAMES)
def test_the_check_runs_both_and_translates_back(
    sources: dict[str, Path],
    source: str,
    to: str,
    expected: State,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = convert_checkpoint(sources[source], tmp_path / "tower.pth", to, check=True)
    assert_same(written(target), expected)
    printed = capsys.readouterr().out
    runs = re.search(r"SRC run by (\w+), DST by (\w+) on a random 64 x 64 image", printed)
    ours = {"mmbeit3": "mmbeit3", "detector": "mmbeit3"}
    assert runs.groups() == (ours.get(source, "timm"), ours.get(to, "timm"))
    assert float(re.search(r"of a layer (\S+) \(limit 1e-05\)", printed)[1]) < 2e-6
    in_file = {"timm": tower_of(TIMM), "mmbeit3": FULL, "detector": OURS}.get(source, OFFICIAL)
    assert f"translated back, all {len(in_file)} weights are equal bit for bit" in printed


def test_the_check_fits_other_patches_and_grids(tmp_path: Path) -> None:
    state = timm_state(img_size=84, patch_size=14)
    torch.save(state, tmp_path / "timm.pth")
    target = convert_checkpoint(tmp_path / "timm.pth", tmp_path / "tower.pth", check=True)
    assert_same(written(target), our_tower(state))


def test_a_detector_without_cls_can_be_checked(tmp_path: Path) -> None:
    backbone = BEiT3("tiny", img_size=64, window_size=2)
    backbone.init_weights()
    state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    torch.save({"state_dict": state | HEAD}, tmp_path / "iter_1.pth")
    target = convert_checkpoint(tmp_path / "iter_1.pth", tmp_path / "tower.pth", check=True)
    assert_same(written(target), backbone.state_dict())


def test_the_tower_of_a_pretraining_can_be_checked(tmp_path: Path) -> None:
    arch = dict(embed_dims=192, num_layers=4, num_heads=6, feedforward_channels=768)
    encoder = dict(
        type="mmbeit3.BEiT3Multiway", arch=arch, img_size=32, vocab_size=40, max_tokens=8
    )
    model = BEiT3Pretraining(encoder, num_codes=5)
    model.init_weights()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "iter_1.pth")
    target = convert_checkpoint(tmp_path / "iter_1.pth", tmp_path / "tower.safetensors", check=True)
    assert_same(load_file(target), model.encoder.vision.state_dict())


def swap_q_and_k(weights: State) -> None:
    q, k, v = weights["layers.1.attn.qkv.weight"].chunk(3)
    weights["layers.1.attn.qkv.weight"] = torch.cat([k, q, v])


def shift_positions(weights: State) -> None:
    weights["pos_embed"] = weights["pos_embed"].roll(1, 1)


def drop_a_sub_ln(weights: State) -> None:
    del weights["layers.2.ffn.norm.weight"], weights["layers.2.ffn.norm.bias"]


def empty_a_sub_ln(weights: State) -> None:
    weights["layers.2.attn.norm.weight"] = torch.ones(192)
    weights["layers.2.attn.norm.bias"] = torch.zeros(192)


def change_one_bit(weights: State) -> None:
    bias = weights["layers.3.norm1.bias"].clone()
    bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    weights["layers.3.norm1.bias"] = bias


def widen(weights: State) -> None:
    weights["cls_token"] = weights["cls_token"].float()


RUN, BACK = "SRC and DST compute differently", "not equal when translated back are "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap_q_and_k, RUN),
        (shift_positions, RUN),
        (empty_a_sub_ln, RUN),
        (drop_a_sub_ln, r"(?s)in the model but not in the file: layers.2.ffn.norm|lacks 2 weights"),
        (change_one_bit, BACK + r"(encoder\.layers|blocks|layers)\.3\.\w+(\.A)?\.bias$"),
        (widen, BACK + "(vision_embed.)?cls_token"),
    ],
)
@pytest.mark.parametrize(
    ("source", "to"),
    [
        ("official", "mmbeit3"),
        ("timm", "mmbeit3"),
        ("timm", "official"),
        ("mmbeit3", "official"),
    ],
)
def test_a_wrong_translation_fails_the_check_and_writes_nothing(
    sources: dict[str, Path],
    source: str,
    to: str,
    change: Callable[[State], None],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "tower.pth"
    target.write_bytes(OLD)
    right = converting.official_state_dict
    if to == "official":
        wrong = lambda weights: right(changed(weights, change))  # noqa: E731
        monkeypatch.setattr(converting, "official_state_dict", wrong)
    else:
        monkeypatch.setattr(converting, "read_tower", misread(change))
    with pytest.raises(InputError, match=message):
        convert_checkpoint(sources[source], target, to, check=True)
    assert os.listdir(tmp_path) == [target.name] and target.read_bytes() == OLD


@pytest.mark.parametrize("change", [swap_q_and_k, shift_positions, change_one_bit])
def test_a_detector_is_compared_bit_by_bit(
    sources: dict[str, Path],
    change: Callable[[State], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(converting, "read_tower", misread(change))
    with pytest.raises(InputError, match=BACK):
        convert_checkpoint(sources["detector"], tmp_path / "tower.pth", check=True)
    assert not os.listdir(tmp_path)


def changed(weights: State, change: Callable[[State], None]) -> State:
    weights = dict(weights)
    change(weights)
    return weights


def misread(change: Callable[[State], None]) -> Callable:
    """A ``read_tower`` that goes wrong on the first file that it is given, the source."""
    first: list[object] = []

    def read(state: State, *origin: str) -> layouts.Tower:
        tower = read_tower(state, *origin)
        first.append(state)
        if state is first[0]:
            tower.weights = changed(tower.weights, change)
        return tower

    return read


@pytest.mark.parametrize(("source", "to"), [("official", "mmbeit3"), ("mmbeit3", "official")])
def test_a_wrong_table_of_names_fails_the_check(
    sources: dict[str, Path], source: str, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = layouts.OFFICIAL_LAYER["attn.qkv"]
    monkeypatch.setitem(layouts.OFFICIAL_LAYER, "attn.qkv", [k, q, v])
    with pytest.raises(InputError, match="SRC and DST compute differently"):
        convert_checkpoint(sources[source], tmp_path / "tower.pth", to, check=True)


def test_overflow_in_a_late_layer_does_not_pass_for_equality(tmp_path: Path) -> None:
    state = timm_state() | {"blocks.3.mlp.fc2.weight": torch.full((192, 768), 3e38)}
    torch.save(state, tmp_path / "timm.pth")
    with pytest.raises(InputError, match="the check failed"):
        convert_checkpoint(tmp_path / "timm.pth", tmp_path / "tower.pth", check=True)
    target = convert_checkpoint(tmp_path / "timm.pth", tmp_path / "tower.pth")
    assert_same(written(target), our_tower(state))


@pytest.mark.parametrize("to", ["mmbeit3", "official"])
def test_any_size_is_converted_but_not_checked(
    to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = timm_state(width=48, depth=3, heads=2)
    torch.save(state, tmp_path / "small.pth")
    target = tmp_path / f"{to}.pth"
    with pytest.raises(InputError, match="3 layers of 48 channels.*heads.*tiny.*Leave --check out"):
        convert_checkpoint(tmp_path / "small.pth", target, to, check=True)
    assert not target.exists()
    convert_checkpoint(tmp_path / "small.pth", target, to)
    expected = {"mmbeit3": our_tower(state), "official": without_extras(official_tower(state))}
    assert_same(written(target), expected[to])
    assert "3 layers of 48 channels, patches of 16 pixels" in capsys.readouterr().out


def test_relative_positions_are_converted_but_not_checked(tmp_path: Path) -> None:
    backbone = BEiT3("tiny", img_size=64, window_size=2, rel_pos=True)
    state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "iter_1.pth")
    source, target = tmp_path / "iter_1.pth", tmp_path / "tower.pth"
    with pytest.raises(InputError, match="relative positions.*Leave --check out"):
        convert_checkpoint(source, target, check=True)
    assert not target.exists()
    assert_same(written(convert_checkpoint(source, target)), backbone.state_dict())


class Command:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def test_code_in_the_source_runs_only_on_trust(tmp_path: Path) -> None:
    source, target, marker = (tmp_path / name for name in ("evil.pth", "tower.pth", "ran"))
    torch.save(SOURCES["official"] | {"args": Command(marker)}, source)
    with pytest.raises(InputError, match=r"evil.pth wants to build '\w+.mkdir'.*--trust"):
        convert_checkpoint(source, target)
    assert os.listdir(tmp_path) == ["evil.pth"]
    convert_checkpoint(source, target, trust=True)
    assert marker.is_dir()
    assert_same(written(target), FULL)  # read with weights_only


@pytest.mark.parametrize("name", ["tower.pt", "tower", "tower.pth.gz", "tower.PTH"])
def test_another_suffix_is_refused_before_the_source_is_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"written as \.pth or \.safetensors"):
        convert_checkpoint(tmp_path / "absent.pth", tmp_path / name)


@pytest.mark.parametrize(
    ("content", "to", "message"),
    [
        ({"layer1.0.conv1.weight": torch.ones(1)}, "mmbeit3", "no BEiT-3 vision.*a ResNet"),
        (
            {n: v for n, v in TIMM.items() if ".norm." not in n},
            "mmbeit3",
            "no BEiT-3 vision tower; it looks like a ViT, BEiT or BEiT-2",
        ),
        (
            {n: v for n, v in OFFICIAL.items() if "layers.3.ffn.A.fc2.bias" not in n},
            "mmbeit3",
            r"file.pth lacks 1 weights of BEiT-3's vision tower: encoder.layers.3.ffn.A.fc2.bias",
        ),
        (
            {n: v for n, v in OURS.items() if n not in ("pos_embed", "patch_embed.proj.weight")},
            "mmbeit3",
            "file.pth is cut down: it lacks patch_embed.proj.weight, pos_embed",
        ),
        (
            {n: v for n, v in OURS.items() if n != "cls_token"},
            "official",
            "the official layout needs the CLS token.*with_cls_token=False",
        ),
        (
            OURS | {"layers.0.extra.weight": torch.ones(1)},
            "official",
            "no place for layers.0.extra",
        ),
        (OURS, "timm", "to is 'timm'; it must be one of mmbeit3, official"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    content: State, to: str, message: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(InputError, match=message):
        convert_checkpoint(tmp_path / "file.pth", tmp_path / "new folder" / "tower.pth", to)
    assert os.listdir(tmp_path) == ["file.pth"]


@pytest.mark.parametrize("name", ["file.pth", "folder/../file.pth", "link.pth", "hard.pth"])
def test_the_source_is_never_overwritten(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(SOURCES["detector"], "file.pth")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.pth").symlink_to("file.pth")
    (tmp_path / "hard.pth").hardlink_to("file.pth")
    before, entries = (tmp_path / "file.pth").read_bytes(), sorted(os.listdir())
    with pytest.raises(InputError, match="is SRC itself.*give another DST"):
        convert_checkpoint(tmp_path / "file.pth", name)
    assert (tmp_path / "file.pth").read_bytes() == before and sorted(os.listdir()) == entries


def test_a_failed_write_keeps_the_older_file(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "tower.pth"
    target.write_bytes(OLD)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"tower.pth cannot be written \(No space left on device"):
        convert_checkpoint(sources["timm"], target)
    assert os.listdir(tmp_path) == ["tower.pth"] and target.read_bytes() == OLD


TINY = Size(192, 4, 6, 768, vocabulary=40)  # of ARCH_ZOO, as the check needs the number of heads


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_go_there_and_back_and_compute_the_same(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = official_weights(kind, TINY, 64)
    source = save_official(weights, tmp_path / f"{kind}.pth")
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    convert_checkpoint(source, ours, check=True, whole=True)
    first = capsys.readouterr().out
    convert_checkpoint(ours, back, to="official", check=True, whole=True)
    if kind == "in1k":
        assert "left out: text branch" in first
        weights = {n: v for n, v in weights.items() if ".B." not in n and "text_embed" not in n}
    else:
        assert "check: SRC run by torchscale, DST by mmbeit3 on 2 random texts" in first
        assert "SRC run by mmbeit3, DST by torchscale" in capsys.readouterr().out
    assert "with it: " in first and f"all {len(weights)} weights are equal bit for bit" in first
    assert_same(written(back), weights)


def test_a_whole_conversion_needs_a_released_task(tmp_path: Path) -> None:
    weights = official_weights("itc", TINY, 64)
    changed = save_official(weights | {"new.weight": torch.ones(2)}, tmp_path / "changed.pth")
    for source, match in ((changed, "no released task"), (timm_file(tmp_path), "without --all")):
        with pytest.raises(InputError, match=match):
            convert_checkpoint(source, tmp_path / "out.pth", whole=True)
    assert not (tmp_path / "out.pth").exists()


def timm_file(folder: Path) -> Path:
    save_file(TIMM, folder / "timm.safetensors")
    return folder / "timm.safetensors"
