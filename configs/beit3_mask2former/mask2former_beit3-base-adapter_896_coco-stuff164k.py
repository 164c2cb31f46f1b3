"""BEiT-3 base, ViT-Adapter, Mask2Former, COCO-Stuff 164k at 896, for ADE20K later on.

Reproduces: nothing published; ViT-Adapter trains 80k iterations on COCO-Stuff 164k with the values
of its ADE20K configs. mask2former_beit3-base-adapter_896_coco-stuff_ade20k.py goes on from here.
Not trained by us.
Run: CONFIG=configs/beit3_mask2former/mask2former_beit3-base-adapter_896_coco-stuff164k.py
     bash tools/dist_train.sh $CONFIG 8
Data: data/coco_stuff164k (tools/dataset_converters/coco_stuff164k.py).
"""

_base_ = [
    "../_base_/models/mask2former_beit3-base_adapter.py",
    "../_base_/datasets/coco_stuff164k_896.py",
    "../_base_/schedules/beit3_ade20k_80k.py",
    "../_base_/default_runtime_seg.py",
]

num_classes = 171
model = dict(
    decode_head=dict(
        num_classes=num_classes, loss_cls=dict(class_weight=[1.0] * num_classes + [0.1])
    )
)
# BEiT base with UPerNet (mmseg configs/beit)
optim_wrapper = dict(optimizer=dict(lr=3e-5), paramwise_cfg=dict(layer_decay_rate=0.9))
