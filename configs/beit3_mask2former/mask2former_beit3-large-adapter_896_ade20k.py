"""BEiT-3 large, ViT-Adapter, Mask2Former, ADE20K at 896.

Reproduces: ViT-Adapter's recipe for BEiT-2 large (61.2 mIoU, there after COCO-Stuff) on the BEiT-3
tower. Not trained by us.
Run: CONFIG=configs/beit3_mask2former/mask2former_beit3-large-adapter_896_ade20k.py
     bash tools/dist_train.sh $CONFIG 8
Data: data/ade/ADEChallengeData2016 (tools/dataset_converters/ade20k.py). Weights: downloaded at the
first start (docs/checkpoints.md).
"""

_base_ = [
    "../_base_/models/mask2former_beit3-large_adapter.py",
    "../_base_/datasets/ade20k_896.py",
    "../_base_/schedules/beit3_ade20k_80k.py",
    "../_base_/default_runtime_seg.py",
]

# ViT-Adapter, BEiT-2 large with Mask2Former
optim_wrapper = dict(optimizer=dict(lr=2e-5), paramwise_cfg=dict(layer_decay_rate=0.9))
