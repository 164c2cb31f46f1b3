"""The trial: a tiny BEiT-3 learns from captions alone to find images by sentences and back.

Reproduces: nothing published; it shows on the CPU that the path works (docs/benchmarks.md).
Run: mmbeit3 make-shapes --out data/shapes_captions --train 3000 --val 200 --held-out 3
     mmbeit3 train configs/beit3_retrieval/beit3-tiny-retrieval_128_shapes.py
"""

_base_ = [
    "../_base_/models/beit3_tiny_shapes.py",
    "../_base_/datasets/shapes_retrieval.py",
    "../_base_/schedules/shapes_trial.py",
    "../_base_/default_runtime_retrieval.py",
]

# ============ often changed ============
max_iters = 2500
learning_rate = 6e-4

# ============ rarely changed ============
model = dict(
    type="mmbeit3.BEiT3Retrieval",
    encoder=dict(img_size=128, patch_size=16),
    same_image="positive",
    max_logit_scale=100,
    data_preprocessor=dict(tokenizer=dict(file=_base_.data_root + "captions.spm")),
)

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=500)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(lr=learning_rate),
    paramwise_cfg=dict(custom_keys={"logit_scale": dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=max_iters, max_keep_ckpts=1))
randomness = dict(seed=0)
