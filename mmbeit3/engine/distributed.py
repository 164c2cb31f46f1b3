"""Starting torch.distributed, on GPUs or on the CPU."""

from __future__ import annotations

import multiprocessing
import os
import sys
from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.dist import get_rank, init_dist, is_distributed
from mmengine.logging import print_log
from torch import distributed

from mmbeit3.utils import InputError

#: What each launcher sets: the variables of a process's number on its machine, and of their count.
LOCAL_VARIABLES = {
    "pytorch": ("LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    "slurm": ("SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"),
    "mpi": ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
}
STARTED_BY = {"pytorch": "torchrun", "slurm": "srun", "mpi": "mpirun"}


def init_distributed(launcher: str, backend: str = "nccl", timeout: float | None = None) -> None:
    """Start torch.distributed, each process with a GPU of its own, or all of them on the CPU.

    mmengine starts it, as everywhere in OpenMMLab; but that asks for a GPU, so without any this
    function does, from torchrun only.

    Args:
        launcher (str): What started the processes: 'pytorch' (torchrun), 'slurm', 'mpi'; 'none' is
            a single process, for which nothing is done.
        backend (str): That of torch.distributed. Defaults to 'nccl', which becomes 'gloo' on the
            CPU.
        timeout (float, optional): Seconds that a process waits for the others. Defaults to
            PyTorch's, of the backend.

    Raises:
        InputError: If the launcher did not start this process, a machine has fewer GPUs than
            processes, or Slurm or MPI started them where there is no GPU. Where all processes of a
            machine find the same, the first raises it and the others leave silently.
    """
    if launcher == "none" or is_distributed():
        return
    local_rank = _local_rank(launcher)
    options = {} if timeout is None else {"timeout": timeout}
    if torch.cuda.is_available():
        _check_gpus(launcher, local_rank)
        multiprocessing.get_start_method()  # settles on the default; mmengine would set 'spawn'
        init_dist(launcher, backend, **options)
        return
    if launcher != "pytorch":
        raise InputError(
            f"{launcher} needs a GPU in every process and PyTorch sees none; on the CPU start the "
            "processes by torchrun, with 'pytorch'",
            argument="launcher",
        )
    times = {key: timedelta(seconds=value) for key, value in options.items()}
    distributed.init_process_group("gloo", **times)
    if backend != "gloo" and get_rank() == 0:
        print_log(
            f"no GPU: the processes run on the CPU, with gloo in place of {backend}", "current"
        )


def _local_rank(launcher: str) -> int:
    variable = LOCAL_VARIABLES[launcher][0]
    needed = [variable] + ["RANK", "WORLD_SIZE"] * (launcher == "pytorch")
    if absent := [name for name in needed if name not in os.environ]:
        raise InputError(
            f"{launcher} is for processes started by {STARTED_BY[launcher]}, and the "
            f"environment has no {', '.join(absent)}: start them by {STARTED_BY[launcher]}, or "
            "leave it out",
            argument="launcher",
        )
    return int(os.environ[variable])


def _check_gpus(launcher: str, local_rank: int) -> None:
    """Compare the GPUs with the processes of this machine, as far as the launcher tells."""
    gpus = torch.cuda.device_count()
    told = os.environ.get(LOCAL_VARIABLES[launcher][1])
    count = int(told) if told else local_rank + 1
    if count <= gpus:
        return
    if local_rank > 0 and told:
        sys.exit(0)  # the first one says it
    raise InputError(
        f"{count} processes on this machine, and each sees {gpus} GPU(s): start as many processes "
        "as there are GPUs (under Slurm let every task see all of them: --gres=gpu:N, not "
        "--gpus-per-task)"
    )


def start_processes(cfg: Config) -> None:
    """Start torch.distributed as ``launcher`` and ``env_cfg.dist_cfg`` say; alone, do nothing."""
    options = (cfg.get("env_cfg") or {}).get("dist_cfg") or {}
    init_distributed(cfg.get("launcher", "none"), **options)
