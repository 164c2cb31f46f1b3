"""The trial: a tiny BEiT-3 learns from captions alone to find images by sentences and back.

Reproduces: nothing published; it shows on the CPU that the path works (docs/benchmarks.md).
Run: mmbeit3 make-shapes --out data/shapes_captions --train 3000 --val 200 --held-out 3
     mmbeit3 train configs/beit3_retrieval/beit3-tiny_128_shapes.py
"""

_base_ = ["../_base_/datasets/shapes_retrieval.py", "../_base_/default_runtime_retrieval.py"]

# ============ often changed ============
max_iters = 1100
learning_rate = 6e-4

# ============ rarely changed ============
model = dict(
    type="mmbeit3.BEiT3Retrieval",
    encoder=dict(
        type="mmbeit3.BEiT3Multiway",
        # Two layers of the tiny size's four, and two thirds of its width: more steps in the time.
        arch=dict(embed_dims=128, num_layers=2, num_heads=4, feedforward_channels=512),
        img_size=128,
        patch_size=16,
        vocab_size=258,  # of the tokenizer that make-shapes writes
        max_tokens=64,
    ),
    same_image="positive",
    max_logit_scale=100,
    data_preprocessor=dict(
        type="mmbeit3.ImageTextPreprocessor",
        tokenizer=dict(file=_base_.data_root + "captions.spm"),
    ),
)

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=275)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=1.0, custom_keys={"logit_scale": dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(interval=max_iters, max_keep_ckpts=1)
)
randomness = dict(seed=0)
