"""A trained model as ONNX, TorchScript or OpenVINO, compared with PyTorch before it is kept."""

from __future__ import annotations

import copy
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmbeit3.checkpoint import dataset_meta_of, read_checkpoint
from mmbeit3.config.saved_config import saved_config
from mmbeit3.export.checks import Difference, compare
from mmbeit3.export.files import (
    DEFAULT_OPSET,
    MAX_ONNX_BYTES,
    OPSETS,
    SUFFIXES,
    Exported,
    beside,
    check_packages,
    write_graph,
)
from mmbeit3.export.graphs import Graph, Tensors
from mmbeit3.export.kinds import KINDS, build_empty
from mmbeit3.inference.inferencer import Inferencer, preparation
from mmbeit3.inference.task import find_task
from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import make_folder, writing
from mmbeit3.version import __version__

Examples = list[tuple[Tensors, Tensors]]


def export_model(
    cfg: Config,
    checkpoint: str | Path,
    out: str | Path,
    to: str = "onnx",
    part: str = "model",
    opset: int = DEFAULT_OPSET,
    image: str | Path | None = None,
) -> list[str]:
    """Write a trained model for other programs, and make sure that it computes what PyTorch does.

    Args:
        cfg (Config): The config.
        checkpoint (str | Path): Its weights.
        out (str | Path): The file. A detector with masks and a dual encoder have a second one
            beside it, and OpenVINO has its weights there.
        to (str): "onnx", "torchscript" or "openvino". Defaults to "onnx".
        part (str): "model", or "backbone" for tower and pyramid. Defaults to "model".
        opset (int): Version of ONNX's operators. Defaults to 18.
        image (str | Path, optional): An image to compare by, beside noise. Defaults to None.

    Returns:
        list[str]: For each file what it is and the largest differences from PyTorch.

    Raises:
        InputError: The model cannot be exported, or the file computes something else; then no file
            is left.
    """
    out = Path(out)
    _check_options(out, to, opset)
    task = find_task(cfg)
    kind = task.export_kind if part == "model" else part
    if kind is None:
        raise InputError(
            f"a {cfg.model.get('type')} is not exported; expected a detector, a segmentor or a "
            "dual encoder, or the tower of one of the first two by --part backbone"
        )
    init_default_scope(cfg.get("default_scope", "mmbeit3"))
    cfg = copy.deepcopy(cfg)
    _check_model(build_empty(cfg), kind, to)

    content = read_checkpoint(checkpoint)
    inferencer = task.load(cfg, content, "cpu", None, False)
    model = inferencer.model
    graphs = KINDS[kind].graphs(model)
    facts = _facts(cfg, inferencer, content, kind, [graph.name for graph in graphs])
    saved_config(facts, out)  # or it could not be read from there
    noise = torch.Generator().manual_seed(0)
    images = [torch.randn(1, 3, *size, generator=noise) for size in _sizes(model)]
    if image is not None:
        images.append(_prepared(inferencer, image))
    with torch.no_grad():
        examples = [_examples(graph, images) for graph in graphs]
    from mmbeit3.export.traceable import make_traceable  # which needs mmseg

    make_traceable(model)
    make_folder(out.parent)
    with writing(out), TemporaryDirectory(prefix=".export-", dir=out.parent) as folder:
        draft = Path(folder) / out.name
        for graph, example in zip(graphs, examples, strict=True):
            write_graph(graph, example[0][0], beside(draft, graph.name), to, opset, facts)
        lines = _compared(Exported(draft), graphs, examples, out)
        for path in sorted(Path(folder).iterdir()):
            os.replace(path, out.with_name(path.name))
    return lines


def _check_options(out: Path, to: str, opset: int) -> None:
    if to not in SUFFIXES:
        raise InputError(f"{to!r} is no format; expected one of {', '.join(SUFFIXES)}", "to")
    if out.suffix != SUFFIXES[to]:
        raise InputError(
            f"{out} ends with {out.suffix!r}; expected {SUFFIXES[to]} for the format {to}", "out"
        )
    if opset not in OPSETS:
        raise InputError(f"{opset} is none of {OPSETS[0]} to {OPSETS[-1]}", "opset")
    check_packages(to)


