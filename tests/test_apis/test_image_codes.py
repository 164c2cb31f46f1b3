"""Codes of images that are kept: trained with as without, checked, and computed once."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from mmbeit3.apis import image_codes
from mmbeit3.apis.image_codes import prepare_codes
from mmbeit3.apis.training import train
from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.cli import main
from mmbeit3.config.data_checks import build_dataset
from mmbeit3.datasets.image_codes import ImageCodes
from mmbeit3.models import VQKD, BEiT3Pretraining
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from tests.small_pretraining import CODES, config

ROOT = Path(__file__).parents[2]
LOAD = dict(type="mmbeit3.LoadImageFromFile")
RESIZE = dict(type="Resize", scale=(32, 32))
PACK = dict(type="mmbeit3.PackImageText")
IMAGES, STEPS = 8, 5


def write_image(path: Path, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(image, (50, 40)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight images; pairs of five of them, one twice; an image tokenizer of other weights each."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    for index in range(IMAGES):
        write_image(tmp_path / "images" / f"{index}.png", index)
    rows = [json.dumps({"image": f"{i % 5}.png", "text": f"a dog {i}"}) for i in range(6)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    for seed in range(2):
        torch.manual_seed(seed)
        model = VQKD(**{key: value for key, value in vqkd(tmp_path).items() if key in SIZES})
        model.init_weights()
        torch.save(model.state_dict(), tmp_path / f"vqkd{seed}.pth")
    return tmp_path


SIZES = dict(
    arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
    img_size=32,
    patch_size=8,
    decoder_layers=1,
    num_codes=60,
    code_dims=8,
)


def vqkd(folder: Path, seed: int = 0) -> dict[str, Any]:
    start = dict(type="Pretrained", checkpoint=str(folder / f"vqkd{seed}.pth"))
    return dict(type="mmbeit3.VQKD", **SIZES, init_cfg=start)


def settings(
    folder: Path,
    tokenizer_file: Path,
    file: str | None = "codes.safetensors",
    pipeline: tuple[dict, ...] = (LOAD, RESIZE),
    image_tokenizer: dict | None = None,
) -> Config:
    """The config of a small pretraining on images and pairs."""
    codes = [dict(type="mmbeit3.LoadImageCodes", file=str(folder / file))] if file else []
    steps = [*pipeline, *codes, PACK]
    datasets = dict(
        images=dict(
            type="mmbeit3.ImagesDataset",
            data_root=str(folder),
            data_prefix=dict(img_path="images"),
            pipeline=steps,
        ),
        pairs=dict(
            type="mmbeit3.ImageTextTableDataset",
            data_root=str(folder),
            ann_file="pairs.jsonl",
            data_prefix=dict(img="images/"),
            pipeline=steps,
        ),
    )
    cfg = Config.fromfile(ROOT / "configs/_base_/default_runtime_pretraining.py")
    image_tokenizer = image_tokenizer or dict(type="mmbeit3.BrightnessCodes")
    cfg.merge_from_dict(
        dict(
            model=config(
                tokenizer_file,
                image_tokenizer=image_tokenizer,
                num_codes=image_tokenizer.get("num_codes", CODES),
            ),
            train_dataloader=dict(
                batch_size=3,
                num_workers=0,
                sampler=dict(type="mmbeit3.InfiniteSampler"),
                dataset=dict(
                    type="mmbeit3.PretrainingDataset", datasets=datasets, samples=dict(images=2)
                ),
            ),
            train_cfg=dict(type="mmbeit3.TrainLoop", max_iters=STEPS),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3)),
            find_unused_parameters=True,
            randomness=dict(seed=3),
            log_level="WARNING",
            work_dir=str(folder / "work"),
        )
    )
    return cfg


def of_part(cfg: Config, part: str = "images") -> Any:
    return build_dataset(cfg.train_dataloader.dataset.datasets[part], "mmbeit3")


def trained(cfg: Config, work_dir: Path) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """The losses of all steps, and the weights after them."""
    cfg.work_dir = str(work_dir)
    said: list[dict[str, Tensor]] = []
    loss = BEiT3Pretraining.loss

    def noted(self: BEiT3Pretraining, *args: Any) -> dict[str, Tensor]:
        said.append(loss(self, *args))
        return said[-1]

    with patch.object(BEiT3Pretraining, "loss", noted):
        train(cfg)
    return said, read_checkpoint(work_dir / f"iter_{STEPS}.pth")["state_dict"]


def test_training_is_the_same_and_runs_no_tokenizer(folder: Path, tokenizer_file: Path) -> None:
    tokenizer = dict(image_tokenizer=vqkd(folder))
    plain = trained(settings(folder, tokenizer_file, None, **tokenizer), folder / "plain")
    cfg = settings(folder, tokenizer_file, **tokenizer)
    [(file, number)] = prepare_codes(cfg)
    assert (file, number) == (folder / "codes.safetensors", IMAGES)
    rows = np.stack(list(ImageCodes.read(file).codes.values()))
    assert rows.shape == (IMAGES, 16) and rows.dtype == np.int16 and len(np.unique(rows)) > 8
    with patch.object(VQKD, "codes", side_effect=AssertionError):
        kept = trained(cfg, folder / "kept")
    assert len(plain[0]) == len(kept[0]) == STEPS
    for one, other in zip(plain[0], kept[0], strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
    assert all(torch.equal(value, kept[1][name]) for name, value in plain[1].items())


def test_what_is_known_is_not_computed_again(folder: Path, tokenizer_file: Path) -> None:
    cfg = settings(folder, tokenizer_file)
    file = folder / "codes.safetensors"
    computed: list[int] = []
    compute = image_codes._codes

    def noted(model: Any, batch: dict, *args: Any) -> np.ndarray:
        names = {sample.img_path for sample in batch["data_samples"]}
        if len(computed) == 1:
            raise KeyboardInterrupt
        computed.append(len(names))
        return compute(model, batch, *args)

    cfg.train_dataloader.dataset.samples = None  # batches of three
    with patch.object(image_codes, "_codes", noted), pytest.raises(KeyboardInterrupt):
        prepare_codes(cfg)
    first = ImageCodes.read(file)
    assert len(first.codes) == 3  # what was done by then
    with pytest.raises(
        InputError, match=r"lacks the codes of 5 of 8 images, .*images/3.png\. Make"
    ):
        of_part(cfg)
    computed += [0]
    with patch.object(image_codes, "_codes", noted):
        prepare_codes(cfg)
    assert computed == [3, 0, 3, 2]  # the pairs' images are known by then
    whole = ImageCodes.read(file)
    computed.clear()
    with patch.object(image_codes, "_codes", side_effect=AssertionError):
        assert prepare_codes(cfg) == [(file, IMAGES)]
    fresh = ImageCodes(folder / "images" / "more.safetensors", "", "")
    assert fresh.name_of(str(folder / "images" / "1.png")) == "1.png"
    assert whole.codes.keys() == {f"images/{index}.png" for index in range(IMAGES)}
    file.unlink()
    prepare_codes(cfg)
    again = ImageCodes.read(file)
    assert all(np.array_equal(again.codes[n], row) for n, row in whole.codes.items())


def test_images_that_changed_are_named_and_computed_again(
    folder: Path, tokenizer_file: Path
) -> None:
    cfg = settings(folder, tokenizer_file)
    prepare_codes(cfg)
    before = ImageCodes.read(folder / "codes.safetensors").codes
    data = of_part(cfg, "pairs")
    write_image(folder / "images" / "2.png", 77)
    write_image(folder / "images" / "new.png", 78)
    (folder / "images" / "7.png").unlink()
    with pytest.raises(InputError, match="has no codes of .*2.png as it is: make them by"):
        [data[index] for index in range(6)]  # while training
    with pytest.raises(InputError, match="lacks the codes of 2 of 8 images, .*the first: .*2.png"):
        of_part(cfg)
    prepare_codes(cfg)
    after = ImageCodes.read(folder / "codes.safetensors").codes
    changed = {n for n in after.keys() & before.keys() if not np.array_equal(after[n], before[n])}
    assert changed == {"images/2.png"} and "images/7.png" not in after
    item = of_part(cfg)[2]["data_samples"]
    assert torch.equal(item.image_codes, torch.from_numpy(after["images/2.png"]).long())
    stamp = os.stat(folder / "images" / "3.png")
    os.utime(folder / "images" / "3.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    with pytest.raises(InputError, match="lacks the codes of 1 of 8 images, .*3.png"):
        of_part(cfg)


def test_another_tokenizer_is_refused_at_the_first_step(
    folder: Path, tokenizer_file: Path, capsys: pytest.CaptureFixture
) -> None:
    prepare_codes(settings(folder, tokenizer_file, image_tokenizer=vqkd(folder, 0)))
    first = ImageCodes.read(folder / "codes.safetensors")
    cfg = settings(folder, tokenizer_file, image_tokenizer=vqkd(folder, 1))
    samples = [of_part(cfg)[index] for index in range(2)]
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    model = MODELS.build(cfg.model)
    model.init_weights()
    with pytest.raises(InputError, match="codes of the images were made by another image tokeni"):
        model(**model.data_preprocessor({"images": batch}, True), mode="loss")
    prepare_codes(cfg)
    assert "has the codes of another image tokenizer: all are" in "".join(capsys.readouterr())
    second = ImageCodes.read(folder / "codes.safetensors")
    assert second.tokenizer != first.tokenizer and second.codes.keys() == first.codes.keys()


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (dict(type="RandomFlip", prob=0.5), "RandomFlip"),
        (dict(type="mmbeit3.RandomResizedCrop", scale=32), "RandomResizedCrop"),
        (dict(type="mmbeit3.TimmAugment", scale=32), "TimmAugment"),
        (dict(type="RandomResize", scale=(32, 32), ratio_range=(1, 1)), "RandomResize"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_random_view_is_refused(
    folder: Path, tokenizer_file: Path, step: dict, name: str
) -> None:
    prepare_codes(settings(folder, tokenizer_file))
    cfg = settings(folder, tokenizer_file, pipeline=(LOAD, step, RESIZE))
    for call in (lambda: of_part(cfg), lambda: of_part(cfg, "pairs"), lambda: prepare_codes(cfg)):
        with pytest.raises(InputError, match=f"a pipeline with {name}, which may make another"):
            call()
    behind = cfg.train_dataloader.dataset.datasets.images
    behind.pipeline = [LOAD, RESIZE, cfg.train_dataloader.dataset.datasets.images.pipeline[3], step]
    with pytest.raises(InputError, match=f"a pipeline with {name}"):
        of_part(cfg)


def test_another_view_or_file_is_refused(folder: Path, tokenizer_file: Path) -> None:
    cfg = settings(folder, tokenizer_file)
    with pytest.raises(InputError, match="there is no file of codes .*`mmbeit3 prepare-codes`"):
        of_part(cfg)
    prepare_codes(cfg)
    other = settings(
        folder, tokenizer_file, pipeline=(LOAD, dict(type="mmbeit3.ResizeCenterCrop", scale=32))
    )
    with pytest.raises(InputError, match=r"prepared by .*Resize\(.*has .*ResizeCenterCrop\("):
        of_part(other)
    file = folder / "codes.safetensors"
    for content in (b"", b"no codes", file.read_bytes()[:-9]):
        file.write_bytes(content)
        with pytest.raises(InputError, match="codes.safetensors is no file of codes that can be"):
            of_part(cfg)
    behind = settings(folder, tokenizer_file, pipeline=(LOAD, RESIZE, PACK))
    for call in (lambda: of_part(behind), lambda: prepare_codes(behind)):
        with pytest.raises(InputError, match="LoadImageCodes stands behind PackImageText"):
            call()
    with pytest.raises(InputError, match="no pipeline of train_dataloader has LoadImageCodes"):
        prepare_codes(settings(folder, tokenizer_file, None))


def test_images_of_shards_have_codes_and_scenes_have_not(
    folder: Path, tokenizer_file: Path
) -> None:
    shard = folder / "a.tar"
    with tarfile.open(shard, "w") as tar:
        for index in range(4):
            content = (folder / "images" / f"{index}.png").read_bytes()
            info = tarfile.TarInfo(f"{index}.png")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    cfg = settings(folder, tokenizer_file)
    parts = cfg.train_dataloader.dataset.datasets
    steps = parts.images.pipeline
    prepare_codes(cfg)
    plain = ImageCodes.read(folder / "codes.safetensors").codes
    parts.images = dict(type="mmbeit3.ShardsDataset", shards=str(shard), pipeline=steps)
    prepare_codes(cfg)
    codes = ImageCodes.read(folder / "codes.safetensors").codes
    assert len(codes) == IMAGES + 4
    assert all(np.array_equal(codes[f"a.tar/{i}.png"], plain[f"images/{i}.png"]) for i in range(4))
    assert of_part(cfg)[3]["data_samples"].image_codes.shape == (16,)
    os.utime(shard, (1, 1))
    with pytest.raises(InputError, match="lacks the codes of 4 of 4 images, .*a.tar/0.png"):
        of_part(cfg)
    parts.images = dict(type="mmbeit3.ShapesDataset", size=64, pipeline=steps)
    with pytest.raises(InputError, match="datasets.images: codes are kept of files, and ShapesD"):
        prepare_codes(cfg)


def test_the_command(folder: Path, tokenizer_file: Path, capsys: pytest.CaptureFixture) -> None:
    cfg = settings(folder, tokenizer_file, image_tokenizer=vqkd(folder))
    cfg.dump(folder / "config.py")
    assert main(["prepare-codes", str(folder / "config.py")]) == 0
    assert "8 images have codes in " in capsys.readouterr().out
    assert main(["prepare-codes", str(folder / "config.py"), "--cfg-options", "model.num_codes=7"])
    assert "the image tokenizer has 60 codes and num_codes is 7" in capsys.readouterr().err
