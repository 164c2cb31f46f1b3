"""BEiT-3 base, simple feature pyramid, Cascade R-CNN, Objects365 at 1024, for COCO later on.

Reproduces: the Objects365 column of Table 16 of the BEiT-3 paper (arXiv 2208.10442), written for
the giant, on the base model. The paper gives no number for this stage and does not say which
version of Objects365 it used: this is v2 (v1: exchange the data set's line). Not trained by us.
Run: CONFIG=configs/beit3_vitdet/cascade-rcnn_beit3-base_lsj-1024_objects365.py
     bash tools/dist_train.sh $CONFIG 8
Data: data/objects365v2 (tools/dataset_converters/objects365.py).
cascade-mask-rcnn_beit3-base_soft-nms-1280_objects365_coco.py goes on from here.
"""

_base_ = [
    "../_base_/models/cascade-rcnn_beit3_sfp_objects365.py",
    "../_base_/datasets/objects365v2_lsj-1024.py",  # or objects365v1_lsj-1024.py
    "../_base_/schedules/beit3_objects365_15e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    data_preprocessor=dict(
        batch_augments=[dict(type="mmbeit3.BatchFixedSizePad", size=(1024, 1024), pad_mask=False)]
    ),
    backbone=dict(drop_path_rate=0.1),  # Table 16 has 0.6, for 1B parameters; ViTDet-B: 0.1
)
# Table 16 has 0.9, for 1B parameters; ViTDet-B: 0.7
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
