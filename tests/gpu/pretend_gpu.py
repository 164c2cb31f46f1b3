"""A device that computes on the CPU and keeps the rules of a GPU.

Within :func:`pretend_gpu` tensors can be put on ``cuda``. They hold their numbers in the memory of
the CPU, and what they are asked for is computed there; but as on a GPU

- an operator whose tensors lie on both devices fails (a number, a tensor without dimensions, may
  lie on the CPU; so may an index);
- what makes the program wait for the device is counted: its numbers read on the CPU (``.item()``,
  ``.tolist()``, ``.cpu()``), operators whose shape follows from values (``nonzero``), and numbers
  of the CPU that are put there without ``non_blocking=True``.

Kernels that are chosen by device are so chosen as for a GPU. Speed, memory, streams and the
rounding of a GPU are none of its business.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.structures import instance_data
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
ROOT = str(Path(__file__).resolve().parents[2] / "mmbeit3")
aten = torch.ops.aten

# Moving between devices; everything else needs its tensors on one.
_MOVES = {aten._to_copy.default, aten.copy_.default}
# Indices may lie on the CPU, where those of a GPU have to wait for it.
_INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
_INDEXED |= {aten._index_put_impl_.default}
# Operators that make a GPU report to the CPU.
_WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default}
_WAITS |= {aten.masked_select.default, aten._unique2.default, aten.unique_consecutive.default}
_WAITS |= {aten.unique_dim.default, aten.repeat_interleave.Tensor}


class _Tensor(Tensor):
    """A tensor that says it is on the GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> _Tensor:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            held.stride(),
            held.storage_offset(),
            dtype=held.dtype,
            device="meta",  # of a GPU the gradient would ask for its streams
            requires_grad=False,
        )
        made.held = held
        return made

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = is_meta = property(lambda self: False)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"on the GPU: {self.held!r}"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu() first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None):
        return _run(operator, args, kwargs or {}, None)


class _OfType(type):
    """What mmengine asks of an index: ``torch.cuda.LongTensor``, ``torch.cuda.BoolTensor``."""

    dtype: torch.dtype

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, _Tensor) and value.dtype == cls.dtype


class _Bool(metaclass=_OfType):
    dtype = torch.bool


class _Long(metaclass=_OfType):
    dtype = torch.long


class PretendGpu(TorchDispatchMode):
    """The device.

    Attributes:
        waits: Operators that made the program wait, with the line of the package that asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None):
        return _run(operator, args, kwargs or {}, self)

    def note(self, operator: Any) -> None:
        """Count a wait."""
        lines = [f for f in traceback.extract_stack() if f.filename.startswith(ROOT)]
        place = f"{lines[-1].filename[len(ROOT) + 1 :]}:{lines[-1].name}" if lines else "elsewhere"
        self.waits[f"{operator} in {place}"] += 1


class _Made(TorchFunctionMode):
    """Makes tensors of lists on the CPU first, as torch does inside."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("__getitem__", "__setitem__") and isinstance(args[0], _Tensor):
            return func(args[0], *map(_without_lists, args[1:]))
        if func is Tensor.new_tensor and isinstance(args[0], _Tensor):
            like, args, func = args[0], args[1:], torch.tensor
            kwargs = {"dtype": like.dtype, "device": CUDA} | kwargs
        device = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor) and device is not None:
            if any(isinstance(arg, Tensor) for arg in args):
                return args[0].to(**kwargs)
            return func(*args, **kwargs | {"device": "cpu"}).to(device)
        return func(*args, **kwargs)


def _without_lists(value: Any) -> Any:
    """An index, or what is put there: torch makes tensors of lists, without content on "meta"."""
    if isinstance(value, tuple):
        return tuple(map(_without_lists, value))
    return torch.as_tensor(value) if isinstance(value, (list, np.ndarray)) else value


def _run(operator: Any, args: Any, kwargs: dict[str, Any], mode: PretendGpu | None) -> Any:
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    there = [x for x in given if isinstance(x, _Tensor)]
    if operator not in _MOVES:
        _check(operator, args, given, there)
    target = kwargs.get("device")
    if target is not None:
        on_gpu = torch.device(target).type in ("cuda", "meta")  # so it is to torch's own code
        kwargs = kwargs | {"device": torch.device("cpu")}
    else:
        on_gpu = bool(there)
    if operator is aten._fused_sdp_choice.default and there:
        return 0  # the one that is written out
    waits = there and (operator in _WAITS or not on_gpu)
    if operator is aten.copy_.default:
        on_gpu = isinstance(args[0], _Tensor)
        waits = on_gpu != isinstance(args[1], _Tensor)
    if operator is aten._to_copy.default and on_gpu:
        waits = not there and not kwargs.get("non_blocking")
    if operator in _INDEXED and there:
        waits = any(i is not None and i.dtype == torch.bool for i in args[1])
    if mode is not None and waits:
        mode.note(operator)
    held_args, held_kwargs = tree_map(
        lambda x: x.held if isinstance(x, _Tensor) else x, (args, kwargs)
    )
    with torch.utils._python_dispatch._disable_current_modes():
        found = operator(*held_args, **held_kwargs)
    if not on_gpu:
        return found
    # What was changed in place, or is told by `out`, stays the tensor that it was.
    own = {id(x.held): x for x in there}

    def wrapped(x: Any) -> Any:
        return (own[id(x)] if id(x) in own else _Tensor(x)) if isinstance(x, Tensor) else x

    return tree_map(wrapped, found)


def _check(operator: Any, args: Any, given: list[Tensor], there: list[_Tensor]) -> None:
    if not there:
        return
    if operator in _INDEXED:
        given = [x for x in (args[0], *args[2:]) if isinstance(x, Tensor)]
    here = [x for x in given if not isinstance(x, _Tensor) and x.dim()]
    if here:
        raise RuntimeError(
            f"{operator}: expected all tensors to be on the same device, but found cuda:0 and cpu "
            f"{tuple(here[0].shape)}"
        )


@contextmanager
def pretend_gpu() -> Iterator[PretendGpu]:
    """Within, there is a device ``cuda`` of the rules above."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        # Otherwise a parameter that is moved keeps its class, and loses what it holds.
        patch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
        for name, types in (("IndexType", _Bool | _Long), ("BoolTypeTensor", _Bool)):
            patch.setattr(instance_data, name, getattr(instance_data, name) | types)
        torch._C._ensureCUDADeviceGuardSet()
        with _Made(), PretendGpu() as mode:
            yield mode
