from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


COMMANDS = sorted(TOOLS.rglob("*.py"))
COMMANDS += [ROOT / "mmbeit3" / "__main__.py", ROOT / "benchmarks" / "__main__.py"]


@pytest.mark.parametrize("argument", ["--help", "--no-such-option"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_read_their_arguments_at_once(
    command: Path, argument: str, tmp_path: Path
) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: status = end.code\n"
        "print('SLOW', [name for name in ('torch', 'mmengine', 'numpy') if name in sys.modules])\n"
        "sys.exit(status)"
    )
    done = run([sys.executable, "-c", code, str(command), argument], tmp_path)
    assert done.returncode == (0 if argument == "--help" else 2), done.stderr
    assert "usage: " in (done.stdout if argument == "--help" else done.stderr)
    assert "SLOW []" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.py", "absent.py"], "error: config absent.py does not exist"),
        pytest.param(
            ["test.py", "absent.py", "absent.pth"],
            "error: config absent.py does not exist",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_user_errors_are_one_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run([sys.executable, str(TOOLS / arguments[0]), *arguments[1:]], tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("script", "program", "arguments", "expected"),
    [
        (
            "dist_train.sh",
            "python",
            ["my config.py", "2", "--amp", "--cfg-options", "a=[1, 2]"],
            [
                *("-m", "torch.distributed.run", "--nnodes=1", "--node_rank=0"),
                *("--nproc_per_node=2", "--master_addr=127.0.0.1", "--master_port=29501"),
                *("TOOLS/train.py", "my config.py", "--launcher", "pytorch"),
                *("--amp", "--cfg-options", "a=[1, 2]"),
            ],
        ),
        (
            "dist_test.sh",
            "python",
            ["config.py", "iter 1.pth", "8"],
            [
                *("-m", "torch.distributed.run", "--nnodes=1", "--node_rank=0"),
                *("--nproc_per_node=8", "--master_addr=127.0.0.1", "--master_port=29501"),
                *("TOOLS/test.py", "config.py", "iter 1.pth", "--launcher", "pytorch"),
            ],
        ),
        (
            "slurm_train.sh",
            "srun",
            ["gpu", "job", "config.py", "work dir", "--resume"],
            [
                *("--partition=gpu", "--job-name=job", "--gres=gpu:4", "--ntasks=4"),
                *("--ntasks-per-node=4", "--cpus-per-task=5", "--kill-on-bad-exit=1"),
                *("--mem=0", "--exclusive", "python", "-u", "TOOLS/train.py", "config.py"),
                *("--work-dir=work dir", "--launcher", "slurm", "--resume"),
            ],
        ),
        (
            "slurm_test.sh",
            "srun",
            ["gpu", "job", "config.py", "iter_1.pth"],
            [
                *("--partition=gpu", "--job-name=job", "--gres=gpu:4", "--ntasks=4"),
                *("--ntasks-per-node=4", "--cpus-per-task=5", "--kill-on-bad-exit=1"),
                *("--mem=0", "--exclusive", "python", "-u", "TOOLS/test.py", "config.py"),
                *("iter_1.pth", "--launcher", "slurm"),
            ],
        ),
    ],
)
def test_scripts_pass_every_argument_on_whole(
    script: str, program: str, arguments: list[str], expected: list[str], tmp_path: Path
) -> None:
    stand_in = tmp_path / program
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    done = run(
        ["bash", str(TOOLS / script), *arguments],
        tmp_path,
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        PORT="29501",
        GPUS="4",
        SRUN_ARGS="--mem=0 --exclusive",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace(str(TOOLS), "TOOLS").splitlines() == expected


@pytest.mark.parametrize("script", sorted(TOOLS.glob("*.sh")), ids=lambda script: script.name)
def test_scripts_explain_their_arguments(script: Path, tmp_path: Path) -> None:
    assert os.access(script, os.X_OK)
    done = run(["bash", str(script)], tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("usage: ")
