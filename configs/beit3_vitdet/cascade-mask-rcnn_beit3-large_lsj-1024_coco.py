"""BEiT-3 large, simple feature pyramid, Cascade Mask R-CNN, COCO at 1024 with large-scale jitter.

Reproduces: the ViTDet-L recipe (detectron2 projects/ViTDet, 100 epochs) on a BEiT-3 backbone. No
one published this number. Not trained by us.
Run: CONFIG=configs/beit3_vitdet/cascade-mask-rcnn_beit3-large_lsj-1024_coco.py
     bash tools/dist_train.sh $CONFIG 8
"""

_base_ = "./cascade-mask-rcnn_beit3-base_lsj-1024_coco.py"

model = dict(
    backbone=dict(
        arch="large",
        drop_path_rate=0.4,  # ViTDet-L
        with_cp=True,
        init_cfg=dict(
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_large_itc_patch16_224.pth"
        ),
    ),
    neck=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))  # ViTDet-L
