"""Masked data modeling: losses by their definition, gradients, processes, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from mmbeit3.models import BEiT3Pretraining
from mmbeit3.models.multimodal.masking import mask_images, mask_texts
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from tests.small_pretraining import CODES, batch, config, pretraining
from tests.small_tokenizer import train

PARTS = ["image", "text", "pair_image", "pair_text"]
VISIBLE = ["visible_image", "visible_pair_image"]
PAPER = dict(attention="shared", vl_layers=2)


def log_softmax(row: list[float]) -> list[float]:
    top = max(row)
    norm = top + math.log(sum(math.exp(value - top) for value in row))
    return [value - norm for value in row]


@pytest.mark.parametrize("encoder", [{}, PAPER], ids=["released", "paper"])
def test_a_loss_is_the_mean_over_its_masked_tokens(tokenizer_file: Path, encoder: dict) -> None:
    weights = dict(pair_text=0.5, visible_image=0.25, visible_pair_image=2.0)
    model = pretraining(tokenizer_file, encoder, loss_weights=weights).double()
    data = model.data_preprocessor(batch())
    for part in ("images", "pairs"):
        data[part]["inputs"] = data[part]["inputs"].double()
    found = model(**data, mode="loss")
    want = by_hand(model, data)
    assert set(want) == {*PARTS, *VISIBLE}
    for name, (loss, accuracy) in want.items():
        loss *= weights.get(name, 1.0)
        assert float(found[f"loss_{name}"]) == pytest.approx(loss, abs=1e-9)
        assert float(found[f"acc_{name}"]) == pytest.approx(accuracy)
    assert 0 < float(found["codes_used_image"]) <= 1
    assert set(found) == {f"{kind}_{name}" for kind in ("loss", "acc") for name in want} | {
        f"codes_used_{name}" for name in want if name.endswith("image")
    }


@torch.no_grad()
def by_hand(model: BEiT3Pretraining, data: dict) -> dict[str, tuple[float, float]]:
    """Loss and accuracy of each part, token by token, by the encoder's plain methods."""

    found = {}
    for part, rate in (("images", 0), ("texts", 0.15), ("pairs", 0.5)):
        own = data[part]
        seeds = [sample.mask_seed for sample in own["data_samples"]]
        rows: dict[str, list[tuple[list[float], int]]] = {}
        if part != "texts":
            mask = mask_images(len(seeds), 4, 4, 0.4, seeds)
            codes = model.image_tokenizer.codes(own["inputs"])
        if part != "images":
            ids, chosen = mask_texts(own["ids"], rate, model.tokenizer.mask_id, seeds)
        for index in range(len(seeds)):
            one = slice(index, index + 1)
            if part == "images":
                image = model.encoder.encode_image(own["inputs"][one], mask[one])[0]
            elif part == "texts":
                text = model.encoder.encode_text(ids[one], own["padding_mask"][one])[0]
            else:
                image, text = (
                    states[0]
                    for states in model.encoder.encode_pair(
                        own["inputs"][one], ids[one], own["padding_mask"][one], patch_mask=mask[one]
                    )
                )
            prefix = "pair_" if part == "pairs" else ""
            if part != "texts":
                for place, masked in enumerate(mask[index].tolist()):
                    row = model.mim_head(image[1 + place]).tolist()
                    name = f"{'' if masked else 'visible_'}{prefix}image"
                    rows.setdefault(name, []).append((row, int(codes[index, place])))
            if part != "images":
                for place in chosen[index].nonzero().flatten().tolist():
                    row = model.mlm_head(text[place]).tolist()
                    target = int(own["ids"][index, place])
                    rows.setdefault(f"{prefix}text", []).append((row, target))
        for name, known in rows.items():
            loss = -sum(log_softmax(row)[target] for row, target in known) / len(known)
            hits = sum(row.index(max(row)) == target for row, target in known) / len(known)
            found[name] = loss, hits
    return found


def test_scores_of_samples_add_up_to_the_losses(tokenizer_file: Path) -> None:
    model = pretraining(tokenizer_file).double().eval()
    data = model.data_preprocessor(batch())
    losses = model(**data, mode="loss")
    samples = model(**data, mode="predict")
    assert len(samples) == 12  # a pair is one of both of its parts
    for part in PARTS:
        found = [sample.masked_tokens[part] for sample in samples if part in sample.masked_tokens]
        count = sum(each["count"] for each in found)
        assert len(found) == 4
        loss = sum(each["loss"] for each in found) / count
        assert loss == pytest.approx(float(losses[f"loss_{part}"].detach()), abs=1e-6)
        hits = sum(each["right"] for each in found) / count
        assert hits == pytest.approx(float(losses[f"acc_{part}"]))
        if part.endswith("image"):
            assert all(len(each["codes"]) == each["count"] for each in found)
            used = {code for each in found for code in each["codes"]}
            assert len(used) / CODES == pytest.approx(float(losses[f"codes_used_{part}"]))


