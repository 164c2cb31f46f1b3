"""Which memory lives at each moment of a run on tensors that have shapes and no content."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torchvision  # noqa: F401  registers its operators
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

ACTIVATIONS = "activations"  # made in the forward pass
TEMPORARIES = "temporaries"  # made in the backward pass or by the optimizer
GRADIENTS = "gradients"
STATES = "optimizer states"
CHECKPOINTED = "inputs of checkpoints"  # may be in the CPU's memory

_aten = torch.ops.aten


class Change(NamedTuple):
    """Memory that came (bytes above 0) or went.

    Attributes:
        part: Part of the model that it belongs to.
        kind: One of the kinds above.
        size: Bytes.
    """

    part: str
    kind: str
    size: float


class LiveMemory(TorchDispatchMode):
    """Notes every storage that comes and goes, and to what it belongs.

    Runs inside a ``FakeTensorMode``. Tensors made of numbers that the program states (shapes of
    maps, say) are computed for real, so that what depends on them can be decided. What depends on
    the content of others is answered: every entry of a mask is true unless ``matches`` says how
    many are, NMS keeps every box, and no value occurs twice.

    Args:
        known (Iterable[Tensor]): What is not to be counted: the model.

    Attributes:
        changes (list[Change]): All that happened, in order.
        part (str): What new memory belongs to.
        kind (str): Of which kind it is.
        matches (dict[tuple[int, ...], int]): By shape, how many entries of a mask are true.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.changes: list[Change] = []
        self.part, self.kind = "losses", ACTIVATIONS
        self.matches: dict[tuple[int, ...], int] = {}
        self._live: dict[int, tuple[weakref.ref, Change]] = {}
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if tensors and not any(isinstance(tensor, FakeTensor) for tensor in tensors):
            with _disable_current_modes():
                result = func(*args, **kwargs)
        else:
            result = self._run(func, args, kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        return result

    @contextmanager
    def belongs(self, part: str, kind: str | None = None) -> Iterator[None]:
        """Within, new memory belongs to ``part`` and is of ``kind``, by default as before."""
        before = self.part, self.kind
        self.part, self.kind = part, kind or self.kind
        try:
            yield
        finally:
            self.part, self.kind = before

    def move(self, tensor: Tensor, part: str | None, kind: str) -> None:
        """From now on the memory of a tensor belongs to ``part`` (None: as before) as ``kind``."""
        key = tensor.untyped_storage()._cdata
        if key in self._live:
            reference, old = self._live[key]
            new = Change(part or old.part, kind, old.size)
            self.changes += [old._replace(size=-old.size), new]
            self._live[key] = reference, new

    def _run(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        if func is _aten._local_scalar_dense.default:
            return 1.0 if args[0].dtype.is_floating_point else 1
        if func is _aten.nonzero.default:
            return self._indices(args[0])
        if func is _aten._unique2.default:
            return args[0].flatten().clone(), *args[0].new_empty((2, 0), dtype=torch.int64)
        if func is torch.ops.torchvision.nms.default:
            return args[0].new_empty(len(args[0]), dtype=torch.int64)
        if func in (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default):
            args = (args[0], [part for i in args[1] for part in self._unmasked(i)], *args[2:])
        return func(*args, **kwargs)

    def _indices(self, mask: Tensor) -> Tensor:
        count = self.matches.get(tuple(mask.shape), mask.numel())
        return mask.new_empty((count, mask.ndim), dtype=torch.int64)

    def _unmasked(self, index: Tensor | None) -> Sequence[Tensor | None]:
        """Indices (count,) for each dimension of a mask; any other index as it is."""
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            return [index]
        return self._indices(index).unbind(1)

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if not size or key in self._live or key in self._known:
            return
        change = Change(self.part, self.kind, size)
        self._live[key] = weakref.ref(storage, partial(self._forget, key)), change
        self.changes.append(change)

    def _forget(self, key: int, reference: weakref.ref) -> None:
        _, change = self._live.pop(key)
        self.changes.append(change._replace(size=-change.size))
