"""Every instruction set computes, and says how: in processes with fewer than this machine has."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mmbeit3.ops.cpu.processor import int8_obstacle

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "configs" / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py"

LOWERED = {
    "SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2"},
    "AVX-512 without bfloat16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
}
pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="these are instruction sets of x86"
)

DETECT = """
import json, sys
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmbeit3.models.acceleration import accelerate
from mmbeit3.config.loading import load_config
from mmbeit3.doctor.report import describe_device, describe_products
from mmbeit3.ops.cpu.processor import bfloat16_obstacle, int8_obstacle
from mmbeit3.utils import InputError

init_default_scope("mmdet")
torch.manual_seed(0)
model = MODELS.build(load_config(sys.argv[1]).model)
model.init_weights()
model.eval()
sample = DetDataSample(metainfo=dict(img_shape=(60, 90), ori_shape=(60, 90), scale_factor=(1, 1)))
image = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)

@torch.no_grad()
def detect():
    found = model.test_step(dict(inputs=[image], data_samples=[sample.clone()]))
    return found[0].pred_instances

accelerate(model)
want = detect()
said = []
for dtype in ("bfloat16", "int8"):
    try:
        said.append(accelerate(model, dtype))
    except InputError as error:
        said.append(str(error))
found = detect()
equal = torch.equal(found.bboxes, want.bboxes) and torch.equal(found.scores, want.scores)

x = torch.randn(1, 3, 64, 96)
with torch.no_grad():
    want = model.backbone(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        outputs = dict(autocast=model.backbone(x)[0])
    outputs["cast"] = model.backbone.bfloat16()(x.bfloat16())[0]
errors = {name: ((y - want).norm() / want.norm()).item() for name, y in outputs.items()}
doctor = [describe_device("cpu"), *describe_products()]
print(json.dumps([said, equal, errors, bfloat16_obstacle(), int8_obstacle(), doctor]))
"""

BYTES = """
import json
import torch
from mmbeit3.models import BEiT3
from mmbeit3.models.acceleration import accelerate
from mmbeit3.doctor.report import describe_products

torch.manual_seed(0)
model = BEiT3("tiny").eval()
x = torch.randn(1, 3, 64, 96)
with torch.no_grad():
    want = model(x)[0]
    said = accelerate(model, "int8")
    error = ((model(x)[0] - want).norm() / want.norm()).item()
print(json.dumps([said, error, describe_products()]))
"""


def run(script: str, limits: dict[str, str]) -> list:
    """What a script prints at the end."""
    result = subprocess.run(
        [sys.executable, "-c", script, str(TINY)],
        cwd=ROOT,
        env=os.environ | limits,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "name",
    [name if name == "AVX2" else pytest.param(name, marks=pytest.mark.slow) for name in LOWERED],
)
def test_bfloat16_without_instructions_for_it(name: str) -> None:
    said, equal, errors, obstacle, no_int8, doctor = run(DETECT, LOWERED[name])
    limit = LOWERED[name]["ONEDNN_MAX_CPU_ISA"]
    assert (
        obstacle == f"under ONEDNN_MAX_CPU_ISA={limit} this processor has no bfloat16 instructions"
    )
    # Both types are refused, which leaves a detector as it was ...
    assert said[0].startswith(f"dtype: {obstacle}, and bfloat16 is slower") and equal
    assert said[1].startswith(f"dtype: {no_int8}; expected float32")
    assert no_int8 == (
        f"under ONEDNN_MAX_CPU_ISA={limit} this processor has no instructions for products of "
        "8-bit integers"
    )
    # ... and who casts the model or the products by hand gets bfloat16, within its rounding.
    assert all(1e-4 < error < 0.02 for error in errors.values()), errors
    assert doctor[0].endswith("bfloat16 no")
    assert f"emulated by {'oneDNN' if 'AVX-512' in name else 'torch'}" in doctor[2]
    assert doctor[2].endswith("--dtype bfloat16 is refused") and "GFLOP/s" in doctor[2]
    assert doctor[3] == f"int8: {no_int8}; --dtype int8 is refused"


@pytest.mark.skipif(int8_obstacle() is not None, reason="this machine has no instructions for int8")
@pytest.mark.parametrize(
    "limits",
    [
        {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI", "ATEN_CPU_CAPABILITY": "avx2"},
        pytest.param({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, marks=pytest.mark.slow),
    ],
)
def test_int8_without_bfloat16(limits: dict[str, str]) -> None:
    said, error, products = run(BYTES, limits)
    assert said == "int8" and 1e-4 < error < 0.05
    assert "--dtype bfloat16 is refused" in products[1]
    assert products[2].startswith("int8 by oneDNN, ")
