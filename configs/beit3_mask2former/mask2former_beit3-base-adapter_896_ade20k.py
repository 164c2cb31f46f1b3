"""BEiT-3 base, ViT-Adapter, Mask2Former, ADE20K at 896.

Reproduces: nothing published; the recipe of large and giant on the base tower, with the learning
rate of BEiT base with UPerNet. Not trained by us.
Run: CONFIG=configs/beit3_mask2former/mask2former_beit3-base-adapter_896_ade20k.py
     bash tools/dist_train.sh $CONFIG 8
Data: data/ade/ADEChallengeData2016 (tools/dataset_converters/ade20k.py). Weights: downloaded at the
first start (docs/checkpoints.md).
"""

_base_ = [
    "../_base_/models/mask2former_beit3-base_adapter.py",
    "../_base_/datasets/ade20k_896.py",
    "../_base_/schedules/beit3_ade20k_80k.py",
    "../_base_/default_runtime_seg.py",
]

# BEiT base with UPerNet (mmseg configs/beit)
optim_wrapper = dict(optimizer=dict(lr=3e-5), paramwise_cfg=dict(layer_decay_rate=0.9))