def _check_model(model: nn.Module, kind: str, to: str) -> None:
    """Refuse, before weights are read, what cannot be exported."""
    from mmbeit3.export.traceable import check_traceable

    if kind == "backbone" and not hasattr(model, "extract_feat"):
        raise InputError(
            f"a {type(model).__name__} has no backbone with maps; expected a detector or a "
            "segmentor",
            "part",
        )
    embedding = getattr(getattr(model, "backbone", None), "patch_embed", None)
    channels = getattr(getattr(embedding, "proj", None), "in_channels", 3)
    if channels != 3:
        raise InputError(
            f"the model takes images of {channels} channels; expected one of 3, for which exported "
            "files are read"
        )
    check_traceable(model)
    KINDS[kind].check(model)
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if to != "torchscript" and size >= MAX_ONNX_BYTES:
        raise InputError(
            f"the weights have {size / 1e9:.1f} GB, and an ONNX file holds "
            f"{MAX_ONNX_BYTES / 1e9:.1f} GB; expected --to torchscript for this size"
        )


def _facts(
    cfg: Config,
    inferencer: Inferencer,
    content: Mapping[str, Any],
    kind: str,
    names: list[str],
) -> dict[str, Any]:
    """What stands in each file, for others and for ``mmbeit3 infer``."""
    preprocessor: Any = inferencer.model.data_preprocessor
    classes = [str(name) for name in inferencer.classes]
    meta = dataset_meta_of(content.get("meta"))
    if not meta.get("classes"):
        offset = getattr(getattr(inferencer, "meanings", None), "offset", 0)
        meta = {"classes": classes, "reduce_zero_label": bool(offset)}
        meta["palette"] = [list(color[::-1]) for color in inferencer.palette]
    cfg = copy.deepcopy(cfg)
    cfg.model.pop("class_embeddings", None)  # what the heads have of them is in the graph
    facts = {
        "version": __version__,
        "id": uuid.uuid4().hex,
        "kind": kind,
        "graphs": names,
        "config": Path(cfg.filename or "").name,
        "classes": classes,
        "channels": "rgb" if getattr(preprocessor, "_channel_conversion", True) else "bgr",
        "mean": _numbers(preprocessor, "mean"),
        "std": _numbers(preprocessor, "std"),
        "pipeline": preparation(cfg),
        "meta": {"cfg": cfg.pretty_text, "dataset_meta": meta},
    }
    return _plain(facts)


def _plain(value: Any) -> Any:
    """A value of JSON's types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, int, float, type(None))):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _numbers(preprocessor: Any, name: str) -> list[float] | None:
    numbers = getattr(preprocessor, name, None)
    return None if numbers is None else numbers.flatten().tolist()


def _sizes(model: nn.Module) -> list[tuple[int, int]]:
    """Heights and widths to compare at; no patch and no window divides the first ones."""
    tower = getattr(model, "backbone", None) or model.encoder.vision
    side = tower.patch_size * (getattr(tower, "window_size", 0) or min(tower.grid_size))
    return [(side + 7, 2 * side - 5), (side, side), (side // 2 + 1, side + tower.patch_size)]


def _prepared(inferencer: Inferencer, image: str | Path) -> Tensor:
    """An image as the model is given it, without padding."""
    loaded = inferencer.load_one(str(image))
    data = {key: [value] for key, value in loaded.packed.items()}
    inputs = inferencer.model.data_preprocessor(data, False)["inputs"]
    height, width = loaded.packed["inputs"].shape[-2:]
    return inputs[:, :, :height, :width].contiguous()


def _examples(graph: Graph, images: list[Tensor]) -> Examples:
    """Inputs of a graph, and what the plain model makes of them."""
    inputs = [graph.example(image) for image in images]
    return [(tensors, graph.reference(*tensors)) for tensors in inputs]


def _compared(
    exported: Exported, graphs: list[Graph], examples: list[Examples], out: Path
) -> list[str]:
    """Run the files on the inputs of the examples, and say how far they are off."""
    lines = []
    for graph, pairs in zip(graphs, examples, strict=True):
        path = beside(out, graph.name)
        worst: dict[str, Difference] = {}
        for inputs, expected in pairs:
            found = exported.graphs[graph.name](*inputs)
            for difference in compare(list(graph.outputs), found, expected, str(path)):
                before = worst.get(difference.name, difference)
                worst[difference.name] = before.merged(difference)
        takes = ", ".join(graph.inputs)
        told = ", ".join(map(str, worst.values()))
        lines.append(f"{path}: from {takes}; largest difference from PyTorch: {told}")
    return lines
