"""Every instruction set computes, and says how: in processes with fewer than this machine has."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

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
from mmbeit3.ops.cpu.processor import bfloat16_obstacle

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
said = accelerate(model, "bfloat16")
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
print(json.dumps([said, equal, errors, bfloat16_obstacle(), doctor]))
"""


@pytest.mark.parametrize(
    "name",
    [name if name == "AVX2" else pytest.param(name, marks=pytest.mark.slow) for name in LOWERED],
)
def test_bfloat16_without_instructions_for_it(name: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", DETECT, str(TINY)],
        cwd=ROOT,
        env=os.environ | LOWERED[name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    dtype, equal, errors, obstacle, doctor = json.loads(result.stdout.splitlines()[-1])
    limit = LOWERED[name]["ONEDNN_MAX_CPU_ISA"]
    assert (
        obstacle == f"under ONEDNN_MAX_CPU_ISA={limit} this processor has no bfloat16 instructions"
    )
    # A detector computes in float32 and one line says so ...
    assert dtype == "float32" and equal
    assert (result.stdout + result.stderr).count(f"{obstacle}: computing in float32") == 1
    # ... and who casts the model or the products by hand gets bfloat16, within its rounding.
    assert all(1e-4 < error < 0.02 for error in errors.values()), errors
    assert doctor[0].endswith("bfloat16 no")
    assert f"emulated by {'oneDNN' if 'AVX-512' in name else 'torch'}" in doctor[2]
