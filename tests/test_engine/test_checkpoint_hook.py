from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.engine import build_runner, checkpoint_hook, find_checkpoint
from mmbeit3.engine.checkpoint_hook import POINTER, damage
from mmbeit3.utils import InputError
from tests.special_files import SPECIAL
from tests.test_datasets.fuzzing import time_limit

from .toy import config


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(checkpoint_hook, "print_log", lambda text, *_, **__: lines.append(text))
    return lines


def checkpoint(work_dir: Path, number: int, moment: float) -> Path:
    file = work_dir / f"iter_{number}.pth"
    torch.save({"meta": {"iter": number}, "state_dict": {"a": torch.ones(1000)}}, file)
    os.utime(file, (moment, moment))
    return file


def point_at(work_dir: Path, file: Path, moment: float) -> None:
    pointer = work_dir / POINTER
    pointer.write_text(str(file))
    os.utime(pointer, (moment, moment))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip(file: Path) -> None:
    """Change one bit of the weights, as a failing disk does."""
    with zipfile.ZipFile(file) as archive:
        info = next(info for info in archive.infolist() if info.file_size == 4000)
    content = bytearray(file.read_bytes())
    content[info.header_offset + 2000] ^= 1
    file.write_bytes(content)


def test_the_newest_whole_checkpoint_is_found(tmp_path: Path, logged: list[str]) -> None:
    assert find_checkpoint(tmp_path) is None
    two, four = checkpoint(tmp_path, 2, 10), checkpoint(tmp_path, 4, 20)
    point_at(tmp_path, four, 21)
    assert find_checkpoint(tmp_path) == four
    # A run killed between writing a file and naming it.
    six = checkpoint(tmp_path, 6, 30)
    assert find_checkpoint(tmp_path) == six
    # One of an earlier training in this folder.
    checkpoint(tmp_path, 900, 5)
    assert find_checkpoint(tmp_path) == six
    assert not logged
    cut(six)
    assert find_checkpoint(tmp_path) == four
    flip(four)
    (tmp_path / "iter_900.pth").unlink()
    assert find_checkpoint(tmp_path) == two
    assert "iter_6.pth is incomplete" in logged[0] and "iter_4.pth is damaged" in logged[-1]


@pytest.mark.parametrize("harm", [cut, flip])
def test_damage_is_seen(tmp_path: Path, harm: object) -> None:
    file = checkpoint(tmp_path, 2, 10)
    assert damage(file) is None
    harm(file)
    assert str(file) in damage(file)


def test_a_folder_that_was_moved_is_searched(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, 2, 10)
    point_at(tmp_path, Path("/elsewhere/iter_2.pth"), 11)
    assert find_checkpoint(tmp_path) == file


@pytest.mark.parametrize("named", ["{outside}", "../elsewhere/iter_9.pth", "linked.pth", "..", ""])
def test_what_lies_elsewhere_is_not_followed(tmp_path: Path, logged: list[str], named: str) -> None:
    for folder in ("elsewhere", "run"):
        (tmp_path / folder).mkdir()
    outside = checkpoint(tmp_path / "elsewhere", 9, 10)
    (tmp_path / "run" / "linked.pth").symlink_to(outside)
    point_at(tmp_path / "run", Path(named.format(outside=outside)), 11)
    (tmp_path / "run" / POINTER).write_text(named.format(outside=outside))
    assert find_checkpoint(tmp_path / "run") is None
    assert "link to another folder" in logged[0] or "not followed" in logged[0]
    inside = checkpoint(tmp_path / "run", 2, 5)
    assert find_checkpoint(tmp_path / "run") == inside


