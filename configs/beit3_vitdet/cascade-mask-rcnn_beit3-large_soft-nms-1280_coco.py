"""BEiT-3 large, simple feature pyramid, Cascade Mask R-CNN with Soft-NMS, COCO at 1280.

Reproduces: Table 16 of the BEiT-3 paper (arXiv 2208.10442), written for the giant, on the large
model. No one published this number. Not trained by us.
Run: CONFIG=configs/beit3_vitdet/cascade-mask-rcnn_beit3-large_soft-nms-1280_coco.py
     bash tools/dist_train.sh $CONFIG 8
"""

_base_ = "./cascade-mask-rcnn_beit3-base_soft-nms-1280_coco.py"

model = dict(
    # Table 16 has drop path 0.6, for 1B parameters; ViTDet-L: 0.4
    backbone=dict(
        arch="large",
        drop_path_rate=0.4,
        with_cp=True,
        init_cfg=dict(
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_large_itc_patch16_224.pth"
        ),
    ),
    neck=dict(in_channels=1024),
)
# Table 16 has 0.9, for 1B parameters; ViTDet-L: 0.8
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
