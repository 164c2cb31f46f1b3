"""BEiT-3 base, simple feature pyramid, UPerNet, ADE20K at 512.

Reproduces: nothing published; the BEiT family's classic head with BEiT's values (mmseg
configs/beit: 3e-5, layer decay 0.9, drop path 0.1). Not trained by us.
Run: CONFIG=configs/beit3_mask2former/upernet_beit3-base_512_ade20k.py
     bash tools/dist_train.sh $CONFIG 8
"""

_base_ = [
    "../_base_/models/upernet_beit3_sfp.py",
    "../_base_/datasets/ade20k_512.py",
    "../_base_/schedules/beit3_ade20k_80k.py",
    "../_base_/default_runtime_seg.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    # Windows move by two thirds of their size, as BEiT's (mmseg configs/beit: 426 of 640).
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
optim_wrapper = dict(optimizer=dict(lr=3e-5), paramwise_cfg=dict(layer_decay_rate=0.9))