@pytest.mark.parametrize("name", [POINTER, "iter_9.pth", f"iter_{9**30}.pth", "epoch_9.pth"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_of_a_training_is_passed_over(
    tmp_path: Path, logged: list[str], kind: str, name: str
) -> None:
    good = checkpoint(tmp_path, 2, 1)
    point_at(tmp_path, good, 2)
    (tmp_path / name).unlink(missing_ok=True)
    SPECIAL[kind](tmp_path / name)
    with time_limit(0):
        assert find_checkpoint(tmp_path) == good


def test_a_work_dir_may_have_a_name_that_is_no_text(tmp_path: Path) -> None:
    work_dir = tmp_path / os.fsdecode(b"a\xff\nb")
    for iters in (2, 3):
        build_runner(config(work_dir, max_iters=iters, resume=iters > 2)).train()
    assert find_checkpoint(work_dir) == work_dir / "iter_3.pth"


def test_a_work_dir_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    file = checkpoint(tmp_path / "run", 2, 10)
    point_at(tmp_path / "run", file, 11)
    assert find_checkpoint(tmp_path / "run") == file


def test_checkpoints_are_kept_as_asked_and_half_ones_go(tmp_path: Path) -> None:
    (tmp_path / ".iter_9.pth.123.partial").write_bytes(b"half")
    build_runner(config(tmp_path, max_iters=9)).train()
    kept = {file.name for file in tmp_path.iterdir() if not file.is_dir()}
    best = {name for name in kept if name.startswith("best_accuracy_iter_")}
    assert len(best) == 1
    numbered = {name for name in kept if name.startswith("iter_")}
    assert numbered == {"iter_6.pth", "iter_8.pth", "iter_9.pth"}
    assert not {name for name in kept if name.endswith(".partial")}
    assert (tmp_path / POINTER).read_text() == str(tmp_path / "iter_9.pth")
    info = read_checkpoint(tmp_path / "iter_9.pth")["message_hub"]["runtime_info"]
    assert info["keep_ckpt_ids"] == [6, 8, 9]
    assert Path(info["best_ckpt"]).name in best


def test_at_any_moment_a_whole_checkpoint_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Look at the folder at every call that changes it, with only one checkpoint to be kept."""
    found: list[bool] = []

    def look() -> None:
        if (tmp_path / "iter_2.pth").exists() or found:
            found.append(find_checkpoint(tmp_path) is not None)

    for owner, name in ((os, "replace"), (Path, "unlink"), (torch, "save")):
        original = getattr(owner, name)

        def watched(*args: object, original: object = original, **kwargs: object) -> object:
            look()
            result = original(*args, **kwargs)
            look()
            return result

        monkeypatch.setattr(owner, name, watched)
    build_runner(config(tmp_path, default_hooks__checkpoint__max_keep_ckpts=1)).train()
    assert len(found) > 20 and all(found)
    assert [file.name for file in tmp_path.glob("iter_*")] == ["iter_8.pth"]


@pytest.mark.parametrize(
    ("until", "status"), [pytest.param(5, 0, marks=pytest.mark.slow), (100, 2)]
)
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, until: int, status: int) -> None:
    """Files may grow to no more than 4 kB from the fourth iteration on."""
    script = """
        import resource, sys
        from pathlib import Path
        from toy import config
        from mmengine.hooks import Hook
        from mmengine.registry import HOOKS
        from mmbeit3.engine import build_runner
        from mmbeit3.commands.console import run

        @HOOKS.register_module()
        class Fill(Hook):
            priority = "VERY_HIGH"
            def before_train_iter(self, runner, *args, **kwargs):
                limit = 4096 if 3 <= runner.iter < int(sys.argv[2]) else resource.RLIM_INFINITY
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        hooks = [dict(type="mmbeit3.EMAHook", momentum=0.1), dict(type="Fill")]
        cfg = config(Path(sys.argv[1]), custom_hooks=hooks, train_cfg__val_interval=100,
                     randomness__seed=0, default_hooks__logger=None)
        run(lambda: build_runner(cfg).train() and None)
    """
    work_dir = tmp_path / str(until)
    done = run_script(script, work_dir, until)
    assert done.returncode == status, done.stderr
    # Log files are cut by the limit as well, the terminal is not.
    text = done.stdout + done.stderr
    assert "iter_4.pth cannot be written (File too large)" in text
    assert f"the last good checkpoint is {work_dir / 'iter_2.pth'}" in text
    assert not list(work_dir.glob(".*.partial"))
    found = find_checkpoint(work_dir)
    assert found.name == ("iter_8.pth" if until == 5 else "iter_2.pth")
    if until == 100:
        assert "training is done, but its last checkpoint could not be written" in text


def test_a_kill_while_writing_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from toy import config
        from mmbeit3.checkpoint import saving
        from mmbeit3.engine import build_runner

        write = saving._write
        def half(content, path, suffix):
            write(content, path, suffix)
            if content["meta"]["iter"] == 4:
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        saving._write = half
        build_runner(config(Path(sys.argv[1]), randomness__seed=0)).train()
    """
    done = run_script(script, tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".iter_4.pth.*.partial"))
    assert find_checkpoint(tmp_path) == tmp_path / "iter_2.pth"
    runner = build_runner(config(tmp_path, resume=True, load_from=str(tmp_path / "iter_2.pth")))
    runner.train()
    assert not list(tmp_path.glob(".*.partial"))


def run_script(script: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_metric_that_is_not_there_is_named(tmp_path: Path) -> None:
    changes = {"default_hooks__checkpoint__save_best": "mIoU"}
    with pytest.raises(InputError, match="save_best is 'mIoU', but the evaluation gives accuracy"):
        build_runner(config(tmp_path, max_iters=4, **changes)).train()