def test_words_that_are_told_blind_do_not_depend_on_the_image(tokenizer_file: Path) -> None:
    model = pretraining(tokenizer_file).double().eval()
    found = []
    for scale in (1.0, -3.0):
        data = model.data_preprocessor(batch(parts=["pairs"]))
        data["pairs"]["inputs"] = scale * data["pairs"]["inputs"]
        found.append([sample.masked_tokens for sample in model(**data, mode="predict")])
    for one, other in zip(*found, strict=True):
        assert one["blind_pair_text"] == other["blind_pair_text"]
        assert one["blind_pair_text"]["count"] == one["pair_text"]["count"]
        assert one["pair_text"]["loss"] != other["pair_text"]["loss"]


@pytest.mark.parametrize("encoder", [{}, PAPER], ids=["released", "paper"])
def test_a_step_of_all_parts_reaches_every_weight(tokenizer_file: Path, encoder: dict) -> None:
    model = pretraining(tokenizer_file, encoder).train()
    losses = model(**model.data_preprocessor(batch(), True), mode="loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert [name for name, param in model.named_parameters() if param.grad is None] == []
    assert model.encoder.vision.mask_token.grad.abs().sum() > 0


@pytest.mark.parametrize("parts", [["images"], ["texts"], ["pairs"], ["images", "pairs"]], ids=str)
def test_any_part_may_be_absent(tokenizer_file: Path, parts: list[str]) -> None:
    model = pretraining(tokenizer_file).train()
    losses = model(**model.data_preprocessor(batch(parts=parts), True), mode="loss")
    names = {"images": ["image"], "texts": ["text"], "pairs": ["pair_image", "pair_text"]}
    want = [f"loss_{name}" for part in parts for name in names[part]]
    assert sorted(name for name in losses if "loss" in name) == sorted(want)
    sum(losses[name] for name in want).backward()


def test_the_losses_fall_and_the_masked_tokens_become_known(tokenizer_file: Path) -> None:
    model = pretraining(tokenizer_file).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    data = model.data_preprocessor(batch(), True)
    first = None
    for _ in range(120):
        losses = model(**data, mode="loss")
        first = first or {name: float(value) for name, value in losses.items()}
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if "loss" in name).backward()
        optimizer.step()
    for name in PARTS:
        assert losses[f"loss_{name}"] < 0.2 * first[f"loss_{name}"], name
        assert losses[f"acc_{name}"] > 0.9


def test_a_masked_patch_is_not_seen(tokenizer_file: Path) -> None:
    model = pretraining(tokenizer_file).eval()
    images = torch.randn(2, 3, 32, 32)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[:, 5] = True
    changed = images.clone()
    changed[..., 8:16, 8:16] += 1  # patch 5 of 4 x 4
    states = [model.encoder.encode_image(each, mask) for each in (images, changed)]
    assert torch.equal(*states)
    plain = [model.encoder.encode_image(each) for each in (images, changed)]
    assert not torch.allclose(*plain)


def test_masks_follow_from_the_sample_or_else_from_torchs_generator(tokenizer_file: Path) -> None:
    model = pretraining(tokenizer_file).eval()
    data = model.data_preprocessor(batch())
    whole = {name: part.targets for name, part in model(**data).items()}
    torch.manual_seed(1)
    again = {name: part.targets for name, part in model(**data).items()}
    assert all(torch.equal(whole[name], again[name]) for name in PARTS)
    for part in data.values():
        part["data_samples"] = None
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(torch.cat([part.targets for part in model(**data).values()]))
    assert torch.equal(found[0], found[1])
    assert found[0].shape != found[2].shape or not torch.equal(found[0], found[2])


def test_other_statistics_of_pixels_give_the_same_codes(tokenizer_file: Path) -> None:
    statistics = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4])
    plain = pretraining(tokenizer_file)
    preprocessor = config(tokenizer_file)["data_preprocessor"] | statistics
    other = pretraining(tokenizer_file, data_preprocessor=preprocessor)
    codes = [model(**model.data_preprocessor(batch()))["image"].targets for model in (plain, other)]
    assert torch.equal(*codes)


