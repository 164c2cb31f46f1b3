"""ImageNet fine-tuning as released for BEiT-3 base: microsoft/unilm beit3/get_started.

AdamW (0.9, 0.999), eps 1e-8, peak 7e-4 for 1024 images a step, 50 epochs, 5 of them warm-up from 0,
cosine to 1e-6 times the layer's factor, weight decay 0.05 except on vectors, CLS token and image
positions, layer decay 0.65, no clipping.
1,281,167 images // 1024 = 1,251 steps an epoch; 50 epochs are 62,550, of which 6,255 warm up.
"""

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=62550, val_interval=1251)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="mmbeit3.AmpOptimWrapper",
    dtype="bfloat16",  # released: float16
    loss_scale=1.0,
    optimizer=dict(type="AdamW", lr=7e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    # As many micro-batches as make auto_scale_lr.base_batch_size on the devices that there are.
    accumulative_counts="auto",
    clip_grad=None,
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        flat_decay_mult=0.0,
        custom_keys={
            "backbone.pos_embed": dict(decay_mult=0.0),
            "backbone.cls_token": dict(decay_mult=0.0),
        },
    ),
)

param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=6255),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=6255,
        end=62550,
        eta_min_ratio=1e-6 / 7e-4,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=1024)
