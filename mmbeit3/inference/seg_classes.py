"""What a segmentor's class numbers mean: names, colors, and the values in its training masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from mmbeit3.checkpoint import dataset_meta_of
from mmbeit3.config.classes import follow_checkpoint, resolve_classes
from mmbeit3.config.dataset_meta import configured_meta, find_palette
from mmbeit3.datasets.palette import check_palette, make_palette
from mmbeit3.utils import InputError
from mmbeit3.visualization.text_labels import Color

MAX_CLASSES = 256  # class maps are 8-bit files


@dataclass(frozen=True)
class SegClasses:
    """The classes of a segmentor, by index.

    Args:
        names (tuple): Names.
        palette (list): Colors, (blue, green, red), 0 to 255.
        offset (int, optional): What the masks it was trained on add to an index: 1 with mmseg's
            ``reduce_zero_label``, else 0; None if they number the classes in another way.
    """

    names: tuple[str, ...]
    palette: list[Color]
    offset: int | None


def find_seg_classes(cfg: Config, meta: Mapping[str, Any]) -> SegClasses:
    """Find the classes of a segmentor, and fit the heads in ``cfg`` to their number.

    The checkpoint knows what it was trained on; a file of weights alone does not, then the
    config's data set does: what it names, else what its type stands for. Where no colors are
    named, they are made up.

    Args:
        cfg (Config): The config; changed where its data sets are of this project's types.
        meta (Mapping): The checkpoint's ``meta``.

    Returns:
        SegClasses: The classes.

    Raises:
        InputError: If there are no names, more than 256, some twice, or not as many colors.
    """
    source = dataset_meta_of(meta)
    if source.get("classes"):
        follow_checkpoint(cfg, source["classes"])
    else:
        resolved = resolve_classes(cfg)
        source = configured_meta(cfg) or {"classes": resolved}
    if not source.get("classes"):
        raise InputError(
            "neither the checkpoint nor the config names the classes: give the file that training "
            "wrote, or a config whose data set names them: metainfo=dict(classes=(...))"
        )
    names = tuple(str(name).strip() for name in source["classes"])
    _check(names)
    colors = find_palette(cfg, meta, names)
    made = make_palette(len(names)) if colors is None else check_palette(colors, len(names))
    palette = [color[::-1] for color in made]
    offset = None if source.get("label_map") else int(bool(source.get("reduce_zero_label")))
    return SegClasses(names, palette, offset)


def seg_classes(names: Sequence[str]) -> SegClasses:
    """Classes that the user has named; no masks were trained by their numbers.

    Args:
        names (Sequence[str]): Names.

    Returns:
        SegClasses: The classes, with colors made up.

    Raises:
        InputError: There are more than 256, or some twice.
    """
    names = tuple(names)
    _check(names)
    return SegClasses(names, [color[::-1] for color in make_palette(len(names))], None)


def _check(names: Sequence[str]) -> None:
    if len(names) > MAX_CLASSES:
        raise InputError(
            f"there are {len(names)} classes, and class maps are 8-bit files: they hold at most "
            f"{MAX_CLASSES}"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"class names that occur more than once: {', '.join(twice)}")
