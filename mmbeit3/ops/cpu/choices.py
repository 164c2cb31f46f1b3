"""Which library multiplies for the linear layers here: measured where instructions do not tell.

| type | needs | by |
|---|---|---|
| float32 | nothing | oneDNN or torch, whichever is faster for the layer's shape |
| bfloat16 | AVX-512 BF16, AMX, or Arm's: :func:`~mmbeit3.ops.cpu.processor.bfloat16_obstacle` | torch, by oneDNN |
| int8 | AVX-512 VNNI, AVX-VNNI or AMX: :func:`~mmbeit3.ops.cpu.processor.int8_obstacle` | oneDNN |
"""  # noqa: E501

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from mmbeit3.ops.cpu.int8 import Int8Linear, int8_linear
from mmbeit3.ops.cpu.linear import ONEDNN_DTYPES, onednn_linear
from mmbeit3.ops.cpu.processor import ISA_VARIABLES
from mmbeit3.utils.whole_files import write_whole

#: The layer that is measured unless another is asked for: base's first one of an FFN.
INPUTS, OUTPUTS = 768, 3072
ROWS = 64  # a quarter of a window: a call ends before another process gets the core
_SMALL = 1 << 17  # weights of a layer whose product is done before two of them can be told apart
_ROUNDS = 15
_SECONDS = 0.25  # no further round after these; one call of something emulated may take as long
_MARGIN = 1.05  # torch must be so much faster: measurements scatter


@cache
def onednn_pays(inputs: int, outputs: int) -> bool:
    """Tell whether oneDNN multiplies float32 at least as fast as torch, for a layer of this shape.

    Measured at the first time, in some milliseconds, and kept in ``$XDG_CACHE_HOME/mmbeit3`` (by
    default ``~/.cache/mmbeit3``) for this processor, torch and number of threads.
    """
    if torch.float32 not in ONEDNN_DTYPES:
        return False
    if inputs * outputs < _SMALL:
        return True
    path, key = _kept(), f"{inputs}x{outputs}"
    found: dict[str, bool] = {}
    with suppress(OSError, ValueError, TypeError):
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(found.get(key), bool):
        rates = measure(("float32, torch", "float32, oneDNN"), inputs, outputs)
        found[key] = rates["float32, oneDNN"] * _MARGIN >= rates["float32, torch"]
        with suppress(OSError, ValueError):  # it is measured again next time
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(found))
    return found[key]


def measure(
    ways: Sequence[str], inputs: int = INPUTS, outputs: int = OUTPUTS, rows: int = ROWS
) -> dict[str, float]:
    """Billions of operations a second of each way to multiply: the best of a few rounds, in turn.

    Args:
        ways (Sequence[str]): Keys of :data:`WAYS`.
        inputs (int): Width of the rows. Defaults to :data:`INPUTS`.
        outputs (int): Width of the product. Defaults to :data:`OUTPUTS`.
        rows (int): Number of rows. Defaults to :data:`ROWS`.
    """
    with torch.inference_mode(), torch.random.fork_rng(devices=()):
        layer = Int8Linear(inputs, outputs, device="cpu", dtype=torch.float32).eval()
        x = torch.rand(rows, inputs, device="cpu", dtype=torch.float32) - 0.5
        calls = {way: WAYS[way](layer, x) for way in ways}
        best = dict.fromkeys(ways, float("inf"))
        start = time.perf_counter()
        for number in range(_ROUNDS + 1):
            for way, call in calls.items():
                begin = time.perf_counter()
                call()
                if number or time.perf_counter() - begin > _SECONDS:  # the first one warms up
                    best[way] = min(best[way], time.perf_counter() - begin)
            if time.perf_counter() - start > _SECONDS and max(best.values()) < float("inf"):
                break
    return {way: 2e-9 * rows * inputs * outputs / seconds for way, seconds in best.items()}


def _by_torch(dtype: torch.dtype) -> Callable[[Int8Linear, torch.Tensor], Callable[[], object]]:
    def build(layer: Int8Linear, x: torch.Tensor) -> Callable[[], object]:
        x, weight, bias = x.to(dtype), layer.weight.to(dtype), layer.bias.to(dtype)
        return lambda: F.linear(x, weight, bias)

    return build


#: Name -> what makes a call of a layer (of any type) and its input.
WAYS = {
    "float32, torch": _by_torch(torch.float32),
    "float32, oneDNN": lambda layer, x: lambda: onednn_linear(x, layer.weight, layer.bias, False),
    "bfloat16": _by_torch(torch.bfloat16),
    "int8": lambda layer, x: lambda: int8_linear(layer, x),
}


def _kept() -> Path:
    """The file for this machine as it is now."""
    facts = [platform.machine(), _processor(), torch.__version__, str(torch.get_num_threads())]
    facts += [torch.backends.cpu.get_cpu_capability()]
    facts += [os.environ.get(name, "") for name in ISA_VARIABLES]
    name = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mmbeit3")
    return folder / f"linear-{name}.json"


def _processor() -> str:
    """Its model and instructions."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model", "flags"))}))
    return platform.processor()
