"""The trial: a tiny BEiT-3 judges statements about two pictures of shapes.

Reproduces: nothing published; it shows on the CPU that the path works (docs/benchmarks.md).
Run: mmbeit3 make-shapes --plain --size 64 --out data/plain --train 3000 --val 200 --held-out 3
     mmbeit3 train configs/beit3_nlvr2/beit3-tiny-nlvr2_64_shapes.py
It starts best from the encoder of beit3-tiny-vqa_64_shapes: model.encoder.init_cfg.
"""

_base_ = [
    "../_base_/models/beit3_tiny_shapes.py",
    "../_base_/datasets/shapes_nlvr2.py",
    "../_base_/schedules/shapes_trial.py",
    "../_base_/default_runtime_nlvr2.py",
]

# ============ often changed ============
max_iters = 4000
learning_rate = 2e-4

# ============ rarely changed ============
model = dict(
    type="mmbeit3.BEiT3NLVR2",
    init_scale=8.0,  # with the released 0.001 it stays at chance
)

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=max_iters // 4)
optim_wrapper = dict(
    optimizer=dict(lr=learning_rate),
    paramwise_cfg=dict(custom_keys={"head.": dict(lr_mult=5.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=max_iters, max_keep_ckpts=1))
randomness = dict(seed=0)
