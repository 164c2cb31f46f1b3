"""COCO-Stuff 164k (80 things and 91 kinds of stuff), its label maps checked."""

from __future__ import annotations

from mmseg.datasets import COCOStuffDataset as MMSegCOCOStuffDataset

from mmbeit3.datasets.checked_seg import CheckedSegDataset
from mmbeit3.datasets.checks.segmentation import LabelCounts, check_labels
from mmbeit3.registry import DATASETS


@DATASETS.register_module()
class COCOStuffDataset(CheckedSegDataset, MMSegCOCOStuffDataset):
    """As ``mmseg.COCOStuffDataset``, with its files and label values checked when it is loaded.

    Args:
        check_labels (bool): Whether to read all label maps and check them, see
            :func:`mmbeit3.datasets.checks.segmentation.check_labels`; the result is kept. Defaults
            to True.
        **kwargs: As in mmseg.

    Raises:
        InputError: As :class:`CheckedSegDataset`.
    """

    title = "COCO-Stuff"
    converter = "tools/dataset_converters/coco_stuff164k.py"

    def check_values(self, counts: LabelCounts, map_dir: str) -> None:
        """Raise an InputError if values are outside 0..170 and not 255."""
        classes = self.METAINFO["classes"]
        check_labels(counts, classes, self.reduce_zero_label, map_dir, not self.test_mode)
