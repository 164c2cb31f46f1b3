"""Train the model of a config: what ``tools/train.py`` runs, for notebooks too."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from mmbeit3.engine import Terminated, build_runner
from mmbeit3.engine.checkpoint_hook import POINTER, read_pointer
from mmbeit3.engine.distributed import start_processes
from mmbeit3.engine.prepare import prepare, set_resume
from mmbeit3.engine.process_state import separate_run
from mmbeit3.engine.runner import LOCK
from mmbeit3.utils.collective import broadcast_from_rank0, run_on_all_ranks
from mmbeit3.utils.folder_lock import folder_locked


@separate_run
def train(
    cfg: Config, resume: bool | str | Path = False, amp: bool = False, scale_lr: bool = False
) -> Path:
    """Train; logs, checkpoints and the full config go to ``cfg.work_dir``.

    Any number of trainings and tests may follow in one process, as each in one of its own.

    Args:
        cfg: The config, as :func:`mmbeit3.config.load_config` returns it. It stays as it is.
        resume: Continue from this checkpoint; True is the latest one in ``cfg.work_dir``, and a
            fresh start where there is none. Defaults to False.
        amp: Whether to train in mixed precision, bfloat16 unless the config names another type.
            Defaults to False: as the config says.
        scale_lr: Whether to scale the learning rate from the batch size in the config's
            ``auto_scale_lr`` to the one that runs, in place of accumulating gradients up to the
            former. Defaults to False.

    Returns:
        The folder of the results.

    Raises:
        InputError: The config, the annotations or a checkpoint cannot be used, another training
            goes on in the folder, or training cannot go on.
        Terminated: The process was told to end; a checkpoint has been written.
    """
    if amp:
        use_amp(cfg)
    if scale_lr:
        cfg.auto_scale_lr = dict(cfg.get("auto_scale_lr") or {}, enable=True)
    start_processes(cfg)
    with ExitStack() as lock:
        broadcast_from_rank0(lambda: lock.enter_context(folder_locked(cfg.work_dir, *LOCK)))
        run_on_all_ranks(lambda: set_resume(cfg, resume))
        runner = build_runner(prepare(cfg, "train"))
        try:
            runner.train()
        except Terminated as error:
            print_log(str(error), "current")
            raise
    work_dir = Path(runner.work_dir)
    print_log(_results(work_dir, Path(runner.log_dir)), "current")
    return work_dir


def use_amp(cfg: Config) -> None:
    """Switch training to mixed precision, in place: bfloat16 unless the config names a dtype.

    bfloat16 has float32's range, so the loss scale is fixed at 1; other types scale dynamically.
    """
    wrapper = cfg.optim_wrapper
    if "AmpOptimWrapper" not in str(wrapper.get("type")):
        wrapper.type = "mmbeit3.AmpOptimWrapper"
    wrapper.setdefault("dtype", "bfloat16")
    wrapper.setdefault("loss_scale", 1.0 if wrapper.dtype == "bfloat16" else "dynamic")


def _results(work_dir: Path, log_dir: Path) -> str:
    lines = [f"results are in {work_dir}"]
    if (work_dir / POINTER).is_file():
        lines.append(f"  last checkpoint: {Path(read_pointer(work_dir)).name}")
    lines += [f"  best checkpoint: {file.name}" for file in sorted(work_dir.glob("best_*.pth"))]
    lines.append(f"  log: {log_dir.name}/{log_dir.name}.log")
    return "\n".join(lines)
