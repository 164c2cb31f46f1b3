"""BEiT-3 giant, Cascade Mask R-CNN with Soft-NMS, COCO at 1280, starting from Objects365.

Reproduces: the recipe behind 63.7 box AP / 54.8 mask AP on COCO test-dev (arXiv 2208.10442, Tables
7 and 16; there with multi-scale test, from weights that were never released). Not trained by us.
Run: first cascade-rcnn_beit3-giant_lsj-1024_objects365.py, then
     CONFIG=configs/beit3_vitdet/cascade-mask-rcnn_beit3-giant_soft-nms-1280_objects365_coco.py
     bash tools/dist_train.sh $CONFIG 8
All weights are taken over but those of the classes; the mask head is new.
"""

_base_ = "./cascade-mask-rcnn_beit3-giant_soft-nms-1280_coco.py"

model = dict(backbone=dict(init_cfg=None))
load_from = "work_dirs/cascade-rcnn_beit3-giant_lsj-1024_objects365/iter_408349.pth"
# The paper is silent on it. EVA-02, ViT-Adapter and Co-DETR average with a decay of 0.9999 here.
custom_hooks = [dict(type="mmbeit3.EMAHook", momentum=0.0001)]
