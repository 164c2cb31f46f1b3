"""The short way of a pretraining: a folder of images in, a file that models start from out."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config

from mmbeit3.apis.new_config import check_free
from mmbeit3.apis.new_pretraining_config import (
    PRETRAINING,
    TOKENIZER,
    weights_of,
    write_pretraining_configs,
)
from mmbeit3.apis.training import train
from mmbeit3.checkpoint import read_checkpoint, save_checkpoint
from mmbeit3.config.loading import load_config
from mmbeit3.engine import build_runner
from mmbeit3.engine.checkpoint_hook import find_checkpoint
from mmbeit3.engine.prepare import prepare
from mmbeit3.engine.process_state import separate_run
from mmbeit3.utils import InputError
from mmbeit3.utils.text_files import read_small_json
from mmbeit3.utils.whole_files import write_whole

OPTIONS = "pretrain.json"  # in the folder: what it was begun with
FIRST, TIMED = 2, 4  # iterations before the timed ones, and these
TOKENIZER_SHARE = 0.2  # of the minutes, at most


def pretrain(
    images: str | Path | None = None,
    texts: Sequence[str | Path] = (),
    pairs: str | Path | None = None,
    size: str | None = None,
    out: str | Path = "pretraining",
    teacher: str | None = None,
    tokenizer: str | Path | None = None,
    iters: int | None = None,
    minutes: float | None = None,
) -> Path:
    """Train an image tokenizer on a folder of images, then pretrain a model on them.

    Both configs are written into ``out`` and trained there. Called again with the same folder, it
    goes on where it stopped, by the configs as they are then.

    Args:
        images (str | Path | None): The folder of the images. Defaults to None: that of ``out``,
            which an earlier call has begun.
        texts (Sequence[str | Path]): Text files, in UTF-8. Defaults to none.
        pairs (str | Path | None): A table of images, below ``images``, and texts, as
            :class:`mmbeit3.datasets.ImageTextTableDataset` reads it. Defaults to None.
        size (str | None): "tiny" or "base". Defaults to None, "tiny".
        out (str | Path): The folder of the results. Defaults to "pretraining".
        teacher (str | None): What the image tokenizer learns from: "edges", "hog", "pixels" or the
            name of a model of timm. Defaults to None: "edges" of tiny; base has the official
            tokenizer.
        tokenizer (str | Path | None): That of the texts. Defaults to None: tiny gets one of its
            own, base has the official ``beit3.spm``.
        iters (int | None): Iterations of the pretraining, and of the image tokenizer at most.
            Defaults to None, by the number of images.
        minutes (float | None): How long both trainings together take, about, in place of ``iters``:
            a few iterations of each are timed. Defaults to None.

    Returns:
        Path: The weights, ``pretraining.pth`` in ``out``.

    Raises:
        InputError: Images, texts or options cannot be used, or ``out`` was begun with others.
        Terminated: The process was told to end; a checkpoint has been written.
    """
    folder = Path(out).expanduser()
    _begin(
        folder,
        {
            "images": images and str(Path(images).expanduser().resolve()),
            "texts": [str(Path(file).expanduser().resolve()) for file in texts] or None,
            "pairs": pairs and str(Path(pairs).expanduser().resolve()),
            "size": size,
            "teacher": teacher,
            "tokenizer": tokenizer and str(Path(tokenizer).expanduser().resolve()),
            "iters": iters,
            "minutes": minutes,
        },
    )
    for name in (TOKENIZER, PRETRAINING):
        config, weights = folder / f"{name}.py", weights_of(folder, name)
        if weights.is_file() or (name == TOKENIZER and not config.is_file()):
            continue
        print(f"training by {config}", flush=True)
        cfg = load_config(config)
        work_dir = train(cfg, resume=Path(cfg.work_dir).is_dir())
        _keep_weights(find_checkpoint(work_dir), weights)
    return weights_of(folder, PRETRAINING)


def describe_use(weights: Path) -> str:
    """Say how models start from a pretraining.

    Args:
        weights (Path): What :func:`pretrain` returned.
    """
    size = read_small_json(weights.with_name(OPTIONS))["size"]
    key = "load_from" if size == "tiny" else "model.backbone.init_cfg.checkpoint"
    return f"""pretrained: {weights}
a detector, or a segmentor, that starts from it:
  mmbeit3 new-config --images DIR --coco TRAIN.json --size {size} --out detector.py
  mmbeit3 new-config --images DIR --masks DIR --classes NAMES.txt --size {size} --out segmentor.py
  mmbeit3 train detector.py --cfg-options {key}={weights.resolve()}"""


def _begin(folder: Path, given: dict[str, Any]) -> None:
    """Write the configs, unless they are there and of the same options."""
    file = folder / OPTIONS
    if file.is_file():
        known = read_small_json(file)
        for name, value in given.items():
            if value is not None and value != known.get(name):
                raise InputError(
                    f"is {value}, and {folder} was begun with {known.get(name) or 'the default'}; "
                    "expected the same: leave it out to go on, or give another --out",
                    name,
                )
        print(f"going on in {folder}, by the configs there", flush=True)
        return
    if given["images"] is None:
        raise InputError(f"is needed: nothing has been begun in {folder}", "images")
    for name in ("iters", "minutes"):
        if given[name] is not None and not given[name] > 0:
            raise InputError(f"is {given[name]}; expected more than 0", name)
    options = {k: v for k, v in given.items() if v is not None and k not in ("iters", "minutes")}
    check_free(*(folder / f"{name}.py" for name in (TOKENIZER, PRETRAINING)))
    iters: tuple[int | None, int | None] = None, given["iters"]
    if given["minutes"]:
        iters = _iterations(60 * given["minutes"], options)
    lines = write_pretraining_configs(folder, **options, iters=iters)
    write_whole(file, json.dumps(given | {"size": given["size"] or "tiny"}, indent=1))
    print("\n".join([*lines, f"wrote the configs into {folder}"]), flush=True)


def _iterations(seconds: float, options: dict[str, Any]) -> tuple[int, int]:
    """How many iterations of both trainings take so long."""
    print("timing a few iterations", flush=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_pretraining_configs(folder, **options)
        times, usual = {}, {}
        for part in (TOKENIZER, PRETRAINING):
            if (folder / f"{part}.py").is_file():
                cfg = load_config(folder / f"{part}.py")
                usual[part] = cfg.max_iters
                times[part] = _time_iteration(cfg)
    first = 0
    if TOKENIZER in times:  # what it does not need, the model gets
        first = min(usual[TOKENIZER], int(TOKENIZER_SHARE * seconds / times[TOKENIZER]))
        first = max(1, first)
        seconds -= first * times[TOKENIZER]
    return first, max(1, int(seconds / times[PRETRAINING]))


@separate_run
def _time_iteration(cfg: Config) -> float:
    """Seconds of an iteration, the median of a few."""
    cfg.train_cfg.max_iters = FIRST + TIMED
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint = None
    cfg.log_level = "ERROR"
    cfg.model.init_cfg = None
    if "image_tokenizer" in cfg.model:
        cfg.model.image_tokenizer.init_cfg = None
    runner = build_runner(prepare(cfg, "train"))
    runner.train()
    times, _ = runner.message_hub.get_scalar("train/time").data
    return statistics.median(times[FIRST:])


def _keep_weights(checkpoint: Path | None, weights: Path) -> None:
    """Write the weights of a training alone."""
    if checkpoint is None:
        raise InputError(f"{weights.with_suffix('')} has no whole checkpoint: train again")
    content = read_checkpoint(checkpoint)
    save_checkpoint({"meta": content["meta"], "state_dict": content["state_dict"]}, weights)
