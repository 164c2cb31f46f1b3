"""The trial: a tiny BEiT-3 with a linear layer on crops of the generated shapes, from nothing.

Reproduces: nothing published; it shows in minutes that the whole path works.
Run: mmbeit3 make-shapes --crops --out data/shapes_crops
     mmbeit3 train configs/beit3_imagenet/beit3-tiny-linear_64_shapes.py
"""

_base_ = [
    "../_base_/models/beit3_image_classifier.py",
    "../_base_/datasets/shapes_crops.py",
    "../_base_/default_runtime_classification.py",
]

# ============ often changed ============
max_iters = 600
learning_rate = 1e-3

# ============ rarely changed ============
model = dict(
    backbone=dict(arch="tiny", img_size=64, patch_size=16, drop_path_rate=0.0, init_cfg=None),
    num_classes=60,  # follows the data
    init_scale=1.0,
    mixup=0.0,
    cutmix=0.0,
)

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=1.0, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters, save_best=None))
randomness = dict(seed=0)