def shared_gradients(rank: int, folder: str, tokenizer: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    model = pretraining(Path(tokenizer)).double()
    wrapped = nn.parallel.DistributedDataParallel(model)
    whole = model.data_preprocessor(batch(6))
    parts = {
        name: cut(part, slice(0, 2) if rank == 0 else slice(2, 6)) for name, part in whole.items()
    }
    losses = wrapped(**parts, mode="loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()
    found = {name: param.grad for name, param in model.named_parameters()}
    for name, value in losses.items():
        distributed.all_reduce(value.detach_())
        found[name] = value / 2
    if rank == 0:
        torch.save(found, Path(folder, "found.pt"))
    distributed.destroy_process_group()


def cut(part: dict, which: slice) -> dict:
    """Samples of a batch, in float64."""
    found = {name: None if value is None else value[which] for name, value in part.items()}
    if found["inputs"] is not None:
        found["inputs"] = found["inputs"].double()
    return found


def test_two_processes_learn_as_one(tmp_path: Path) -> None:
    tokenizer = train(tmp_path / "words.spm")
    multiprocessing.spawn(shared_gradients, (str(tmp_path), str(tokenizer)), nprocs=2)
    found = torch.load(tmp_path / "found.pt")
    model = pretraining(tokenizer).double()
    data = {
        name: cut(part, slice(None)) for name, part in model.data_preprocessor(batch(6)).items()
    }
    losses = model(**data, mode="loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()
    want = {name: param.grad for name, param in model.named_parameters()}
    want |= {name: value.detach() for name, value in losses.items() if "codes" not in name}
    for name, value in want.items():
        assert (found[name] - value).abs().max() <= 1e-9 * value.abs().max() + 1e-15, name


def test_heads_start_as_released(tokenizer_file: Path) -> None:
    model = pretraining(tokenizer_file)
    for head in (model.mlm_head, model.mim_head):
        assert 0.005 < head.weight.std() < 0.02 and head.weight.abs().max() <= 0.02
        assert not head.bias.any()
    assert not any("tokenizer" in name for name in model.state_dict())


def test_what_does_not_fit_is_named(tokenizer_file: Path) -> None:
    for wrong, match in (
        (dict(num_codes=8192), f"has {CODES} codes and num_codes is 8192; .*num_codes={CODES}"),
        (
            dict(image_tokenizer=dict(type="mmbeit3.BrightnessCodes", patch_size=16)),
            r"each of 2 x 2 patches, and the encoder has 4 x 4; .*img_size=\(64, 64\)",
        ),
        (dict(image_mask_rate=0), "image_mask_rate is 0; expected above 0 and below 1"),
        (dict(pair_text_mask_rate=1.5), "pair_text_mask_rate is 1.5"),
        (dict(loss_weights=dict(images=1)), "loss_weights has images; expected image, text, pair_"),
        (dict(encoder=dict(max_tokens=9)), "max_length is 20 .* has 9 positions"),
    ):
        encoder = wrong.pop("encoder", None)
        with pytest.raises(InputError, match=match):
            MODELS.build(config(tokenizer_file, encoder, **wrong))
    model = pretraining(tokenizer_file)
    data = model.data_preprocessor(batch())
    with pytest.raises(InputError, match="a batch has no images, texts or pairs"):
        model(mode="loss")
    with pytest.raises(InputError, match="the images of a batch have no images"):
        model(images=data["texts"], mode="loss")
    with pytest.raises(InputError, match="the pairs of a batch have no texts"):
        model(pairs=data["images"], mode="loss")
    with pytest.raises(InputError, match="are 4 images and 3 texts; expected one text for each"):
        model(pairs=data["pairs"] | dict(ids=data["pairs"]["ids"][:3]), mode="loss")
    large = dict(inputs=torch.zeros(2, 3, 48, 32), data_samples=None)
    with pytest.raises(InputError, match="have 6 x 4 patches and the image tokenizer gives 4 x 4"):
        model(images=large, mode="loss")
    with pytest.raises(InputError, match="mode is 'predictions'"):
        model(**data, mode="predictions")
    wordless = dict(type="mmbeit3.PretrainingPreprocessor")
    with pytest.raises(InputError, match="has images, and the model nothing that gives images"):
        pretraining(tokenizer_file, image_tokenizer=None)(**data, mode="loss")
    with pytest.raises(InputError, match="which says what the mask token is"):
        pretraining(tokenizer_file, data_preprocessor=wordless)(texts=data["texts"], mode="loss")


def vqkd(img_size: int = 32, patch_size: int = 8) -> dict:
    arch = dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=48)
    sizes = dict(arch=arch, img_size=img_size, patch_size=patch_size, num_codes=CODES)
    return dict(type="mmbeit3.VQKD", decoder_layers=1, **sizes)


def test_codes_come_from_a_frozen_tokenizer(tokenizer_file: Path, tmp_path: Path) -> None:
    tokenizer = MODELS.build(vqkd())
    tokenizer.init_weights()
    torch.save({"model": tokenizer.state_dict()}, tmp_path / "vqkd.pth")
    start = dict(type="Pretrained", checkpoint=str(tmp_path / "vqkd.pth"))
    model = pretraining(tokenizer_file, image_tokenizer=vqkd() | dict(init_cfg=start)).train()
    assert not model.image_tokenizer.training
    data = model.data_preprocessor(batch(), True)
    part = model(**data)["image"]
    model.double()  # the tokenizer goes where the model goes
    assert model.image_tokenizer.encoder.cls_token.dtype == torch.float64
    model.float()
    mask = mask_images(4, 4, 4, 0.4, [s.mask_seed for s in data["images"]["data_samples"]])
    assert torch.equal(part.targets, tokenizer.codes(data["images"]["inputs"])[mask])
    assert not any(param.requires_grad for param in model.image_tokenizer.parameters())
    assert not {"quantize", "decoder"} & {name.split(".")[0] for name in model.state_dict()}
    # Of larger patches: the same grid, by images that are enlarged as much.
    other = pretraining(tokenizer_file, image_tokenizer=vqkd(64, 16))
    assert other(**other.data_preprocessor(batch()))["image"].targets.shape == part.targets.shape
