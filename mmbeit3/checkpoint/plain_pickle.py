"""A pickle reader that builds plain data and tensors, and calls nothing that the file names.

A pickle is a program: it names functions and calls them. Here a name stands for an entry of a fixed
table, of which no entry does more than build a value from checked arguments; any other name ends
the reading. Sizes are checked before memory is taken.
"""

from __future__ import annotations

import math
import pickletools
import re
from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmbeit3.utils.text_files import printable

MAX_DEPTH = 100  # containers inside each other
MAX_ENTRIES = 10_000_000  # entries of all containers, those used several times counted each time
MAX_SIZE = 1 << 48  # of a dimension, stride or offset
STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.storage.UntypedStorage": torch.uint8,
}
RENAMED_MODULES = {"__builtin__": "builtins", "torch.tensor": "torch._tensor"}
ARRAY_TYPE = re.compile(r"[biufc]\d{1,2}|\?|[SU]\d{1,6}")
NATIVE = "<|="  # byte orders; files of big-endian machines are refused
Key = str | int | float | bytes | None


class ForeignGlobal(Exception):
    """The pickle names something that is not in the table.

    Args:
        name: The dotted name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class UnsupportedContent(ValueError):
    """The pickle is sound, but holds what weights of this project never are."""


class Maker(NamedTuple):
    """What a name of the table stands for; data that holds one is refused."""

    name: str
    call: Callable[..., Any]


class TypedStorage(NamedTuple):
    """Bytes of a file and the type that its pickle says they have."""

    dtype: torch.dtype
    bytes: torch.UntypedStorage


#: Gives the bytes of a storage from its key and its size in bytes.
FindStorage = Callable[[str, int], torch.UntypedStorage]


def read_pickle(file: Any, find_storage: FindStorage | None = None) -> Any:
    """Read one pickle, up to its end.

    Args:
        file: A binary file whose ``read`` takes no memory beyond what is there, such as a
            ``BytesIO`` or an ``mmap``. It is left behind the pickle.
        find_storage: Gives the bytes of tensors. Defaults to None: there are none.

    Returns:
        Dicts, lists, tuples, sets, numbers, strings, tensors, NumPy arrays, ``HistoryBuffer`` and
        ``Namespace``. An mmengine ``ConfigDict`` becomes a dict, a ``Parameter`` a tensor.

    Raises:
        ForeignGlobal: It names something else.
        UnsupportedContent: It holds quantized, sparse, conjugated or big-endian values.
        Exception: Of any other type: it is damaged.
    """
    value = _Machine(find_storage).run(file)
    check_nesting(value)
    return value


class _Machine:
    """The stack machine of the pickle protocols 0 to 5, without what builds arbitrary objects."""

    def __init__(self, find_storage: FindStorage | None) -> None:
        self.find_storage = find_storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: Any) -> Any:
        steps = self._steps()
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name in PUSHED:
                self.stack.append(printable(argument) if isinstance(argument, str) else argument)
            elif name in CONSTANTS:
                self.stack.append(CONSTANTS[name]())
            elif name in steps:
                steps[name](argument)
            elif name == "STOP":
                if len(self.stack) != 1 or self.marks:
                    raise ValueError("its end comes too early")
                return self.stack[0]
            elif name not in ("PROTO", "FRAME"):
                raise ValueError(f"it uses {name}, which torch.save does not")
        raise EOFError("it has no end")

    def _steps(self) -> dict[str, Callable[[Any], None]]:
        return {
            "MARK": lambda _: self.marks.append(len(self.stack)),
            "POP": lambda _: self.stack.pop(),
            "POP_MARK": lambda _: self._above_mark(),
            "DUP": lambda _: self.stack.append(self.stack[-1]),
            "LIST": lambda _: self.stack.append(self._above_mark()),
            "TUPLE": lambda _: self.stack.append(tuple(self._above_mark())),
            "TUPLE1": lambda _: self.stack.append(self._last(1)),
            "TUPLE2": lambda _: self.stack.append(self._last(2)),
            "TUPLE3": lambda _: self.stack.append(self._last(3)),
            "DICT": lambda _: self.stack.append(_filled({}, self._above_mark())),
            "FROZENSET": lambda _: self.stack.append(frozenset(map(_key, self._above_mark()))),
            "APPEND": lambda _: self._extend(self._last(1)),
            "APPENDS": lambda _: self._extend(self._above_mark()),
            "ADDITEMS": lambda _: self._add(self._above_mark()),
            "SETITEM": lambda _: self._set_items(self._last(2)),
            "SETITEMS": lambda _: self._set_items(self._above_mark()),
            "GET": lambda index: self.stack.append(self.memo[index]),
            "BINGET": lambda index: self.stack.append(self.memo[index]),
            "LONG_BINGET": lambda index: self.stack.append(self.memo[index]),
            "PUT": self._remember,
            "BINPUT": self._remember,
            "LONG_BINPUT": self._remember,
            "MEMOIZE": lambda _: self._remember(len(self.memo)),
            "GLOBAL": lambda names: self.stack.append(_global(*names.split(" ", 1))),
            "STACK_GLOBAL": lambda _: self.stack.append(_global(*self._last(2))),
            "REDUCE": lambda _: self._call(),
            "NEWOBJ": lambda _: self._call(),
            "BUILD": lambda _: self._build(),
            "BINPERSID": lambda _: self.stack.append(self._storage(self.stack.pop())),
        }

    def _last(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise ValueError("it takes values that are not there")
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        return values

    def _above_mark(self) -> list[Any]:
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def _remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _target(self, *types: type) -> Any:
        if type(self.stack[-1]) not in types:
            raise ValueError(f"it changes a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def _extend(self, values: Any) -> None:
        self._target(list).extend(values)

    def _add(self, values: list[Any]) -> None:
        self._target(set).update(map(_key, values))

    def _set_items(self, values: Any) -> None:
        _filled(self._target(dict, OrderedDict, Counter), values)

    def _call(self) -> None:
        maker, arguments = self._last(2)
        if not isinstance(maker, Maker) or type(arguments) is not tuple:
            raise ValueError("it calls a value")
        self.stack.append(maker.call(*arguments))

    def _build(self) -> None:
        (state,) = self._last(1)
        target = self._target(OrderedDict, Namespace, HistoryBuffer, np.ndarray, *DTYPES)
        if isinstance(target, OrderedDict):  # a state_dict has the versions of its modules there
            metadata = _typed(dict, state).get("_metadata")
            if metadata is not None:
                target.__dict__["_metadata"] = _typed(OrderedDict, metadata)
        elif isinstance(target, Namespace):
            entries = _typed(dict, state).items()
            vars(target).update({_typed(str, name): value for name, value in entries})
        elif isinstance(target, HistoryBuffer):
            _fill_history(target, _typed(dict, state))
        elif isinstance(target, np.ndarray):
            _fill_array(target, _typed(tuple, state))
        elif _typed(tuple, state)[1] not in NATIVE or any(entry for entry in state[2:5]):
            raise UnsupportedContent("it holds an array of records or of a big-endian machine")

    def _storage(self, identity: Any) -> TypedStorage:
        kind, maker, key, _, numel, *view = _typed(tuple, identity)
        if kind != "storage" or not isinstance(maker, TypedStorage) or any(view):
            raise ValueError("it refers to an object beside it that is no storage of a tensor")
        if self.find_storage is None:
            raise ValueError("it refers to a storage that is not there")
        size = _size(numel) * maker.dtype.itemsize
        return TypedStorage(maker.dtype, self.find_storage(str(_key(key)), size))


def _typed(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"it has a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MAX_SIZE:
        raise ValueError(f"it has a size of {value!r:.40}")
    return value


def _key(value: Any) -> Key:
    """Hashing may recurse, or call a method of the value: of plain values it does not."""
    plain = value if type(value) is tuple else (value,)
    if any(type(entry) not in KEYS for entry in plain):
        raise ValueError(f"it has a {type(value).__name__} as the key of a dict")
    return value


def _filled(target: Any, values: Any) -> Any:
    for name, value in zip(values[::2], values[1::2], strict=True):
        if _key(name) in target:
            raise ValueError(f"it has the key {name!r:.60} twice")
        target[name] = value
    return target


def _global(module: Any, name: Any) -> Any:
    full = f"{RENAMED_MODULES.get(module, module)}.{name}"
    full = full.replace("numpy._core.", "numpy.core.")  # numpy >= 2 and < 2
    if full in REFUSED:
        raise UnsupportedContent(f"it holds {REFUSED[full]}; expected dense tensors")
    if full in STORAGES:
        return TypedStorage(STORAGES[full], torch.UntypedStorage())
    dtype = vars(torch).get(name) if module == "torch" else None
    if isinstance(dtype, torch.dtype):
        return dtype
    if full not in MAKERS:
        raise ForeignGlobal(full)
    return Maker(full, MAKERS[full])


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    """Lay a tensor over a storage; ``rest``: requires_grad, hooks, and perhaps a mark of a view."""
    return _laid_over(storage, storage.dtype, offset, size, stride, rest[2:])


def _tensor_of_type(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> Tensor:
    return _laid_over(storage, _typed(torch.dtype, dtype), offset, size, stride, rest)


def _laid_over(
    storage: Any, dtype: torch.dtype, offset: Any, size: Any, stride: Any, marks: Any
) -> Tensor:
    _typed(TypedStorage, storage)
    if any(marks):
        raise UnsupportedContent("it holds a conjugated view of a tensor; expected plain tensors")
    size, stride = tuple(map(_size, size)), tuple(map(_size, stride))
    numel = math.prod(size)
    steps = ((side - 1) * step for side, step in zip(size, stride, strict=True))
    end = _size(offset) + (1 + sum(steps) if numel else 0)
    # As many elements as bytes for them: a view that repeats them may unfold to any size.
    needed, there = max(end, numel) * dtype.itemsize, storage.bytes.nbytes()
    if needed > there:
        raise ValueError(f"a tensor of shape {size} needs {needed:,} bytes of {there:,}")
    if any(step * dtype.itemsize > MAX_SIZE for step in stride) or len(size) > 64:
        raise ValueError(f"it holds a tensor of shape {size} and strides {stride}")
    empty = torch.empty(0, dtype=dtype, device=storage.bytes.device)
    return empty.set_(storage.bytes, offset, size, stride)


def _first(data: Tensor, *_: Any) -> Tensor:
    return _typed(Tensor, data)


def _of_subclass(maker: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor that has attributes, which are left out."""
    if not isinstance(maker, Maker) or not isinstance(kind, Maker) or "Tensor" not in kind.name:
        raise ValueError("it holds a tensor of an unknown class")
    return maker.call(*_typed(tuple, arguments))


