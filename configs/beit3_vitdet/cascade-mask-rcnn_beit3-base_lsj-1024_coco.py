"""BEiT-3 base, simple feature pyramid, Cascade Mask R-CNN, COCO at 1024 with large-scale jitter.

Reproduces: the ViTDet-B recipe (detectron2 projects/ViTDet, 100 epochs) on a BEiT-3 backbone. No
one published this number: Microsoft released no detector of this size. Not trained by us.
Run: CONFIG=configs/beit3_vitdet/cascade-mask-rcnn_beit3-base_lsj-1024_coco.py
     bash tools/dist_train.sh $CONFIG 8
Data: data/coco. Weights: downloaded at the first start (docs/checkpoints.md); a file of yours with
--cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = [
    "../_base_/models/cascade-mask-rcnn_beit3_sfp.py",
    "../_base_/datasets/coco_instance_lsj-1024.py",
    "../_base_/schedules/vitdet_100e.py",
    "../_base_/default_runtime.py",
]

# Train on squares of one size, as detectron2 does; at test an image is padded to a multiple of 32
# pixels only, where detectron2 pads to the square.
model = dict(
    data_preprocessor=dict(
        batch_augments=[dict(type="mmbeit3.BatchFixedSizePad", size=(1024, 1024), pad_mask=True)]
    )
)
