from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmbeit3.apis.training import train
from mmbeit3.checkpoint import official_state_dict, read_checkpoint
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.engine import build_runner, checkpoint_hook
from mmbeit3.engine.prepare import prepare, set_resume, warn_of_random_backbone
from mmbeit3.models import BEiT3
from mmbeit3.utils import InputError
from mmbeit3.utils.folder_lock import LOCK_FILE

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = CONFIGS / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", num_train=4, num_val=2)


def tiny(shapes: Path, work_dir: Path, **options: object) -> Config:
    """The trial config, cut down to two iterations of two images without validation."""
    options = {
        "train_dataloader.batch_size": 2,
        "train_cfg.max_iters": 2,
        "train_cfg.val_interval": 1000,
        "default_hooks.checkpoint.interval": 1,
        "default_hooks.logger.interval": 1,
        "log_level": "WARNING",
        **options,
    }
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        options[f"{loader}.dataset.data_root"] = str(shapes)
    for evaluator in ("val_evaluator", "test_evaluator"):
        options[f"{evaluator}.ann_file"] = str(shapes / "annotations" / "val.json")
    return load_config(TINY, options, work_dir)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the module logs; mmengine's handlers keep the stream of the test that made them."""
    lines: list[str] = []
    for module in ("mmbeit3.apis.training", "mmbeit3.engine.prepare", "mmengine.logging"):
        monkeypatch.setattr(f"{module}.print_log", lambda text, *_, **__: lines.append(text))
    return lines


def test_training_learns_names_its_results_and_resumes(
    shapes: Path, tmp_path: Path, logged: list[str]
) -> None:
    cfg = tiny(shapes, tmp_path, **{"train_cfg.max_iters": 1, "log_level": "INFO"})
    assert train(cfg, amp=True) == tmp_path
    *_, results = logged
    log = (tmp_path / results.rpartition("log: ")[2]).read_text()
    assert "classes: 5: disk, square, triangle, star, ring" in log
    assert (
        "one iteration is one optimizer step of 2 images: 1 process(es) x 2 images x 1 accumulated"
    ) in log
    assert any("random weights are for trials only" in line for line in logged)
    assert f"results are in {tmp_path}\n  last checkpoint: iter_1.pth" in results
    first = read_checkpoint(tmp_path / "iter_1.pth")
    assert first["meta"]["dataset_meta"]["classes"] == (
        "disk",
        "square",
        "triangle",
        "star",
        "ring",
    )

    before = len(logged)
    train(tiny(shapes, tmp_path), resume=True)
    assert not any("earlier training" in line for line in logged[before:])
    second = read_checkpoint(tmp_path / "iter_2.pth")
    history, _ = second["message_hub"]["log_scalars"]["train/loss"].data
    assert second["meta"]["iter"] == 2 and len(history) == 2
    name = "backbone.pos_embed"
    assert not torch.equal(first["state_dict"][name], second["state_dict"][name])


def test_resuming_without_a_checkpoint_keeps_load_from(tmp_path: Path, logged: list[str]) -> None:
    cfg = Config({"work_dir": str(tmp_path), "load_from": "weights.pth"})
    set_resume(cfg, True)
    assert cfg.load_from == "weights.pth" and cfg.resume is False
    assert logged == [f"no checkpoint to resume in {tmp_path}: starting anew"]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["iter_9.pth", "best_coco_bbox_mAP_iter_9.pth", "start.pth"])
def test_a_training_that_starts_anew_beside_another_says_so(
    tmp_path: Path, shapes: Path, logged: list[str], name: str, resume: bool
) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / name)
    cfg = tiny(shapes, tmp_path, resume=resume)
    prepare(cfg, "train")
    said = [line for line in logged if "earlier training" in line]
    if name == "start.pth" or (resume and name == "iter_9.pth"):
        assert not said
    else:
        assert said and name in said[0] and "--resume" in said[0] and "\n" not in said[0]


