"""The exported vision tower, by onnxruntime and OpenVINO, next to PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.options import Options
from mmbeit3.export.files import DEFAULT_OPSET, SUFFIXES, Exported, write_graph
from mmbeit3.export.graphs import IMAGE, Graph
from mmbeit3.export.traceable import make_traceable
from mmbeit3.models import BEiT3
from mmbeit3.models.acceleration import accelerate
from mmbeit3.utils.optional_packages import optional_package

PLAIN = "PyTorch, as it is built"
FAST = "PyTorch, mmbeit3.accelerate"
ONNX = "onnxruntime, float32"
INT8 = "onnxruntime, dynamic int8"
OPENVINO = "OpenVINO, float32"


def export(options: Options) -> Case:
    """One image of ``options.size`` through the tower by every runtime."""
    kinds = {
        PLAIN: "plain",
        FAST: "fast",
        ONNX: "onnx",
        INT8: "int8",
        OPENVINO: "openvino",
    }
    base = dict(arch=options.arch, size=options.size)
    return Case(
        "export",
        f"{options.arch} tower with windows, one image of {options.size} x {options.size}",
        tuple(
            Candidate(name, build_exported, base | dict(kind=kind), items=1, memory=False)
            for name, kind in kinds.items()
        ),
        (
            Comparison(FAST, PLAIN, tolerance=1e-4),
            Comparison(ONNX, FAST, tolerance=1e-4),
            Comparison(INT8, FAST),
            Comparison(OPENVINO, FAST, tolerance=1e-4),
        ),
    )


def build_exported(arch: str, size: int, kind: str) -> Callable[[], Tensor]:
    """Make the call that runs the tower, with random weights that are the same for every kind."""
    torch.manual_seed(0)
    model = BEiT3(arch)
    model.init_weights()
    model.eval()
    image = torch.randn(1, 3, size, size)
    if kind in ("plain", "fast"):
        if kind == "fast":
            accelerate(model)
        return torch.inference_mode()(lambda: model(image)[0])
    make_traceable(model)
    graph = Graph("", model, IMAGE, {"map": {2: "rows", 3: "columns"}}, model)
    to = "openvino" if kind == "openvino" else "onnx"
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"tower{SUFFIXES[to]}"
        facts = dict(id="", graphs=[""], meta={}, kind="backbone")
        write_graph(graph, (image[:, :, 9:, 5:].contiguous(),), path, to, DEFAULT_OPSET, facts)
        if kind == "int8":
            tool = optional_package("onnxruntime.quantization", "int8", "export")
            tool.quantize_dynamic(path, path)
        run = Exported(path).graphs[""]
    return lambda: run(image)[0]
