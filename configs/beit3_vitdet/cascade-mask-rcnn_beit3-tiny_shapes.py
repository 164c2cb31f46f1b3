"""The trial: a tiny BEiT-3 Cascade Mask R-CNN with Soft-NMS, from random weights, on made-up data.

Reproduces: nothing published; it shows in minutes that the whole path works. `make demo` runs it,
from a tower of weights/ (load_from).
Run: python tools/misc/make_shapes.py --out data/shapes
     python tools/train.py configs/beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py
"""

_base_ = [
    "../_base_/models/cascade-mask-rcnn_beit3-tiny_sfp.py",
    "../_base_/datasets/shapes_instance.py",
    "../_base_/default_runtime.py",
]

# ============ often changed ============
max_iters = 700
learning_rate = 4e-4
batch_size = 4

# ============ rarely changed ============
# Images are 128 px wide, objects 20 to 64: anchors of the base reach from 16 to 128 pixels.
model = dict(
    backbone=dict(img_size=128),
    roi_head=dict(
        bbox_head=[dict(head, num_classes=5) for head in _base_.model.roi_head.bbox_head],
        mask_head=dict(num_classes=5),
    ),
)

train_dataloader = dict(batch_size=batch_size)
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=10.0),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.9),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=max_iters, max_keep_ckpts=1)
)
randomness = dict(seed=0)
