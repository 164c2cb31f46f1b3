"""The trial's image tokenizer: 256 codes for patches of 8 pixels of generated scenes, from nothing.

Reproduces: nothing published; a VQ-KD of BEiT v2 that learns from pixels, without a teacher.
Run: mmbeit3 make-shapes --out data/shapes_pretraining --train 10000 --val 200 --seed 1
     mmbeit3 train configs/beit3_pretraining/vqkd-tiny_128_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_pretraining.py",
    "../_base_/default_runtime_pretraining.py",
]

# ============ often changed ============
max_iters = 500
learning_rate = 1e-3

# ============ rarely changed ============
model = dict(
    type="mmbeit3.VQKD",
    arch=dict(embed_dims=96, num_layers=2, num_heads=4, feedforward_channels=384),
    img_size=128,
    patch_size=8,  # as the tower's
    decoder_layers=1,
    num_codes=256,
    code_dims=16,
    teacher=dict(type="mmbeit3.PixelTeacher", patch_size=8),
    data_preprocessor=dict(type="mmbeit3.ImageTextPreprocessor"),
)

train_dataloader = dict(dataset=dict(_delete_=True, **_base_.images))
val_dataloader = dict(
    collate_fn=dict(_delete_=True, type="pseudo_collate"),
    dataset=dict(_delete_=True, **_base_.val_images),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.CodeBookMetric")
test_evaluator = val_evaluator
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=250)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.99), weight_decay=1e-4),
    clip_grad=dict(max_norm=3.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters))
randomness = dict(seed=0)