@pytest.mark.parametrize(
    ("in_config", "argument", "expected"),
    [
        ({}, False, (None, None)),
        ({"load_from": "w.pth", "resume": False}, False, (False, "w.pth")),
        ({"load_from": "w.pth", "resume": True}, False, (True, "w.pth")),
        ({"load_from": "w.pth"}, "iter_7.pth", (True, "iter_7.pth")),
        ({"load_from": "w.pth"}, True, (True, "{work_dir}/iter_9.pth")),
        ({"load_from": None, "resume": True}, False, (True, "{work_dir}/iter_9.pth")),
    ],
)
def test_what_is_resumed(
    tmp_path: Path, in_config: dict, argument: bool | str, expected: tuple
) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "iter_9.pth")
    cfg = Config({"work_dir": str(tmp_path), **in_config})
    set_resume(cfg, argument)
    resume, file = expected
    assert cfg.get("resume") == resume
    assert cfg.get("load_from") == (file and file.format(work_dir=tmp_path))


@pytest.mark.parametrize("entry", ["init_cfg", "load_from"])
def test_training_starts_from_official_weights(shapes: Path, tmp_path: Path, entry: str) -> None:
    pretrained = BEiT3("tiny", window_size=0, with_cls_token=True, final_norm=True)
    pretrained.init_weights()
    state = official_state_dict(pretrained.state_dict())
    file = tmp_path / "beit3_tiny_patch16_224.pth"
    torch.save({"model": {name: value.half() for name, value in state.items()}}, file)

    cfg = tiny(shapes, tmp_path / "work", **{"train_cfg.max_iters": 1})
    cfg.optim_wrapper.optimizer.lr = 0.0  # one step that moves nothing
    cfg.param_scheduler = []
    if entry == "init_cfg":
        cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(file))
    else:
        cfg.load_from = str(file)
    train(cfg)

    trained = read_checkpoint(tmp_path / "work" / "iter_1.pth")["state_dict"]
    for name, value in pretrained.state_dict().items():
        if name.startswith("layers."):
            assert torch.equal(trained[f"backbone.{name}"], value.half().float()), name
    # 224 pixels in patches of 16, made 128 pixels in patches of 8
    assert trained["backbone.pos_embed"].shape == (1, 16 * 16, 192)
    assert trained["backbone.patch_embed.proj.weight"].shape == (192, 3, 8, 8)


PRETRAINED = {"type": "Pretrained", "checkpoint": "absent.pth"}


@pytest.mark.parametrize(
    ("model", "load_from", "warned"),
    [
        ({"backbone": {"init_cfg": PRETRAINED}}, None, False),
        ({"backbone": {"init_cfg": [PRETRAINED]}}, None, False),
        ({"backbone": {}}, "w.pth", False),
        ({"backbone": {"init_cfg": {"type": "TruncNormal"}}}, None, True),
        ({"backbone": {}}, None, True),
        ({}, None, True),
    ],
)
def test_random_backbones_are_remarked_on(
    logged: list[str], model: dict, load_from: str | None, warned: bool
) -> None:
    warn_of_random_backbone(Config({"model": model, "load_from": load_from}))
    assert bool(logged) == warned


