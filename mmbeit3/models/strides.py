"""Strides of the maps of backbone and neck, and the check that heads expect those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmdet.models.dense_heads import AnchorHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from torch import nn

from mmbeit3.models.necks import SimpleFeaturePyramid
from mmbeit3.utils import InputError

Strides = tuple[float, ...]


class Setting(NamedTuple):
    """Strides that a head has by its config.

    Attributes:
        key (str): Where the config has them.
        strides (tuple[float, ...]): The strides.
        needed (tuple[float, ...]): Those of the maps that the head is given.
        whole (bool): Whether the head works with whole numbers only.
    """

    key: str
    strides: Strides
    needed: Strides
    whole: bool = False


def check_strides(model: nn.Module) -> None:
    """Refuse a model whose heads expect other strides than its pyramid has.

    Anchors, RoIs or masks would lie elsewhere than what the maps show, without any error. Models of
    which the backbone or neck does not know its strides are not checked.

    Args:
        model (nn.Module): A detector or segmentor as built.

    Raises:
        InputError: Strides differ; the message says which keys of the config to set.
    """
    maps = _pyramid_strides(model)
    if maps is None:
        return
    settings = list(dict.fromkeys(_settings(model, maps)))  # of equal stages one
    wrong = [setting for setting in settings if setting.strides != setting.needed]
    if wrong:
        key, strides, *_ = wrong[0]
        raise InputError(
            f"the maps of backbone and neck have the strides {_listed(maps)} ({_origin(model)}), "
            f"but {key} is [{_listed(strides)}], so that boxes or masks would lie in wrong places. "
            f"{_cure(model, settings, wrong)}"
        )


def _pyramid_strides(model: nn.Module) -> Strides | None:
    """Strides of the maps that heads are given, the finest first; None where unknown."""
    strides = getattr(getattr(model, "backbone", None), "out_strides", None)
    neck = getattr(model, "neck", None)
    if strides is None or neck is None:
        return strides
    return neck.out_strides(strides[-1]) if isinstance(neck, SimpleFeaturePyramid) else None


def _settings(model: nn.Module, maps: Strides) -> Iterator[Setting]:
    """Strides in the heads, which take all maps, or (RoI extractors) as many as they have."""
    for name, module in model.named_modules():
        # A number is a place in a list of modules, for which the config often has one entry.
        path = ".".join(["model", *(part for part in name.split(".") if not part.isdigit())])
        if generator := getattr(module, "prior_generator", None):
            key = "anchor_generator.strides" if isinstance(module, AnchorHead) else "strides"
            yield Setting(f"{path}.{key}", tuple(stride for stride, _ in generator.strides), maps)
        elif isinstance(module, BaseRoIExtractor):
            strides = tuple(module.featmap_strides)
            yield Setting(f"{path}.featmap_strides", strides, maps[: len(strides)])
        elif own := getattr(module, "map_strides", None):
            yield Setting(f"{path}.strides", tuple(own), maps[: len(own)], whole=True)


def _origin(model: nn.Module) -> str:
    origin = f"patch_size {model.backbone.patch_size}"
    if neck := getattr(model, "neck", None):
        origin += f", scale_factors {_listed(neck.scale_factors)}, num_outs {neck.num_outs}"
    return origin


def _cure(model: nn.Module, settings: Sequence[Setting], wrong: Sequence[Setting]) -> str:
    """Which keys to set: of the backbone, so that all heads are right, or of the heads."""
    ways = []
    factor = wrong[0].strides[0] / wrong[0].needed[0]
    patch = model.backbone.patch_size * factor
    scaled = all(s.strides == tuple(stride * factor for stride in s.needed) for s in settings)
    if scaled and patch == int(patch) and len(model.backbone.out_strides) == 1:
        ways.append(f"model.backbone.patch_size={int(patch)}")
    if all(stride == int(stride) for s in wrong if s.whole for stride in s.needed[:1]):
        ways.append(" and ".join(f"{s.key}=[{_listed(s.needed)}]" for s in wrong))
    else:
        ways.append(
            "model.neck.scale_factors so that the first stride is a whole number, which this head "
            "needs"
        )
    return f"Set {', or '.join(ways)}"


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
