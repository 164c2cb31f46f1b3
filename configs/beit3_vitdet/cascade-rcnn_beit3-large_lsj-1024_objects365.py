"""BEiT-3 large, simple feature pyramid, Cascade R-CNN, Objects365 at 1024, for COCO later on.

Reproduces: the Objects365 column of Table 16 of the BEiT-3 paper (arXiv 2208.10442), written for
the giant, on the large model. The paper gives no number for this stage. Not trained by us.
Run: CONFIG=configs/beit3_vitdet/cascade-rcnn_beit3-large_lsj-1024_objects365.py
     bash tools/dist_train.sh $CONFIG 8
Data: data/objects365v2 (tools/dataset_converters/objects365.py).
cascade-mask-rcnn_beit3-large_soft-nms-1280_objects365_coco.py goes on from here.
"""

_base_ = "./cascade-rcnn_beit3-base_lsj-1024_objects365.py"

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