def test_learning_rate_scaling_needs_a_base(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the batch size that it was chosen for"):
        train(tiny(shapes, tmp_path), scale_lr=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_dataloader": None}, "it has no train_dataloader"),
        ({"load_from": "absent.pth"}, "checkpoint absent.pth does not exist"),
        (
            {"model.backbone.init_cfg": dict(PRETRAINED, _delete_=True)},
            "checkpoint absent.pth does not exist",
        ),
        ({"train_dataloader.dataset.ann_file": "absent.json"}, "absent.json"),
    ],
)
def test_what_cannot_work_is_found_before_training(
    shapes: Path, tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        cfg = tiny(shapes, tmp_path)
        cfg.merge_from_dict(options)
        train(cfg)
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_costs_one_interval(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = {"default_hooks.checkpoint.max_keep_ckpts": 2}
    train(tiny(shapes, tmp_path, **keep))
    expected = read_checkpoint(tmp_path / "iter_2.pth")["state_dict"]
    expected = {name: value.clone() for name, value in expected.items()}
    file = tmp_path / "iter_2.pth"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    lines: list[str] = []
    monkeypatch.setattr(checkpoint_hook, "print_log", lambda text, *_, **__: lines.append(text))
    train(tiny(shapes, tmp_path, **keep, **{"randomness.seed": None}), resume=True)
    assert "iter_2.pth is damaged" in lines[0]
    found = read_checkpoint(file)["state_dict"]
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_folder_that_cannot_be_written_is_refused_at_once(shapes: Path) -> None:
    folder = Path(tempfile.mkdtemp())  # not in tmp_path, which only its owner may enter
    try:
        folder.chmod(0o555)
        was_root = os.geteuid() == 0
        if was_root:  # whom no mode stops
            os.seteuid(65534)
        try:
            with pytest.raises(InputError, match="cannot be written .*[Pp]ermission"):
                train(tiny(shapes, folder / "work"))
        finally:
            if was_root:
                os.seteuid(0)
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("settings", "counts", "sentence"),
    [
        ({"optim_wrapper": {"accumulative_counts": "auto"}}, 8, "64 images.*, as in the recipe"),
        ({"optim_wrapper": {"accumulative_counts": 4}}, 4, "32 images.*The recipe has 64"),
        (
            {
                "optim_wrapper": {"accumulative_counts": "auto"},
                "train_dataloader": {"batch_size": 9},
            },
            7,
            "63 images.*The recipe has 64.*auto_scale_lr.enable=True",
        ),
        ({"optim_wrapper": {}, "auto_scale_lr": None}, None, "8 images: .* x 1 accumulated$"),
    ],
)
def test_gradients_are_accumulated_up_to_the_recipes_batch(
    settings: dict, counts: int | None, sentence: str
) -> None:
    cfg = Config(
        {
            "train_dataloader": {"batch_size": 8},
            "auto_scale_lr": {"base_batch_size": 64},
            "train_cfg": {"type": "mmbeit3.TrainLoop", "max_iters": 1},
            **settings,
        }
    )
    plan = prepare(cfg)
    assert re.search(sentence, plan.batch)
    assert plan.cfg.optim_wrapper.get("accumulative_counts") == counts
    again = prepare(plan.cfg)
    assert (again.cfg.to_dict(), again.batch) == (plan.cfg.to_dict(), plan.batch)


def test_scaled_learning_rates_accumulate_nothing() -> None:
    cfg = Config(
        {
            "train_dataloader": {"batch_size": 2},
            "train_cfg": {"type": "mmbeit3.TrainLoop", "max_iters": 1},
            "auto_scale_lr": {"base_batch_size": 64, "enable": True},
            "optim_wrapper": {"accumulative_counts": "auto"},
        }
    )
    assert prepare(cfg).cfg.optim_wrapper.accumulative_counts == 1


def test_accumulating_needs_to_know_the_batch() -> None:
    cfg = Config({"train_dataloader": {}, "optim_wrapper": {"accumulative_counts": "auto"}})
    with pytest.raises(InputError, match="set auto_scale_lr=dict"):
        prepare(cfg)


def test_a_folder_of_a_running_training_is_refused(
    shapes: Path, tmp_path: Path, logged: list[str]
) -> None:
    work_dir = tmp_path / "work"
    cfg = tiny(shapes, work_dir, **{"train_cfg.max_iters": 1})
    work_dir.mkdir()
    holder = "import sys, time; from mmbeit3.utils.folder_lock import folder_locked\n"
    holder += "with folder_locked(sys.argv[1], 'a training', 'work_dir'):\n"
    holder += "    print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(work_dir)], stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        before = sorted(work_dir.rglob("*"))
        for resume in (False, True):
            with pytest.raises(InputError, match=f"a training by process {process.pid} on"):
                train(cfg, resume=resume)
        assert sorted(work_dir.rglob("*")) == before  # nothing was written
        with pytest.raises(InputError, match=f"process {process.pid}"):  # by mmdet's tools
            build_runner(cfg).train()
        process.kill()
    train(cfg, resume=True)
    assert (work_dir / "iter_1.pth").is_file() and not (work_dir / LOCK_FILE).exists()
