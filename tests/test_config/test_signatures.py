from __future__ import annotations

from typing import Any

import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.models import Shared4Conv1FCBBoxHead
from mmengine.optim import LinearLR
from torch import nn

from mmbeit3.config.signatures import arguments_of


class Base:
    def __init__(self, size: int, color: str = "red", *, depth: int = 1) -> None: ...


class Passing(Base):
    def __init__(self, width: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Giving(Base):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(3, *args, depth=2, **kwargs)


class Reading(Base):
    def __init__(self, **kwargs: Any) -> None:
        self.speed = kwargs.pop("speed", 1)
        if "height" in kwargs:
            del kwargs["height"]
        Base.__init__(self, color="blue", **kwargs)


class Skipping(Passing):
    def __init__(self, **kwargs: Any) -> None:
        super(Passing, self).__init__(**kwargs)


class Collecting(Base):
    def __init__(self, **kwargs: Any) -> None:
        self.options = dict(kwargs)


class Numbering(Base):
    def __init__(self, **kwargs: Any) -> None:
        self.first = kwargs.get(0)
        super().__init__(3, **kwargs)


class Ignoring(nn.Module):
    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__()


class Mixin:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Mixed(Mixin, Base): ...


@pytest.mark.parametrize(
    ("kind", "names", "takes_any"),
    [
        (Base, {"size", "color", "depth"}, False),
        (Passing, {"width", "size", "color", "depth"}, False),
        (Giving, {"color"}, False),
        (Reading, {"speed", "height", "size", "depth"}, False),
        (Skipping, {"size", "color", "depth"}, False),
        (Collecting, set(), True),
        (Numbering, {"color", "depth"}, True),
        (Ignoring, {"size"}, True),
        (Mixed, {"size", "color", "depth"}, False),
        (nn.ReLU, {"inplace"}, False),
        (sorted, {"key", "reverse"}, False),
        (dict, set(), True),
    ],
)
def test_arguments_are_followed_through_kwargs(
    kind: type, names: set[str], takes_any: bool
) -> None:
    found = arguments_of(kind)
    assert (set(found.names) - {"args"}, found.takes_any) == (names, takes_any)


def test_required_arguments() -> None:
    assert arguments_of(Passing).required == ["size"]
    assert arguments_of(Giving).required == []


def test_arguments_of_the_toolboxes() -> None:
    head = arguments_of(Shared4Conv1FCBBoxHead)
    assert {"fc_out_channels", "num_classes", "reg_class_agnostic", "init_cfg"} <= set(head.names)
    assert "num_shared_convs" not in head.names  # the class gives it
    schedule = arguments_of(LinearLR)
    assert {"start_factor", "begin", "end", "by_epoch"} <= set(schedule.names)
    assert "param_name" not in schedule.names and not schedule.takes_any
    assert "imdecode_backend" in arguments_of(LoadImageFromFile).names
