"""BEiT-3 base, simple feature pyramid, Cascade Mask R-CNN with Soft-NMS, COCO at 1280.

Reproduces: Table 16 of the BEiT-3 paper (arXiv 2208.10442), written for the giant, on the base
model. No one published this number. Not trained by us.
Run: CONFIG=configs/beit3_vitdet/cascade-mask-rcnn_beit3-base_soft-nms-1280_coco.py
     bash tools/dist_train.sh $CONFIG 8
"""

_base_ = [
    "../_base_/models/cascade-mask-rcnn_beit3_sfp.py",
    "../_base_/datasets/coco_instance_lsj-1280.py",
    "../_base_/schedules/beit3_coco_20e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    data_preprocessor=dict(
        batch_augments=[dict(type="mmbeit3.BatchFixedSizePad", size=(1280, 1280), pad_mask=True)]
    ),
    backbone=dict(drop_path_rate=0.1),  # Table 16 has 0.6, for 1B parameters; ViTDet-B: 0.1
    test_cfg=dict(
        rcnn=dict(
            # The paper names Soft-NMS and no parameter. EVA-01/det: linear, IoU 0.6, no score
            # threshold, min_score 1e-3.
            score_thr=0.0,
            nms=dict(
                _delete_=True, type="soft_nms", method="linear", iou_threshold=0.6, min_score=1e-3
            ),
        )
    ),
)
# Table 16 has 0.9, for 1B parameters; ViTDet-B: 0.7
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