def _dtype(code: Any, *_: Any) -> np.dtype:
    if not ARRAY_TYPE.fullmatch(_typed(str, code)):
        raise ValueError(f"it holds an array of type {code!r:.40}")
    return np.dtype(code)


def _empty_array(kind: Any, shape: Any, _: Any) -> np.ndarray:
    if not isinstance(kind, Maker) or kind.name != "numpy.ndarray" or shape != (0,):
        raise ValueError("it builds an array in an unknown way")
    return np.zeros(0)


def _bytes(data: Any) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else _typed(bytes, data)


def _fill_array(array: np.ndarray, state: tuple) -> None:
    version, shape, dtype, in_columns, data = state
    shape = tuple(map(_size, _typed(tuple, shape)))
    if not isinstance(dtype, DTYPES) or dtype.hasobject:
        raise UnsupportedContent("it holds an array of objects")
    data = _bytes(data)
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} has {len(data)} bytes")
    content: Any = (version, shape, dtype, bool(in_columns), data)  # NumPy's stubs expect less
    array.__setstate__(content)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array as protocol 5 of pickle has it."""
    data = bytes(data) if isinstance(data, bytearray) else data
    array = np.zeros(0)
    _fill_array(array, (1, shape, dtype, order == "F", data))
    return array


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, DTYPES) or dtype.itemsize != len(_bytes(data)) or dtype.hasobject:
        raise ValueError("it holds a NumPy number of the wrong size")
    return np.frombuffer(_bytes(data), dtype)[0]


def _encode(text: Any, encoding: Any) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"it holds bytes in {encoding!r:.40}")
    return _typed(str, text).encode("latin1")


def _fill_history(history: HistoryBuffer, state: dict) -> None:
    values, counts = (_typed(np.ndarray, state[f"_{kind}_history"]) for kind in ("log", "count"))
    if values.ndim != 1 or {values.dtype.kind, counts.dtype.kind} - set("iufb"):
        raise ValueError("it holds a log that is no list of numbers")
    history.__init__(values, counts, max(1, _size(state["max_length"])))


def _history_method(owner: Any, name: Any) -> Maker:
    """What a log keeps beside its numbers, and gets anew from its class."""
    known = isinstance(owner, Maker) and owner.name == HISTORY
    if not known or name not in ("min", "max", "current", "mean"):
        raise ForeignGlobal("builtins.getattr")
    return Maker("a method of a log", _uncallable)


def _uncallable(*_: Any) -> Any:
    raise ValueError("it calls a type that only others build")


def _ordered(pairs: Any = ()) -> OrderedDict:
    flat = [entry for pair in pairs for entry in pair]
    return _filled(OrderedDict(), flat)


def _counter(counts: Any = None) -> Counter:
    return _filled(Counter(), [entry for pair in (counts or {}).items() for entry in pair])


def _copied_dict(content: Any) -> dict:
    return dict(_typed(dict, content))


HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"
MAKERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "collections.Counter": _counter,
    "builtins.set": lambda values=(): set(map(_key, values)),
    "builtins.frozenset": lambda values=(): frozenset(map(_key, values)),
    "builtins.complex": lambda real, imag: complex(_typed(float, real), _typed(float, imag)),
    "builtins.bytes": lambda: b"",
    "builtins.bytearray": lambda data=b"", *_: bytearray(_bytes(data)),
    "builtins.getattr": _history_method,
    "_codecs.encode": _encode,
    "argparse.Namespace": lambda: Namespace(),
    HISTORY: lambda: HistoryBuffer(),
    "mmengine.config.config.ConfigDict": _copied_dict,
    "numpy.ndarray": _uncallable,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray._reconstruct": _empty_array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "torch.Size": lambda sizes: torch.Size(map(_size, sizes)),
    "torch.device": lambda kind, *index: torch.device(_typed(str, kind), *map(_size, index)),
    "torch.Tensor": _uncallable,
    "torch._tensor.Tensor": _uncallable,
    "torch.nn.parameter.Parameter": _first,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _of_subclass,
}
REFUSED = {
    "torch._utils._rebuild_qtensor": "quantized tensors",
    "torch._utils._rebuild_sparse_tensor": "sparse tensors",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "tensors without values (device meta)",
    **{
        f"torch.{kind}Storage": "quantized tensors"
        for kind in ("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")
    },
}
VALUE_TYPES = ("int", "int_or_bool", "float", "str", "bytes", "bytes_or_str", "bytearray")
# Opcodes whose argument is the value: numbers, strings and bytes of all protocols.
PUSHED = frozenset(
    opcode.name
    for opcode in pickletools.opcodes
    if opcode.arg and not opcode.stack_before
    if any(kind.name in VALUE_TYPES for kind in opcode.stack_after)
)
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
KEYS = frozenset({str, int, float, bool, bytes, type(None)})
DTYPES = tuple({type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "efdgFDG?SU"})
CONTAINERS = (dict, list, tuple, set, frozenset, Namespace)
LEAVES = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray),
    *(Tensor, torch.dtype, torch.device, np.ndarray, np.generic, np.dtype, HistoryBuffer),
)


def check_nesting(
    root: Any, max_entries: int = MAX_ENTRIES, leaves: tuple[type, ...] = LEAVES
) -> None:
    """Refuse what is nested deeply, in itself, or unfolds to very much, and what is no data.

    Args:
        root: What was read.
        max_entries: How many entries all containers may have, those that are used several times
            counted each time. Defaults to ten millions.
        leaves: The types that are no containers. Defaults to those of a pickle.

    Raises:
        ValueError: It is so.
    """
    if not isinstance(root, CONTAINERS):
        root = [root]
    done: dict[int, tuple[int, int]] = {}  # of a container: its depth, and its entries unfolded
    open_: set[int] = set()
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        node, is_open = stack.pop()
        if id(node) in done:
            continue
        children = list(_inside(node, leaves))
        if not is_open:
            if id(node) in open_:
                raise ValueError("it holds a list or dict inside itself")
            open_.add(id(node))
            stack.append((node, True))
            stack += [(each, False) for each in children if id(each) not in done]
            continue
        sizes = [done[id(each)] for each in children]
        depth = 1 + max((size[0] for size in sizes), default=0)
        entries = 1 + sum(size[1] for size in sizes) + _count(node) - len(children)
        if depth > MAX_DEPTH or entries > max_entries:
            raise ValueError(
                f"it nests {depth} levels with {entries:,} entries; expected at most {MAX_DEPTH} "
                f"and {max_entries:,}"
            )
        done[id(node)] = depth, entries
        open_.discard(id(node))


def _inside(node: Any, leaves: tuple[type, ...]) -> Iterator[Any]:
    """Yield the containers among the entries of a container; check its other entries."""
    node = vars(node) if isinstance(node, Namespace) else node
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, CONTAINERS) and not isinstance(value, (Maker, TypedStorage)):
            if not isinstance(value, torch.Size):
                yield value
        elif not isinstance(value, leaves):
            raise ValueError(f"it holds {getattr(value, 'name', type(value).__name__)} as a value")


def _count(node: Any) -> int:
    return len(vars(node) if isinstance(node, Namespace) else node)
