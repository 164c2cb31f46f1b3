"""Weights that would load without an error and compute nothing: NaN, infinity, other kinds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmbeit3.utils import InputError, listed


def check_values(
    weights: Mapping[str, Tensor], origin: str, model: Mapping[str, Tensor] | None = None
) -> None:
    """Refuse weights that no model computes with.

    A buffer of zeros and minus infinities is a mask of attention, and passes.

    Args:
        weights: Names to the tensors of a file.
        origin: What to call the file.
        model: Names to the tensors of the model that they are for. Where these are floating point,
            the file's must be; where they are integers (as ``num_batches_tracked``), whole numbers.
            Defaults to None: only NaN, infinity and complex numbers are looked for.

    Raises:
        InputError: There are such weights; it names them.
    """
    kinds: dict[str, list[str]] = {}
    for name, value in weights.items():
        problem = _problem(value, (model or {}).get(name))
        if problem:
            kinds.setdefault(problem, []).append(name)
    if kinds:
        found = "; ".join(f"{kind} in {listed(names)}" for kind, names in kinds.items())
        raise InputError(
            f"{origin} holds {found}; expected finite floating-point weights. The training that "
            "wrote it diverged, or the file is damaged or of another kind: take an earlier or "
            "another one"
        )


def _problem(value: Tensor, own: Tensor | None) -> str | None:
    if value.is_complex() or value.is_quantized or value.layout != torch.strided:
        return f"{_kind(value)} numbers"
    if not value.is_floating_point():
        return f"{_kind(value)} numbers" if own is not None and own.is_floating_point() else None
    if not _is_finite(value):
        return "NaN" if value.float().isnan().any() else "infinity"
    if own is not None and not own.is_floating_point() and not value.equal(value.round()):
        return "fractions where whole numbers belong"
    return None


def _is_finite(value: Tensor) -> bool:
    if value.numel() == 0 or value.is_meta:
        return True
    if value.dtype.itemsize == 1:  # few operations know the 8-bit types
        value = value.float()
    low, high = value.aminmax()  # both are NaN where one element is; several times isfinite's speed
    if low.isfinite() and high.isfinite():
        return True
    return bool(low == -torch.inf and high == 0 and ((value == 0) | (value == -torch.inf)).all())


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
