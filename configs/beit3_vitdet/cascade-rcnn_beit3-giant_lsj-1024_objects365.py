"""BEiT-3 giant, simple feature pyramid, Cascade R-CNN, Objects365 at 1024, for COCO later on.

Reproduces: the first step of the recipe behind 63.7 box AP / 54.8 mask AP on COCO test-dev (arXiv
2208.10442, the Objects365 column of Table 16). The paper gives no number for this stage, and the
giant's weights were never released. Not trained by us.
Run: CONFIG=configs/beit3_vitdet/cascade-rcnn_beit3-giant_lsj-1024_objects365.py
     bash tools/dist_train.sh $CONFIG 8
Data: data/objects365v2 (tools/dataset_converters/objects365.py).
cascade-mask-rcnn_beit3-giant_soft-nms-1280_objects365_coco.py goes on from here.
"""

_base_ = "./cascade-rcnn_beit3-base_lsj-1024_objects365.py"

model = dict(
    backbone=dict(
        arch="giant",
        patch_size=16,  # pretrained at 14 (Table 11); 1024 and 1280 need 16, EVA resized alike
        # Silent; EVA-01 (the same 40 layers): every fourth layer global, windows of 16
        global_attn_indexes=[3, 7, 11, 15, 19, 23, 27, 31, 35, 39],
        drop_path_rate=0.6,  # Table 16
        with_cp=True,
        init_cfg=None,  # never released
    ),
    neck=dict(in_channels=1408),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9))  # Table 16
