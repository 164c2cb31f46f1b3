"""What the data sets of mmseg with fixed classes check when they are loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from os import path as osp
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from mmbeit3.datasets.checks.segmentation import LabelCounts, count_labels
from mmbeit3.datasets.checks.sizes import check_sizes
from mmbeit3.datasets.image_files import warn_of_turned
from mmbeit3.datasets.seg_folder import check_pairs, check_settings, find_maps, list_files
from mmbeit3.datasets.transforms.loading import image_loader
from mmbeit3.utils import InputError, listed


class CheckedSegDataset(BaseSegDataset):
    """Base of a data set of mmseg whose files and label values are checked when it is loaded.

    To be inherited from before the class of mmseg, which has the classes and the suffixes.

    Args:
        check_labels (bool): Whether to read all label maps and check their values. Defaults to
            True.
        **kwargs: As in mmseg.

    Raises:
        InputError: A folder is not there or empty, a pair is not complete, a label map is malformed
            or has values that are no class, or ``metainfo`` has other classes or a palette that
            does not fit them.
    """

    #: What the data set is called in messages, and the tool that prepares it.
    title: str
    converter: str

    def __init__(self, check_labels: bool = True, **kwargs: Any) -> None:
        self.check_labels = check_labels
        super().__init__(**kwargs)

    def check_values(self, counts: LabelCounts, map_dir: str) -> None:
        """Raise an InputError if label maps hold other values than those of the classes.

        Args:
            counts: What the maps hold.
            map_dir: Their folder.
        """
        raise NotImplementedError

    @classmethod
    def read_class_names(cls, config: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Say which classes a data set has that is not built: those of its type."""
        return "type", tuple(cls.METAINFO["classes"])

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int] | None:
        """Map the official class numbers to those of a choice of classes, as mmseg does.

        Args:
            new_classes: The choice. Defaults to None, all classes.
        """
        known = cls.METAINFO["classes"]
        chosen = known if new_classes is None else new_classes
        unknown = [name for name in chosen if name not in known]
        if isinstance(chosen, str) or unknown or len(set(chosen)) < len(chosen):
            raise InputError(
                f"metainfo.classes is {listed([chosen] if isinstance(chosen, str) else chosen)}; "
                f"expected a tuple of different names out of {cls.title}'s {len(known)}: "
                f"{listed(known)}. Classes of your own: mmbeit3.SegFolderDataset"
            )
        return super().get_label_map(new_classes)

    def _update_palette(self) -> list:
        found, chosen = (len(self._metainfo[key]) for key in ("palette", "classes"))
        # mmseg picks the colors of a choice of classes out of the whole palette.
        if found not in (chosen, len(self.METAINFO["palette"])):
            raise InputError(
                f"metainfo.palette has {found} colors, expected one for each of the {chosen} "
                "classes"
            )
        return super()._update_palette()

    def load_data_list(self) -> list[dict]:
        """Find the images and check their label maps.

        Returns:
            One dict for each image, as mmseg makes them.
        """
        check_settings(self)
        if self.ann_file and not osp.exists(self.ann_file):
            raise InputError(f"ann_file {self.ann_file} does not exist; check data_root")
        hint = f", or prepare the data with {self.converter}"
        image_dir, map_dir = (self.data_prefix.get(key) for key in ("img_path", "seg_map_path"))
        list_files(image_dir, "img_path", hint)
        infos = super().load_data_list()
        if not infos:
            raise InputError(
                f"{image_dir} has no file ending in {self.img_suffix}; check img_suffix{hint}"
            )
        if map_dir:
            self._check_pairs(infos, image_dir, find_maps(map_dir, self.seg_map_suffix, hint))
            if self.check_labels:
                pairs = [(info["img_path"], info["seg_map_path"]) for info in infos]
                transforms = self.pipeline.transforms
                counts = count_labels(pairs, map_dir, image_loader(transforms))
                check_sizes(counts.narrow, transforms, image_dir)
                warn_of_turned(counts.turned, map_dir)
                self.check_values(counts, map_dir)
                self._check_chosen(counts, map_dir)
        return infos

    def _check_chosen(self, counts: LabelCounts, map_dir: str) -> None:
        """Look for pixels of the classes that the config chooses; all others are ignored."""
        known, chosen = self.METAINFO["classes"], self._metainfo["classes"]
        first = int(self.reduce_zero_label)
        absent = [name for name in chosen if not counts.has(known.index(name) + first)]
        if len(absent) == len(chosen):
            raise InputError(
                f"{map_dir} has no pixel of the {len(chosen)} classes of metainfo.classes: "
                f"{listed(absent)}. All others are ignored, so there is nothing to learn or score"
            )
        if absent and len(chosen) < len(known) and not self.test_mode:
            text = f"{map_dir} has no pixel of {len(absent)} of the {len(chosen)} classes chosen: "
            print_log(text + listed(absent), "current", logging.WARNING)

    def _check_pairs(self, infos: list[dict], image_dir: str, maps: dict[str, str]) -> None:
        map_dir = self.data_prefix["seg_map_path"]
        files = [Path(info["img_path"]).relative_to(image_dir).as_posix() for info in infos]
        stems = [file.removesuffix(self.img_suffix) for file in files]
        images = dict(zip(stems, files, strict=True))
        check_pairs(images, maps, image_dir, map_dir, self.seg_map_suffix, not self.ann_file)
        for stem, info in zip(stems, infos, strict=True):
            info["seg_map_path"] = osp.join(map_dir, maps[stem])
