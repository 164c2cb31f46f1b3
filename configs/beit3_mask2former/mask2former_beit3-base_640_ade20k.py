"""BEiT-3 base, simple feature pyramid, Mask2Former, ADE20K at 640.

Reproduces: nothing published; see mask2former_beit3-base_512_ade20k.py. Not trained by us.
Run: CONFIG=configs/beit3_mask2former/mask2former_beit3-base_640_ade20k.py
     bash tools/dist_train.sh $CONFIG 8
"""

_base_ = [
    "../_base_/models/mask2former_beit3_sfp.py",
    "../_base_/datasets/ade20k_640.py",
    "../_base_/schedules/beit3_ade20k_80k.py",
    "../_base_/default_runtime_seg.py",
]

model = dict(
    data_preprocessor=dict(size=(640, 640)),
    test_cfg=dict(
        mode="slide", crop_size=(640, 640), stride=(426, 426)
    ),  # BEiT's, mmseg configs/beit
)
# BEiT base with UPerNet: 3e-5, layer decay 0.9, drop path 0.1.
optim_wrapper = dict(optimizer=dict(lr=3e-5), paramwise_cfg=dict(layer_decay_rate=0.9))
