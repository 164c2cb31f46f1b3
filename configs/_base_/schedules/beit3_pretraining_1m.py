"""The paper's pretraining (section 2.3 and appendix B of arXiv 2208.10442).

A million steps of 2048 images, 2048 texts and 2048 pairs; AdamW (0.9, 0.98), eps 1e-6, peak 1e-3,
10,000 steps of warm-up, cosine, weight decay 0.05, gradients clipped at 3. The end of the cosine is
not stated: 1e-5 as in BEiT v2.
"""

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=1_000_000, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="mmbeit3.AmpOptimWrapper",
    dtype="bfloat16",
    loss_scale=1.0,
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05),
    # As many micro-batches as make auto_scale_lr.base_batch_size on the devices that there are.
    accumulative_counts="auto",
    clip_grad=dict(max_norm=3.0),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=1.0, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=10_000),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=10_000, end=1_000_000, eta_min_ratio=0.01),
]
auto_scale_lr = dict(enable=False, base_batch_size=2048)  # items: an image, a text and a pair each
