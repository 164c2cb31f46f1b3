"""Exported files: writing a graph with what others need to know of it, and running it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmbeit3.export.graphs import Graph, Tensors
from mmbeit3.utils import InputError
from mmbeit3.utils.optional_packages import optional_package

#: What a format's files end with.
SUFFIXES = {"onnx": ".onnx", "torchscript": ".torchscript", "openvino": ".xml"}
#: What brings a format, and its extra.
PACKAGES = {
    "onnx": ("onnx", "onnxruntime"),
    "torchscript": (),
    "openvino": ("onnx", "onnxruntime", "openvino"),
}
#: RoIAlign and GridSample are those of PyTorch from 16 on; later than 20 are not written by torch.
OPSETS = range(16, 21)
DEFAULT_OPSET = 18
#: Under which the facts are kept.
KEY = "mmbeit3"
#: A file of protobuf has no more.
MAX_ONNX_BYTES = 2**31

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def check_packages(to: str) -> None:
    """Make sure that what writes and runs a format is installed.

    Raises:
        InputError: It is not.
    """
    for package in PACKAGES[to]:
        optional_package(package, f"the format {to}", "export")


def write_graph(
    graph: Graph, example: Tensors, path: Path, to: str, opset: int, facts: Mapping[str, Any]
) -> None:
    """Trace a graph and write it.

    Args:
        graph (Graph): The graph, of a traceable model.
        example (tuple[Tensor, ...]): Inputs, with sides that no patch or window divides.
        path (Path): The file, with the suffix of the format; OpenVINO puts another beside it.
        to (str): A key of ``SUFFIXES``.
        opset (int): Version of ONNX's operators.
        facts (Mapping): What to keep in the file, of JSON's types.
    """
    text = json.dumps(facts)
    with torch.no_grad(), _quiet():
        traced = torch.jit.trace(graph.module, example, check_trace=False)
        if to == "torchscript":
            torch.jit.save(traced, str(path), _extra_files={KEY: text.encode()})
            return
        onnx_path = path.with_suffix(SUFFIXES["onnx"])
        torch.onnx.export(
            traced,
            example,
            str(onnx_path),
            dynamo=False,
            opset_version=opset,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes={**graph.inputs, **graph.outputs},
        )
    if to == "onnx":
        onnx = optional_package("onnx", "the format onnx", "export")
        model = onnx.load(str(onnx_path))
        onnx.helper.set_model_props(model, {KEY: text})
        onnx.save(model, str(path))
        return
    openvino = optional_package("openvino", "the format openvino", "export")
    model = openvino.convert_model(str(onnx_path))
    model.set_rt_info(text, [KEY])
    openvino.save_model(model, str(path), compress_to_fp16=False)
    onnx_path.unlink()


class Exported:
    """The files of an exported model, open to run.

    Args:
        path (str | Path): The first one; others lie beside it.

    Attributes:
        facts (dict): What the file says of the model.
        graphs (dict[str, Callable]): By name, from float32 or int64 tensors to a list of tensors.

    Raises:
        InputError: A file is absent, or none of this project.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.facts, run = _open(self.path)
        self.graphs = {"": _on_tensors(run)}
        for name in self.facts["graphs"]:
            if name:
                other = beside(self.path, name)
                facts, run = _open(other)
                if facts["id"] != self.facts["id"]:
                    raise InputError(
                        f"{other} is of another export than {self.path}; put the files of one "
                        "export beside each other"
                    )
                self.graphs[name] = _on_tensors(run)

    def __str__(self) -> str:
        return str(self.path)


def check_run(exported: Exported, device: str, dtype: str | None, compiles: bool) -> None:
    """Make sure that what is asked for is how exported files run.

    Raises:
        InputError: It is not.
    """
    asked = {
        "device": device not in ("auto", "cpu"),
        "dtype": dtype != "float32",
        "compile": compiles,
    }
    for name in [name for name, differs in asked.items() if differs]:
        raise InputError(
            f"{exported} runs on the CPU, in float32, as it is; leave the option out, or give "
            "config and checkpoint",
            name,
        )


def beside(path: Path, name: str) -> Path:
    """Name the file of a further graph."""
    return path.with_name(f"{path.stem}-{name}{path.suffix}") if name else path


def _on_tensors(run: Run) -> Callable[..., list[torch.Tensor]]:
    def call(*inputs: torch.Tensor) -> list[torch.Tensor]:
        found = run([tensor.numpy() for tensor in inputs])
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in found]

    return call


def _open(path: Path) -> tuple[dict[str, Any], Run]:
    """Open a file: its facts, and what runs it."""
    openers = {".onnx": _open_onnx, ".torchscript": _open_torchscript, ".xml": _open_openvino}
    suffix = path.suffix.lower()
    if suffix not in openers:
        raise InputError(f"{path} ends with {path.suffix!r}; expected {', '.join(openers)}")
    if not path.is_file():
        raise InputError(f"there is no file {path}; it belongs to the export")
    try:
        text, run = openers[suffix](path)
    except InputError:
        raise
    except Exception as error:  # each library has its own
        raise InputError(f"{path} cannot be opened: {_first_line(error)}") from error
    try:
        facts = json.loads(text or "")
        facts["id"], facts["graphs"], facts["meta"], facts["kind"]
    except (ValueError, TypeError, KeyError):
        raise InputError(
            f"{path} is of another program, or has lost what mmbeit3 export has written into it; "
            "expected a file of mmbeit3 export"
        ) from None

    def checked(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        try:
            return run(inputs)
        except Exception as error:
            shapes = ", ".join(str(array.shape) for array in inputs)
            raise InputError(f"{path} cannot run {shapes}: {_first_line(error)}") from error

    return facts, checked


def _open_onnx(path: Path) -> tuple[str | None, Run]:
    onnxruntime = optional_package("onnxruntime", str(path), "export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    names = [node.name for node in session.get_inputs()]

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return session.run(None, dict(zip(names, inputs, strict=True)))

    return session.get_modelmeta().custom_metadata_map.get(KEY), run


def _open_torchscript(path: Path) -> tuple[str | None, Run]:
    import torchvision  # noqa: F401  its operators are in the graphs of detectors

    extra = {KEY: b""}
    with _quiet():
        module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra).eval()

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return [out.numpy() for out in module(*map(torch.from_numpy, inputs))]

    return bytes(extra[KEY]).decode(), run


def _open_openvino(path: Path) -> tuple[str | None, Run]:
    openvino = optional_package("openvino", str(path), "export")
    core = openvino.Core()
    model = core.read_model(str(path))
    text = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = core.compile_model(model, "CPU", hints)

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.array(array) for array in compiled(list(inputs)).to_tuple()]

    return text, run


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out that a trace keeps branches, and that torch has newer ways."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0]
