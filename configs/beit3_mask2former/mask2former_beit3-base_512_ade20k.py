"""BEiT-3 base, simple feature pyramid, Mask2Former, ADE20K at 512.

Reproduces: nothing published; Mask2Former's head (mmseg's Swin and R50 configs) on a BEiT-3 tower,
with the learning rate of BEiT base with UPerNet (mmseg configs/beit). Not trained by us.
Run: CONFIG=configs/beit3_mask2former/mask2former_beit3-base_512_ade20k.py
     bash tools/dist_train.sh $CONFIG 8
Data: data/ade/ADEChallengeData2016 (tools/dataset_converters/ade20k.py). Weights: downloaded at the
first start (docs/checkpoints.md).
"""

_base_ = [
    "../_base_/models/mask2former_beit3_sfp.py",
    "../_base_/datasets/ade20k_512.py",
    "../_base_/schedules/beit3_ade20k_80k.py",
    "../_base_/default_runtime_seg.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    # Windows move by two thirds of their size, as BEiT's (mmseg configs/beit: 426 of 640).
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
# BEiT base with UPerNet: 3e-5, layer decay 0.9, drop path 0.1.
optim_wrapper = dict(optimizer=dict(lr=3e-5), paramwise_cfg=dict(layer_decay_rate=0.9))
