"""From official archives to the folders that the configs read."""

from mmbeit3.datasets.converters.ade20k import prepare_ade20k
from mmbeit3.datasets.converters.coco_stuff import prepare_coco_stuff
from mmbeit3.datasets.converters.objects365 import prepare_objects365

__all__ = ["prepare_ade20k", "prepare_coco_stuff", "prepare_objects365"]
