"""ADE20K (the 150 classes of the scene parsing challenge), its label maps checked."""

from __future__ import annotations

from os import path as osp
from typing import Any

from mmseg.datasets import ADE20KDataset as MMSegADE20KDataset

from mmbeit3.datasets.seg_checks import check_ade20k_labels, count_labels
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError, listed


@DATASETS.register_module()
class ADE20KDataset(MMSegADE20KDataset):
    """As ``mmseg.ADE20KDataset``, with its files and label values checked when it is loaded.

    Args:
        check_labels (bool): Whether to read all label maps and check them, see
            :func:`mmbeit3.datasets.seg_checks.check_ade20k_labels`. The 20,210 of the training set
            take minutes the first time; the result is kept. Defaults to True.
        reduce_zero_label (bool): Whether 0 is 'other' and the classes are 1..150, as in the
            official maps. Defaults to True.
        **kwargs: As in mmseg.

    Raises:
        InputError: A folder is not there or empty, a pair is not complete, a label map is
            malformed or has values outside 0..150, or ``reduce_zero_label`` is wrong for the maps.
    """

    def __init__(
        self, check_labels: bool = True, reduce_zero_label: bool = True, **kwargs: Any
    ) -> None:
        self.check_labels = check_labels
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Find the images and check their label maps.

        Returns:
            One dict for each image, as mmseg makes them.
        """
        image_dir, map_dir = (self.data_prefix.get(key) for key in ("img_path", "seg_map_path"))
        for folder in filter(None, (image_dir, map_dir)):
            if not osp.isdir(folder):
                raise InputError(
                    f"{folder} does not exist; check data_root, or prepare the data with "
                    "tools/dataset_converters/ade20k.py"
                )
        infos = super().load_data_list()
        if not infos:
            raise InputError(f"{image_dir} has no file ending in {self.img_suffix}")
        if map_dir and self.check_labels:
            pairs = [(info["img_path"], info["seg_map_path"]) for info in infos]
            missing = [label_map for _, label_map in pairs if not osp.exists(label_map)]
            if missing:
                raise InputError(
                    f"{len(missing)} of the {len(pairs)} images in {image_dir} have no label map; "
                    f"missing: {listed(missing)}"
                )
            counts = count_labels(pairs, map_dir)
            check_ade20k_labels(counts, self.METAINFO["classes"], self.reduce_zero_label, map_dir)
        return infos
