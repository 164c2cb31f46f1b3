"""BEiT-3's released fine-tuning on NLVR2 (microsoft/unilm beit3/get_started, base).

20 epochs of 86,373 // 256 = 337 steps, 5 of them warm-up. Batch 256 is 8 GPUs x 32 statements. The
released --model_ema is in none of its commands; custom_hooks=[dict(type="mmbeit3.EMAHook")] would
be it.
"""

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=6740, val_interval=337)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="mmbeit3.AmpOptimWrapper",
    dtype="bfloat16",  # released: float16, with a scaled loss
    loss_scale=1.0,
    optimizer=dict(type="AdamW", lr=7e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.2),
    # As many micro-batches as make auto_scale_lr.base_batch_size on the devices that there are.
    accumulative_counts="auto",
    clip_grad=None,
    constructor="mmbeit3.LayerDecayConstructor",
    # As released: vectors, CLS and the positions of patches do not decay; the head learns at the
    # full rate.
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        flat_decay_mult=0.0,
        custom_keys={
            "vision.pos_embed": dict(decay_mult=0.0),
            "cls_token": dict(decay_mult=0.0),
        },
    ),
)

param_scheduler = [
    # From 0, as released: its warmup_lr is read and never used. LinearLR cannot start at 0 itself.
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1685),
    # To 1e-6 at the full rate, and in proportion to it below.
    dict(type="CosineAnnealingLR", by_epoch=False, begin=1685, end=6740, eta_min_ratio=1e-6 / 7e-4),
]

auto_scale_lr = dict(enable=False, base_batch_size=256)
