"""BEiT-3 giant, ViT-Adapter, Mask2Former, ADE20K at 896: the paper's model.

Reproduces: 62.0 mIoU on ADE20K, 62.8 with multi-scale test (arXiv 2208.10442, Tables 8 and 15;
there from weights that were never released, and after COCO-Stuff if it is as ViT-Adapter's). Not
trained by us.
Run: CONFIG=configs/beit3_mask2former/mask2former_beit3-giant-adapter_896_ade20k.py
     bash tools/dist_train.sh $CONFIG 8
Data: data/ade/ADEChallengeData2016 (tools/dataset_converters/ade20k.py). The giant starts
from random weights: set model.backbone.init_cfg or load_from.
"""

_base_ = [
    "../_base_/models/mask2former_beit3-giant_adapter.py",
    "../_base_/datasets/ade20k_896.py",
    "../_base_/schedules/beit3_ade20k_80k.py",
    "../_base_/default_runtime_seg.py",
]

# Table 15
optim_wrapper = dict(optimizer=dict(lr=1e-5), paramwise_cfg=dict(layer_decay_rate=0.95))
