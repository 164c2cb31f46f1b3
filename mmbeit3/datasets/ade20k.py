"""ADE20K (the 150 classes of the scene parsing challenge), its label maps checked."""

from __future__ import annotations

from typing import Any

from mmseg.datasets import ADE20KDataset as MMSegADE20KDataset

from mmbeit3.datasets.checked_seg import CheckedSegDataset
from mmbeit3.datasets.checks.segmentation import LabelCounts, check_ade20k_labels
from mmbeit3.registry import DATASETS


@DATASETS.register_module()
class ADE20KDataset(CheckedSegDataset, MMSegADE20KDataset):
    """As ``mmseg.ADE20KDataset``, with its files and label values checked when it is loaded.

    Args:
        check_labels (bool): Whether to read all label maps and check them, see
            :func:`mmbeit3.datasets.checks.segmentation.check_ade20k_labels`; the result is kept.
            Defaults to True.
        reduce_zero_label (bool): Whether 0 is 'other' and the classes are 1..150, as in the
            official maps. Defaults to True.
        **kwargs: As in mmseg.

    Raises:
        InputError: As :class:`CheckedSegDataset`, or ``reduce_zero_label`` is wrong for the maps.
    """

    title = "ADE20K"
    converter = "tools/dataset_converters/ade20k.py"

    def __init__(
        self, check_labels: bool = True, reduce_zero_label: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(check_labels, reduce_zero_label=reduce_zero_label, **kwargs)

    def check_values(self, counts: LabelCounts, map_dir: str) -> None:
        """Raise an InputError if values are outside 0..150, or for other maps than the setting."""
        check_ade20k_labels(counts, self.METAINFO["classes"], self.reduce_zero_label, map_dir)
