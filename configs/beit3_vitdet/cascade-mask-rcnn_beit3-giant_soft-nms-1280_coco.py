"""BEiT-3 giant, simple feature pyramid, Cascade Mask R-CNN with Soft-NMS, COCO at 1280.

Reproduces: the recipe behind 63.7 box AP / 54.8 mask AP on COCO test-dev (arXiv 2208.10442, Tables
7 and 16; there after Objects365, with multi-scale test, from weights that were never released).
Not trained by us.
Run: CONFIG=configs/beit3_vitdet/cascade-mask-rcnn_beit3-giant_soft-nms-1280_coco.py
     bash tools/dist_train.sh $CONFIG 8
     bash tools/dist_test.sh $CONFIG CHECKPOINT 8 --tta multi-scale
"""

_base_ = "./cascade-mask-rcnn_beit3-base_soft-nms-1280_coco.py"

model = dict(
    backbone=dict(
        arch="giant",
        patch_size=16,  # pretrained at 14 (Table 11); 1280 needs 16, EVA resized alike
        # Silent; EVA-01 (the same 40 layers): every fourth layer global, windows of 16
        global_attn_indexes=[3, 7, 11, 15, 19, 23, 27, 31, 35, 39],
        drop_path_rate=0.6,  # Table 16
        with_cp=True,
        init_cfg=None,  # never released
    ),
    neck=dict(in_channels=1408),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9))  # Table 16
