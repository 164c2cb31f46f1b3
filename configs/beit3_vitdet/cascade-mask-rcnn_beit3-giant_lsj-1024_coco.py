"""BEiT-3 giant, simple feature pyramid, Cascade Mask R-CNN, COCO at 1024 with large-scale jitter.

Reproduces: the ViTDet-H recipe (detectron2 projects/ViTDet, 75 epochs) on the giant backbone. The
giant's weights were never released. Not trained by us.
Run: CONFIG=configs/beit3_vitdet/cascade-mask-rcnn_beit3-giant_lsj-1024_coco.py
     bash tools/dist_train.sh $CONFIG 8
"""

_base_ = "./cascade-mask-rcnn_beit3-base_lsj-1024_coco.py"

model = dict(
    backbone=dict(
        arch="giant",
        patch_size=16,  # pretrained at 14 (Table 11); 1024 and 1280 need 16, EVA resized alike
        # EVA-01 (the same 40 layers): every fourth layer global, windows of 16
        global_attn_indexes=[3, 7, 11, 15, 19, 23, 27, 31, 35, 39],
        drop_path_rate=0.5,  # ViTDet-H
        with_cp=True,
        init_cfg=None,  # never released
    ),
    neck=dict(in_channels=1408),
)
# ViTDet-H: layer decay 0.9, no exceptions from weight decay, 75 epochs = 3/4 of the iterations.
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.9))
train_cfg = dict(max_iters=138281)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=138281,
        milestones=[122916, 133159],
        gamma=0.1,
    ),
]
