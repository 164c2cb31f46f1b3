"""Peak memory of the base backbone at 1024 x 1024, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, resource, torch
from mmbeit3.models import BEiT3

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

model = BEiT3("base").eval()
before = peak()
with torch.inference_mode():
    (out,) = model(torch.randn(1, 3, 1024, 1024))
assert out.shape == (1, 768, 64, 64)
print(json.dumps(dict(process=peak(), forward=peak() - before)))
"""


def test_base_forward_at_1024_stays_under_2_gb() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    peak = json.loads(run.stdout.splitlines()[-1])
    print({name: f"{value / 1e9:.2f} GB" for name, value in peak.items()})
    assert peak["process"] < 2e9  # libraries and weights included
    assert peak["forward"] > 50e6  # a map of the hidden FFN layer alone: something was measured
