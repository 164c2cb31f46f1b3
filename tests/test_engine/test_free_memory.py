"""Memory that a training has freed goes back to the system while it runs."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# Blocks below glibc's limit for a mapping of their own, all freed but the last: the heap cannot
# shrink from its end. 100 MiB.
SCRIPT = """
    import sys
    from pathlib import Path
    from toy import config
    from mmbeit3.engine import build_runner
    from mmengine.hooks import Hook
    from mmengine.registry import HOOKS

    def held():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    @HOOKS.register_module()
    class Fragments(Hook):
        priority = "LOWEST"  # after that which is tested
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if batch_idx == 10:
                self.before = held()
                blocks = [bytearray(100_000) for _ in range(1_000)]
                self.last = blocks[-1]
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if batch_idx in (98, 99):
                print(f"after {batch_idx + 1}: {held() - self.before:.0f} MiB", flush=True)

    hooks = [dict(type="Fragments")]
    build_runner(config(Path(sys.argv[1]), max_iters=100, custom_hooks=hooks)).train()
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
)
def test_what_is_free_between_blocks_goes_back(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    print(done.stdout[-3000:], done.stderr[-3000:])
    found = dict(line[6:].split(": ") for line in done.stdout.splitlines() if line[:6] == "after ")
    kept, left = (float(found[when].removesuffix(" MiB")) for when in ("99", "100"))
    assert kept > 80
    assert left < 20
