"""Options that make a trained model faster: bfloat16, and compilation by torch.compile."""

from __future__ import annotations

import logging

import torch
from mmengine.logging import print_log
from torch import nn

from mmbeit3.utils import InputError
from mmbeit3.utils.processor import bfloat16_obstacle
from mmbeit3.utils.towers import find_layers

#: float16 is no choice: the residual stream of sub-LN models can leave its range (65504).
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def accelerate(model: nn.Module, device: torch.device, dtype: str, compiles: bool) -> str:
    """Have ``model.test_step`` run in a faster way.

    In bfloat16 matrix products and convolutions are computed in that type (autocast); weights,
    residual stream, norms and box coordinates stay in float32. On a CPU without instructions for
    bfloat16 that is slower (with AVX2, products take about 3 times as long and convolutions up to
    hundreds of times): float32 is computed there, and one line says so. Compiled are the
    backbone's layers, for any image size: a further size costs no compilation, only a new kind of
    split into windows (rest on the right, below, both, none) or a batch of another kind (one,
    several) does.

    Args:
        model (nn.Module): A detector or segmentor, maybe inside a wrapper.
        device (torch.device): Where it runs.
        dtype (str): 'float32', which changes nothing, or 'bfloat16'.
        compiles (bool): Whether to compile the layers of the backbone.

    Returns:
        str: The type that is computed in.

    Raises:
        InputError: The type is not known, the model has no layers to compile, or torch.compile does
            not work here.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    if compiles:
        _compile_layers(model, device)
    obstacle = bfloat16_obstacle() if dtype == "bfloat16" and device.type == "cpu" else None
    if obstacle is not None:
        print_log(
            f"{obstacle}: computing in float32, which is faster here than --dtype bfloat16",
            "current",
            logging.WARNING,
        )
        dtype = "float32"
    if dtype != "float32":
        model.test_step = torch.autocast(device.type, DTYPES[dtype])(model.test_step)
    return dtype


def _compile_layers(model: nn.Module, device: torch.device) -> None:
    layers = find_layers(model)
    if not layers:
        raise InputError(
            f"{type(getattr(model, 'backbone', model)).__name__} has no list of layers to compile: "
            "leave --compile out, it is for mmbeit3.BEiT3 and mmbeit3.BEiT3Adapter"
        )
    _try_compiler(device)
    for layer in layers.values():
        layer.compile(dynamic=True)
    print_log(
        f"the {len(layers)} layers of the backbone are compiled while the first images run, which "
        "takes a minute or so",
        "current",
    )


def _try_compiler(device: torch.device) -> None:
    """Compile something small, so that a missing compiler is found before the run."""
    try:
        torch.compile(torch.square)(torch.ones(2, device=device))
    except Exception as error:  # torch's errors here come from many modules
        reason = str(error).strip().partition("\n")[0]
        needs = "a C++ compiler" if device.type == "cpu" else "Triton"
        raise InputError(
            f"torch.compile does not work on {device} here; it needs {needs}: {reason}. Leave "
            "--compile out"
        ) from None
    finally:
        torch.compiler.reset()
