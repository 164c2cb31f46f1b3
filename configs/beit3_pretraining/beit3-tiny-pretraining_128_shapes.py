"""The trial: the tiny detector's tower, pretrained on unlabeled generated scenes and sentences.

Reproduces: nothing published; masked data modeling at a size that two CPU cores run.
Run: mmbeit3 make-shapes --out data/shapes_pretraining --train 10000 --val 200 --seed 1
     mmbeit3 train configs/beit3_pretraining/vqkd-tiny_128_shapes.py
     mmbeit3 train configs/beit3_pretraining/beit3-tiny-pretraining_128_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_pretraining.py",
    "../_base_/default_runtime_pretraining.py",
]

# ============ often changed ============
max_iters = 900
learning_rate = 1e-3
image_tokenizer = "work_dirs/vqkd-tiny_128_shapes/iter_500.pth"

# ============ rarely changed ============
model = dict(
    type="mmbeit3.BEiT3Pretraining",
    encoder=dict(
        type="mmbeit3.BEiT3Multiway",
        arch="tiny",
        img_size=128,
        patch_size=8,
        vocab_size=258,  # of the tokenizer that make-shapes writes
        max_tokens=64,
    ),
    image_tokenizer=dict(
        type="mmbeit3.VQKD",
        arch=dict(embed_dims=96, num_layers=2, num_heads=4, feedforward_channels=384),
        img_size=128,
        patch_size=8,
        decoder_layers=1,
        num_codes=256,
        code_dims=16,
        out_channels=192,
        init_cfg=dict(type="Pretrained", checkpoint=image_tokenizer),
    ),
    num_codes=256,
    data_preprocessor=dict(
        type="mmbeit3.PretrainingPreprocessor",
        tokenizer=dict(file=_base_.data_root + "captions.spm"),
    ),
)

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=300)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    # Of the paper: betas, eps and weight decay.
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=1.0, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters))
randomness = dict(seed=0)
