"""The trial: a tiny BEiT-3 Mask2Former on the simple pyramid, from random weights, on made-up data.

Reproduces: nothing published; it shows in minutes that the whole path works. `make demo` runs it,
from a tower of weights/ (load_from).
Run: python tools/misc/make_shapes.py --out data/shapes
     python tools/train.py configs/beit3_mask2former/mask2former_beit3-tiny_shapes.py
"""

_base_ = [
    "../_base_/models/mask2former_beit3-tiny_sfp.py",
    "../_base_/datasets/shapes_semantic.py",
    "../_base_/default_runtime_seg.py",
]

# ============ often changed ============
max_iters = 900
learning_rate = 6e-4
num_classes = 6

# ============ rarely changed ============
# Images are 128 px wide. Narrower than "tiny" and deeper, with fewer queries: it learns in minutes.
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512
        ),
        img_size=128,
    ),
    neck=dict(in_channels=128),
    decode_head=dict(
        num_classes=num_classes,
        num_queries=20,
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
    ),
)

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters, save_best=None))
randomness = dict(seed=0)
