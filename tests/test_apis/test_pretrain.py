"""The short way: a folder of images in, weights that models start from out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmbeit3.apis import pretraining
from mmbeit3.apis.new_pretraining_config import write_pretraining_configs
from mmbeit3.apis.pretraining import describe_use, pretrain
from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.config.loading import load_config
from mmbeit3.models import BEiT3
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from tests.small_tokenizer import sentences


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images and a broken one, in two folders and several sizes; texts; pairs."""
    draw = np.random.default_rng(0)
    for index in range(12):
        file = tmp_path / "photos" / "ab"[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (20 + index, 150 - index, 3), np.uint8)
        Image.fromarray(pixels).save(file)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("\n".join(sentences()[:40]))
    rows = [
        json.dumps({"image": f"{'ab'[i % 2]}/{i}.png", "text": sentences()[i]}) for i in range(4)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    return tmp_path


@pytest.mark.parametrize("with_texts", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_folder_becomes_weights_and_goes_on_where_it_stopped(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    with_texts: bool,
) -> None:
    out, warned = folder / "out", []
    monkeypatch.setattr("mmbeit3.datasets.images.print_log", lambda text, *_: warned.append(text))
    given = dict(texts=[folder / "notes.txt"], pairs=folder / "pairs.jsonl") if with_texts else {}
    weights = pretrain(folder / "photos", out=out, iters=2, **given)
    said = capsys.readouterr().out
    assert any("1 of 13 images are left out, as they cannot be read" in text for text in warned)
    assert "12 images, 1 of them kept for validation" in said
    assert "12 are smaller than 128 pixels, and are enlarged" in said
    assert (out / "texts.spm").is_file() == with_texts
    assert sorted(read_checkpoint(weights)) == ["meta", "state_dict"]
    assert f"load_from={weights}" in describe_use(weights)
    start = dict(type="Pretrained", checkpoint=str(weights))
    tower = BEiT3("tiny", 64, 8, window_size=8, init_cfg=start)
    tower.init_weights()
    state = read_checkpoint(weights)["state_dict"]
    name = "layers.1.ffn.fc2.weight"
    assert torch.equal(tower.state_dict()[name], state[f"encoder.vision.{name}"])
    parts = load_config(out / "pretraining.py").val_dataloader.dataset.datasets
    assert list(parts) == (["images", "pairs"] if with_texts else ["images"])
    # Killed after the last checkpoint, before the weights were written.
    before = (out / "image_tokenizer.pth").stat().st_mtime_ns
    weights.unlink()
    assert pretrain(out=out, size="tiny") == weights and weights.is_file()
    again = read_checkpoint(weights)["state_dict"]
    assert all(torch.equal(again[name], value) for name, value in state.items())
    assert (out / "image_tokenizer.pth").stat().st_mtime_ns == before
    for name, value in (("size", "base"), ("iters", 5), ("teacher", "pixels")):
        with pytest.raises(InputError, match=f"is {value}, and .* was begun with .*another --out"):
            pretrain(out=out, **{name: value})


def test_what_cannot_be_pretrained_on_is_named(folder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for index in range(4):
        Image.new("RGB", (40, 40)).save(few / f"{index}.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    photos = folder / "photos"
    cases = (
        (dict(images=few), "has 3 images to train on, .* book of 256 codes.* 10 images or more"),
        (dict(images=tmp_path / "empty"), "no images in .*empty"),
        (dict(images=tmp_path / "absent"), "absent does not exist; expected a folder"),
        (dict(), "is needed: nothing has been begun in"),
        (
            dict(images=photos, teacher="hogs"),
            "is 'hogs', expected edges, hog, pixels or a model of timm",
        ),
        (dict(images=photos, iters=0), "is 0; expected more than 0"),
        (dict(images=photos, texts=[tmp_path / "empty.txt"]), "empty.txt has no text"),
        (dict(images=photos, size="base", texts=[folder / "notes.txt"]), "there is no tokenizer"),
    )
    for number, (given, match) in enumerate(cases):
        out = tmp_path / f"out{number}"
        with pytest.raises(InputError, match=match):
            pretrain(**given, out=out)
        assert not list(out.glob("*.*"))  # so that a corrected call begins


@pytest.mark.parametrize("teacher", ["edges", "hog", "pixels"])
def test_the_model_asks_the_tokenizer_that_was_trained(folder: Path, teacher: str) -> None:
    out = folder / teacher
    out.mkdir()
    write_pretraining_configs(out, folder / "photos", teacher=teacher)
    trained = MODELS.build(load_config(out / "image_tokenizer.py").model)
    torch.save({"state_dict": trained.state_dict()}, out / "image_tokenizer.pth")
    model = MODELS.build(load_config(out / "pretraining.py").model)
    model.init_weights()
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    trained.init_weights()  # sets what else it needs
    trained.load_state_dict(model.image_tokenizer.state_dict())
    assert torch.equal(model.codes(images), trained.eval().codes(images))
    assert model.loss_weights["visible_image"] == 1


@pytest.mark.parametrize(
    ("number", "teacher", "expected"), [(44, None, 1024), (43, None, 256), (44, "hog", 256)]
)
def test_codes_of_edges_are_as_many_as_the_images_suffice_for(
    tmp_path: Path, number: int, teacher: str | None, expected: int
) -> None:
    for index in range(number):  # a tenth of them is for validation, 40 have patches for 1024 codes
        Image.new("RGB", (40, 40), (index, 0, 0)).save(tmp_path / f"{index}.png")
    write_pretraining_configs(tmp_path, tmp_path, teacher=teacher)
    trained, model = (load_config(tmp_path / f"{name}.py").model for name in PARTS)
    assert trained.num_codes == model.image_tokenizer.num_codes == model.num_codes == expected


def test_base_goes_on_from_official_weights(folder: Path) -> None:
    lines = write_pretraining_configs(folder / "base", folder / "photos", size="base")
    assert any("the official one, with CLIP" in line for line in lines)
    assert not (folder / "base" / "image_tokenizer.py").exists()
    assert "patch_size" not in (folder / "base" / "pretraining.py").read_text()  # of no use here
    model = load_config(folder / "base" / "pretraining.py").model
    assert model.init_cfg.checkpoint.endswith("beit3_base_patch16_224.pth")
    assert "vqkd_encoder_base_decoder_3x768x12_clip" in model.image_tokenizer.init_cfg.checkpoint
    assert model.data_preprocessor.tokenizer is None and model.encoder.arch == "base"


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        (10, [240, 240]),  # 0.2 * 600 s / 0.5 s, 0.8 * 600 s / 2 s
        (40, [300, 1125]),  # as many as by default, (2400 s - 300 * 0.5 s) / 2 s
    ],
)
def test_minutes_become_iterations(
    folder: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, expected: list[int]
) -> None:
    monkeypatch.setattr(
        pretraining,
        "_time_iteration",
        lambda cfg: 0.5 if cfg.model.type == "mmbeit3.TeacherCodes" else 2.0,
    )
    monkeypatch.setattr(pretraining, "train", lambda cfg, resume: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        pretrain(folder / "photos", out=folder / "out", minutes=minutes)
    found = [load_config(folder / "out" / f"{n}.py").max_iters for n in PARTS]
    assert found == expected
    # In bfloat16 twice as many steps fit, where the processor has it.
    wrapper = load_config(folder / "out" / "pretraining.py").optim_wrapper
    assert wrapper.type == "mmbeit3.AmpOptimWrapper"


class Stopped(Exception):
    """In place of a training."""


PARTS = ("image_tokenizer", "pretraining")


@pytest.mark.slow
def test_iterations_are_timed(folder: Path) -> None:
    pretrain(folder / "photos", out=folder / "out", minutes=0.01)
    found = [load_config(folder / "out" / f"{n}.py").max_iters for n in PARTS]
    assert all(1 <= number < 20 for number in found)
